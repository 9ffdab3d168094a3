"""The class report of a week: a page with what to teach next, and CSV files for spreadsheets and for Canvas and Moodle.

Points come from nbgrader's gradebook (so that manual scores and late penalties count), causes from the verdicts. The page
is one file that asks nothing of any other machine.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from statistics import median
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.coursedir import CourseDirectory

from autograder import charts, verdicts
from autograder.errors import CourseError
from autograder.handed_in import submitted_folders
from autograder.lms import Score, canvas_rows, moodle_rows, number, write_csv
from autograder.settings import course_directory
from autograder.verdicts import Record
from autograder.week import Week
from course.check import Verdict
from course.drives import slug

# How an exercise of one student ended, in the order of the picture: key (also the colour's name), sign, words.
OUTCOMES = {
    "right": ("✓", "right"),
    "given": ("(✓)", "right, given an earlier mistake"),
    "named": ("✗", "wrong, mistake named"),
    "follows": ("↳", "wrong, calls one that is"),
    "unnamed": ("?", "wrong, not named"),
    "error": ("!", "error, too slow or crashed"),
    "withheld": ("△", "points withheld"),
    "missing": ("○", "not written"),
}
STATUS_OUTCOME = {
    "passed": "right",
    "error": "error",
    "timeout": "error",
    "crashed": "error",
    "forbidden": "withheld",
    "missing": "missing",
}
SOLVED = ("right", "given")
MOST_TO_TEACH = 5
MOST_DRAWN = 15
MOST_UNEXPLAINED = 3
PROVENANCE = {
    "graded": "Graded",
    "isolation": "Isolation",
    "version": "Version of the grader",
    "checks": "Checks",
    "torch": "PyTorch",
    "machine": "Machine",
}


@dataclass(frozen=True)
class Column:
    """A graded cell of the week: an exercise, a trained artifact or (`written`) an answer in words. `id` is its grade id.

    `uses` names the exercises that it calls, directly or through others.
    """

    id: str
    name: str
    points: float
    written: bool = False
    stretch: bool = False
    artifact: bool = False
    uses: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Entry:
    """One student of the roster, or of the submissions, in this week.

    state     "graded", "ungraded" (handed in, no grade yet), "failed" (could not be read) or "absent" (nothing handed in)
    reason    why grading failed, in a sentence
    points    by grade id; a graded cell whose manual grade is still to come counts what it has
    manual    points given by hand, by grade id
    waiting   grade ids that wait for a person
    """

    student: str
    last_name: str = ""
    first_name: str = ""
    email: str = ""
    lms_user_id: str = ""
    state: str = "absent"
    reason: str = ""
    points: dict[str, float] = field(default_factory=dict)
    manual: dict[str, float] = field(default_factory=dict)
    waiting: tuple[str, ...] = ()
    penalty: float = 0.0
    seconds_late: float = 0.0
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    record: Record | None = None
    feedback: str = ""

    @property
    def name(self) -> str:
        return " ".join(part for part in (self.first_name, self.last_name) if part) or self.student

    @property
    def raw(self) -> float:
        """Points before a late penalty."""
        return sum(self.points.values())

    @property
    def score(self) -> float | None:
        """Points less the late penalty, never below zero, as nbgrader's own export has it; None without a grade."""
        return max(0.0, self.raw - self.penalty) if self.state == "graded" else None

    @property
    def days_late(self) -> float:
        return self.seconds_late / 86400

    def outcome(self, column: Column) -> str:
        """The key in OUTCOMES of an exercise; "missing" where there is no verdict.

        What is wrong without a name "follows" where an exercise that it calls is not right either.
        """
        verdict = self.verdicts.get(column.name)
        if verdict is None:
            return "missing"
        if verdict.right and verdict.given:
            return "given"
        if verdict.status in STATUS_OUTCOME:
            return STATUS_OUTCOME[verdict.status]
        if verdict.named:
            return "named"
        return "follows" if any(n in column.uses and not v.right for n, v in self.verdicts.items()) else "unnamed"


@dataclass(frozen=True)
class NamedMistake:
    """A mistake that somebody made: who did, and in which exercise. `name` is the bank's word, or empty for one gone from it."""

    exercise: str
    name: str
    message: str
    students: tuple[str, ...]


@dataclass(frozen=True)
class ClassReport:
    """What there is to tell of a week: its graded cells and an Entry for each student, in the order of their names."""

    week: str
    columns: list[Column]
    entries: list[Entry]
    mistake_names: dict[tuple[str, str], str] = field(default_factory=dict)  # (exercise, message) -> the bank's word

    @property
    def exercises(self) -> list[Column]:
        return [column for column in self.columns if not column.written]

    @property
    def full(self) -> float:
        """Full marks: without the stretch exercises, whose points are a bonus."""
        return sum(column.points for column in self.columns if not column.stretch)

    @property
    def bonus(self) -> float:
        return sum(column.points for column in self.columns if column.stretch)

    @cached_property
    def graded(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.state == "graded"]

    def counts(self, column: Column) -> dict[str, int]:
        """How many graded students ended the exercise in which way."""
        return dict(Counter(entry.outcome(column) for entry in self.graded))

    @cached_property
    def by_difficulty(self) -> list[Column]:
        """The exercises, those that fewest have right first, given earlier mistakes or not."""
        return sorted(self.exercises, key=lambda column: sum(self.counts(column).get(key, 0) for key in SOLVED))

    @cached_property
    def mistakes(self) -> list[NamedMistake]:
        """The named mistakes, those of most students first."""
        who: dict[tuple[str, str], list[str]] = {}
        for entry in self.graded:
            for column in self.exercises:
                verdict = entry.verdicts.get(column.name)
                for message in verdict.named if verdict else ():
                    who.setdefault((column.name, message), []).append(entry.student)
        found = [
            NamedMistake(exercise, self.mistake_names.get((exercise, message), ""), message, tuple(students))
            for (exercise, message), students in who.items()
        ]
        return sorted(found, key=lambda mistake: -len(mistake.students))

    @cached_property
    def to_teach(self) -> list[str]:
        """What to teach next, in sentences: shared named mistakes first, then exercises that many have wrong unnamed."""
        total = len(self.graded)
        sentences = [
            f"{len(m.students)} of {total} students made this mistake in {m.exercise}: {m.message}"
            for m in self.mistakes
            if len(m.students) > 1
        ][:MOST_TO_TEACH]
        unexplained = {c.name: self.counts(c).get("unnamed", 0) for c in self.exercises if not c.artifact}
        for name, count in sorted(unexplained.items(), key=lambda item: -item[1])[:MOST_UNEXPLAINED]:
            if count > 1:
                sentences.append(
                    f"{count} of {total} students have {name} wrong in a way that no known mistake explains; "
                    f"“autograder explain” shows each of them in full."
                )
        sentences += [
            f"{blank} of {total} students did not write {column.name}."
            for column in self.exercises
            if not column.artifact and 2 * (blank := self.counts(column).get("missing", 0)) > total > 1
        ]
        return sentences

    @cached_property
    def waiting(self) -> list[tuple[Column, int]]:
        """The written answers that wait for a person, with how many of each."""
        found = [(c, sum(c.id in entry.waiting for entry in self.graded)) for c in self.columns if c.written]
        return [(column, count) for column, count in found if count]

    @cached_property
    def withheld(self) -> list[tuple[Entry, Column, Verdict]]:
        """Points withheld for the instructor's decision, which a manual score is."""
        return [
            (entry, column, entry.verdicts[column.name])
            for entry in self.graded
            for column in self.exercises
            if entry.outcome(column) == "withheld" and column.id not in entry.manual
        ]

    def provenance(self, key: str) -> list[tuple[str, int]]:
        """The values of one field of the provenance, with how many grades bear it, most first."""
        values = Counter(
            str(entry.record.provenance.get(key, "unknown")) for entry in self.graded if entry.record is not None
        )
        return values.most_common()


# ------------------------------------------------------------------------------------------------------ reading


def read_report(week: Week) -> ClassReport:
    """Reads the gradebook and the verdicts of a week. Raises CourseError where there is no gradebook yet."""
    directory = course_directory(week.root)
    database = Path(directory.db_url.removeprefix("sqlite:///"))
    if directory.db_url.startswith("sqlite:///") and not database.exists():
        raise CourseError(f"There is no gradebook yet, so nothing to report. Grade first: autograder grade {week.name}")
    students = [path.stem for path in verdicts.folder_of(week.root, week.name).glob("[!.]*.json")]
    records = {student: verdicts.read(week.root, week.name, student) for student in students}
    try:
        with Gradebook(directory.db_url) as gradebook:
            return _read_gradebook(week, gradebook, directory, records)
    except MissingEntry:
        message = f"Nothing of {week.name} is in the gradebook yet. Grade first: autograder grade {week.name}"
        raise CourseError(message) from None


def _read_gradebook(
    week: Week, gradebook: Gradebook, directory: CourseDirectory, records: dict[str, Record | None]
) -> ClassReport:
    columns = _columns(week, gradebook)
    known = {column.id for column in columns}
    handed_in = submitted_folders(week)
    submissions = {submission.student_id: submission for submission in gradebook.assignment_submissions(week.name)}
    students = {student.id: student for student in gradebook.students}
    entries = []
    for student in sorted(students.keys() | handed_in.keys()):
        person, submission, record = students.get(student), submissions.get(student), records.get(student)
        about = {
            key: getattr(person, key, None) or "" for key in ("last_name", "first_name", "email", "lms_user_id")
        } | {"student": student, "record": record}
        if record is not None and record.failed:
            entries.append(Entry(**about, state="failed", reason=record.failed))
        elif submission is None or record is None:
            entries.append(Entry(**about, state="ungraded" if student in handed_in else "absent"))
        else:
            grades = {g.name: g for notebook in submission.notebooks for g in notebook.grades if g.name in known}
            page = Path(directory.format_path(directory.feedback_directory, student, week.name)) / f"{week.name}.html"
            entries.append(
                Entry(
                    **about,
                    state="graded",
                    points={name: grade.score for name, grade in grades.items()},
                    manual={name: g.manual_score for name, g in grades.items() if g.manual_score is not None},
                    waiting=tuple(
                        sorted(n for n, g in grades.items() if g.needs_manual_grade and g.manual_score is None)
                    ),
                    penalty=submission.late_submission_penalty or 0.0,
                    seconds_late=submission.total_seconds_late,
                    verdicts={verdict.exercise: verdict for verdict in record.verdicts},
                    feedback=quote(os.path.relpath(page, folder_of(week))) if page.exists() else "",
                )
            )
    entries.sort(key=lambda e: ((e.last_name or e.student).casefold(), e.first_name.casefold(), e.student))
    names = {(e.name, m.message): m.name for e in week.exercises for m in e.mistakes}
    return ClassReport(week.name, columns, entries, names)


def _columns(week: Week, gradebook: Gradebook) -> list[Column]:
    """The graded cells in the order of the master notebook. Raises MissingEntry where the week is not in the gradebook."""
    notebook = gradebook.find_notebook(week.name, week.name)
    points = {cell.name: cell.max_score for cell in notebook.grade_cells}
    artifacts = {artifact.name for artifact in week.artifacts}
    stretch = {item.name for item in [*week.exercises, *week.artifacts] if item.stretch}
    columns = []
    for cell in week.master.cells:
        role = next((role for role in ("check", "written") if role in cell.metadata), None)
        if role:
            name = cell.metadata[role]
            cell_id = f"{role}-{slug(name)}"
            if cell_id in points:
                kind = {"written": role == "written", "stretch": name in stretch, "artifact": name in artifacts}
                columns.append(Column(cell_id, name, points[cell_id], **kind, uses=week.uses.get(name, frozenset())))
    return columns


# ------------------------------------------------------------------------------------------------------ writing


def folder_of(week: Week) -> Path:
    """Where a week's report is written."""
    return week.root / "grading" / "reports" / week.name


def write_report(week: Week) -> Path:
    """Writes grading/reports/<week>/ (index.html, scores.csv, mistakes.csv, canvas.csv, moodle.csv); returns the folder.

    Raises CourseError where there is nothing to report or the folder cannot be written.
    """
    report = read_report(week)
    folder = folder_of(week)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "index.html").write_text(to_html(report), encoding="utf-8")
        write_csv(folder / "scores.csv", score_rows(report), bom=True)
        write_csv(folder / "mistakes.csv", mistake_rows(report), bom=True)
        scores = [Score(e.student, e.last_name, e.first_name, e.email, e.lms_user_id, e.score) for e in report.entries]
        write_csv(folder / "canvas.csv", canvas_rows(week.name, report.full, scores))
        write_csv(folder / "moodle.csv", moodle_rows(week.name, scores))
    except OSError as error:
        raise CourseError(f"The report cannot be written to {folder}: {error.strerror}.") from error
    return folder


def score_rows(report: ClassReport) -> Iterable[list]:
    """One row a student: points by exercise and in all, and, in columns of the same order at the end, how each ended."""
    columns = report.columns
    yield [
        *("student", "last name", "first name", "email", "state"),
        *(column.name for column in columns),
        *("points", "late penalty", "points by hand", "total", "full marks", "waiting for a person"),
        *(f"{column.name}: status" for column in report.exercises),
    ]
    for entry in report.entries:
        graded = entry.state == "graded"
        yield [
            *(entry.student, entry.last_name, entry.first_name, entry.email, entry.state),
            *(number(entry.points.get(column.id)) for column in columns),
            *(number(value if graded else None) for value in (entry.raw, entry.penalty, sum(entry.manual.values()))),
            *(number(entry.score), number(report.full)),
            "; ".join(entry.waiting),
            *(_status(entry, column) if graded else "" for column in report.exercises),
        ]


def _status(entry: Entry, column: Column) -> str:
    verdict = entry.verdicts.get(column.name)
    if verdict and verdict.right and verdict.given:
        return f"passed given {verdict.given}"
    return verdict.status if verdict else "missing"


def mistake_rows(report: ClassReport) -> Iterable[list]:
    yield ["exercise", "mistake", "students", "of", "what was done", "who"]
    for mistake in report.mistakes:
        who = "; ".join(mistake.students)
        yield [mistake.exercise, mistake.name, len(mistake.students), len(report.graded), mistake.message, who]


def to_html(report: ClassReport) -> str:
    environment = Environment(
        loader=PackageLoader("autograder"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    template = environment.get_template("report.html.j2")
    graded = report.graded
    return template.render(
        report=report,
        outcomes=OUTCOMES,
        counts={state: [e for e in report.entries if e.state == state] for state in ("ungraded", "failed", "absent")},
        middle=median(entry.raw for entry in graded) if graded else None,
        late=[entry for entry in graded if entry.seconds_late > 0],
        pictures=_pictures(report) if graded else {},
        provenance=PROVENANCE,
        most_drawn=MOST_DRAWN,
    )


def _pictures(report: ClassReport) -> dict[str, Markup]:
    scores = [entry.raw for entry in report.graded]
    total = len(scores)
    hardest = report.by_difficulty
    counts = [report.counts(column) for column in hardest]
    seen = {key for count in counts for key in count}
    legend = [(key, words) for key, (_, words) in OUTCOMES.items() if key in seen]
    told = [
        f"{c.name} {sum(count.get(key, 0) for key in SOLVED)} right" for c, count in zip(hardest, counts, strict=True)
    ]
    drawn: dict[str, tuple[str, Callable]] = {
        "scores": (
            f"Histogram of {total} scores out of {number(report.full)}: lowest {number(min(scores))}, "
            f"median {number(median(scores))}, highest {number(max(scores))}.",
            partial(charts.histogram, scores, report.full),
        ),
        "exercises": (
            f"Bars of how {total} students did in each exercise, hardest first: {'; '.join(told)}.",
            partial(charts.stacked, [column.name for column in hardest], counts, legend),
        ),
    }
    if report.mistakes:
        most = report.mistakes[:MOST_DRAWN]
        spoken = [f"{len(m.students)} students, {m.exercise}: {m.message}" for m in most]
        drawn["mistakes"] = (
            f"Bars of how many students made each named mistake. {' '.join(spoken)}",
            partial(
                charts.counted,
                [f"{m.exercise}: {m.message}" for m in most],
                [len(m.students) for m in most],
                len(most[0].students),
            ),
        )
    return {name: charts.picture(name, alt, draw) for name, (alt, draw) in drawn.items()}
