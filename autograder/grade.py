"""Grades one submission: repair, run, exercise on hidden cases, verdicts. Picklable in, picklable out, no gradebook."""

import ast
import copy
import hashlib
import html
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nbformat
from jupyter_core.utils import run_sync
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from autograder.engine import KernelLost, Outcome, Run
from autograder.errors import CourseError
from autograder.exercise import Artifact, Exercise
from autograder.hidden import heldout
from autograder.kernel.sandbox import require
from autograder.naming import handed_over, load, reach
from autograder.repair import Unreadable, exercise, file_repairs, parse_cell, read_notebook, repair, role
from autograder.sanitize import MACROS, safe_markdown, safe_outputs
from autograder.week import Week
from course import codec
from course.check import ENDED, Bank, Case, Verdict, compare, exception_name, judge_goal, measured
from course.codec import Failure
from course.drives import measure_of

ATTEMPTS = 3  # a kernel that is lost three times is lost for a reason
CHANGED = "It answered otherwise when the same input came again: something is carried over from call to call."


@dataclass(frozen=True)
class Graded:
    """A graded submission. `repairs`: sentences for the student. `failed`: why it could not be read, empty where it could.

    `began` (UTC, ISO 8601) and `seconds` (of the wall clock) tell when and how long it was graded, where that was measured.
    """

    verdicts: list[Verdict]
    notebook: NotebookNode
    repairs: list[str] = field(default_factory=list)
    failed: str = ""
    began: str = ""
    seconds: float = 0.0


def grade_notebook(
    submission: Path,
    release: Path,
    week: Week,
    banks: Path,
    isolation: str = "bubblewrap",
    cell_timeout: float = 60.0,
    follow_through: bool = True,
) -> Graded:
    """Grades the notebook at `submission`, and the artifacts saved beside it, against the released notebook.

    `banks` is the folder of the hidden cases (`autograder.hidden.hidden_banks`). `follow_through`: an exercise that is right
    given a named mistake in an earlier one keeps its points (`autograder.naming.reach`). A submission that cannot be read gets
    verdicts too: nothing was written. Raises CourseError where the machine or the course is at fault, RuntimeError where
    no kernel starts.
    """
    require(isolation)
    released = read_release(release)
    try:
        read = read_notebook(submission)
    except Unreadable as error:
        return ungraded(released, week, str(error))
    repaired = repair(read, released)
    repaired.repairs[:0] = file_repairs(submission, release.stem)
    verdicts = _graded(isolation, cell_timeout, repaired.notebook, submission.parent, week, banks, follow_through)
    _finish(repaired.notebook, released, verdicts, repaired.repairs, isolation)
    return Graded(list(verdicts.values()), repaired.notebook, repaired.repairs)


def _graded(isolation: str, cell_timeout: float, notebook: NotebookNode, *arguments: Any) -> dict[str, Verdict]:
    """The verdicts; the notebook gets what is to be told of its cells. Begins again where a kernel was lost."""
    left = ATTEMPTS
    while True:
        left -= 1
        try:
            verdicts, told = run_sync(_grade)(Run(isolation, cell_timeout), notebook, *arguments)
        except KernelLost:
            if not left:
                raise
        else:
            for i, text in told.items():
                output = {"output_type": "stream", "name": "stderr", "text": text}
                notebook.cells[i].outputs.append(nbformat.from_dict(output))
            return verdicts


def timed(grade: Callable[..., Graded], *arguments: Any, **settings: Any) -> Graded:
    """What `grade` returns, with when it began and how long it took."""
    began, start = datetime.now(UTC), time.perf_counter()
    graded = grade(*arguments, **settings)
    return replace(graded, began=began.isoformat(timespec="seconds"), seconds=time.perf_counter() - start)


def read_release(path: Path) -> NotebookNode:
    """The released notebook. Raises CourseError where there is none."""
    try:
        return nbformat.read(path, as_version=4)
    except FileNotFoundError:
        name = path.stem
        raise CourseError(f"{name} has no release at {path}. Make it: autograder release {name}") from None
    except Exception as error:
        raise CourseError(
            f"The release {path} cannot be read ({error}). Make it anew: autograder release {path.stem}"
        ) from error


def ungraded(released: NotebookNode, week: Week, why: str) -> Graded:
    """The result for a submission with no readable notebook: the released notebook, every exercise missing, and why."""
    notebook = copy.deepcopy(released)
    verdicts = {
        name: Verdict(name, "missing", 0, 0, 0.0, item.points, message=why)
        for name, item in _items(week).items()
        if any(role(cell) == "check" and exercise(cell) == name for cell in released.cells)
    }
    _finish(notebook, released, verdicts, [why])
    return Graded(list(verdicts.values()), notebook, [], why)


def _items(week: Week) -> dict[str, Exercise | Artifact]:
    return {item.name: item for item in [*week.exercises, *week.artifacts]}


async def _grade(
    run: Run, notebook: NotebookNode, beside: Path, week: Week, banks: Path, follow_through: bool
) -> tuple[dict[str, Verdict], dict[int, str]]:
    """Runs the notebook's cells in order; at the place of each check, reaches its verdict.

    Returns the verdicts, and what is to be told of cells that did not get through, by index. The cells keep the outputs that
    the student handed in. What they put out here is not shown to anybody: code that has seen a hidden case could print it.
    """
    items = _items(week)
    verdicts: dict[str, Verdict] = {}
    told: dict[int, str] = {}
    solved: dict[str, tuple[str, Outcome]] = {}
    async with run:
        for i, cell in enumerate(notebook.cells):
            what, name = role(cell), exercise(cell)
            if what == "check":
                if name not in items:
                    raise CourseError(f"The release of {week.name} checks {name!r}, which exercises.py does not have.")
                if isinstance(items[name], Artifact):
                    verdicts[name] = await _grade_artifact(run, items[name], beside, week, banks)
                else:
                    verdicts[name], _ = await try_exercise(
                        run, items[name], week, banks, verdicts, *solved.get(name, ("", None)), follow_through
                    )
            elif cell.cell_type == "code" and what not in ("experiment", "look"):
                outcome = await run.cell(cell.source, what in ("setup", "given"))
                if outcome.status == "error":
                    told[i] = f"When this was graded, the cell stopped with {stopped_with(outcome, cell.source)}\n"
                elif outcome.status != "ok":
                    told[i] = f"This cell was left out of grading. {outcome.message}\n"
                if what == "solution":
                    solved[name] = (cell.source, outcome)
    return verdicts, told


async def try_exercise(
    run: Run,
    exercise: Exercise,
    week: Week,
    banks: Path,
    earlier: Mapping[str, Verdict],
    source: str = "",
    defined: Outcome | None = None,
    follow_through: bool = True,
) -> tuple[Verdict, list[Any]]:
    """Puts the hidden cases to the student's code as it is now; returns the verdict and the answers in the bank's order.

    `earlier` has the verdicts on the exercises before this one; `source` is its cell, `defined` how that cell ended.
    """
    bank, cases = load(banks, exercise.name), handed_over(banks, exercise.name)
    order = order_of(cases)
    asked = [cases[i] for i in [*order, order[0]]]
    *firsts, again = await run.answers(week.name, exercise.name, asked, exercise.timeout, exercise.forbid)
    first = dict(zip(order, firsts, strict=True))
    stopped = next((i for i in order if _failed_as(first[i], *ENDED)), None)
    if stopped is None and _failed_as(again, *ENDED, "Forbidden"):
        stopped, first[order[0]] = order[0], again
    answers = [first[i] for i in range(len(order))]
    verdict = reach(week, exercise.name, banks, answers, earlier, follow_through)
    if stopped is not None and verdict.status in ("timeout", "crashed"):
        verdict = replace(verdict, kind=bank.cases[stopped].kind)  # cases that come before it may not have been reached
    if stopped is None and verdict.status in ("passed", "wrong", "error"):
        verdict = _asked_again(verdict, bank, order[0], answers[order[0]], again)
    if verdict.status == "missing" and defined is not None and defined.status != "ok":
        verdict = replace(verdict, **_cell_failed(defined, source))
    if verdict.right and "autograd" in exercise.forbid and (evidence := autograd_evidence(source)):
        what = f"This exercise is to be solved without autograd, which your code seems to use: {'; '.join(evidence)}."
        verdict = replace(verdict, status="forbidden", message=what)
    points = float(exercise.points)
    return replace(verdict, points=points if verdict.right else 0.0, max_points=points), answers


def order_of(cases: Sequence[tuple[bytes, bytes]]) -> list[int]:
    """The order in which cases are put to students' code: as secret as the cases, and the same for everybody.

    The first comes again at the end, so that an answer that depends on what was asked before is found out.
    """
    secret = hashlib.sha256(b"".join(part for case in cases for part in case)).digest()
    order = list(range(len(cases)))
    random.Random(secret).shuffle(order)
    return order


def _failed_as(answer: Any, *types: str) -> bool:
    return isinstance(answer, Failure) and answer.type in types


def _asked_again(verdict: Verdict, bank: Bank, i: int, first: Any, again: Any) -> Verdict:
    """The verdict where case `i` came twice: answered otherwise the second time, it has failed and no mistake is named."""
    case, measure = bank.cases[i], measure_of(bank.week, bank.exercise)
    before, after = (measured(measure, case.inputs, answer) for answer in (first, again))
    was_right, is_right = (_is_right(case, value) for value in (before, after))
    if (was_right and is_right) or compare(before, after, case.tolerance).agrees:
        return verdict
    failed = replace(verdict, passed=verdict.passed - (was_right or verdict.right), mistakes=(), named=(), given="")
    if verdict.right:
        return replace(failed, status="wrong", kind=case.kind, message=CHANGED)
    return replace(failed, message=f"{verdict.message} {CHANGED}" if verdict.status == "error" else CHANGED)


def _is_right(case: Case, value: Any) -> bool:
    return any(compare(right, value, case.tolerance).agrees for right in [case.answer, *case.accepted])


def _cell_failed(outcome: Outcome, source: str) -> dict[str, str]:
    """Status and message of an exercise whose name is not defined because its own cell did not get through."""
    if outcome.status == "error":
        message = f"The cell with your solution stops with {stopped_with(outcome, source)}"
        return {"status": "error", "message": message, "detail": ""}
    message = f"The cell with your solution did not get through. {outcome.message}"
    return {"status": outcome.status, "message": message, "detail": ""}


def stopped_with(outcome: Outcome, source: str) -> str:
    """What a cell raised, in words that cannot hold what only the kernel knows: all that is told stands in its source."""
    try:
        parse_cell(source)
    except SyntaxError as error:
        return f"SyntaxError: {error.msg} (line {error.lineno})."
    except (MemoryError, RecursionError, ValueError):
        return "code that Python cannot even parse: it is nested too deep, or holds what is no text."
    missing = re.search(r"[Nn]ame(?:d)? '(\w+)'", outcome.message)
    if missing and re.search(rf"\b{missing[1]}\b", source):
        return f"{exception_name(outcome.name)}: {missing[1]!r} is not there. Is it made in a cell further down, or was it?"
    return f"{exception_name(outcome.name)}."


async def _grade_artifact(run: Run, artifact: Artifact, beside: Path, week: Week, banks: Path) -> Verdict:
    def zero(status: str, message: str) -> Verdict:
        return Verdict(artifact.name, status, 0, 0, 0.0, artifact.points, message=message)

    try:
        saved = artifact.load(beside)
    except ValueError as error:
        return zero("missing", str(error))
    inputs, key = heldout(banks, artifact.slug)
    try:
        case = codec.to_bytes({**inputs, **saved})
    except ValueError as error:  # figures nested too deep to be handed over
        return zero("error", f"{artifact.file} and the figures beside it cannot be used: {error}.")
    [raw] = await run.answers(week.name, artifact.name, [case], artifact.timeout, [])
    return judge_goal(artifact, raw, lambda outputs: artifact.score(inputs, outputs, key), artifact.where)


# ---------------------------------------------------------------------------------------------- the second witness

AUTOGRAD_NAMES = ("backward", "autograd", "requires_grad", "requires_grad_")
AUTOGRAD_MODULES = ("torch.autograd", "torch.func")


def autograd_evidence(source: str) -> list[str]:
    """Where a cell's code speaks of autograd, each as `line 3: loss.backward()`. The tripwire is the first witness."""
    try:
        tree = parse_cell(source)
    except (SyntaxError, MemoryError, RecursionError, ValueError):  # it cannot have run either
        return []
    lines = source.splitlines()
    found = {node.lineno for node in ast.walk(tree) if _is_autograd(node)}
    return [f"line {number}: {lines[number - 1].strip()}" for number in sorted(found)]


def _is_autograd(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute):
        of_torch = isinstance(node.value, ast.Name) and node.value.id == "torch"
        return node.attr in AUTOGRAD_NAMES or (of_torch and node.attr == "func")
    if isinstance(node, ast.Import):
        return any(alias.name.startswith(AUTOGRAD_MODULES) for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        names = [f"{node.module}.{alias.name}" for alias in node.names]
        return any(name.startswith(AUTOGRAD_MODULES) for name in names)
    if isinstance(node, ast.Call):
        return any(keyword.arg == "requires_grad" for keyword in node.keywords)
    return False


# ------------------------------------------------------------------------------------------------ the graded notebook


def _finish(
    notebook: NotebookNode,
    released: NotebookNode,
    verdicts: dict[str, Verdict],
    repairs: list[str],
    isolation: str = "",
) -> None:
    """Puts the verdicts into the check cells and a note on top; makes everything of the student's safe to look at."""
    given = {cell.id: cell.source for cell in released.cells}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = safe_outputs(cell.outputs)
            cell.execution_count = None
            if role(cell) == "check" and (verdict := verdicts.get(exercise(cell))):
                data = {"text/html": verdict.to_html(reveal=False), "text/plain": verdict.to_text(reveal=False)}
                if MACROS.search(data["text/plain"]):  # it may quote the student's code; MathJax reads HTML only
                    del data["text/html"]
                output = {"output_type": "display_data", "data": data, "metadata": {}}
                cell.outputs = [nbformat.from_dict(output)]
        elif cell.source != given.get(cell.id):
            cell.cell_type = "markdown"  # pages put a raw cell into their HTML as it is
            cell.source = safe_markdown(cell.source, cell.get("attachments"))
    notes = [html.escape(note, quote=False) for note in repairs]
    if isolation == "process":
        notes.append("Graded without a sandbox.")
    text = "\n".join(["**About this submission**", "", _summary(verdicts), "", *(f"- {note}" for note in notes)])
    notebook.cells.insert(0, new_markdown_cell(safe_markdown(text.strip()), id="about-this-submission"))


def _summary(verdicts: dict[str, Verdict]) -> str:
    """A Markdown table of all verdicts: exercise, points, what was found. Free of hidden values."""

    def row(verdict: Verdict) -> str:
        found = verdict.to_text(reveal=False).splitlines()[0].replace(f" {verdict.exercise}:", "")
        told = html.escape(" ".join([found, *verdict.named]), quote=False).replace("|", "&#124;")
        return f"| `{verdict.exercise}` | {verdict.points:g} of {verdict.max_points:g} | {told} |"

    return "\n".join(["| exercise | points | |", "|:--|:--|:--|", *map(row, verdicts.values())])
