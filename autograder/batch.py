"""The batch: a class's submissions through `grade_notebook` in worker processes, a journal, and one writer for the gradebook."""

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbgrader.api import Gradebook
from tqdm import tqdm

from autograder import journal, verdicts
from autograder.atomic import tidy
from autograder.errors import CourseError
from autograder.feedback import chunks, feedback_top, outdated, write_pages
from autograder.grade import Graded, grade_notebook, read_release, timed, ungraded
from autograder.gradebook import Row, Writer, open_gradebook, register, released_path, row
from autograder.handed_in import TIMESTAMP, files_of, found_in, handed_in, import_submissions, submitted_folders
from autograder.hidden import hidden_banks, provenance_of
from autograder.journal import Entry
from autograder.kernel.sandbox import require
from autograder.preview import Preview, read_preview
from autograder.repair import exercise, find_notebook, role, why_not_found
from autograder.settings import course_directory, load_settings
from autograder.week import Week
from autograder.workers import Workers, process_pool, start_server

TOGETHER = 50  # results that are written in one transaction at most
PATIENCE = 2.0  # seconds that a result may wait for others to be written with


def grade_folder(folder: Path, release: Path, week: Path, banks: Path, isolation: str, **settings: Any) -> Graded:
    """One submission, in a worker. All arguments are paths and plain values, `settings` those of `Course.grading`."""
    return timed(_grade_folder, folder, release, Week(week), banks, isolation, **settings)


def _grade_folder(folder: Path, release: Path, week: Week, banks: Path, isolation: str, **settings: Any) -> Graded:
    notebook = find_notebook(folder, week.name)
    if notebook is None:
        return ungraded(read_release(release), week, why_not_found(folder, week.name))
    return grade_notebook(notebook, release, week, banks, isolation, **settings)


# ---------------------------------------------------------------------------------------------------------- results


@dataclass(frozen=True)
class Batch:
    """What there is to grade and what it is graded with."""

    week: Week
    isolation: str
    settings: Mapping[str, Any]
    folders: dict[str, Path]
    refused: dict[str, str]
    workers: Workers
    resume: bool = False
    quiet: bool = False
    errors: dict[str, str] = field(default_factory=dict)

    def results(self) -> Iterator[tuple[str, Entry]]:
        """(student, entry) as they come, each durable by then: those that can be reused, then those graded now.

        Whose submission could not be graded is in `errors`, with why.
        """
        week, release, banks = self.week, released_path(self.week), hidden_banks(self.week)
        provenance = provenance_of(week, self.isolation)
        ground = journal.ground(week, release, self.isolation, self.settings, provenance)
        keys = {student: journal.key(ground, folder) for student, folder in self.folders.items()}
        reused = {student for student in keys if self.resume and self._journalled(student, keys[student])}
        with Progress(len(keys), len(reused), week.name, self.quiet) as bar:
            for student in sorted(reused):
                yield student, journal.read(week, student)
            tasks = {
                student: (folder, release, week.folder, banks, self.isolation)
                for student, folder in self.folders.items()
                if student not in reused
            }
            for student, result in self.workers.run(grade_folder, tasks, **self.settings):
                if isinstance(result, BaseException):
                    self.errors[student] = f"It could not be graded: {type(result).__name__}: {result}."
                else:
                    entry = Entry(result, {**provenance, "key": keys[student]})
                    journal.write(week, student, entry)
                    yield student, entry
                bar.update()

    def _journalled(self, student: str, key: str) -> bool:
        entry = journal.read(self.week, student)
        return entry is not None and entry.key == key


class Progress(tqdm):
    """A bar that tells submissions a minute, of those graded now; the `reused` ones are counted as done from the start."""

    FORMAT = "{desc} {percentage:3.0f}% |{bar}| {n_fmt} of {total_fmt}, {a_minute} a minute, {remaining} left"

    def __init__(self, total: int, reused: int, name: str, quiet: bool = False, **options: Any):
        super().__init__(
            total=total, initial=reused, desc=name, bar_format=self.FORMAT, disable=quiet or None, **options
        )

    @property
    def format_dict(self) -> dict:
        facts = super().format_dict
        done = facts["n"] - (facts["initial"] or 0)  # None where there is no bar to show
        rate = done / facts["elapsed"] if done and facts["elapsed"] else None
        return {**facts, "rate": rate, "a_minute": f"{60 * rate:.1f}" if rate else "?"}


# --------------------------------------------------------------------------------------------------------- the batch


@contextmanager
def _batch(
    week: Week,
    submissions: Path | None,
    student: str | None,
    jobs: int | None,
    isolation: str | None,
    pool: Callable[[int], Executor] | None,
    find: Callable[[Week, Path], Any],
    **options: Any,
) -> Iterator[Batch]:
    """Everything that can be wrong before grading is said here, by CourseError. One batch at a time has a week."""
    settings = load_settings(week.root)
    isolation = isolation or settings.isolation
    require(isolation)
    _all_checks_known(week, released_path(week))
    with journal.alone(week):
        _clear_leftovers(week)
        found = find(week, submissions) if submissions is not None else None
        folders = {**submitted_folders(week), **(found.folders if found else {})}
        refused = found.refused if found else {}
        if student is not None:
            if student not in folders:
                raise CourseError(f"{student} has not submitted {week.name}.")
            folders, refused = {student: folders[student]}, {}
        if not folders:
            top = course_directory(week.root).submitted_directory
            raise CourseError(f"There are no submissions of {week.name} in {top}. Import some: --submissions DIR")
        if pool is None:
            start_server()
        with Workers(pool or process_pool, jobs or settings.jobs) as workers:
            yield Batch(week, isolation, settings.grading(), folders, refused, workers, **options)


def grade_week(
    week: Week,
    submissions: Path | None = None,
    student: str | None = None,
    jobs: int | None = None,
    isolation: str | None = None,
    feedback: bool = True,
    quiet: bool = False,
    pool: Callable[[int], Executor] | None = None,
    resume: bool = False,
) -> list[Row]:
    """Grades a week's submissions and writes gradebook, autograded notebooks, verdicts and feedback.

    `submissions` is imported first (`import_submissions`); without it, what nbgrader has collected is graded. `student`
    grades one. `jobs` and `isolation` override the settings; `pool` makes any executor with so many workers, processes of
    this machine by default. `resume` takes results from the journal where nothing changed that they depend on, and rewrites
    only what is not there yet. Returns the rows of those graded, by student.
    Raises CourseError before anything is graded where the release, the gradebook, the sandbox or every submission lacks.
    """
    options = {"resume": resume, "quiet": quiet}
    with _batch(week, submissions, student, jobs, isolation, pool, import_submissions, **options) as batch:
        with open_gradebook(week.root):
            pass
        register(week)
        troubles = _write(batch)
        for name, why in batch.errors.items():
            troubles[name] = (why + _stands(week, name), True)
        if feedback:
            _write_feedback(batch, troubles)
        with Gradebook(course_directory(week.root).db_url) as gradebook:
            rows = [row(gradebook, week, name, *troubles.get(name, ())) for name in sorted(batch.folders)]
        return rows + [Row(name, trouble=why, lost=True) for name, why in sorted(batch.refused.items())]


def preview_week(
    week: Week,
    submissions: Path | None = None,
    student: str | None = None,
    jobs: int | None = None,
    isolation: str | None = None,
    quiet: bool = False,
    pool: Callable[[int], Executor] | None = None,
    resume: bool = False,
) -> Preview:
    """Grades as `grade_week` does, but writes the journal only, and tells whose points `grade_week` would change.

    `submissions` are looked at where they are. Raises CourseError as `grade_week` does.
    """
    options = {"resume": resume, "quiet": quiet}
    with _batch(week, submissions, student, jobs, isolation, pool, found_in, **options) as batch:
        return read_preview(week, batch.folders, batch.results(), batch.errors, batch.refused)


def _all_checks_known(week: Week, release: Path) -> None:
    known = {item.name for item in [*week.exercises, *week.artifacts]}
    checked = {exercise(cell) for cell in read_release(release).cells if role(cell) == "check"}
    if checked - known:
        raise CourseError(
            f"The release of {week.name} checks {', '.join(sorted(checked - known))}, which exercises.py does not have. "
            f"Make it anew: autograder release {week.name}"
        )


def _clear_leftovers(week: Week) -> None:
    """What a killed batch was in the midst of writing. Nothing else has such names: one batch at a time has a week."""
    directory = course_directory(week.root)
    root = Path(directory.root)
    for name in (directory.submitted_directory, directory.autograded_directory, directory.feedback_directory):
        for folder in (root / name).glob("*/"):
            if not folder.is_symlink():
                tidy(folder, week.name)
    tidy(feedback_top(week), "pages")
    tidy(verdicts.folder_of(week.root, week.name), "*.json")
    tidy(journal.folder_of(week.root, week.name), "*.json")
    tidy(week.root / "grading" / "cases", week.name)


# ----------------------------------------------------------------------------------------------------------- writing


def _write(batch: Batch) -> dict[str, tuple[str, bool]]:
    """Writes results as they come, several together. Returns (trouble in a sentence, lost) of those who have one."""
    troubles: dict[str, tuple[str, bool]] = {}
    waiting: dict[str, tuple[Path, Entry]] = {}
    with Writer(batch.week) as writer:

        def flush() -> None:
            for name, why in writer.write(waiting).items():
                troubles[name] = (why + _stands(batch.week, name), True)
            waiting.clear()

        since = time.monotonic()
        for name, entry in batch.results():
            failed, stands = entry.graded.failed, _stands(batch.week, name)
            if failed and stands:
                troubles[name] = (failed + stands, True)
                continue
            folder = batch.folders[name]
            if failed:
                troubles[name] = (f"{failed} It got no points.", True)
            elif Path(TIMESTAMP) in files_of(folder) and handed_in(folder) is None:
                troubles[name] = ("Its timestamp.txt makes no sense; it counts as on time.", False)
            since = since if waiting else time.monotonic()
            waiting[name] = folder, entry
            if len(waiting) >= TOGETHER or time.monotonic() - since > PATIENCE:
                flush()
        if waiting:
            flush()
    return troubles


def _stands(week: Week, student: str) -> str:
    """What to say of a student's earlier grade where a new one cannot be given."""
    earlier = verdicts.read(week.root, week.name, student)
    return " The earlier grade stands." if earlier and not earlier.failed else ""


def _write_feedback(batch: Batch, troubles: dict[str, tuple[str, bool]]) -> None:
    """Makes the pages that are missing or older than the graded notebook; one that fails costs no other."""
    parts = chunks(batch.week, outdated(batch.week, [*batch.folders]), batch.workers.jobs)
    tasks = {str(number): part for number, part in enumerate(parts)}
    for number, result in batch.workers.run(write_pages, tasks):
        students = tasks[number][1]
        failed = dict.fromkeys(students, f"Its feedback page could not be made: {result}.")
        for name, why in (failed if isinstance(result, BaseException) else result).items():
            before, lost = troubles.get(name, ("", False))
            troubles[name] = (f"{before} {why}".strip(), lost)


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
