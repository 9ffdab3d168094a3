"""The command `autograder`. Each command is a thin caller of one function elsewhere in this package."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autograder.errors import CourseError

if TYPE_CHECKING:  # each command imports what it needs, and none waits for PyTorch in vain
    from autograder.week import Week

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

WeekArgument = Annotated[
    str, typer.Argument(metavar="WEEK", help="Any unambiguous beginning of a week's name: week01.")
]


def course_root() -> Path:
    from autograder.week import find_root

    return find_root()


def one_week(name: str) -> "Week":
    """The week whose name begins so. Raises CourseError unless there is exactly one."""
    from autograder.week import find_week

    return find_week(course_root(), name)


def chosen_weeks(names: list[str] | None, every: bool) -> list["Week"]:
    """The weeks named on the command line, or all of them. Raises CourseError for an unknown one or for none at all."""
    from autograder.week import weeks_of

    if every:
        return weeks_of(course_root())
    if not names:
        raise CourseError("Name a week (week01), or give --all.")
    return [one_week(name) for name in names]


WeeksArgument = Annotated[list[str] | None, typer.Argument(metavar="WEEK...", help="Beginnings of weeks' names.")]
AllOption = Annotated[bool, typer.Option("--all", help="Every week there is.")]


@app.command()
def release(
    weeks: WeeksArgument = None,
    every: AllOption = False,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 where a release is out of date.")
    ] = False,
) -> None:
    """Write a week's assignment and public cases, if it can be proved that its checks hold."""
    from autograder.release import release as build
    from autograder.validate import validate as prove

    stale = False
    for week in chosen_weeks(weeks, every):
        built = build(week)
        differences = built.differences()
        if check:
            stale = stale or bool(differences)
            typer.echo(f"{week.name}: {'; '.join(differences) if differences else 'up to date'}")
            continue
        if not differences:
            typer.echo(f"{week.name}: up to date")
            continue
        proof = prove(
            week, built, progress=lambda name, week=week: typer.echo(f"{week.name}: validating {name}", err=True)
        )
        if not proof.passed:
            typer.echo("\n".join(proof.all_problems))
            raise CourseError(f"{week.name} is not released: {len(proof.all_problems)} problems, listed above.")
        for path in built.write():
            typer.echo(f"{week.name}: wrote {path.relative_to(week.root)}")
    if stale:
        raise typer.Exit(1)


@app.command()
def validate(
    weeks: WeeksArgument = None,
    every: AllOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, a list of weeks in it.")] = False,
    seeds: Annotated[int, typer.Option(help="How many seeds to try every exercise under.", min=1)] = 5,
    quick: Annotated[
        bool, typer.Option("--quick", help="Leave out grading the solution and the template in kernels.")
    ] = False,
) -> None:
    """Prove a week's checks; exit 1 where one of them does not hold."""
    from autograder.validate import kill_matrix
    from autograder.validate import validate as prove

    proofs = []
    for week in chosen_weeks(weeks, every):
        quiet = as_json or not sys.stderr.isatty()
        tell = (lambda name: None) if quiet else (lambda name, week=week: typer.echo(f"{week.name}: {name}", err=True))
        proof = prove(week, progress=tell, grade=not quick, seeds=seeds)
        proofs.append(proof)
        if not as_json:
            numbers = proof.as_json()
            typer.echo(f"\n{week.name}\n{'=' * len(week.name)}{kill_matrix(proof)}\n")
            typer.echo("\n".join(f"✗ {problem}" for problem in numbers.pop("problems")))
            typer.echo("  ".join(f"{key} {value}" for key, value in numbers.items()))
    if as_json:
        typer.echo(json.dumps({"weeks": [proof.as_json() for proof in proofs]}, indent=1))
    if not all(proof.passed for proof in proofs):
        raise typer.Exit(1)


@app.command()
def grade(
    week: WeekArgument,
    submissions: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Import these first: one folder a student, a notebook in each.")
    ] = None,
    student: Annotated[str | None, typer.Option(help="Grade this student only.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Submissions graded at the same time.")] = None,
    isolation: Annotated[
        str | None, typer.Option(help="`bubblewrap`, or `process`, which is not a sandbox and says so.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on after an interruption: grade only what the journal does not have.")
    ] = False,
    preview: Annotated[
        bool, typer.Option("--preview", help="Write no grade; tell whose points would change, and why.")
    ] = False,
) -> None:
    """Grade a week's submissions; write gradebook, graded notebooks and feedback."""
    from autograder.workers import start_server

    start_server()  # so that its imports run beside ours
    from autograder.batch import grade_week, preview_week, table
    from autograder.preview import told

    chosen = one_week(week)
    if preview:
        typer.echo(told(preview_week(chosen, submissions, student, jobs, isolation, resume=resume), submissions))
        return
    rows = grade_week(chosen, submissions, student, jobs, isolation, resume=resume)
    typer.echo(table(rows))
    lost = [row.student for row in rows if row.lost]
    if lost:
        typer.echo(f"autograder: {len(lost)} of {len(rows)} submissions in trouble: {', '.join(lost)}.", err=True)
        raise typer.Exit(1)


@app.command()
def doctor() -> None:
    """Tell what this machine can do: sandbox, GPU, JupyterLab's extensions, versions."""
    from autograder.doctor import findings

    trouble = False
    for fine, name, text in findings(course_root()):
        typer.echo(f"{'✓' if fine else '✗'} {name:<12} {text}")
        trouble = trouble or not fine
    if trouble:
        raise typer.Exit(1)


@app.command()
def report(week: WeekArgument) -> None:
    """Write the class report: a page, scores, named mistakes, and files for Canvas and Moodle."""
    from autograder.report import write_report

    folder = write_report(one_week(week))
    typer.echo(f"The class report is {folder / 'index.html'}")
    typer.echo(f"Beside it: {', '.join(sorted(path.name for path in folder.glob('*.csv')))}")


StudentArgument = Annotated[str, typer.Argument(metavar="STUDENT", help="The student's id.")]
ExerciseArgument = Annotated[str, typer.Argument(metavar="EXERCISE", help="As in the notebook: rnn_step.")]


@app.command()
def explain(week: WeekArgument, student: StudentArgument, exercise: ExerciseArgument) -> None:
    """Show an instructor why an exercise was refused: the code, and both answers to every hidden case."""
    from autograder.explain import explain as in_full

    typer.echo(in_full(one_week(week), student, exercise), nl=False)


@app.command()
def accept(
    week: WeekArgument,
    student: StudentArgument,
    exercise: ExerciseArgument,
    name: Annotated[str | None, typer.Option(help="The alternate's name; accepted-STUDENT otherwise.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask: the code has been read.")] = False,
    regrade: Annotated[bool, typer.Option("--regrade", help="Grade the week anew at once.")] = False,
) -> None:
    """Make a wrongly refused answer count as right from now on, if no known mistake passes with it."""
    from autograder.accept import accept as take
    from autograder.accept import candidate
    from autograder.explain import attempt

    chosen = one_week(week)
    tried = attempt(chosen, student, exercise)
    source = candidate(tried)
    if not yes:
        typer.echo(f"{source}\n")
        typer.confirm(
            "From now on the grader runs this code in its own process. Have you read it; accept it?", abort=True
        )
    take(chosen, tried.exercise, source, name or f"accepted-{student}")
    typer.echo(f"Accepted, in {(chosen.folder / 'alternates.py').relative_to(chosen.root)}.")
    typer.echo(f"The notebook's own checks learn of it by: autograder release {chosen.name}")
    if regrade:
        grade(chosen.name)
    else:
        typer.echo(f"Grade the week anew: autograder grade {chosen.name}")


@app.command()
def demo(
    week: WeekArgument = "week01",
    jobs: Annotated[int | None, typer.Option(min=1, help="Submissions graded at the same time.")] = None,
    isolation: Annotated[
        str | None, typer.Option(help="`bubblewrap`, or `process`, which is not a sandbox and says so.")
    ] = None,
) -> None:
    """A whole week in minutes: release, a class of submissions, grades, feedback, report; exit 1 if a grade is off."""
    from autograder.demo import run_demo, told

    root = course_root()
    done = run_demo(one_week(week), jobs, isolation, tell=typer.echo)
    typer.echo(told(done, root))
    if done.problems:
        raise typer.Exit(1)


@app.command()
def bench(
    week: WeekArgument = "week01",
    submissions: Annotated[int, typer.Option(help="Submissions that both sides grade.", min=2)] = 100,
    pairs: Annotated[int, typer.Option(help="How often both sides grade them.", min=1)] = 1,
    jobs: Annotated[int | None, typer.Option(min=1, help="Submissions that ours grades at the same time.")] = None,
    isolation: Annotated[
        str | None, typer.Option(help="`bubblewrap`, or `process`, which is not a sandbox and says so.")
    ] = None,
    scale: Annotated[
        str, typer.Option(metavar="N,N,...", help="Sizes of classes that ours grades alone.")
    ] = "10,30,100,300,1000",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure throughput against stock nbgrader, in one run; exit 1 if a grade is off."""
    from autograder.bench import run_bench, told

    try:
        sizes = [int(size) for size in scale.split(",")]
    except ValueError:
        raise CourseError(f"--scale takes whole numbers with commas between them, not {scale!r}.") from None
    found = run_bench(
        one_week(week), submissions, sizes, jobs, isolation, pairs, tell=lambda line: typer.echo(line, err=True)
    )
    typer.echo(json.dumps(found, indent=1) if as_json else told(found))
    if found["problems"]:
        raise typer.Exit(1)


@app.command()
def lab(
    week: WeekArgument = "week01",
    browser: Annotated[bool, typer.Option(help="Open a browser.")] = True,
    port: Annotated[int, typer.Option(help="The server's port.")] = 8888,
) -> None:
    """Open JupyterLab on a released week, with nbgrader's extensions."""
    from autograder.lab import lab_command, lab_environment

    root = course_root()
    command = lab_command(one_week(week), browser, port)
    os.chdir(root)
    os.execve(command[0], command, lab_environment(root))


@app.command()
def publish(folder: Annotated[Path, typer.Argument(help="An empty or absent folder.")]) -> None:
    """Write the student-facing repository: everything that git has but solutions/, checked for leaks."""
    from autograder.publish import publish as write

    count = write(course_root(), folder)
    typer.echo(f"{count} files in {folder}, no leak found.")


def main() -> None:
    """Runs the command line; what the user can mend is said in a sentence on stderr, with exit code 2."""
    try:
        app()
    except CourseError as error:
        print(f"autograder: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
