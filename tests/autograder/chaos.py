"""Kills `autograder grade` at random moments, resumes it, and compares what is there in the end with an undisturbed run.

    python -m tests.autograder.chaos --kills 20 --victims batch,worker,zygote,server

grades a small class in real kernels; `--fake` takes a grader without kernels, as the test in CI does. The victims are the
batch itself, one of its worker processes, the zygote of their kernels, or the server that workers are forked from. The moments
are drawn from `--seed`: after so many new results, or, for every third kill, when all results are there and pages are made.
Exits 1 where anything differs.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from autograder import batch, cli, journal
from tests.autograder import fake
from tests.autograder.conftest import SmallCourse, make_small_course, rows_of
from tests.conftest import ROOT, WEEK

VICTIMS = ("batch", "worker", "zygote", "server")
STEP = 0.02  # seconds between looks at what is running
LONGEST = 1200.0  # seconds that a run may take


def fake_grade_command() -> None:
    """`autograder`, with the fake grader in its workers."""
    batch.grade_folder = fake.grade
    cli.main()


def make_class(course: SmallCourse, students: int) -> None:
    """So many submissions, no two alike: right, wrong by name, failing, late, unreadable."""
    submitted = course.root / "grading" / "submitted"
    right = course.week.solution("rnn_step")
    for number in range(students):
        sources = [
            right,
            right.replace("torch.tanh(", "("),
            "def rnn_step(*arguments):\n    return 1 / 0  # wrong\n",
            right.replace("    return", "    pass  # wrong\n    return torch.zeros(1)\n    return"),
        ]
        source = f"{sources[number % 4]}# {number} {fake.MARK} sleep 0.3\n"
        folder = submitted / f"student-{number:03}" / WEEK
        course.hand_in(folder, course.solved(rnn_step=source), artifact=bool(number % 3))
        if number % 5 == 4:
            (folder / "timestamp.txt").write_text(f"2026-10-0{number % 9 + 1} 12:00:00 UTC\n")
        if number % 7 == 6:
            (folder / f"{WEEK}.ipynb").write_text("{")
    with (course.root / "nbgrader_config.py").open("a") as file:
        file.write('c.Course.due = {"week01": "2026-10-05 23:59:00 UTC"}\nc.Course.late_policy = "percent"\n')


def start(root: Path, jobs: int, faked: bool, resume: bool) -> subprocess.Popen:
    code = "from tests.autograder import chaos; chaos.fake_grade_command()"
    command = [sys.executable, *(["-c", code] if faked else ["-m", "autograder.cli"]), "grade", "week01"]
    command += ["--jobs", str(jobs), *(["--resume"] if resume else [])]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    return subprocess.Popen(
        command, cwd=root, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen) -> None:
    """Waits for the end; 1 is the exit code of a class in which somebody's submission cannot be read or graded."""
    _, errors = process.communicate(timeout=LONGEST)
    if process.returncode not in (0, 1, -signal.SIGKILL) or "Traceback" in errors:
        raise RuntimeError(f"The batch ended with {process.returncode}: {errors}")


def victim(process: subprocess.Popen, kind: str) -> int | None:
    """The pid of a process of that kind; None where there is none now."""
    if kind == "batch":
        return process.pid
    try:
        [server] = [each for each in psutil.Process(process.pid).children() if "forkserver" in " ".join(each.cmdline())]
        if kind == "server":
            found = [server]
        elif kind == "worker":
            found = [each for each in server.children() if each.cmdline() == server.cmdline()]
        else:
            below = server.children(recursive=True)
            found = [each for each in below if "zygote" in " ".join(each.cmdline()) and each.name() != "bwrap"]
    except (psutil.Error, ValueError):  # it ended while it was looked at, or has not begun
        return None
    return found[0].pid if found else None


def disturb(
    root: Path, students: int, kills: int, victims: Sequence[str], seed: int, jobs: int, faked: bool
) -> list[str]:
    """Grades the class of `root` under fire, to the end. Returns what was killed, in order.

    Where a run gets through before it is hit, the next one grades everything anew. Raises RuntimeError where no victim is
    found in five of those, or where workers outlive their batch.
    """
    draw = random.Random(seed)
    entries = journal.folder_of(root, WEEK)
    killed: list[str] = []
    resume, unharmed, anew = False, 0, 0.0
    while len(killed) < kills:
        process, began = start(root, jobs, faked, resume), time.time()
        anew = anew if resume else began
        while len(killed) < kills:
            kind, late = victims[len(killed) % len(victims)], len(killed) % 3 == 2
            since, least = (anew, students) if late else (began, _written(entries, began) + draw.randrange(3))
            while process.poll() is None and _written(entries, since) < least:
                time.sleep(STEP)
            time.sleep(draw.uniform(0.0, 1.5 if late else 0.4))
            if process.poll() is not None:
                break
            if (pid := victim(process, kind)) is not None:
                kill(process, pid)
                killed.append(kind)
                unharmed = 0
        finish(process)
        resume = process.returncode < 0
        unharmed += not resume
        if unharmed > 5:
            raise RuntimeError(f"There was no {kind} to be killed in {unharmed} whole runs.")
    finish(start(root, jobs, faked, resume=True))
    return killed


def kill(process: subprocess.Popen, pid: int) -> None:
    """Kills one process; where it is the batch, its workers are to end too."""
    below = psutil.Process(process.pid).children(recursive=True) if pid == process.pid else []
    os.kill(pid, signal.SIGKILL)
    _, orphans = psutil.wait_procs(below, timeout=60)
    if orphans:
        raise RuntimeError(f"The batch was killed, and these live on: {[each.cmdline() for each in orphans]}")


def _written(entries: Path, since: float) -> int:
    """How many results were journalled since then."""
    return sum(path.stat().st_mtime >= since for path in entries.glob("[!.]*.json"))


def state_of(root: Path) -> dict:
    """All that a run leaves behind and that must not depend on how it went: rows, verdicts, graded notebooks, pages; no
    leftovers."""
    grading = root / "grading"
    found: dict = {str(key): value for key, value in rows_of(root).items()}
    for path in sorted((grading / "verdicts" / WEEK).iterdir()):
        tree = json.loads(path.read_text())
        found[path.name] = json.dumps([tree["verdicts"], tree["repairs"], tree["failed"]])
    for folder in ("autograded", "feedback"):
        files = [path for path in (grading / folder).rglob("*") if path.is_file()]
        found |= {str(path.relative_to(grading)): path.read_bytes() for path in files}
    found["leftovers"] = sorted(str(path.relative_to(grading)) for path in grading.rglob(".*") if path.name != ".lock")
    return found


def differences(undisturbed: dict, disturbed: dict) -> list[str]:
    keys = undisturbed.keys() | disturbed.keys()
    return sorted(key for key in keys if undisturbed.get(key) != disturbed.get(key))


def chaos(
    folder: Path, students: int, kills: int, victims: Sequence[str], seed: int, jobs: int, faked: bool
) -> tuple[list[str], list[str]]:
    """Both runs, in `folder`. Returns what was killed, and what differs in the end."""
    quiet = make_small_course(folder / "quiet")
    make_class(quiet, students)
    shutil.copytree(quiet.root, folder / "stormy")
    finish(start(quiet.root, jobs, faked, resume=False))
    killed = disturb(folder / "stormy", students, kills, victims, seed, jobs, faked)
    return killed, differences(state_of(quiet.root), state_of(folder / "stormy"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--victims", default="batch,worker", help=f"Taken in turn, of {','.join(VICTIMS)}.")
    parser.add_argument("--students", type=int, default=24)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fake", action="store_true", help="A grader without kernels.")
    chosen = parser.parse_args()
    victims = chosen.victims.split(",")
    if unknown := set(victims) - set(VICTIMS):
        parser.error(f"There is no victim {', '.join(unknown)}.")
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        killed, different = chaos(
            Path(folder), chosen.students, chosen.kills, victims, chosen.seed, chosen.jobs, chosen.fake
        )
    print(f"killed {len(killed)}: {', '.join(f'{killed.count(kind)} {kind}' for kind in dict.fromkeys(killed))}")
    print("\n".join(f"differs: {each}" for each in different) or "everything is as in the undisturbed run")
    sys.exit(bool(different))


if __name__ == "__main__":
    main()
