"""What students handed in: found however it lies, copied without following anything, and told apart by student.

Nothing in a submission is trusted: links and special files are left behind, wherever they are, and so are hidden files,
names that no terminal can show, and whatever is too large or too many.
"""

import os
import re
import shutil
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from nbgrader.utils import parse_utc

from autograder.atomic import new_folder, swap
from autograder.errors import CourseError
from autograder.settings import course_directory
from autograder.week import Week

MAX_FILE_BYTES = 100 * 2**20
MAX_BYTES = 500 * 2**20  # of a submission's files together
MAX_FILES = 1000
MAX_SEEN = 50_000  # files and folders of one submission that are looked at
STUDENT = re.compile(r"[^\s/*?\[\]{}.][^/*?\[\]{}]*")  # what nbgrader's globs and format strings can take
TIMESTAMP = "timestamp.txt"
SECRET = "submission_secret.txt"  # nbgrader's exchange gives feedback to whoever handed in this


@dataclass(frozen=True)
class Found:
    """Submission folders by student, and why other folders are none, in a sentence by their names."""

    folders: dict[str, Path] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def is_student(name: str) -> bool:
    """Whether a folder's name can be a student's id in nbgrader and in the names of files."""
    return bool(STUDENT.fullmatch(name)) and name.isprintable() and len(name.encode()) <= 128


def files_of(folder: Path) -> list[Path]:
    """The files of a submission that count, as paths relative to its folder: regular files with printable names.

    Of more than MAX_FILES or MAX_BYTES the rest is left out; notebooks come first, then what lies higher up.
    """
    found: list[tuple[Path, int]] = []
    below, seen = deque([Path()]), 0
    while below and seen < MAX_SEEN:
        here = below.popleft()
        try:
            entries = sorted(os.scandir(folder / here), key=lambda entry: entry.name)
        except OSError:  # a folder that cannot be read holds nothing that can be graded
            continue
        seen += len(entries)
        for entry in entries:
            if entry.name.startswith(".") or not entry.name.isprintable():
                continue
            if entry.is_dir(follow_symlinks=False):
                below.append(here / entry.name)
            elif entry.is_file(follow_symlinks=False):
                found.append((here / entry.name, entry.stat(follow_symlinks=False).st_size))
    found.sort(key=lambda each: (each[0].suffix != ".ipynb", len(each[0].parts), str(each[0])))
    kept, total = [], 0
    for path, size in found:
        if len(kept) < MAX_FILES and size <= MAX_FILE_BYTES and total + size <= MAX_BYTES:
            kept.append(path)
            total += size
    return kept


def found_in(week: Week, source: Path) -> Found:
    """The submissions of a week in `source`, which has one folder a student; the notebook lies in it or anywhere below, as
    nbgrader, Canvas or Moodle leave it. Raises CourseError where there is none.
    """
    if not source.is_dir():
        raise CourseError(f"{source} is not a folder.")
    found = Found()
    for folder in sorted(path for path in source.iterdir() if not path.name.startswith(".")):
        shown = folder.name if folder.name.isprintable() else ascii(folder.name)[1:-1]
        if folder.is_symlink():
            found.refused[shown] = "It is a link, which is not followed."
        elif not folder.is_dir():
            continue
        elif not is_student(folder.name):
            found.refused[shown] = "Its folder's name cannot be a student's id; rename it."
        elif (chosen := _submission_in(folder, week)) is not None:
            found.folders[folder.name] = chosen
    if not found.folders:
        raise CourseError(f"{source} has no submissions of {week.name}: one folder a student, with the notebook in it.")
    return found


def _submission_in(folder: Path, week: Week) -> Path | None:
    """The part of a student's folder that is this week's submission; None where all of it is another week's."""
    own = folder / week.name
    if own.is_dir() and not own.is_symlink():
        return own
    others = {path.name for path in week.root.glob("solutions/week*") if path.name != week.name}
    notebooks = [path for path in files_of(folder) if path.suffix == ".ipynb"]
    ours = [path for path in notebooks if not others & {*path.parts, path.stem}]
    if notebooks and not ours:
        return None
    best = min(ours, key=lambda path: (week.name not in path.stem, len(path.parts), str(path)), default=None)
    return folder / best.parent if best else folder


def import_submissions(week: Week, source: Path) -> Found:
    """Copies each student's submission in `source` (`found_in`) to where nbgrader expects it, in place of an earlier one.

    `folders` of what is returned are the copies. A submission that cannot be copied is refused and costs no other.
    """
    found = found_in(week, source)
    copies = Found(refused=dict(found.refused))
    directory = course_directory(week.root)
    for student, chosen in found.folders.items():
        target = Path(directory.format_path(directory.submitted_directory, student, week.name))
        try:
            if chosen.resolve() != target.resolve():
                _replace_by_copy(chosen, target)
            copies.folders[student] = target
        except OSError as error:
            copies.refused[student] = f"It could not be imported: {error.strerror or error}."
    return copies


def _replace_by_copy(source: Path, target: Path) -> None:
    with new_folder(target) as fresh:
        for path in files_of(source):
            (fresh / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / path, fresh / path, follow_symlinks=False)
        swap(fresh, target)


def submitted_folders(week: Week) -> dict[str, Path]:
    """Every student's submission folder, by student. nbgrader's `collect` fills the same place."""
    directory = course_directory(week.root)
    top = Path(directory.root) / directory.submitted_directory
    folders = sorted(top.glob(f"*/{week.name}")) if top.is_dir() else []
    return {
        path.parent.name: path
        for path in folders
        if path.is_dir() and not path.is_symlink() and not path.parent.is_symlink() and is_student(path.parent.name)
    }


def handed_in(folder: Path) -> datetime | None:
    """When a submission was handed in, from nbgrader's timestamp.txt. None where there is none, or none that makes sense."""
    path = folder / TIMESTAMP
    if path.is_symlink() or not path.is_file():
        return None
    try:
        return parse_utc(path.read_bytes()[:200].decode().strip())
    except Exception:  # dateutil raises what its many parsers raise
        return None
