"""JupyterLab on a released week: the student's seat, with nbgrader's extensions working."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from autograder.week import CourseError, Week

WORK = Path("grading/work")


def prepare(week: Week) -> Path:
    """Puts the week into the exchange (so that the assignment list shows it) and a copy into grading/work/.

    A copy that is there already, a student's work, is left alone. Returns the notebook's path relative to the root.
    Raises CourseError where the week is not released or nbgrader refuses.
    """
    released = week.root / "assignments" / week.name / f"{week.name}.ipynb"
    if not released.exists():
        raise CourseError(f"{week.name} is not released; run `autograder release {week.name}` first.")
    (week.root / "grading" / "exchange").mkdir(parents=True, exist_ok=True)
    (week.root / "grading" / "exchange").chmod(0o777)
    command = [sys.executable, "-m", "nbgrader", "release_assignment", week.name, "--force"]
    done = subprocess.run(command, cwd=week.root, capture_output=True, text=True)
    if done.returncode:
        raise CourseError(f"nbgrader cannot put {week.name} into the exchange: {done.stderr.strip().splitlines()[-1]}")
    copy = WORK / week.name / released.name
    if not (week.root / copy).exists():
        (week.root / copy).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(released, week.root / copy)
    return copy


def lab_command(week: Week, browser: bool = True, port: int = 8888) -> list[str]:
    """The command that serves JupyterLab from the course's root, opened on the week's notebook."""
    notebook = prepare(week)
    return [
        sys.executable,
        "-m",
        "jupyterlab",
        f"--port={port}",
        f"--ServerApp.root_dir={week.root}",
        f"--LabApp.default_url=/lab/tree/{notebook.as_posix()}",
        *([] if browser else ["--no-browser"]),
        *(["--allow-root"] if getattr(os, "geteuid", lambda: 1)() == 0 else []),
    ]
