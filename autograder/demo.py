"""The demo: a whole week in minutes, in a course of its own, and proof that what was graded is what was made.

Everything happens in grading/demo/, which is a complete course (copies of solutions/ and assignments/, settings with a due
date, a gradebook), so that a real class is never touched and every command can be tried on it afterwards.
"""

import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nbgrader.utils import parse_utc

from autograder.batch import grade_week
from autograder.classroom import Expected, Made, Maker, write_class, write_roster
from autograder.errors import CourseError
from autograder.hidden import hidden_banks
from autograder.naming import load, reach
from autograder.release import release
from autograder.report import SOLVED, ClassReport, Entry, read_report, write_report
from autograder.settings import load_settings
from autograder.week import ROOT_MARK, Week
from course.check import Verdict
from course.drives import answer

DUE = "2026-10-05 23:59 UTC"
LATE_PERCENT = 10.0
MARK = "this-is-the-demo"
SETTINGS = """\
# The course of a made-up class. Its settings are those of the course above, and these.
c = get_config()  # noqa: F821  traitlets defines it

c.Course.due = {{"{week}": "{due}"}}
c.Course.late_policy = "percent"
c.Course.late_percent = {late_percent}
"""


@dataclass(frozen=True)
class Demo:
    """What a demo came to: `problems` says, for each grade that is not what was made, what it is instead."""

    week: Week
    made: list[Made]
    report: ClassReport
    folder: Path
    problems: list[str]

    @property
    def as_expected(self) -> int:
        return len(self.made) - len({problem.split(":")[0] for problem in self.problems})


def demo_root(root: Path) -> Path:
    return root / "grading" / "demo"


def fresh_course(week: Week) -> Week:
    """The demo's course with a copy of the week, in place of an earlier demo's. Returns the week in it.

    Raises CourseError where grading/demo is something else.
    """
    target = demo_root(week.root)
    if target.exists() and not (target / MARK).exists():
        raise CourseError(f"{target} is no course that the demo made; move it away first.")
    shutil.rmtree(target, ignore_errors=True)
    return copy_course(week, target)


def copy_course(week: Week, target: Path) -> Week:
    """A course for a made-up class in `target`, an absent folder: a copy of the week, a due date, a late policy, the mark.

    Returns the week in it. Raises CourseError where it cannot be written.
    """
    try:
        (target / "grading").mkdir(parents=True)
        (target / MARK).touch()
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(week.folder, target / "solutions" / week.name, ignore=ignored)
        if week.heldout.is_dir():
            shutil.copytree(week.heldout, target / "solutions" / week.heldout.name)
        settings = SETTINGS.format(week=week.name, due=DUE, late_percent=LATE_PERCENT)
        own = (week.root / ROOT_MARK).read_text(encoding="utf-8")
        (target / ROOT_MARK).write_text(f"{own.rstrip()}\n\n\n{settings}", encoding="utf-8")
    except OSError as error:
        raise CourseError(f"A course cannot be set up in {target}: {error.strerror}.") from error
    return Week(target / "solutions" / week.name)


def run_demo(
    week: Week, jobs: int | None = None, isolation: str | None = None, tell: Callable[[str], None] = print
) -> Demo:
    """Releases the week in a course of its own, makes a class, grades it, writes feedback and report, compares.

    `tell` gets a line for each step. Raises CourseError where the machine or the course lacks something.
    """
    week = fresh_course(week)
    tell(f"Releasing {week.name} ...")
    released = release(week)
    released.write()
    tell("Making a class ...")
    made = Maker(week).everybody()
    due = parse_utc(DUE)
    write_class(week, released.notebook, made, week.root / "grading" / "submitted", due)
    write_roster(week.root / "roster.csv", made)
    import_roster(week)
    tell(f"Grading {len(made)} submissions ...")
    grade_week(week, jobs=jobs, isolation=isolation)
    folder = write_report(week)
    report = read_report(week)
    made = complete(week, made)
    return Demo(week, made, report, folder, compare(week, made, report))


def import_roster(week: Week) -> None:
    """The roster into the gradebook, by nbgrader's own command. Raises CourseError in its words where it fails."""
    command = [sys.executable, "-m", "nbgrader", "db", "student", "import", "roster.csv"]
    done = subprocess.run(command, cwd=week.root, capture_output=True, text=True)
    if done.returncode:
        raise CourseError(f"nbgrader does not import the roster: {done.stderr.strip().splitlines()[-1]}")


# ------------------------------------------------------------------------------------------------------ comparing


def complete(week: Week, made: Sequence[Made]) -> list[Made]:
    """The class with every expectation filled in: what the same code answers in this process, where the maker left it open."""
    banks, follow_through = hidden_banks(week), load_settings(week.root).follow_through
    completed = []
    for each in made:
        expected = dict(each.expected)
        if any(exercise.name not in expected for exercise in week.exercises):
            namespace = week.namespace(each.sources)
            verdicts: dict[str, Verdict] = {}
            for exercise in week.exercises:
                bank = load(banks, exercise.name)
                answers = [answer(week.name, exercise.name, dict(namespace), c.inputs, bank.forbid) for c in bank.cases]
                verdict = reach(week, exercise.name, banks, answers, verdicts, follow_through)
                verdicts[exercise.name] = verdict
                points = exercise.points if verdict.right else 0.0
                expected.setdefault(exercise.name, Expected(points, verdict.status, verdict.named))
        completed.append(replace(each, expected=expected))
    return completed


def compare(week: Week, made: Sequence[Made], report: ClassReport) -> list[str]:
    """What differs between the class as made and as graded, each in a sentence that begins with the student."""
    entries = {entry.student: entry for entry in report.entries}
    problems = []
    for each in made:
        entry = entries.get(each.student)
        if entry is None or (entry.state == "graded") == (each.raw is not None):
            state = entry.state if entry else "nowhere"
            problems.append(f"{each.student}: is {state} ({each.profile}).")
        elif entry.state == "graded":
            problems += _differences(each, entry, report)
    strangers = sorted(entries.keys() - {each.student for each in made})
    return problems + [f"{student}: nobody made this student." for student in strangers]


def _differences(made: Made, entry: Entry, report: ClassReport) -> list[str]:
    found = []
    for column in report.exercises:
        expected, verdict = made.expected[column.name], entry.verdicts.get(column.name)
        if verdict is None:
            found.append(f"{made.student}: {column.name} has no verdict.")
            continue
        got = Expected(entry.points.get(column.id, 0.0), verdict.status, verdict.named)
        if expected.named is None:
            got = replace(got, named=None)
        if expected.status == "wrong" and expected.named and got.status == "error":
            got = replace(got, status="wrong")  # a mistake may answer with an exception
        if got != expected:
            found.append(f"{made.student}: {column.name} is {got}, made was {expected} ({made.profile}).")
    days = -(-max(made.late.total_seconds(), 0) // 86400)
    penalty = sum(expected.points for expected in made.expected.values()) * days * LATE_PERCENT / 100
    if abs(entry.penalty - penalty) > 1e-6:
        found.append(f"{made.student}: the late penalty is {entry.penalty:g}, made for one of {penalty:g}.")
    return found


# ------------------------------------------------------------------------------------------------------ in words


def told(demo: Demo, root: Path) -> str:
    """The table of scores, the named mistakes, how far all is as made, and where to look next."""
    report, profiles = demo.report, {made.student: made.profile for made in demo.made}
    width = max(len(entry.name) for entry in report.entries)
    lines = ["", f"{'student':<{width}}  {'points':>6}  {'late':>6}  right  submission"]
    for entry in sorted(report.entries, key=lambda e: -1.0 if e.score is None else e.score, reverse=True):
        right = sum(entry.outcome(column) in SOLVED for column in report.exercises)
        points = "-" if entry.score is None else f"{entry.score:g}"
        late = f"-{entry.penalty:g}" if entry.penalty else ""
        lines.append(
            f"{entry.name:<{width}}  {points:>6}  {late:>6}  {right:>2}/{len(report.exercises)}  {profiles[entry.student]}"
        )
    lines += [f"Full marks are {report.full:g} points; written answers wait for a person.", "", "Named mistakes"]
    for mistake in report.mistakes:
        text = textwrap.wrap(f"{mistake.exercise}: {mistake.message}", 105)
        lines += [f"{len(mistake.students):>4}  {text[0]}", *(f"      {line}" for line in text[1:])]
    course = demo.week.root.relative_to(root)
    student = next(made.student for made in demo.made if made.mistakes)
    page = Path("grading") / "feedback" / student / demo.week.name / f"{demo.week.name}.html"
    lines += [
        "",
        *(f"✗ {problem}" for problem in demo.problems),
        f"{demo.as_expected} of {len(demo.made)} submissions graded as made.",
        "",
        "Where to look next",
        f"  the class report       {(demo.folder / 'index.html').relative_to(root)}",
        f"  a student's feedback   {course / page}",
        f"  why something is wrong (cd {course} && autograder explain {demo.week.name} {student} EXERCISE)",
        f"  formgrader             (cd {course} && autograder lab)",
        "  the assignment         make lab",
    ]
    return "\n".join(lines)
