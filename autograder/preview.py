"""What a regrade would change, told before it changes anything."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from nbgrader.api import Gradebook, MissingEntry, SubmittedAssignment
from nbgrader.utils import parse_utc
from sqlalchemy.exc import SQLAlchemyError

from autograder import verdicts
from autograder.errors import CourseError
from autograder.grade import Graded
from autograder.gradebook import auto_scores, score_of
from autograder.handed_in import handed_in
from autograder.journal import Entry
from autograder.settings import Course, course_directory, load_settings
from autograder.week import Week
from course.drives import slug

EPSILON = 1e-9  # points closer than this are the same


@dataclass(frozen=True)
class Change:
    """An automatic score that would change, and why. None: only a person can tell. `manual`: the score by hand, which stays."""

    name: str
    old: float | None
    new: float | None
    why: str
    manual: float | None = None


@dataclass(frozen=True)
class Student:
    """A student's points after late penalties, before and after; None where there are none yet. `note`: a sentence."""

    name: str
    old: float | None = None
    new: float | None = None
    changes: tuple[Change, ...] = ()
    note: str = ""

    @property
    def moves(self) -> bool:
        """Whether somebody who has points would have others."""
        return self.old is not None and self.new is not None and abs(self.old - self.new) > EPSILON


@dataclass(frozen=True)
class Preview:
    week: Week
    students: list[Student]


def read_preview(
    week: Week,
    folders: Mapping[str, Path],
    results: Iterable[tuple[str, Entry]],
    errors: Mapping[str, str],
    refused: Mapping[str, str],
) -> Preview:
    """Compares results as they come with the gradebook, which is only read. `errors` is complete when the results are.

    Raises CourseError where the gradebook cannot be read.
    """
    directory, course = course_directory(week.root), load_settings(week.root)
    students = {}
    gradebook = _gradebook(directory.db_url)
    try:
        for name, entry in results:
            earlier = verdicts.read(week.root, week.name, name)
            failed = entry.graded.failed
            if failed and earlier and not earlier.failed:
                students[name] = Student(name, note=f"{failed} The earlier grade stands.")
                continue
            row = _row(gradebook, week, name)
            students[name] = _student(name, row, entry.graded, handed_in(folders[name]), course)
    finally:
        if gradebook is not None:
            gradebook.close()
    for name, why in {**errors, **refused}.items():
        students[name] = Student(name, note=why)
    return Preview(week, [students[name] for name in sorted(students)])


def _gradebook(url: str) -> Gradebook | None:
    """The gradebook; None where there is none yet. Raises CourseError where it cannot be read."""
    path = url.removeprefix("sqlite:///")
    if path != url and not Path(path).exists():
        return None
    try:
        return Gradebook(url)
    except SQLAlchemyError as error:
        raise CourseError(f"The gradebook {path} cannot be read ({getattr(error, 'orig', None) or error}).") from error


def _row(gradebook: Gradebook | None, week: Week, student: str) -> SubmittedAssignment | None:
    try:
        return gradebook.find_submission(week.name, student) if gradebook else None
    except MissingEntry:
        return None


def _student(
    name: str, row: SubmittedAssignment | None, graded: Graded, moment: datetime | None, course: Course
) -> Student:
    scores = {grade_id: points for grade_id, (points, _) in auto_scores(graded).items()}
    grades = {grade.name: grade for notebook in row.notebooks for grade in notebook.grades} if row else {}
    old = new = 0.0
    changes = []
    for grade_id, points in scores.items():
        grade = grades.get(grade_id)
        if grade is None:
            new += points or 0.0
            continue
        points = points if points is None else min(points, grade.max_score)
        old += score_of(grade, grade.auto_score)
        new += score_of(grade, points)
        if grade.auto_score != points:
            changes.append(Change(*_why(graded, grade_id, grade.auto_score, points), grade.manual_score))
    due = course.due_date(graded.notebook.metadata.course.week)
    due = parse_utc(due) if due else row and row.assignment.duedate
    moment = moment or (row and row.timestamp)
    late = 0.0
    if due and moment:
        extension = row.extension if row and row.extension else due - due
        late = max(0.0, (moment - due - extension).total_seconds())
    new -= course.penalty(new, late)
    if row is not None:
        old -= sum(notebook.late_submission_penalty or 0.0 for notebook in row.notebooks)
    return Student(name, old if row else None, new, tuple(changes), graded.failed)


def _why(
    graded: Graded, grade_id: str, old: float | None, new: float | None
) -> tuple[str, float | None, float | None, str]:
    """Name, old, new and why, for a Change: the mistake that is named, or the verdict's first line."""
    for verdict in graded.verdicts:
        if grade_id == f"check-{slug(verdict.exercise)}":
            line = verdict.to_text(reveal=False).splitlines()[0].replace(f" {verdict.exercise}:", "")
            return verdict.exercise, old, new, " ".join([line, *verdict.named])
    return grade_id, old, new, "Not answered." if new == 0 else "Answered in words; waits for a person."


# ------------------------------------------------------------------------------------------------------ in words


def told(preview: Preview, submissions: Path | None = None) -> str:
    """Who would change, exercise by exercise, the totals, and what to do next."""
    week, students = preview.week, preview.students
    lines = [line for student in students for line in _lines(student)]
    moving = sum(student.moves for student in students)
    new = sum(student.old is None and student.new is not None for student in students)
    lines += ["", f"{moving} of {len(students)} students would change."]
    lines += [f"{new} would be graded for the first time."] if new else []
    again = [
        "autograder",
        "grade",
        week.name,
        *(["--submissions", str(submissions)] if submissions else []),
        "--resume",
    ]
    lines.append(f"Nothing is written yet. To write these results without grading again: {' '.join(again)}")
    return "\n".join(lines).lstrip("\n")


def _lines(student: Student) -> Iterator[str]:
    if student.new is None:
        yield f"{student.name}: {student.note}"
        return
    if student.old is None:
        yield f"{student.name}: {_points(student.new)} points, for the first time. {student.note}".rstrip()
        return
    if student.moves:
        yield f"{student.name}: {_points(student.old)} -> {_points(student.new)} points. {student.note}".rstrip()
    elif student.changes:
        yield f"{student.name}: {_points(student.old)} points, as before. {student.note}".rstrip()
    for each in student.changes:
        stays = "" if each.manual is None else f" The manual score of {_points(each.manual)} stays."
        yield f"    {each.name}: {_points(each.old)} -> {_points(each.new)}. {each.why}{stays}"


def _points(points: float | None) -> str:
    return "-" if points is None else f"{points:g}"
