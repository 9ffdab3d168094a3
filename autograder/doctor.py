"""Doctor: what this machine can do, one finding a line."""

import platform
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from autograder.kernel.sandbox import sandbox_trouble
from autograder.week import weeks_of

PACKAGES = ("torch", "datasets", "nbgrader", "jupyterlab", "nbclient", "jupytext")
LAB_EXTENSIONS = ("nbgrader",)


def findings(root: Path) -> Iterator[tuple[bool, str, str]]:
    """(fine, name, text) for everything that grading and `make lab` need."""
    yield sys.version_info >= (3, 11), "python", f"{platform.python_version()} on {platform.platform()}"
    for package in PACKAGES:
        try:
            yield True, package, version(package)
        except PackageNotFoundError:
            yield False, package, "not installed: pip install -e '.[grader]'"
    yield _sandbox()
    yield _gpu()
    yield _extensions()
    for week in weeks_of(root):
        there = (root / "assignments" / week.name / f"{week.name}.ipynb").exists()
        yield there, week.name, "released" if there else f"not released: autograder release {week.name}"


def _sandbox() -> tuple[bool, str, str]:
    why = sandbox_trouble()
    return not why, "sandbox", why or "bubblewrap runs"


def _gpu() -> tuple[bool, str, str]:
    import torch

    if torch.cuda.is_available():
        return True, "gpu", torch.cuda.get_device_name()
    return True, "gpu", "none (the cpu size of every experiment runs without one)"


def _extensions() -> tuple[bool, str, str]:
    done = subprocess.run([sys.executable, "-m", "jupyter", "labextension", "list"], capture_output=True, text=True)
    listing = done.stdout + done.stderr
    missing = [
        name for name in LAB_EXTENSIONS if not any(name in line and "OK" in line for line in listing.splitlines())
    ]
    if missing:
        return False, "extensions", f"extensions not enabled: {', '.join(missing)}"
    return True, "extensions", "nbgrader's assignment list, validate and formgrader are enabled"
