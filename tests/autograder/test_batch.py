"""The batch: journal, resume, any executor, previews, and what hostile folders cannot do."""

import inspect
import io
import json
import multiprocessing
import os
import random
import shutil
import socket
import sqlite3
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from nbconvert.exporters import HTMLExporter
from nbgrader.api import Gradebook

from autograder import batch, feedback, handed_in, hidden, journal, verdicts
from autograder.batch import Progress, grade_week, preview_week
from autograder.errors import CourseError
from autograder.feedback import FeedbackExporter, outdated, write_pages
from autograder.grade import grade_notebook
from autograder.gradebook import Row, Writer, course_directory
from autograder.handed_in import files_of, found_in, import_submissions, submitted_folders
from autograder.hidden import provenance_of
from autograder.preview import told
from autograder.settings import Course, load_settings
from autograder.workers import Workers, process_pool
from tests.autograder import fake
from tests.autograder.chaos import chaos, state_of
from tests.autograder.conftest import SmallCourse, rows_of
from tests.conftest import WEEK

STUDENTS = ("ann", "bob", "cat", "dan", "eve", "fay")


@pytest.fixture
def graded(monkeypatch) -> list[str]:
    """The fake grader in threads; the students whom it graded, in order."""
    calls: list[str] = []

    def grade(folder, *rest, **settings):
        calls.append(folder.parent.name)
        return fake.grade(folder, *rest, **settings)

    monkeypatch.setattr(batch, "grade_folder", grade)
    monkeypatch.setattr(batch, "process_pool", ThreadPoolExecutor)
    return calls


def source_of(course: SmallCourse, number: int) -> str:
    """A solution of rnn_step that is another for each number, and wrong for odd ones."""
    return f"{course.week.solution('rnn_step')}# {'wrong' if number % 2 else 'right'} {number}\n"


@pytest.fixture
def a_class(class_course) -> SmallCourse:
    """A course in which everybody in STUDENTS has handed in something else; eve's is no notebook."""
    submitted = class_course.root / "grading" / "submitted"
    for number, student in enumerate(STUDENTS):
        notebook = class_course.solved(rnn_step=source_of(class_course, number))
        class_course.hand_in(submitted / student / WEEK, notebook)
    (submitted / "eve" / WEEK / f"{WEEK}.ipynb").write_text("{")
    return class_course


def change(course: SmallCourse, student: str, order: str = "", number: int = 8) -> None:
    """Hands in another notebook; `order` is for the fake grader."""
    source = f"{fake.MARK} {order}\n{source_of(course, number)}" if order else source_of(course, number)
    course.hand_in(course.root / "grading" / "submitted" / student / WEEK, course.solved(rnn_step=source))


def set_option(root: Path, line: str) -> None:
    with (root / "nbgrader_config.py").open("a") as file:
        file.write(f"{line}\n")


def trouble(rows: list[Row]) -> dict[str, str]:
    return {row.student: row.trouble for row in rows if row.trouble}


# ------------------------------------------------------------------------------------------------ journal and resume


def test_resume_reuses_what_still_fits_and_grades_the_rest(a_class, graded):
    def again(resume: bool = True) -> list[str]:
        graded.clear()
        grade_week(a_class.week, quiet=True, resume=resume)
        return sorted(graded)

    root, everybody = a_class.root, sorted(STUDENTS)
    assert again() == everybody and again() == []
    state = state_of(root)
    assert again(resume=False) == everybody and state_of(root) == state
    for folder in ("autograded", "feedback"):
        shutil.rmtree(root / "grading" / folder / "ann")
    assert again() == [] and state_of(root) == state, "what was lost is written again"
    (root / "grading" / "verdicts" / WEEK / "bob.json").unlink()
    assert again() == [] and state_of(root) == state
    (root / "grading" / "gradebook.db").unlink()
    assert again() == [] and state_of(root) == state

    change(a_class, "bob")
    assert again() == ["bob"] and again() == []
    (root / "grading" / "submitted" / "cat" / WEEK / "names.json").write_text('{"accuracy": 0.5}')
    assert again() == ["cat"]
    (root / "grading" / "submitted" / "cat" / WEEK / "timestamp.txt").write_text("2026-10-07 00:30:00 UTC\n")
    assert again() == [] and rows_of(root)["cat"][0].day == 7, "lateness is reckoned when the result is written"
    entry = journal.folder_of(root, WEEK) / "ann.json"
    entry.write_bytes(entry.read_bytes()[:-100])
    assert again() == ["ann"]
    set_option(root, "c.Course.cell_timeout = 61.0")
    assert again() == everybody
    (root / "grading" / "secret").write_text("another seed\n")
    assert again() == everybody
    release = a_class.release_path
    release.write_text(release.read_text().replace('"language": "python"', '"language": "python "'))
    assert again() == everybody and again() == []
    set_option(root, "c.Course.isolation = 'process'")
    assert again() == everybody


def test_settings_that_matter_are_arguments_of_grade_notebook(a_class):
    names = load_settings(a_class.root).grading().keys()
    assert "cell_timeout" in names and names <= inspect.signature(grade_notebook).parameters.keys()
    assert Course().traits(grading=True).keys() == names


class Killed(BaseException):
    pass


@pytest.mark.parametrize("moment", ["journalled", "committed", "swapped", "pages"])
def test_whatever_was_journalled_is_written_on_resume(a_class, graded, tmp_path, monkeypatch, moment):
    """The batch ends in the midst of writing, a first time and in a regrade; half-written things lie about."""
    root = a_class.root
    grade_week(a_class.week, quiet=True)
    undisturbed = state_of(root)

    def killed(*arguments, **more):
        raise Killed

    for first in (True, False):
        if first:
            for folder in ("autograded", "feedback", "verdicts", "journal"):
                shutil.rmtree(root / "grading" / folder)
            (root / "grading" / "gradebook.db").unlink()
        else:
            change(a_class, "ann")
            grade_week(a_class.week, quiet=True)
            a_class.hand_in(
                root / "grading" / "submitted" / "ann" / WEEK, a_class.solved(rnn_step=source_of(a_class, 0))
            )
        with monkeypatch.context() as patch:
            if moment == "journalled":
                patch.setattr(Writer, "write", killed)
            elif moment == "committed":
                patch.setattr("autograder.gradebook.verdicts.write", killed)
            elif moment == "swapped":
                patch.setattr("autograder.gradebook.swap", killed)
            else:
                patch.setattr(batch, "_write_feedback", killed)
            with pytest.raises(Killed):
                grade_week(a_class.week, quiet=True)
        assert graded != []
        leave_half_written(root / "grading")
        graded.clear()
        grade_week(a_class.week, quiet=True, resume=True)
        assert graded == [] and state_of(root) == undisturbed
        assert undisturbed["leftovers"] == []


def leave_half_written(grading: Path) -> None:
    for folder in ("autograded/ann", "feedback/ann", "submitted/ann"):
        half = grading / folder / f".{WEEK}-1a2b3c"
        half.mkdir(parents=True)
        (half / f"{WEEK}.ipynb").write_text('{"cells": [')
    (grading / "feedback" / ".pages-1a2b" / "ann").mkdir(parents=True)
    for folder in ("verdicts", "journal"):
        (grading / folder / WEEK).mkdir(parents=True, exist_ok=True)
        (grading / folder / WEEK / ".ann.json.123.part").write_text('{"verdicts": [')
    submission = grading / "submitted" / "bob" / WEEK
    submission.rename(submission.with_name(f".{WEEK}-old"))  # killed between the two renames of a swap


def test_a_manual_score_is_marked_for_another_look_once(a_class, graded, monkeypatch):
    """By a regrade, as nbgrader does it, within the same second too; not by a resume that finds everything written."""
    monkeypatch.setattr(
        batch, "provenance_of", lambda *of: {**provenance_of(*of), "graded": "2026-10-05T00:00:00+00:00"}
    )
    grade_week(a_class.week, quiet=True)
    with Gradebook(course_directory(a_class.root).db_url) as book:
        grade = book.find_grade("check-rnn-step", WEEK, WEEK, "ann")
        grade.manual_score, grade.needs_manual_grade = 1.5, False
        book.db.commit()
    grade_week(a_class.week, quiet=True, resume=True)
    assert rows_of(a_class.root)["ann", "check-rnn-step"] == (5, 1.5, None, False, 5)
    grade_week(a_class.week, quiet=True)
    assert rows_of(a_class.root)["ann", "check-rnn-step"] == (5, 1.5, None, True, 5)


def test_a_locked_gradebook_costs_a_sentence_each_and_no_result(a_class, graded, monkeypatch):
    grade_week(a_class.week, student="ann", quiet=True)
    before = rows_of(a_class.root)
    other = sqlite3.connect(a_class.root / "grading" / "gradebook.db", isolation_level=None, check_same_thread=False)
    grade = batch.grade_folder

    def lock(*arguments, **settings):
        if not other.in_transaction:
            other.execute("BEGIN IMMEDIATE")
        return grade(*arguments, **settings)

    monkeypatch.setattr(batch, "grade_folder", lock)
    change(a_class, "ann", number=9)
    rows = grade_week(a_class.week, jobs=1, quiet=True)
    assert set(trouble(rows)) == set(STUDENTS) and all(row.lost for row in rows)
    assert trouble(rows)["ann"] == "It could not be written: database is locked. The earlier grade stands."
    assert trouble(rows)["bob"] == "It could not be written: database is locked."
    assert rows_of(a_class.root) == before
    other.execute("ROLLBACK")
    monkeypatch.setattr(batch, "grade_folder", grade)
    graded.clear()
    rows = grade_week(a_class.week, quiet=True, resume=True)
    assert set(trouble(rows)) == {"eve"} and graded == []
    assert rows_of(a_class.root)["ann", "check-rnn-step"][0] == 0


def test_one_batch_at_a_time_has_a_week(a_class, graded):
    with journal.alone(a_class.week), pytest.raises(CourseError, match="being graded by another"):
        grade_week(a_class.week, quiet=True)
    grade_week(a_class.week, quiet=True)


def test_progress_counts_what_is_graded_now():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    with Progress(100, 90, WEEK, file=Terminal()) as bar:
        assert bar.format_dict["a_minute"] == "?" and bar.format_dict["rate"] is None
        bar.update(2)
        bar._time = lambda: bar.start_t + 60.0
        assert (bar.n, bar.format_dict["a_minute"]) == (92, "2.0")
        assert "92 of 100, 2.0 a minute, 04:00 left" in str(bar)


def test_a_batch_and_its_workers_are_killed_and_nothing_is_lost(tmp_path):
    """The same with real kernels, more kills and zygotes: see the module."""
    killed, different = chaos(tmp_path, students=6, kills=3, victims=("batch", "worker"), seed=3, jobs=2, faked=True)
    assert killed == ["batch", "worker", "batch"] and different == []


# ------------------------------------------------------------------------------------------------------ any executor


class Shuffled(Executor):
    """Works on nothing until it must, and then in an order of its own."""

    def __init__(self, jobs: int):
        self.random = random.Random(jobs)
        self.threads = ThreadPoolExecutor(jobs)

    def submit(self, function, /, *arguments, **more) -> Future:
        def later():
            time.sleep(self.random.random() / 20)
            return function(*arguments, **more)

        return self.threads.submit(later)


class AtOnce(Executor):
    """No workers at all."""

    def __init__(self, jobs: int):
        pass

    def submit(self, function, /, *arguments, **more) -> Future:
        future: Future = Future()
        try:
            future.set_result(function(*arguments, **more))
        except Exception as error:
            future.set_exception(error)
        return future


def spawned(jobs: int) -> ProcessPoolExecutor:
    return process_pool(jobs)


def test_verdicts_and_rows_are_the_same_on_any_executor(a_class, monkeypatch):
    monkeypatch.setattr(batch, "grade_folder", fake.grade)
    states = []
    for pool, jobs in ((AtOnce, 1), (ThreadPoolExecutor, 2), (Shuffled, 3), (Shuffled, 4), (spawned, 2)):
        grade_week(a_class.week, jobs=jobs, pool=pool, quiet=True)
        states.append(state_of(a_class.root))
    assert all(state == states[0] for state in states) and len(states[0]) > 60


def test_a_killed_worker_costs_no_other_and_is_tried_once_more(a_class, monkeypatch):
    monkeypatch.setattr(batch, "grade_folder", fake.grade)
    change(a_class, "ann", "die once")
    assert set(trouble(grade_week(a_class.week, quiet=True))) == {"eve"}
    assert (a_class.root / "grading" / "died-ann").exists()
    earlier = journal.read(a_class.week, "bob").key
    change(a_class, "bob", "die")
    rows = grade_week(a_class.week, quiet=True)
    assert set(trouble(rows)) == {"bob", "eve"}
    assert "BrokenExecutor: its worker was killed, twice." in trouble(rows)["bob"]
    assert "The earlier grade stands." in trouble(rows)["bob"] and journal.read(a_class.week, "bob").key == earlier
    change(a_class, "bob")
    rows = grade_week(a_class.week, quiet=True, resume=True, pool=AtOnce)
    assert set(trouble(rows)) == {"eve"}


def _parent(_: str) -> int:
    return multiprocessing.parent_process().pid


def test_workers_are_made_anew_when_they_break():
    with Workers(process_pool, 1) as workers:
        [(_, first)] = workers.run(_parent, {"a": ("",)})
        assert first == os.getpid()
        [process] = workers.executor._processes.values()
        process.kill()
        process.join()
        assert dict(workers.run(_parent, {"b": ("",), "c": ("",)})) == {"b": first, "c": first}


class Refusing(ThreadPoolExecutor):
    """Workers whose server has been killed: it cannot be reached, and is not yet known to be gone."""

    left = 0

    def submit(self, *arguments, **settings):
        if Refusing.left:
            Refusing.left -= 1
            raise ConnectionRefusedError(111, "Connection refused")
        return super().submit(*arguments, **settings)


def test_a_server_of_workers_that_was_just_killed_is_waited_for(monkeypatch):
    monkeypatch.setattr(Refusing, "left", 2)
    with Workers(Refusing, 2) as workers:
        assert dict(workers.run(str, {"a": (1,), "b": (2,)})) == {"a": "1", "b": "2"}
    monkeypatch.setattr(Refusing, "left", 10**6)
    monkeypatch.setattr("autograder.workers.PATIENCE", 2)
    with Workers(Refusing, 2) as workers, pytest.raises(ConnectionRefusedError):
        dict(workers.run(str, {"a": (1,)}))


# ---------------------------------------------------------------------------------------------------------- feedback


def test_pages_are_what_nbconverts_own_exporter_makes(a_class, graded):
    grade_week(a_class.week, quiet=True, student="ann")
    folder = a_class.root / "grading"
    page = (folder / "feedback" / "ann" / WEEK / f"{WEEK}.html").read_text()
    set_option(a_class.root, "c.GenerateFeedback.exporter_class = 'nbconvert.exporters.HTMLExporter'")
    write_pages(a_class.week.folder, ["ann"])
    stock = (folder / "feedback" / "ann" / WEEK / f"{WEEK}.html").read_text()
    assert page != stock and str(BeautifulSoup(page, features="html.parser")) == stock


def test_images_without_a_description_get_nbconverts():
    page = '<img src="x"><img class="a" alt="b" src="y"><code>&lt;img&gt;</code><imgs>'
    ours = feedback.NO_ALT.sub(feedback.ALT, page)
    assert ours.count("No description") == 1 and 'alt="b"' in ours and FeedbackExporter.__mro__[1] is HTMLExporter


def test_pages_are_shared_between_the_workers(a_class):
    sizes = [[len(part) for _, part in feedback.chunks(a_class.week, ["x"] * n, jobs)] for n, jobs in ((5, 2), (40, 2))]
    assert sizes == [[3, 2], [8] * 5] and list(feedback.chunks(a_class.week, [], 2)) == []


def test_a_page_that_fails_costs_no_other_and_is_made_on_resume(a_class, graded):
    grade_week(a_class.week, quiet=True, feedback=False)
    assert outdated(a_class.week, STUDENTS) == list(STUDENTS)
    bob = a_class.root / "grading" / "autograded" / "bob" / WEEK / f"{WEEK}.ipynb"
    good = bob.read_bytes()
    bob.write_text("{")
    assert list(write_pages(a_class.week.folder, STUDENTS)) == ["bob"]
    assert outdated(a_class.week, STUDENTS) == ["bob"]
    graded.clear()
    rows = grade_week(a_class.week, quiet=True, resume=True)
    assert set(trouble(rows)) == {"eve"} and graded == [] and bob.read_bytes() == good
    assert outdated(a_class.week, STUDENTS) == []


# ----------------------------------------------------------------------------------------------------------- preview


def test_a_preview_tells_what_would_change_and_writes_no_grade(a_class, graded, tmp_path):
    grading = a_class.root / "grading"
    (grading / "gradebook.db").write_bytes(b"this is not a database" * 100)
    with pytest.raises(CourseError, match=r"cannot be read .* not a database"):
        preview_week(a_class.week, quiet=True)
    (grading / "gradebook.db").unlink()
    assert "fay: 9 points, for the first time." in told(preview_week(a_class.week, quiet=True))
    assert not {"gradebook.db", "autograded", "feedback", "verdicts"} & {path.name for path in grading.iterdir()}
    graded.clear()
    grade_week(a_class.week, quiet=True, resume=True)
    assert graded == []
    with Gradebook(course_directory(a_class.root).db_url) as book:
        book.find_grade("check-rnn-step", WEEK, WEEK, "cat").manual_score = 2.5
        book.db.commit()

    for student, number in (("ann", 1), ("bob", 2), ("cat", 3), ("gus", 2)):
        a_class.hand_in(tmp_path / "new" / student, a_class.solved(rnn_step=source_of(a_class, number)))
    (tmp_path / "new" / "h*").mkdir()
    (tmp_path / "new" / "dan").mkdir()
    (tmp_path / "new" / "dan" / f"{WEEK}.ipynb").write_text("{")
    before = state_of(a_class.root), (grading / "gradebook.db").read_bytes()
    submitted = {path: path.read_bytes() for path in (grading / "submitted").rglob("*") if path.is_file()}
    graded.clear()
    text = told(preview_week(a_class.week, tmp_path / "new", quiet=True, resume=True), tmp_path / "new")
    assert len(graded) == 5, "those whom nothing changed for are taken from the journal"
    assert (state_of(a_class.root), (grading / "gradebook.db").read_bytes()) == before
    assert {path: path.read_bytes() for path in (grading / "submitted").rglob("*") if path.is_file()} == submitted
    assert text.splitlines()[:2] == ["ann: 14 -> 9 points.", text.splitlines()[1]]
    assert text.splitlines()[1].startswith("    rnn_step: 5 -> 0. ✗ 0 of 3 cases right.")
    assert "bob: 9 -> 14 points." in text and "gus: 14 points, for the first time." in text
    assert "cat: 11.5 points, as before.\n    rnn_step: 5 -> 0." in text and "The manual score of 2.5 stays." in text
    assert "dan: week01_rnn.ipynb is not a notebook" in text and "The earlier grade stands." in text
    assert "h*: Its folder's name" in text and "2 of 8 students would change.\n1 would be graded" in text
    assert f"autograder grade {WEEK} --submissions {tmp_path / 'new'} --resume" in text

    graded.clear()
    grade_week(a_class.week, tmp_path / "new", quiet=True, resume=True)
    assert graded == []
    rows = rows_of(a_class.root)
    assert [rows[name, "check-rnn-step"][:2] for name in ("ann", "bob", "cat", "gus")] == [
        (0, None),
        (5, None),
        (0, 2.5),
        (5, None),
    ]


def test_a_preview_reckons_late_penalties(a_class, graded):
    grade_week(a_class.week, quiet=True)
    assert "0 of 6 students would change." in told(preview_week(a_class.week, quiet=True, resume=True))
    set_option(a_class.root, 'c.Course.due = {"week01": "2026-10-05 23:59 UTC"}')
    set_option(a_class.root, 'c.Course.late_policy = "percent"')
    (a_class.root / "grading" / "submitted" / "ann" / WEEK / "timestamp.txt").write_text("2026-10-06 12:00 UTC")
    assert "ann: 14 -> 12.6 points." in told(preview_week(a_class.week, quiet=True, resume=True))
    grade_week(a_class.week, quiet=True, resume=True)
    assert rows_of(a_class.root)["ann"][1] == pytest.approx(1.4)
    assert "0 of 6 students would change." in told(preview_week(a_class.week, quiet=True, resume=True))


# -------------------------------------------------------------------------------------------------------- provenance


def test_provenance_stands_beside_the_verdicts(a_class, graded):
    grade_week(a_class.week, quiet=True, student="ann")
    record = verdicts.read(a_class.root, WEEK, "ann")
    wanted = (
        "checks commit cores graded ipykernel isolation key machine nbgrader numpy processor python safetensors seed"
    )
    got = record.provenance
    assert {*wanted.split(), "system", "torch", "version", "began", "seconds"} - {"commit"} <= got.keys()
    assert (got["seconds"], got["began"], got["week"]) == ("0.50", "2026-10-05T00:00:00+00:00", WEEK)
    assert "2026" not in json.dumps([vars(verdict) for verdict in record.verdicts], default=vars)
    assert hidden.provenance_of(a_class.week, "process")["isolation"] == "none (not a sandbox)"


# ---------------------------------------------------------------------------------------------------- what is handed in


def test_nothing_in_a_submission_is_followed(class_course, tmp_path):
    course, source = class_course, tmp_path / "class"
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    notebook = course.solved()
    ann = source / "ann" / WEEK
    course.hand_in(ann, notebook)
    (ann / "sub").mkdir()
    (ann / "sub" / "deep.txt").write_text("kept")
    os.link(ann / "names.json", ann / "hard.json")
    (ann / "soft.json").symlink_to(secret)
    (ann / "folder").symlink_to(tmp_path)
    (ann / "sub" / "up").symlink_to("..")
    (ann / "new\nline.txt").write_text("")
    (ann / "\x1b[31mred.txt").write_text("")
    (ann / os.fsdecode(b"broken\xff.txt")).write_text("")
    os.mkfifo(ann / "fifo.ipynb")
    with socket.socket(socket.AF_UNIX) as listening:
        here = Path.cwd()
        os.chdir(ann)
        try:
            listening.bind("socket")
        finally:
            os.chdir(here)
    (source / "bob" / WEEK / f"{WEEK}.ipynb").mkdir(parents=True)
    (source / "cat").symlink_to(source / "ann")
    (source / "dan").mkdir()
    (source / "dan" / WEEK).symlink_to(ann)
    (source / "e\nve").mkdir()
    (source / ("x" * 200)).mkdir()
    (source / "gus").mkdir()
    (source / "gus" / "timestamp.txt").symlink_to(secret)

    found = import_submissions(course.week, source)
    assert set(found.folders) == {"ann", "bob", "dan", "gus"}
    assert found.refused.keys() == {"cat", "e\\nve", "x" * 200} and "is a link" in found.refused["cat"]
    kept = {student: sorted(map(str, files_of(folder))) for student, folder in found.folders.items()}
    names = ["hard.json", "names.json", "names.safetensors", "sub/deep.txt", f"{WEEK}.ipynb"]
    assert kept == {"ann": names, "bob": [], "dan": [], "gus": []}
    everything = [path for path in (course.root / "grading" / "submitted").rglob("*") if not path.is_dir()]
    assert sorted(everything) == sorted(found.folders["ann"] / name for name in names)
    assert handed_in.handed_in(source / "gus") is None
    submitted = course.root / "grading" / "submitted"
    (submitted / "hal").symlink_to(submitted / "ann")
    (submitted / "ike").mkdir()
    (submitted / "ike" / WEEK).symlink_to(submitted / "ann" / WEEK)
    assert set(submitted_folders(course.week)) == {"ann", "bob", "dan", "gus"}


def test_what_is_too_much_is_left_out_the_notebook_last(class_course, tmp_path, monkeypatch):
    course, folder = class_course, tmp_path / "class" / "ann"
    (folder / "a").mkdir(parents=True)
    for number in range(3000):
        (folder / "a" / f"{number:04}.txt").write_text("x")
    course.hand_in(folder, course.solved())
    kept = list(map(str, files_of(folder)))
    assert len(kept) == handed_in.MAX_FILES and kept[:2] == [f"{WEEK}.ipynb", "names.json"]
    monkeypatch.setattr(handed_in, "MAX_FILE_BYTES", 1000)
    assert f"{WEEK}.ipynb" not in map(str, files_of(folder))
    monkeypatch.undo()
    monkeypatch.setattr(handed_in, "MAX_BYTES", (folder / f"{WEEK}.ipynb").stat().st_size + 5)
    assert len(files_of(folder)) == 6
    monkeypatch.setattr(handed_in, "MAX_SEEN", 2)
    assert found_in(course.week, tmp_path / "class").folders == {"ann": folder}


def test_a_submission_that_cannot_be_copied_costs_no_other(class_course, tmp_path):
    for student in ("ann", "bob"):
        class_course.hand_in(tmp_path / "class" / student, class_course.solved())
    (class_course.root / "grading" / "submitted").mkdir()
    (class_course.root / "grading" / "submitted" / "ann").write_text("a file stands in the way")
    found = import_submissions(class_course.week, tmp_path / "class")
    assert list(found.folders) == ["bob"] and found.refused["ann"].startswith("It could not be imported: ")
