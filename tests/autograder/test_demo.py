"""The demo's class: made the same every time, and a comparison that notices every grade that is not what was made."""

import csv
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from nbgrader.utils import parse_utc

from autograder.classroom import Expected, Maker, write_class, write_roster
from autograder.demo import (
    DUE,
    MARK,
    compare,
    complete,
    copy_course,
    demo_root,
    fresh_course,
    import_roster,
    run_demo,
    told,
)
from autograder.errors import CourseError
from autograder.release import assignment_notebook
from autograder.report import ClassReport, Column, Entry
from autograder.settings import Course
from autograder.week import Week
from course.check import Verdict
from tests.autograder.conftest import rows_of
from tests.conftest import ROOT, WEEK, cut_week

EXERCISES = ("rnn_step", "rnn_forward", "clip_by_global_norm")


@pytest.fixture(scope="module")
def week(tmp_path_factory) -> Week:
    """A course whose only week is week 1 with three exercises, the second of which calls the first."""
    target = tmp_path_factory.mktemp("demo")
    (target / "nbgrader_config.py").write_bytes((ROOT / "nbgrader_config.py").read_bytes())
    (target / "grading").mkdir()
    cut_week(target, EXERCISES)
    return Week(target / "solutions" / WEEK)


@pytest.fixture(scope="module")
def made(week):
    return Maker(week).everybody()


def written(week, notebook, made, folder: Path) -> dict[str, bytes]:
    write_class(week, notebook, made, folder, parse_utc(DUE))
    write_roster(folder / "roster.csv", made)
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_seed_makes_the_same_class_and_another_makes_another(week, made, tmp_path):
    notebook = assignment_notebook(week)
    files = written(week, notebook, made, tmp_path / "one")
    assert files == written(week, notebook, Maker(week).everybody(), tmp_path / "two")
    assert files != written(week, notebook, Maker(week, "another").everybody(), tmp_path / "three")
    with (tmp_path / "one" / "roster.csv").open(encoding="utf-8", newline="") as file:
        students = [row["id"] for row in csv.DictReader(file)]
    assert len(students) == len(set(students)) == len(made) >= 24
    assert {path.split("/")[0] for path in files} == {"roster.csv", *students}


def test_mistakes_cost_their_exercise_and_what_calls_it_is_asked_of_the_banks(week, monkeypatch):
    maker = Maker(week)
    person = maker.person("test")
    exercise = week.exercise("rnn_step")
    mistake = next(m for m in exercise.mistakes if m.name == "no-tanh")
    maker.popular = {"rnn_step": [mistake]}
    made = maker.with_mistakes(person, 3)
    assert made.expected["rnn_step"] == Expected(0.0, "wrong", (mistake.message,))
    assert made.expected["clip_by_global_norm"] == Expected(5, "passed")
    assert "rnn_forward" not in made.expected
    [completed] = complete(week, [made])
    assert completed.expected["rnn_forward"] == Expected(10, "passed"), "it is right given that rnn_step"
    monkeypatch.setattr("autograder.demo.load_settings", lambda root: Course(follow_through=False))
    [completed] = complete(week, [made])
    assert completed.expected["rnn_forward"] == Expected(0.0, "wrong")
    [untouched] = complete(week, [person])
    assert untouched == person


def graded(week, made) -> ClassReport:
    """The report of a class that was graded exactly as it was made."""
    columns = [Column(f"check-{e.slug}", e.name, e.points) for e in week.exercises]
    entries = []
    for each in made:
        if each.raw is not None:
            entries.append(Entry(each.student, state="failed"))
            continue
        verdicts = {
            name: Verdict(name, expected.status, 0, 1, expected.points, named=expected.named)
            for name, expected in each.expected.items()
        }
        points = {column.id: each.expected[column.name].points for column in columns}
        days = -(-max(each.late, timedelta(0)) // timedelta(days=1))
        penalty = sum(points.values()) * 0.1 * days
        facts = {"points": points, "verdicts": verdicts, "penalty": penalty}
        entries.append(Entry(each.student, state="graded", **facts))
    return ClassReport(week.name, columns, entries)


def changed(report: ClassReport, student: str, **changes) -> ClassReport:
    entries = [replace(entry, **changes) if entry.student == student else entry for entry in report.entries]
    return replace(report, entries=entries)


def test_the_comparison_notices_whatever_is_not_as_made(week, made):
    made = complete(week, made)
    report = graded(week, made)
    assert compare(week, made, report) == []

    one = next(each for each in made if each.mistakes)
    entry = next(entry for entry in report.entries if entry.student == one.student)
    [name, *_] = one.mistakes
    verdict = entry.verdicts[name]
    others = {
        "points": {"points": {**entry.points, "check-rnn-step": entry.points["check-rnn-step"] + 1}},
        "another name": {"verdicts": {**entry.verdicts, name: replace(verdict, named=("Something else.",))}},
        "no name": {"verdicts": {**entry.verdicts, name: replace(verdict, named=())}},
        "status": {"verdicts": {**entry.verdicts, name: replace(verdict, status="timeout")}},
        "no verdict": {"verdicts": {n: v for n, v in entry.verdicts.items() if n != name}},
        "penalty": {"penalty": entry.penalty + 1},
        "state": {"state": "ungraded"},
    }
    for what, change in others.items():
        problems = compare(week, made, changed(report, one.student, **change))
        assert len(problems) == 1 and problems[0].startswith(f"{one.student}: "), what
    missing = replace(report, entries=[e for e in report.entries if e.student != one.student])
    assert compare(week, made, missing) == [f"{one.student}: is nowhere ({one.profile})."]
    [unreadable] = [each for each in made if each.raw is not None]
    [problem] = compare(week, made, changed(report, unreadable.student, state="graded"))
    assert problem.startswith(f"{unreadable.student}: is graded")
    stranger = replace(report, entries=[*report.entries, Entry("eve")])
    assert compare(week, made, stranger) == ["eve: nobody made this student."]


def test_a_small_class_from_release_to_report(week, made, monkeypatch):
    profiles = ("a day late, one mistake", "another file name", "half of the file was never uploaded")
    few = [each for each in made if each.profile in profiles]
    monkeypatch.setattr(Maker, "everybody", lambda self: few)
    (week.root / "grading" / "gradebook.db").write_bytes(b"a real class")
    demo = run_demo(week, isolation="process", tell=lambda line: None)
    assert (demo.problems, demo.as_expected) == ([], 3)
    assert (week.root / "grading" / "gradebook.db").read_bytes() == b"a real class"
    text = told(demo, week.root)
    assert "3 of 3 submissions graded as made." in text
    for line in text.splitlines():
        if line.strip().startswith(("the class report", "a student's feedback")):
            assert (week.root / line.split()[-1]).is_file()
    [late] = [entry for entry in demo.report.entries if entry.penalty]
    assert late.score == pytest.approx(0.9 * late.raw)
    assert late.last_name and late.email.endswith("@example.org")  # from the roster


def test_the_demos_rows_are_those_of_nbgrader_autograde(tmp_path):
    """Week 1 itself. A renamed or unreadable notebook is left out: nbgrader gives it up before our code is asked."""
    demo = run_demo(copy_course(Week(ROOT / "solutions" / WEEK), tmp_path / "course"), tell=lambda line: None)
    assert demo.problems == [] and demo.as_expected == len(demo.made)
    root, name = demo.week.root, demo.week.name
    ours = rows_of(root)

    grading = root / "grading"
    (grading / "gradebook.db").unlink()
    for folder in ("autograded", "feedback", "verdicts"):
        shutil.rmtree(grading / folder)
    left_out = {made.student for made in demo.made if made.raw is not None or made.file not in ("", name)}
    for student in left_out:
        shutil.rmtree(grading / "submitted" / student)
    import_roster(demo.week)
    command = [Path(sys.executable).with_name("nbgrader"), "autograde", name]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    theirs = rows_of(root)
    of = {key: key if isinstance(key, str) else key[0] for key in ours}
    assert theirs == {key: row for key, row in ours.items() if of[key] not in left_out}
    assert len({of[key] for key in theirs}) == len(demo.made) - len(left_out) >= 24


def test_a_folder_that_is_not_the_demos_is_left_alone(week):
    target = demo_root(week.root)
    mark = target / MARK
    fresh_course(week)
    mark.unlink()
    (target / "mine.txt").touch()
    with pytest.raises(CourseError, match="no course that the demo made"):
        fresh_course(week)
    assert (target / "mine.txt").exists()
