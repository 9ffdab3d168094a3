"""nbgrader's side of grading: the registered weeks, and the one way results are written."""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from nbformat import NotebookNode
from nbgrader.api import (
    BaseCell,
    Comment,
    Grade,
    Gradebook,
    MissingEntry,
    Notebook,
    Student,
    SubmittedAssignment,
    SubmittedNotebook,
)
from nbgrader.coursedir import CourseDirectory
from nbgrader.preprocessors import SaveCells
from nbgrader.utils import compute_checksum, determine_grade, is_grade, is_locked, is_solution, is_task
from sqlalchemy import select, text
from sqlalchemy.exc import SAWarning, SQLAlchemyError
from sqlalchemy.orm import selectinload

from autograder import verdicts
from autograder.atomic import new_folder, swap
from autograder.errors import CourseError
from autograder.grade import Graded, read_release
from autograder.handed_in import SECRET, TIMESTAMP, files_of, handed_in
from autograder.journal import Entry
from autograder.release import notebook_bytes
from autograder.repair import exercise, role
from autograder.settings import Course, course_directory, load_settings
from autograder.week import ROOT_MARK, Week

QUIET = logging.getLogger("autograder.nbgrader")
QUIET.addHandler(logging.NullHandler())
QUIET.propagate = False
# nbgrader adds objects to a session one by one, which SQLAlchemy 2 remarks on.
warnings.filterwarnings("ignore", category=SAWarning, module="nbgrader")


def released_path(week: Week) -> Path:
    return week.root / "assignments" / week.name / f"{week.name}.ipynb"


def page_of(directory: CourseDirectory, week: Week, student: str) -> Path:
    """Where a student's feedback page lies."""
    return Path(directory.format_path(directory.feedback_directory, student, week.name)) / f"{week.name}.html"


def open_gradebook(root: Path) -> Gradebook:
    """The gradebook, made if need be. Raises CourseError where it cannot be read and written."""
    url = course_directory(root).db_url
    path = Path(url.removeprefix("sqlite:///"))
    try:
        gradebook = Gradebook(url)
        gradebook.db.execute(text("BEGIN IMMEDIATE"))
        gradebook.db.rollback()
    except (SQLAlchemyError, OSError) as error:
        why = str(getattr(error, "orig", None) or error)
        raise CourseError(f"The gradebook {path} cannot be written ({why}). Nothing was graded.") from error
    return gradebook


# ------------------------------------------------------------------------------------------------------- registering


def register(week: Week) -> None:
    """Makes the gradebook know the committed release: assignment, cells, points, due date. Does nothing if it does.

    Raises CourseError where there is no release, or where graded cells were added or removed after grading began.
    """
    path = released_path(week)
    released = read_release(path)
    url = course_directory(week.root).db_url
    due = load_settings(week.root).due_date(week.name)
    copy = week.root / "grading" / "source" / week.name / path.name
    with Gradebook(url) as gradebook:
        try:
            gradebook.update_or_create_assignment(week.name, **({"duedate": due} if due else {}))
        except ValueError as error:
            raise CourseError(
                f"{ROOT_MARK}: the due date of {week.name}, {due!r}, cannot be read ({error})."
            ) from error
        try:
            gradebook.find_notebook(week.name, week.name)
            if copy.exists() and copy.read_bytes() == path.read_bytes():
                return
            _renew_source_cells(gradebook, week, released)
        except MissingEntry:
            pass
    resources = {"nbgrader": {"notebook": week.name, "assignment": week.name, "db_url": url}}
    try:
        SaveCells().preprocess(released, resources)
    except RuntimeError as error:
        raise CourseError(
            f"The release of {week.name} has other graded cells than the one that was graded already ({error}). "
            f"Release the former one again, or forget all its grades: nbgrader db assignment remove {week.name} --force"
        ) from error
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_bytes(path.read_bytes())


def _renew_source_cells(gradebook: Gradebook, week: Week, released: NotebookNode) -> None:
    """Given code may change after grading began: no grade hangs on it, though nbgrader's SaveCells refuses."""
    notebook = gradebook.find_notebook(week.name, week.name)
    graded = {cell.name for cells in (notebook.grade_cells, notebook.solution_cells) for cell in cells}
    given = {
        cell.metadata.nbgrader["grade_id"]: cell
        for cell in released.cells
        if is_locked(cell) and not is_grade(cell) and not is_solution(cell)
    }
    for old in list(notebook.source_cells):
        if old.name not in given and old.name not in graded:
            gradebook.db.delete(old)
    for name, cell in given.items():
        facts = {"cell_type": cell.cell_type, "locked": True, "source": cell.source}
        gradebook.update_or_create_source_cell(name, week.name, week.name, **facts)
    gradebook.db.commit()


# ----------------------------------------------------------------------------------------------------------- writing


@dataclass(frozen=True)
class Row:
    """One student's line in the table after grading. `late` in seconds. `trouble`: a sentence, empty where all went well.

    `lost` is True where the submission could not be read, graded or written; an earlier grade then stands.
    """

    student: str
    points: float | None = None
    of: float | None = None
    late: float = 0.0
    trouble: str = ""
    lost: bool = False


def set_points(submission: SubmittedAssignment, graded: Graded, course: Course, again: bool = False) -> None:
    """Points, comments and late penalty of a graded submission, into its rows. The session is left to be committed.

    Points come from the verdicts, never from a cell's output. Manual scores, extra credit and comments are other columns
    and stay; what has a manual score is marked to be looked at again, unless this is the `again`th writing of the same
    result. A penalty is as the course's settings have it, and never more than the score.
    """
    notebook = next(each for each in submission.notebooks if each.name == submission.assignment.name)
    grades = {grade.name: grade for grade in notebook.grades}
    comments = {comment.name: comment for comment in notebook.comments}
    for name, (points, undecided) in auto_scores(graded).items():
        grade = grades[name]
        points = points if points is None else min(points, grade.cell.max_score)
        changed = grade.auto_score != points
        grade.auto_score = points
        if grade.manual_score is None or changed or not again:
            grade.needs_manual_grade = undecided or grade.manual_score is not None
    for cell in graded.notebook.cells:
        if is_solution(cell) or is_task(cell):
            untouched = cell.metadata.nbgrader.get("checksum") == compute_checksum(cell) and not is_task(cell)
            comments[cell.metadata.nbgrader.grade_id].auto_comment = "No response." if untouched else None
    score = sum(score_of(grade, grade.auto_score) for grade in notebook.grades)
    late = submission.total_seconds_late
    notebook.late_submission_penalty = course.penalty(score, late) if late > 0 else None


def auto_scores(graded: Graded) -> dict[str, tuple[float | None, bool]]:
    """(points, waits for a person) of every graded cell by its grade id; None where only a person can tell."""
    by_name = {verdict.exercise: verdict for verdict in graded.verdicts}
    scores: dict[str, tuple[float | None, bool]] = {}
    for cell in filter(is_grade, graded.notebook.cells):
        if role(cell) == "check":
            verdict = by_name[exercise(cell)]
            score = (verdict.points, verdict.status == "forbidden")
        else:
            points, _ = determine_grade(cell, QUIET)
            score = (points, points is None)
        scores[cell.metadata.nbgrader.grade_id] = score
    return scores


def score_of(grade: Grade, auto_score: float | None) -> float:
    """What nbgrader counts for a grade if its automatic score is this one: a manual score goes before, extra credit is added."""
    if grade.manual_score is None and auto_score is None:
        return 0.0
    return (auto_score if grade.manual_score is None else grade.manual_score) + (grade.extra_credit or 0.0)


class Writer:
    """The one writer of a week's results: autograded notebooks, gradebook rows and verdicts, several students at a time.

    Writing is idempotent: what stands there already is left as it is, feedback page included. `with` closes the gradebook.
    """

    def __init__(self, week: Week):
        self.week = week
        self.directory = course_directory(week.root)
        self.course = load_settings(week.root)
        self.gradebook = open_gradebook(week.root)

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *exc: object) -> None:
        self.gradebook.close()

    def write(self, results: Mapping[str, tuple[Path, Entry]]) -> dict[str, str]:
        """Writes (folder handed in, entry) by student, the rows of all in one transaction; returns what went wrong, by student.

        Where that fails each is tried by itself, and what cannot be written keeps the grade it had.
        """
        try:
            self._write(results)
            return {}
        except Exception as error:
            self._forget()
            if len(results) == 1:
                why = str(getattr(error, "orig", None) or error) or type(error).__name__
                return dict.fromkeys(results, f"It could not be written: {why}.")
        with self._impatient():
            return {name: why for student, each in results.items() for name, why in self.write({student: each}).items()}

    def _write(self, results: Mapping[str, tuple[Path, Entry]]) -> None:
        with ExitStack() as stack:
            moments = {student: handed_in(folder) for student, (folder, _) in results.items()}
            fresh = {
                student: stack.enter_context(self._notebook(student, folder, moments[student], entry))
                for student, (folder, entry) in results.items()
            }
            submissions = self._submissions(moments)
            changed = set()
            for student, (_, entry) in results.items():
                record = verdicts.read(self.week.root, self.week.name, student)
                again = entry.reused and fresh[student] is None and record == entry.record
                set_points(submissions[student], entry.graded, self.course, again)
                if not again or any(self.gradebook.db.is_modified(each) for each in _rows(submissions[student])):
                    changed.add(student)
            for student in changed:  # a page that is no longer true goes before its grade changes
                page_of(self.directory, self.week, student).unlink(missing_ok=True)
            self.gradebook.db.commit()
            for student in changed:
                if fresh[student] is not None:
                    swap(fresh[student], self._autograded(student))
                verdicts.write(self.week.root, self.week.name, student, results[student][1].record)
        self._forget()

    def _autograded(self, student: str) -> Path:
        return Path(self.directory.format_path(self.directory.autograded_directory, student, self.week.name))

    @contextmanager
    def _notebook(self, student: str, submitted: Path, moment: datetime | None, entry: Entry) -> Iterator[Path | None]:
        """A new folder with the graded notebook, to be swapped in; None where the one in place is the same."""
        files = {f"{self.week.name}.ipynb": notebook_bytes(entry.graded.notebook)}
        wanted = [SECRET] if moment is None else [SECRET, TIMESTAMP]  # a timestamp that makes no sense stops nbgrader
        files |= {name: (submitted / name).read_bytes() for name in wanted if Path(name) in files_of(submitted)}
        target = self._autograded(student)
        if {path.name: path.read_bytes() for path in target.glob("*") if path.is_file()} == files:
            yield None
            return
        with new_folder(target) as fresh:
            for name, content in files.items():
                (fresh / name).write_bytes(content)
            yield fresh

    def _submissions(self, moments: Mapping[str, datetime | None]) -> dict[str, SubmittedAssignment]:
        """The rows of these students' submissions, made where they are missing, with when they were handed in."""
        db = self.gradebook.db
        db().expire_on_commit = False
        assignment = self.gradebook.find_assignment(self.week.name)
        self._cells = [
            cell for notebook in assignment.notebooks for cell in self._graded_cells(notebook)
        ]  # kept loaded
        rows = selectinload(SubmittedAssignment.notebooks)
        found = db.scalars(
            select(SubmittedAssignment)
            .where(SubmittedAssignment.assignment_id == assignment.id, SubmittedAssignment.student_id.in_(moments))
            .options(rows.selectinload(SubmittedNotebook.grades), rows.selectinload(SubmittedNotebook.comments))
        )
        submissions = {submission.student_id: submission for submission in found}
        known = set(db.scalars(select(Student.id).where(Student.id.in_(moments))))
        db.add_all(Student(id=student) for student in moments if student not in known)
        for student in moments.keys() - submissions.keys():
            submissions[student] = SubmittedAssignment(assignment_id=assignment.id, student_id=student)
            for notebook in assignment.notebooks:
                theirs = SubmittedNotebook(notebook_id=notebook.id, assignment=submissions[student])
                theirs.grades = [Grade(cell_id=cell.id) for cell in [*notebook.grade_cells, *notebook.task_cells]]
                theirs.comments = [
                    Comment(cell_id=cell.id) for cell in [*notebook.solution_cells, *notebook.task_cells]
                ]
            db.add(submissions[student])
        for student, moment in moments.items():
            if moment is not None:
                submissions[student].timestamp = moment
        db.flush()
        return submissions

    @staticmethod
    def _graded_cells(notebook: Notebook) -> list[BaseCell]:
        return [*notebook.grade_cells, *notebook.solution_cells, *notebook.task_cells]

    def _forget(self) -> None:
        """Ends the session, and with it what it holds in memory; what was not committed is rolled back."""
        self._cells = []
        self.gradebook.db.remove()

    @contextmanager
    def _impatient(self) -> Iterator[None]:
        """Waits for a locked gradebook no longer than a moment: several together have just waited in vain."""
        if self.gradebook.engine.dialect.name != "sqlite":
            yield
            return
        before = self._sqlite("PRAGMA busy_timeout")
        self._sqlite("PRAGMA busy_timeout = 200")
        yield
        self._sqlite(f"PRAGMA busy_timeout = {before}")

    def _sqlite(self, pragma: str) -> int:
        with self.gradebook.engine.connect() as connection:  # the pool has one, which sessions get too
            return connection.execute(text(pragma)).scalar_one()


def _rows(submission: SubmittedAssignment) -> Iterator[SubmittedAssignment | SubmittedNotebook | Grade | Comment]:
    yield submission
    for notebook in submission.notebooks:
        yield from [notebook, *notebook.grades, *notebook.comments]


def row(gradebook: Gradebook, week: Week, student: str, trouble: str = "", lost: bool = False) -> Row:
    """The student's line, with what the gradebook says now: manual scores in, late penalty off."""
    try:
        submission = gradebook.find_submission(week.name, student)
    except MissingEntry:
        return Row(student, trouble=trouble, lost=lost)
    penalty = sum(notebook.late_submission_penalty or 0.0 for notebook in submission.notebooks)
    points = submission.score - penalty
    return Row(student, points, submission.max_score, submission.total_seconds_late, trouble, lost)
