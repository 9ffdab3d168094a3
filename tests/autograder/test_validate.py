"""Validate refuses what it promises to refuse, and says why. Each test breaks a small real week in one way."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from autograder.errors import CourseError
from autograder.naming import Tally
from autograder.validate import validate
from autograder.week import Week, find_week

WEEK = "week01_rnn"


def edit(path: Path, old: str, new: str, count: int = 1) -> None:
    text = path.read_text()
    assert text.count(old) >= 1, f"{old!r} is not in {path.name}"
    path.write_text(text.replace(old, new, count))


def append(root: Path, name: str, text: str) -> None:
    """Adds code to the end of a file of the week: what comes last in exercises.py has the last word."""
    with (root / "solutions" / WEEK / name).open("a") as file:
        file.write(text)


def command(root: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-m", "autograder.cli", *arguments]
    return subprocess.run(line, cwd=root, capture_output=True, text=True, env=environment)


def problems(root: Path) -> str:
    return "\n".join(validate(Week(root / "solutions" / WEEK), grade=False).all_problems)


def test_a_sound_week_passes(small_course: Path):
    proof = validate(find_week(small_course, "week01"), grade=False)
    numbers = proof.as_json()
    assert proof.all_problems == []
    assert numbers["passed"] and numbers["exercises"] == 1
    assert numbers["refused"] == numbers["named"] == numbers["mistakes"] >= 4
    assert numbers["accepted"] == numbers["alternates"] >= 1
    assert numbers["pairs_named"] == numbers["pairs"] >= 10
    assert numbers["carried"] == numbers["carried_of"] == numbers["wrongly_paid"] == 0  # there is no later exercise


def test_a_tolerance_loosened_until_a_mistake_survives(small_course: Path):
    append(
        small_course,
        "exercises.py",
        "\nimport dataclasses\nEXERCISES = [dataclasses.replace(e, floor=10.0) for e in EXERCISES]\n",
    )
    done = command(small_course, "validate", "week01", "--quick")
    assert done.returncode == 1
    assert "gets through" in done.stdout


def test_a_mistake_whose_text_no_longer_matches(small_course: Path):
    week = find_week(small_course, "week01")
    mistake = next(m for m in week.exercise("rnn_step").mistakes if m.find)
    append(
        small_course,
        "exercises.py",
        "\nimport dataclasses\nEXERCISES = [dataclasses.replace(e, mistakes=[dataclasses.replace(m, find='no such text')"
        f" if m.name == {mistake.name!r} else m for m in e.mistakes]) for e in EXERCISES]\n",
    )
    done = command(small_course, "validate", "week01", "--quick")
    assert done.returncode != 0
    assert f"the text of mistake {mistake.name!r} occurs 0 times" in done.stdout + done.stderr


def test_two_mistakes_that_cannot_be_told_apart(small_course: Path):
    week = find_week(small_course, "week01")
    first = week.exercise("rnn_step").mistakes[0]
    append(
        small_course,
        "exercises.py",
        "\nimport dataclasses\nEXERCISES = [dataclasses.replace(e, mistakes=[*e.mistakes, dataclasses.replace("
        "e.mistakes[0], name='twin', message='Said in another way.')]) for e in EXERCISES]\n",
    )
    done = command(small_course, "validate", "week01", "--quick")
    assert done.returncode == 1
    assert f"{first.name!r} is not named as itself: also fits ['twin']" in done.stdout


def test_a_solution_line_put_into_the_notebook(small_course: Path):
    week = find_week(small_course, "week01")
    lines = week.solution("rnn_step").splitlines()
    begin = next(i for i, line in enumerate(lines) if "BEGIN SOLUTION" in line)
    master = week.folder / f"{WEEK}.py"
    master.write_text(
        master.read_text() + f"\n# %% [markdown]\n# Try `{lines[begin + 1].strip()}`\n# {lines[begin + 1].strip()}\n"
    )
    done = command(small_course, "validate", "week01", "--quick")
    assert done.returncode == 1
    assert "has a line of the solution" in done.stdout


def test_two_mistakes_with_one_message(small_course: Path):
    append(
        small_course,
        "exercises.py",
        "\nimport dataclasses\nEXERCISES = [dataclasses.replace(e, mistakes=[dataclasses.replace(m, message='Same.')"
        " for m in e.mistakes]) for e in EXERCISES]\n",
    )
    assert "have the same message: Same." in problems(small_course)


def test_a_case_on_which_nothing_fails(small_course: Path):
    append(
        small_course,
        "exercises.py",
        "\nimport dataclasses\ndef _harmless(rng, make=EXERCISES[0].cases):\n    cases = make(rng)\n"
        "    _, inputs = cases[0]\n    zero = {k: v * 0 for k, v in inputs.items()}\n"
        "    return [*cases, ('all zeros', zero)]\n"
        "EXERCISES = [dataclasses.replace(e, cases=_harmless, mistakes=e.mistakes[:1]) for e in EXERCISES]\n",
    )
    assert "(all zeros) cannot fail" in problems(small_course)


def test_an_alternate_that_does_not_fit(small_course: Path):
    append(
        small_course,
        "alternates.py",
        '\n# %% alternate="rnn_step" name="too-coarse"\n'
        "def rnn_step(x, h, w_ih, w_hh, b_ih, b_hh):\n"
        "    return torch.tanh(x @ w_ih.T + b_ih + h @ w_hh.T + b_hh) * 1.001\n",
    )
    assert "correct alternate 'too-coarse' does not fit: refused" in problems(small_course)


def test_a_solution_that_stops_working(small_course: Path):
    week = find_week(small_course, "week01")
    master = week.folder / f"{WEEK}.py"
    edit(master, "### BEGIN SOLUTION", "### BEGIN SOLUTION\n    raise ValueError('broken')")
    with pytest.raises(CourseError, match="the solution fails: ValueError: broken"):
        validate(Week(week.folder), grade=False)


def test_a_wrong_answer_that_would_be_paid(small_course: Path, monkeypatch: pytest.MonkeyPatch):
    found = Tally(carried=1, carried_of=1, wrongly_paid=["late in g would be paid on top of f/flat"])
    monkeypatch.setattr("autograder.validate.tally", lambda *arguments: found)
    proof = validate(find_week(small_course, "week01"), grade=False, seeds=1)
    assert not proof.passed and proof.all_problems == found.wrongly_paid and proof.as_json()["wrongly_paid"] == 1


def test_a_week_that_costs_too_much_of_a_processor(small_course: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("autograder.validate.MOST_SECONDS", 0.0)
    proof = validate(find_week(small_course, "week01"))
    assert proof.seconds is not None and 0 < proof.seconds < 20
    assert [problem for problem in proof.all_problems if "more than 0" in problem] == proof.all_problems != []
