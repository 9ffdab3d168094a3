"""A class through `autograder grade` and through nbgrader's own commands: the same rows, and nothing of a person's is lost."""

import inspect
import json
import os
import sqlite3
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from nbgrader.api import Gradebook
from sqlalchemy.exc import OperationalError
from typer.testing import CliRunner

from autograder import batch, gradebook, nbgrader_plugins, verdicts
from autograder.batch import grade_week, import_submissions, table
from autograder.cli import app
from autograder.errors import CourseError
from autograder.grade import grade_notebook
from autograder.gradebook import Row, course_directory
from autograder.handed_in import handed_in
from autograder.settings import Course, load_settings
from autograder.workers import Workers
from tests.autograder.conftest import rows_of
from tests.conftest import WEEK

DUE = "2026-10-05 23:59:00 UTC"


def settings(root: Path, **values: object) -> None:
    with (root / "nbgrader_config.py").open("a") as file:
        for name, value in values.items():
            file.write(f"c.Course.{name} = {value!r}\n")


def points(rows: list[Row]) -> dict[str, float]:
    return {row.student: row.points for row in rows}


def make_class(course, folder: Path) -> None:
    """Right and late; two wrong, one of them by name; the same with autograd; the untouched release."""
    course.hand_in(folder / "ann" / WEEK, course.solved())
    (folder / "ann" / WEEK / "timestamp.txt").write_text("2026-10-07 00:30:00.000000 UTC\n")
    wrong = course.solved(rnn_step=course.week.solution("rnn_step").replace("torch.tanh(", "("), char_lm_loss="1 / 0")
    next(cell for cell in wrong.cells if cell.id == "written-why-tanh").source = "It squashes."
    course.hand_in(folder / "bob", wrong)
    sly = course.week.solution("rnn_step_backward").replace("    grad_b =", "    torch.autograd\n    grad_b =")
    course.hand_in(folder / "cat" / "Assignment 1", course.solved(rnn_step_backward=sly), artifact=False)
    course.hand_in(folder / "dan", course.release, artifact=False)


def test_our_rows_are_nbgraders_rows_and_manual_scores_survive(class_course, tmp_path):
    course, root = class_course, class_course.root
    settings(root, due={"week01": DUE}, late_policy="percent")
    (root / "students.csv").write_text("id,first_name,last_name\nann,Ann,Lee\nzoe,Zoe,Kim\n")
    make_class(course, tmp_path / "class")

    def nbgrader(*arguments: str) -> str:
        command = [sys.executable, "-m", "nbgrader", *arguments]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    nbgrader("db", "student", "import", "students.csv")
    ours = grade_week(course.week, tmp_path / "class", quiet=True)
    assert points(ours) == pytest.approx({"ann": 14.4, "bob": 11, "cat": 10, "dan": 0})
    assert [(row.of, row.late, row.trouble) for row in ours] == [(21, 88260.0, "")] + [(21, 0.0, "")] * 3
    first = rows_of(root)
    assert first["cat", "check-rnn-step-backward"] == (0, None, None, True, 4)
    assert first["bob", "written-why-tanh"] == (None, None, None, True, 3)
    assert first["dan", "written-why-tanh"] == (0, None, None, False, 3)
    assert first["dan", "comment", "rnn-step"] == ("No response.", None)

    page = (root / "grading" / "feedback" / "bob" / WEEK / f"{WEEK}.html").read_text()
    assert "The tanh is missing." in page and "It squashes." in page
    record = verdicts.read(root, WEEK, "bob")
    assert record.verdicts[0].mistakes == ("no-tanh",) and record.provenance["isolation"] == "bubblewrap"
    assert verdicts.read_class(root, WEEK).keys() == {"ann", "bob", "cat", "dan"}

    output = nbgrader("autograde", WEEK, "--force")
    assert "INFO" in output and rows_of(root) == first
    assert verdicts.read(root, WEEK, "bob").verdicts == record.verdicts
    nbgrader("generate_feedback", WEEK, "--force")

    with Gradebook(course_directory(root).db_url) as book:
        where = (WEEK, WEEK, "bob")
        book.find_grade("check-rnn-step", *where).manual_score = 2.5
        book.find_grade("check-rnn-step", *where).extra_credit = 1.0
        book.find_grade("written-why-tanh", *where).manual_score = 3.0
        book.find_comment("rnn-step", *where).manual_comment = "See me."
        book.db.commit()
    course.hand_in(root / "grading" / "submitted" / "bob" / WEEK, course.solved())
    [row] = grade_week(course.week, student="bob", quiet=True)
    after = rows_of(root)
    assert after["bob", "check-rnn-step"] == (5, 2.5, 1.0, True, 5)
    assert after["bob", "written-why-tanh"][1] == 3.0
    assert after["bob", "comment", "rnn-step"] == (None, "See me.")
    assert row.points == 2.5 + 1.0 + 4 + 3 + 3 + 2 + 4
    assert {key: value for key, value in after.items() if key[0] != "bob" and key != "bob"} == {
        key: value for key, value in first.items() if key[0] != "bob" and key != "bob"
    }
    assert "See me." in (root / "grading" / "feedback" / "bob" / WEEK / f"{WEEK}.html").read_text()


@pytest.fixture
def quick(monkeypatch):
    """Grading without kernels or workers, for what happens around it: rnn_step right, all else missing."""
    from concurrent.futures import ThreadPoolExecutor
    from dataclasses import replace

    from autograder.grade import read_release, ungraded
    from autograder.repair import find_notebook, read_notebook

    def graded(folder, release, week, *rest, **settings):
        path = find_notebook(folder, WEEK)
        if path is not None and "boom" in path.read_text():
            raise RuntimeError("boom")
        result = ungraded(read_release(release), batch.Week(week), "" if path else "none was found")
        try:
            read_notebook(path)
        except Exception as error:
            return replace(result, failed=str(error))
        step = replace(result.verdicts[0], status="passed", points=result.verdicts[0].max_points)
        return replace(result, verdicts=[step, *result.verdicts[1:]])

    monkeypatch.setattr(batch, "grade_folder", graded)
    monkeypatch.setattr(batch, "process_pool", ThreadPoolExecutor)


def run(root: Path, *arguments: str):
    before = Path.cwd()
    os.chdir(root)
    try:
        return CliRunner().invoke(app, ["grade", *arguments], catch_exceptions=True)
    finally:
        os.chdir(before)


def said(result) -> str:
    assert isinstance(result.exception, CourseError), result.output
    assert "\n" not in str(result.exception)
    return str(result.exception)


def test_what_an_instructor_can_mend_is_one_sentence(class_course, tmp_path, quick):
    root = class_course.root
    assert "No week begins with 'week77'" in said(run(root, "week77"))
    assert "There is no isolation 'jail'" in said(run(root, "week01", "--isolation", "jail"))
    assert "There are no submissions of week01_rnn" in said(run(root, "week01"))
    (tmp_path / "empty").mkdir()
    assert "has no submissions" in said(run(root, "week01", "--submissions", str(tmp_path / "empty")))
    assert "is not a folder" in said(run(root, "week01", "--submissions", str(tmp_path / "nowhere")))
    class_course.hand_in(tmp_path / "class" / "ann", class_course.solved())
    assert "zoe has not submitted" in said(
        run(root, "week01", "--submissions", str(tmp_path / "class"), "--student", "zoe")
    )
    (root / "grading" / "gradebook.db").write_bytes(b"this is not a database" * 100)
    assert "cannot be written (file is not a database)" in said(run(root, "week01"))
    (root / "grading" / "gradebook.db").unlink()
    with (root / "nbgrader_config.py").open("a") as file:
        file.write('c.Course.due = {"week01": "someday"}\n')
    assert "the due date of week01_rnn, 'someday', cannot be read" in said(run(root, "week01"))
    with (root / "nbgrader_config.py").open("a") as file:
        file.write('c.Course.late_policy = "cruel"\n')
    assert "late_policy" in said(run(root, "week01"))
    (root / "nbgrader_config.py").write_text("c = get_config(\n")
    assert "cannot be read: SyntaxError" in said(run(root, "week01"))


def test_no_release_is_said(class_course, tmp_path, quick):
    class_course.release_path.unlink()
    class_course.hand_in(tmp_path / "class" / "ann", class_course.solved())
    result = run(class_course.root, "week01", "--submissions", str(tmp_path / "class"))
    assert "Make it: autograder release week01_rnn" in said(result)


def test_one_bad_submission_costs_no_other_its_grade(class_course, tmp_path, quick, monkeypatch):
    course, root = class_course, class_course.root
    for student in ("ann", "bob", "cat", "dan", "eve"):
        course.hand_in(tmp_path / "class" / student, course.solved())
    (tmp_path / "class" / "eve" / "timestamp.txt").write_text("the day before yesterday's")
    assert points(grade_week(course.week, tmp_path / "class", quiet=True)) == dict.fromkeys(
        ("ann", "bob", "cat", "dan", "eve"), 5
    )
    before = rows_of(root)
    submitted = root / "grading" / "submitted"
    (submitted / "ann" / WEEK / f"{WEEK}.ipynb").write_text("{")
    (submitted / "bob" / WEEK / f"{WEEK}.ipynb").write_text("boom")
    course.hand_in(submitted / "fay" / WEEK, course.solved())
    (submitted / "gus" / WEEK).mkdir(parents=True)
    set_points, files_of = gradebook.set_points, gradebook.files_of

    def locked(submission, *rest):
        if submission.student_id == "cat":
            raise OperationalError("UPDATE", {}, sqlite3.OperationalError("database is locked"))
        set_points(submission, *rest)

    def full(folder):
        if folder.parent.name == "dan":
            raise OSError("disk full")
        return files_of(folder)

    monkeypatch.setattr(gradebook, "set_points", locked)
    monkeypatch.setattr(gradebook, "files_of", full)
    notebooks = {path: path.read_bytes() for path in (root / "grading" / "autograded").rglob("*.ipynb")}
    result = run(root, "week01")
    assert result.exit_code == 1 and "5 of 7 submissions in trouble: ann, bob, cat, dan, gus." in result.output
    rows = {row.split()[0]: row for row in result.output.splitlines() if row}
    assert "The earlier grade stands." in rows["ann"] and "RuntimeError: boom." in rows["bob"]
    assert "could not be written: database is locked. The earlier grade stands." in rows["cat"]
    assert "could not be written: disk full. The earlier grade stands." in rows["dan"]
    assert "counts as on time" in rows["eve"] and "It got no points." in rows["gus"]
    after = rows_of(root)
    assert {key: after[key] for key in before} == before
    assert after["fay", "check-rnn-step"][0] == 5 and after["gus", "check-rnn-step"][0] == 0
    assert {path: path.read_bytes() for path in notebooks} == notebooks
    assert not list((root / "grading").rglob(".week01*"))


def test_submissions_are_found_however_they_lie(class_course, tmp_path):
    course, source = class_course, tmp_path / "class"
    notebook = course.solved()
    course.hand_in(source / "ann" / WEEK, notebook)
    course.hand_in(source / "bob" / "attempt" / "files", notebook)
    course.hand_in(source / "cat", notebook).rename(source / "cat" / "Copy of week01_rnn.ipynb")
    (source / "dan").mkdir()
    (course.root / "solutions" / "week02_other").mkdir()
    course.hand_in(source / "eve" / "week02_other", notebook).rename(
        source / "eve" / "week02_other" / "week02_other.ipynb"
    )
    (source / "ann" / WEEK / "link.json").symlink_to("/etc/passwd")
    (source / ".hidden").mkdir()
    (source / "f*").mkdir()
    found = import_submissions(course.week, source)
    assert list(found.folders) == ["ann", "bob", "cat", "dan"]
    assert found.refused == {"f*": "Its folder's name cannot be a student's id; rename it."}
    folders = batch.submitted_folders(course.week)
    assert {name: sorted(path.name for path in folder.iterdir()) for name, folder in folders.items()} == {
        "ann": ["names.json", "names.safetensors", "week01_rnn.ipynb"],
        "bob": ["names.json", "names.safetensors", "week01_rnn.ipynb"],
        "cat": ["Copy of week01_rnn.ipynb", "names.json", "names.safetensors"],
        "dan": [],
    }


def _die(folder, *arguments):
    if folder.name == "bad":
        os._exit(1)
    return folder.name


def test_a_submission_that_kills_its_worker_costs_no_other():
    folders = {name: Path(name) for name in ("a", "b", "bad", "c", "d", "e", "f")}
    with Workers(batch.process_pool, 2) as workers:
        results = dict(workers.run(_die, {name: (folder,) for name, folder in folders.items()}))
    assert {name: result for name, result in results.items() if name != "bad"} == {name: name for name in "abcdef"}
    assert "killed, twice" in str(results["bad"])


def test_a_changed_release(class_course, tmp_path, quick):
    """Given code may change after grading began; graded cells may not, and no grade is lost by the attempt."""
    course, path = class_course, class_course.release_path
    course.hand_in(tmp_path / "class" / "ann", course.solved())
    grade_week(course.week, tmp_path / "class", quiet=True)
    tree = json.loads(path.read_text())
    given = next(cell for cell in tree["cells"] if cell["metadata"].get("course", {}).get("role") == "given")
    given["id"] = given["metadata"]["nbgrader"]["grade_id"] = "given-anew"
    path.write_text(json.dumps(tree))
    assert points(grade_week(course.week, quiet=True)) == {"ann": 5}
    before = rows_of(course.root)
    tree["cells"] = [cell for cell in tree["cells"] if cell["id"] != "check-char-lm-loss"]
    path.write_text(json.dumps(tree))
    with pytest.raises(CourseError, match="other graded cells"):
        grade_week(course.week, quiet=True)
    assert rows_of(course.root) == before


@pytest.mark.parametrize(
    ("policy", "late", "expected"),
    [
        ("none", 1e6, 0),
        ("zero", 1, 20),
        ("zero", 0, 0),
        ("percent", 0, 0),
        ("percent", 1, 2),
        ("percent", 86400, 2),
        ("percent", 86401, 4),
        ("percent", 1e9, 20),
    ],
)
def test_penalties(policy, late, expected):
    assert Course(late_policy=policy, late_percent=10.0).penalty(20.0, late) == pytest.approx(expected)


def test_settings_are_read_beside_nbgraders(class_course):
    settings(class_course.root, due={"week01": DUE, "week01_rnn": DUE}, late_percent=25.0)
    read = load_settings(class_course.root)
    assert (read.repository, read.late_percent, read.isolation) == (None, 25.0, "bubblewrap")
    with pytest.raises(CourseError, match="more than one"):
        read.due_date(WEEK)


def test_follow_through_reaches_both_ways_of_grading(class_course, monkeypatch):
    class Reached(Exception):
        """The call that grades, before it does."""

    def grading(*arguments, **options):
        raise Reached(options)

    settings(class_course.root, follow_through=False)
    folder = class_course.root / "grading" / "submitted" / "ann" / WEEK
    class_course.hand_in(folder, class_course.release)
    monkeypatch.setattr(Workers, "run", grading)
    monkeypatch.setattr(nbgrader_plugins, "grade_notebook", grading)
    with pytest.raises(Reached) as ours:
        grade_week(class_course.week, quiet=True)
    resources = {"metadata": {"path": str(folder), "name": WEEK}, "nbgrader": {"assignment": WEEK}}
    with pytest.raises(Reached) as nbgraders:
        nbgrader_plugins.CourseAutograde().preprocess(class_course.release, resources)
    assert ours.value.args[0] == nbgraders.value.args[0] == {"cell_timeout": 60.0, "follow_through": False}
    assert inspect.signature(grade_notebook).parameters.keys() >= ours.value.args[0].keys()


def test_when_it_was_handed_in(tmp_path):
    assert handed_in(tmp_path) is None
    (tmp_path / "timestamp.txt").write_text("2026-10-07 00:30:00.000000 Europe/Berlin\n")
    assert handed_in(tmp_path) == datetime(2026, 10, 7) - timedelta(hours=1.5)
    for garbage in ("", "99999999999999999999", "2026-13-45", "\0", "x" * 10**6):
        (tmp_path / "timestamp.txt").write_text(garbage)
        assert handed_in(tmp_path) is None


def test_the_table():
    text = table([Row("ann", 4.5, 20, 90000.0), Row("bartholomew", trouble="It could not be graded: x.", lost=True)])
    assert text.splitlines()[1].split() == ["ann", "4.5", "20", "1.0", "d"]
    assert text.splitlines()[2].endswith("It could not be graded: x.")
