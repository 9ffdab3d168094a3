"""The bench: a tiny class by both sides, what a command is measured to have used, and classes of any size."""

import json
import shutil
import sys

import pytest
from typer.testing import CliRunner

from autograder import bench
from autograder.classroom import Maker
from autograder.cli import app
from autograder.errors import CourseError
from autograder.gradebook import released_path
from autograder.release import assignment_notebook, notebook_bytes
from autograder.week import Week
from tests.conftest import ROOT, WEEK, cut_week

BURN = "import time\nwhile time.process_time() < 0.7: pass"


@pytest.fixture(scope="module")
def week(tmp_path_factory) -> Week:
    """A course whose only week is week 1 with two exercises, released."""
    target = tmp_path_factory.mktemp("bench")
    shutil.copyfile(ROOT / "nbgrader_config.py", target / "nbgrader_config.py")
    cut_week(target, ("rnn_step", "clip_by_global_norm"))
    week = Week(target / "solutions" / WEEK)
    released_path(week).parent.mkdir(parents=True)
    released_path(week).write_bytes(notebook_bytes(assignment_notebook(week)))
    return week


def test_a_tiny_class_is_graded_by_both_and_ours_as_it_was_made(week, monkeypatch):
    monkeypatch.chdir(week.root)
    options = [
        "--submissions",
        "3",
        "--pairs",
        "2",
        "--scale",
        "2,4",
        "--jobs",
        "1",
        "--isolation",
        "process",
        "--json",
    ]
    done = CliRunner().invoke(app, ["bench", "week01", *options], catch_exceptions=False)
    found = json.loads(done.stdout)
    assert (done.exit_code, found["problems"]) == (0, [])
    assert (found["submissions"], found["graded_by_nbgrader"], found["same_points"]) == (3, 3, 3)
    assert [pair["first"] for pair in found["pairs"]] == ["nbgrader", "ours"] and len(found["ratio_of_pairs"]) == 2
    assert found["growth"]["submissions"] == [2, 3, 4]
    assert found["ratio"] == pytest.approx(found["ours_per_minute"] / found["nbgrader_per_minute"])
    positive = [
        *(found[key] for key in ("ours_per_minute", "nbgrader_per_minute", "ratio")),
        *(found["waiting"][key][which] for key in ("seconds", "beyond_own") for which in ("median", "largest")),
        *(found[key] for key in ("students_cpu_seconds", "feedback_seconds", "limit_per_minute", "share_of_limit")),
        *(found[key][side] for key in ("cpu_seconds", "peak_mib", "prepare_seconds") for side in ("ours", "nbgrader")),
        *(figure for key in ("seconds", "peak_mib", "cpu_seconds") for figure in found["growth"][key]),
    ]
    assert min(positive) > 0
    assert found["students_cpu_seconds"] < found["cpu_seconds"]["ours"]
    assert found["machine"]["cores"] >= 1
    folder = week.root / "grading" / "bench"
    assert json.loads((folder / "bench.json").read_text()) == found
    assert (folder / "bench.png").read_bytes().startswith(b"\x89PNG")
    text = bench.told(found)
    assert "for 3 of 3 submissions" in text and "Ours graded every submission as it was made." in text
    assert "✗ ours: exit code 1" in bench.told({**found, "problems": ["ours: exit code 1"]})


def test_the_bench_says_what_it_needs(week):
    with pytest.raises(CourseError, match="two sizes"):
        bench.run_bench(week, 2, [2], isolation="process")


COMMANDS = {
    "a child": f"{sys.executable} -c '{BURN}'",
    "an orphan that outlives the command": f"(setsid {sys.executable} -c '{BURN}' &)",
    "a child whose parent never waits for it": f"trap '' CHLD; {sys.executable} -c '{BURN}' & sleep 3",
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_processor_time_of_all_descendants_is_counted(command, tmp_path):
    usage = bench.measured(["sh", "-c", command], tmp_path)
    assert usage.cpu_seconds > (0.6 if usage.exact else 0.1)
    assert usage.trouble == ""


def test_what_a_failing_command_says_last_is_told(tmp_path):
    assert bench.measured(["sh", "-c", "echo one; echo two >&2; exit 3"], tmp_path).trouble == "exit code 3: two"


def test_memory_is_summed_over_processes(tmp_path):
    hold = "import time; held = bytearray(60 * 2**20); time.sleep(2)"
    usage = bench.measured(["sh", "-c", f"{sys.executable} -c '{hold}' & {sys.executable} -c '{hold}'; wait"], tmp_path)
    assert 120 < usage.peak_mib < 240


def test_a_class_has_any_size_and_a_smaller_one_is_its_beginning(week):
    class_of_700 = Maker(week).ordinary(700)
    assert len({each.student for each in class_of_700}) == len(class_of_700) == 700
    assert Maker(week).ordinary(25) == class_of_700[:25]
    for start in range(0, 700, 10):
        profiles = [each.profile for each in class_of_700[start : start + 10]]
        assert profiles.count("one mistake") == profiles.count("two mistakes") == 2
        assert {"everything right", "warnings on stderr", "a syntax error", "four mistakes"} < set(profiles)
    assert all(each.raw is None and not each.file for each in class_of_700)
    statuses = {expected.status for each in class_of_700 for expected in each.expected.values()}
    assert statuses == {"passed", "wrong", "missing", "error"}  # and none that waits for a timeout


def test_the_students_own_computation_is_processor_time_of_their_code(week, tmp_path):
    ours = bench.prepare_ours(week, tmp_path / "course")
    banks = bench.hidden_banks(ours)
    [busy] = [each for each in Maker(week).ordinary(10) if each.profile == "everything right"]
    [alone] = bench.own_seconds(ours, [busy], banks)
    busy.sources["rnn_step"] += "\nimport time\nend = time.process_time() + 0.5\nwhile time.process_time() < end: pass"
    assert 0 < alone < alone + 0.4 < bench.own_seconds(ours, [busy], banks)[0]
