"""Every attack refused, every accident unharmed, for whoever runs the tests and, where that is root, for an ordinary user."""

import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from autograder.batch import grade_week
from tests.attacks import ordinary, table
from tests.attacks.entry import Entry
from tests.attacks.handed_in import SCRIPT
from tests.attacks.run import ENTRIES, Report, controls, hand_in, run, scene
from tests.conftest import ROOT, WEEK

USERS = ["me", "ordinary"] if os.getuid() == 0 else ["me"]


@functools.cache
def report(user: str, *options: str) -> Report:
    """The report of one run for all tests: in this process, or in one of an ordinary user's."""
    if user == "me":
        return run(controls(), "process") if "--controls" in options else run(ENTRIES)
    if why := ordinary.trouble():
        pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        file = Path(folder) / "report.json"
        command = [sys.executable, "-m", "tests.attacks.run", "--json", str(file), *options]
        done = ordinary.run(command, capture_output=True, text=True)
        assert file.exists(), done.stderr[-2000:]
        found = Report(**json.loads(file.read_text()))
    assert found.uid != 0
    return found


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("name", [entry.name for entry in ENTRIES])
def test_an_attack_is_refused_and_an_accident_unharmed(name, user):
    assert report(user).complaints[name] == ""


@pytest.mark.parametrize("user", USERS)
def test_nothing_is_touched_nothing_survives_and_honest_submissions_among_them_keep_their_points(user):
    assert report(user).whole == []


@pytest.mark.parametrize("user", USERS)
def test_without_a_sandbox_probes_do_get_what_they_are_after(user):
    complaints = report(user, "--controls").complaints
    assert len(complaints) > 20 and {name: why for name, why in complaints.items() if why} == {}


GARBAGE = [
    b"",
    b"yesterday",
    b"\0" * 1000,
    b"9" * 10**6,
    b"2026-99-99 99:99:99 UTC",
    b"\xff\xfe",
    b"1e308",
    b"0001-01-01 00:00 UTC\n",
]
BATCH = (
    "forged-points",
    "scripts",
    "strange-cells",
    "climbing-files",
    "notebook-deep",
    "artifact-pickle",
    "prints-points",
)


def test_a_batch_with_attacks_and_garbage_timestamps_in_it_gives_everybody_their_points():
    """By `autograder grade` itself, gradebook and feedback pages included."""
    attacks = {entry.name: entry for entry in ENTRIES if entry.name in BATCH}
    times = {f"time-{number}": text for number, text in enumerate(GARBAGE)}
    with scene() as here:
        for name, entry in attacks.items():
            hand_in(here, entry, here.root / "handed-in" / name)
        for name, text in times.items():
            hand_in(here, Entry("", "", ""), here.root / "handed-in" / name)
            (here.root / "handed-in" / name / "timestamp.txt").write_bytes(text)
        rows = {row.student: row for row in grade_week(here.course.week, here.root / "handed-in", jobs=2, quiet=True)}
        pages = list(here.course.root.glob(f"grading/feedback/*/{WEEK}/*.html"))
        shown = [page.parent.parent.name for page in pages if SCRIPT in page.read_text(encoding="utf-8")]
    points = {"notebook-deep": 0, "artifact-pickle": 14, "strange-cells": 18, "climbing-files": 18}
    assert {name: rows[name].points for name in attacks} == {name: points.get(name, 13) for name in attacks}
    assert {rows[name].points for name in times} == {18}
    assert len(pages) == len(rows)
    assert shown == []


def test_attacks_on_a_comparison_fool_the_usual_test_cells():
    done = subprocess.run([sys.executable, "-m", "tests.attacks.fooled"], cwd=ROOT, capture_output=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found["attacks"]) > 8
    assert {name: why for name, why in found["attacks"].items() if why} == {}
    assert [name for name, why in found["plain"].items() if not why] == [], (
        "a test cell that passes whatever is answered"
    )


def test_names_and_sentences():
    names = [entry.name for entry in ENTRIES]
    assert len(names) == len(set(names))
    assert [entry.name for entry in ENTRIES if not entry.tries.endswith(".")] == []


def test_the_page_has_the_table():
    text = table.PAGE.read_text(encoding="utf-8")
    assert text == table.page(text), "python -m tests.attacks.table writes it anew"
