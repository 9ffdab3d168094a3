"""The batch: a class's submissions through `grade_notebook` in worker processes, and one writer for the gradebook."""

import multiprocessing
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import torch
from sqlalchemy.exc import SQLAlchemyError
from tqdm import tqdm

from autograder import verdicts
from autograder.grade import Graded, grade_notebook, read_release, ungraded
from autograder.gradebook import (
    Row,
    course_directory,
    handed_in,
    open_gradebook,
    register,
    released_path,
    row,
    save,
    write_feedback,
)
from autograder.hidden import hidden_banks, provenance_of
from autograder.kernel.provisioner import require
from autograder.repair import exercise, find_notebook, role
from autograder.settings import load_settings
from autograder.week import CourseError, Week

MAX_FILE_BYTES = 100 * 2**20
STUDENT = re.compile(r"[^\s/*?\[\]{}.][^/*?\[\]{}]*")  # what nbgrader's globs and format strings can take

# ------------------------------------------------------------------------------------------------ what was handed in


def import_submissions(week: Week, source: Path) -> list[str]:
    """Copies each student's folder of `source` to where nbgrader expects it, and returns the students.

    `source` has one folder a student; the notebook lies in it or anywhere below, as nbgrader, Canvas or Moodle leave it.
    An earlier submission is replaced. Links and hidden files are left behind. Raises CourseError where there is nothing.
    """
    if not source.is_dir():
        raise CourseError(f"{source} is not a folder.")
    directory = course_directory(week.root)
    students = []
    for folder in sorted(path for path in source.iterdir() if path.is_dir() and not path.is_symlink()):
        if not STUDENT.fullmatch(folder.name):
            continue
        chosen = _submission_in(folder, week)
        target = Path(directory.format_path(directory.submitted_directory, folder.name, week.name))
        if chosen is None:
            continue
        students.append(folder.name)
        if chosen.resolve() != target.resolve():
            _replace_by_copy(chosen, target)
    if not students:
        raise CourseError(f"{source} has no submissions of {week.name}: one folder a student, with the notebook in it.")
    return students


def _submission_in(folder: Path, week: Week) -> Path | None:
    """The part of a student's folder that is this week's submission; None where all of it is another week's."""
    if (folder / week.name).is_dir():
        return folder / week.name
    others = {path.name for path in week.root.glob("solutions/week*") if path.name != week.name}
    notebooks = [path.relative_to(folder) for path in folder.rglob("*.ipynb")]
    notebooks = [path for path in notebooks if not any(part.startswith(".") for part in path.parts)]
    ours = [path for path in notebooks if not others & {*path.parts, path.stem}]
    if notebooks and not ours:
        return None
    best = min(ours, key=lambda path: (week.name not in path.stem, len(path.parts), str(path)), default=None)
    return folder / best.parent if best else folder


def _replace_by_copy(source: Path, target: Path) -> None:
    def left_behind(folder: str, names: list[str]) -> set[str]:
        paths = [Path(folder) / name for name in names]
        return {
            path.name
            for path in paths
            if path.is_symlink()
            or path.name.startswith(".")
            or not (path.is_dir() or path.is_file())
            or (path.is_file() and path.stat().st_size > MAX_FILE_BYTES)
        }

    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=".import-", dir=target.parent))
    try:
        shutil.copytree(source, fresh, ignore=left_behind, dirs_exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        fresh.rename(target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def submitted_folders(week: Week) -> dict[str, Path]:
    """Every student's submission folder, by student. nbgrader's `collect` fills the same place."""
    directory = course_directory(week.root)
    top = Path(directory.root) / directory.submitted_directory
    folders = sorted(top.glob(f"*/{week.name}")) if top.is_dir() else []
    return {path.parent.name: path for path in folders if path.is_dir() and STUDENT.fullmatch(path.parent.name)}


# ------------------------------------------------------------------------------------------------------- the workers


def _prepare_worker() -> None:
    torch.set_num_threads(1)


def process_pool(jobs: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), initializer=_prepare_worker)


def grade_folder(folder: Path, release: Path, week: Path, banks: Path, isolation: str, cell_timeout: float) -> Graded:
    """One submission, in a worker. All arguments are paths and plain values."""
    week = Week(week)
    notebook = find_notebook(folder, week.name)
    if notebook is None:
        several = len(list(folder.glob("*.ipynb"))) > 1
        why = f"Submit one notebook, {week.name}.ipynb; {'several others were' if several else 'none was'} found."
        return ungraded(read_release(release), week, why)
    return grade_notebook(notebook, release, week, banks, isolation, cell_timeout)


def graded_in_workers(
    pool: Callable[[int], Executor], folders: dict[str, Path], jobs: int, *arguments: object
) -> Iterator[tuple[str, Graded | BaseException]]:
    """(student, result) as they come. A submission that kills its worker is tried once more, by itself, and costs no other.

    `arguments` are those of `grade_folder` after the folder.
    """
    waiting, alone = list(folders), []
    while waiting:
        with pool(jobs) as executor:
            flying: dict[Future, str] = {}
            broken = False
            try:
                while flying or (waiting and not broken):
                    while waiting and not broken and len(flying) < 2 * jobs:
                        future = executor.submit(grade_folder, folders[waiting[0]], *arguments)
                        flying[future] = waiting.pop(0)
                    done, _ = wait(flying, return_when=FIRST_COMPLETED)
                    for future in done:
                        student = flying.pop(future)
                        error = future.exception()
                        if isinstance(error, BrokenProcessPool):
                            broken = True
                            alone.append(student)
                        else:
                            yield student, error or future.result()
            except BrokenProcessPool:  # it broke while nothing was looking
                alone += flying.values()
            except BaseException:
                executor.shutdown(wait=False, cancel_futures=True)
                raise
    for student in alone:
        with pool(1) as executor:
            future = executor.submit(grade_folder, folders[student], *arguments)
            yield student, future.exception() or future.result()


# --------------------------------------------------------------------------------------------------------- the batch


class Progress(tqdm):
    """A bar that tells submissions a minute."""

    @property
    def format_dict(self) -> dict:
        facts = super().format_dict
        return {**facts, "a_minute": f"{60 * facts['rate']:.1f}" if facts["rate"] else "?"}


BAR = "{desc} {percentage:3.0f}% |{bar}| {n_fmt} of {total_fmt}, {a_minute} a minute, {remaining} left"


def grade_week(
    week: Week,
    submissions: Path | None = None,
    student: str | None = None,
    jobs: int | None = None,
    isolation: str | None = None,
    feedback: bool = True,
    quiet: bool = False,
    pool: Callable[[int], Executor] | None = None,
) -> list[Row]:
    """Grades a week's submissions and writes gradebook, autograded notebooks, verdicts and feedback.

    `submissions` is imported first (`import_submissions`); without it, what nbgrader has collected is graded. `student`
    grades one. `jobs` and `isolation` override the settings; `pool` makes any executor with so many workers, processes of
    this machine by default. Returns the rows of those graded, by student.
    Raises CourseError before anything is graded where the release, the gradebook, the sandbox or every submission lacks.
    """
    settings = load_settings(week.root)
    isolation = isolation or settings.isolation
    require(isolation)
    release = released_path(week)
    _all_checks_known(week, release)
    if submissions is not None:
        import_submissions(week, submissions)
    folders = submitted_folders(week)
    if student is not None:
        if student not in folders:
            raise CourseError(f"{student} has not submitted {week.name}.")
        folders = {student: folders[student]}
    if not folders:
        top = course_directory(week.root).submitted_directory
        raise CourseError(f"There are no submissions of {week.name} in {top}. Import some: --submissions DIR")
    with open_gradebook(week.root):
        pass
    register(week)
    banks = hidden_banks(week)
    provenance = provenance_of(week, isolation)
    troubles: dict[str, tuple[str, bool]] = {}
    arguments = (release, week.folder, banks, isolation, settings.cell_timeout)
    results = graded_in_workers(pool or process_pool, folders, jobs or settings.jobs, *arguments)
    with Progress(total=len(folders), desc=week.name, bar_format=BAR, disable=quiet or None) as bar:
        for name, result in results:
            troubles[name] = _write(week, name, folders[name], result, provenance)
            bar.update()
    if feedback and not all(lost for _, lost in troubles.values()):
        write_feedback(week, student or "*")
    with open_gradebook(week.root) as gradebook:
        return [row(gradebook, week, name, *troubles[name]) for name in sorted(folders)]


def _all_checks_known(week: Week, release: Path) -> None:
    known = {item.name for item in [*week.exercises, *week.artifacts]}
    checked = {exercise(cell) for cell in read_release(release).cells if role(cell) == "check"}
    if checked - known:
        raise CourseError(
            f"The release of {week.name} checks {', '.join(sorted(checked - known))}, which exercises.py does not have. "
            f"Make it anew: autograder release {week.name}"
        )


def _write(
    week: Week, student: str, folder: Path, result: Graded | BaseException, provenance: dict[str, str]
) -> tuple[str, bool]:
    """Writes one result; returns (trouble, lost), the trouble in a sentence."""
    earlier = verdicts.read(week.root, week.name, student)
    stands = " The earlier grade stands." if earlier else ""
    if isinstance(result, BaseException):
        return f"It could not be graded: {type(result).__name__}: {result}.{stands}", True
    if result.failed and earlier and not earlier.failed:
        return f"{result.failed}{stands}", True
    try:
        save(week, student, folder, result, provenance)
    except (OSError, SQLAlchemyError) as error:
        return f"It could not be written: {getattr(error, 'orig', None) or error}.{stands}", True
    if result.failed:
        return f"{result.failed} It got no points.", True
    if (folder / "timestamp.txt").is_file() and handed_in(folder) is None:
        return "Its timestamp.txt makes no sense; it counts as on time.", False
    return "", False


# --------------------------------------------------------------------------------------------------------- the table


def table(rows: list[Row]) -> str:
    """The rows as text: student, points, of, late, trouble."""
    width = max([len("student"), *(len(each.student) for each in rows)])
    lines = [f"{'student':<{width}}  {'points':>7}  {'of':>6}  {'late':>8}  trouble"]
    for each in rows:
        points = "-" if each.points is None else f"{each.points:g}"
        of = "-" if each.of is None else f"{each.of:g}"
        lines.append(
            f"{each.student:<{width}}  {points:>7}  {of:>6}  {_duration(each.late):>8}  {each.trouble}".rstrip()
        )
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    if seconds <= 0:
        return ""
    return f"{seconds / 86400:.1f} d" if seconds >= 86400 else f"{seconds / 3600:.1f} h"
