"""JupyterLab on a released week: the student's seat, with nbgrader's extensions working."""

import os
import subprocess
import sys
from pathlib import Path

from autograder.errors import CourseError
from autograder.week import Week

WORK = Path("grading/work")


def prepare(week: Week) -> Path:
    """Puts the week into nbgrader's exchange and fetches it from there into grading/work/, as a student would.

    What was fetched before, a student's work, is left alone. Returns the notebook's path relative to the root. Raises
    CourseError where the week is not released or nbgrader refuses.
    """
    if not (week.root / "assignments" / week.name / f"{week.name}.ipynb").exists():
        raise CourseError(f"{week.name} is not released; run `autograder release {week.name}` first.")
    exchange = week.root / "grading" / "exchange"
    exchange.mkdir(parents=True, exist_ok=True)
    exchange.chmod(0o777)  # nbgrader refuses an exchange that students cannot write
    _nbgrader(week, "release_assignment", week.name, "--force")
    if not (week.root / WORK / week.name).exists():
        (week.root / WORK).mkdir(parents=True, exist_ok=True)
        _nbgrader(week, "fetch_assignment", week.name)
    return WORK / week.name / f"{week.name}.ipynb"


def _nbgrader(week: Week, *arguments: str) -> None:
    command = [sys.executable, "-m", "nbgrader", *arguments]
    done = subprocess.run(command, cwd=week.root, capture_output=True, text=True)
    if done.returncode:
        raise CourseError(f"nbgrader {arguments[0]} fails for {week.name}: {done.stderr.strip().splitlines()[-1]}")


def lab_environment(root: Path) -> dict[str, str]:
    """The environment of the server. nbgrader's assignment list looks for its configuration from within grading/work/."""
    paths = [str(root), *filter(None, [os.environ.get("JUPYTER_CONFIG_PATH")])]
    return {**os.environ, "JUPYTER_CONFIG_PATH": os.pathsep.join(paths)}


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
