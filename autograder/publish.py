"""Publish: the repository that students see, made of what git tracks, without anything private."""

import shutil
import subprocess
from pathlib import Path

from autograder.errors import CourseError
from autograder.release import leaks, release
from autograder.week import Week, weeks_of

PRIVATE = ("solutions", "tests", "grading")  # tests run the solutions; grading is never tracked anyway


def public_files(root: Path) -> list[Path]:
    """The tracked files that students may see, relative to the root. Raises CourseError outside a git checkout."""
    listing = subprocess.run(["git", "-C", root, "ls-files", "-z"], capture_output=True, text=True)
    if listing.returncode:
        raise CourseError(f"{root} is not a git checkout; publish copies only files that git tracks.")
    paths = [Path(name) for name in listing.stdout.split("\0") if name]
    return [path for path in paths if path.parts[0] not in PRIVATE and (root / path).is_file()]


def searched(week: Week, files: list[Path]) -> list[Path]:
    """The public files in which lines of this week's solution are looked for: all but other weeks' notebooks, which give
    lines that are this week's to write."""
    return [path for path in files if path.parts[0] != "assignments" or week.name in path.parts]


def publish(root: Path, target: Path) -> int:
    """Copies the public files to an empty or absent folder and returns how many there are.

    Raises CourseError where the folder is not empty or where a line of any week's solution, or the grader's secret, stands
    in what was copied; then nothing is left in the folder.
    """
    target = target.resolve()
    if target.exists() and any(target.iterdir()):
        raise CourseError(f"{target} is not empty; publish writes into a new folder only.")
    existed = target.exists()
    files = public_files(root)
    for path in files:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / path, target / path)
    found = []
    for week in weeks_of(root):
        found += leaks(week, release(week).notebook, [target / path for path in searched(week, files)])
    if found:
        shutil.rmtree(target)
        if existed:
            target.mkdir()
        raise CourseError("Nothing was published: " + "; ".join(found[:5]) + ".")
    return len(files)
