"""Grades one submission: repair, run, exercise on hidden cases, verdicts. Picklable in, picklable out, no gradebook."""

import ast
import copy
import functools
import html
import re
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from jupyter_core.utils import run_sync
from nbconvert.preprocessors.sanitize import SanitizeHTML
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_output

from autograder.engine import Outcome, Run
from autograder.exercise import Artifact, Exercise
from autograder.kernel.provisioner import require
from autograder.repair import Unreadable, exercise, read_notebook, repair, role
from autograder.week import CourseError, Week
from course.check import Bank, Verdict, exception_name, judge, judge_goal

MAX_TEXT = 20_000  # characters of one output that the graded notebook keeps
MAX_IMAGE = 2_000_000
TAGS = (
    "a abbr b blockquote br code dd del details div dl dt em h1 h2 h3 h4 h5 h6 hr i li ol p pre s span strong sub "
    "summary sup table tbody td tfoot th thead tr ul"
)
SANITIZE = SanitizeHTML(
    tags=TAGS.split(),
    attributes={"a": ["href", "title"], "th": ["colspan", "rowspan"], "td": ["colspan", "rowspan"]},
    strip=True,
)


@dataclass(frozen=True)
class Graded:
    """A graded submission. `repairs`: sentences for the student. `failed`: why it could not be read, empty where it could."""

    verdicts: list[Verdict]
    notebook: NotebookNode
    repairs: list[str] = field(default_factory=list)
    failed: str = ""


def grade_notebook(
    submission: Path,
    release: Path,
    week: Week,
    banks: Path,
    isolation: str = "bubblewrap",
    cell_timeout: float = 60.0,
) -> Graded:
    """Grades the notebook at `submission`, and the artifacts saved beside it, against the released notebook.

    `banks` is the folder of the hidden cases (`autograder.hidden.hidden_banks`). A submission that cannot be read gets
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
    if submission.name != release.name:
        repaired.repairs.insert(0, f"The notebook was named {submission.name}; it is graded as {release.name}.")
    with tempfile.TemporaryDirectory(prefix="submission-") as folder:
        run = Run(isolation, Path(folder).resolve(), cell_timeout)
        verdicts = run_sync(_grade)(run, repaired.notebook, submission.parent, week, banks)
    _finish(repaired.notebook, released, verdicts, repaired.repairs, isolation)
    return Graded(list(verdicts.values()), repaired.notebook, repaired.repairs)


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


async def _grade(run: Run, notebook: NotebookNode, beside: Path, week: Week, banks: Path) -> dict[str, Verdict]:
    """Runs the notebook's cells in order; at the place of each check, reaches its verdict.

    The cells keep the outputs that the student handed in. What they put out here is not shown to anybody: code that has seen
    a hidden case could print it. Only that a cell did not get through is added.
    """
    items = _items(week)
    verdicts: dict[str, Verdict] = {}
    solved: dict[str, tuple[str, Outcome]] = {}
    async with run:
        for cell in notebook.cells:
            what, name = role(cell), exercise(cell)
            if what == "check":
                if name not in items:
                    raise CourseError(f"The release of {week.name} checks {name!r}, which exercises.py does not have.")
                if isinstance(items[name], Artifact):
                    verdicts[name] = await _grade_artifact(run, items[name], beside, week)
                else:
                    verdicts[name] = await _grade_exercise(run, items[name], week, banks, *solved.get(name, ("", None)))
            elif cell.cell_type == "code" and what not in ("experiment", "look"):
                outcome = await run.cell(cell.source, what in ("setup", "given"))
                if outcome.status == "error":
                    text = f"When this was graded, the cell stopped with {stopped_with(outcome, cell.source)}\n"
                    cell.outputs.append(new_output("stream", name="stderr", text=text))
                elif outcome.status != "ok":
                    text = f"This cell was left out of grading. {outcome.message}\n"
                    cell.outputs.append(new_output("stream", name="stderr", text=text))
                if what == "solution":
                    solved[name] = (cell.source, outcome)
    return verdicts


async def _grade_exercise(
    run: Run, exercise: Exercise, week: Week, banks: Path, source: str, defined: Outcome | None
) -> Verdict:
    bank = _bank(banks, exercise.name)
    cases = [case.inputs for case in bank.cases]
    answers = await run.answers(week.name, exercise.name, cases, exercise.timeout, exercise.forbid)
    verdict = judge(bank, answers)
    if verdict.status == "missing" and defined is not None and defined.status != "ok":
        verdict = replace(verdict, **_cell_failed(defined, source))
    if verdict.right and "autograd" in exercise.forbid and (evidence := autograd_evidence(source)):
        what = f"This exercise is to be solved without autograd, which your code seems to use: {'; '.join(evidence)}."
        verdict = replace(verdict, status="forbidden", message=what)
    return replace(verdict, points=float(exercise.points) if verdict.right else 0.0, max_points=float(exercise.points))


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
        ast.parse(TransformerManager().transform_cell(source))
    except SyntaxError as error:
        return f"SyntaxError: {error.msg} (line {error.lineno})."
    missing = re.search(r"[Nn]ame(?:d)? '(\w+)'", outcome.message)
    if missing and re.search(rf"\b{missing[1]}\b", source):
        return f"{exception_name(outcome.name)}: {missing[1]!r} is not there. Is it made in a cell further down, or was it?"
    return f"{exception_name(outcome.name)}."


async def _grade_artifact(run: Run, artifact: Artifact, beside: Path, week: Week) -> Verdict:
    def zero(status: str, message: str) -> Verdict:
        return Verdict(artifact.name, status, 0, 0, 0.0, artifact.points, message=message)

    try:
        saved = artifact.load(beside)
    except ValueError as error:
        return zero("missing", str(error))
    inputs, key = _heldout(week.folder, artifact.name)
    try:
        [raw] = await run.answers(week.name, artifact.name, [{**inputs, **saved}], artifact.timeout, [])
    except ValueError as error:  # figures nested too deep to be handed over
        return zero("error", f"{artifact.file} and the figures beside it cannot be used: {error}.")
    return judge_goal(artifact, raw, lambda outputs: artifact.score(inputs, outputs, key), artifact.where)


@functools.lru_cache(maxsize=64)
def _bank(folder: Path, exercise: str) -> Bank:
    return Bank.load(folder, exercise)


@functools.lru_cache(maxsize=8)
def _heldout(folder: Path, artifact: str) -> tuple[dict, Any]:
    week = Week(folder)
    return next(item for item in week.artifacts if item.name == artifact).inputs(week.heldout)


# ---------------------------------------------------------------------------------------------- the second witness

AUTOGRAD_NAMES = ("backward", "autograd", "requires_grad", "requires_grad_")
AUTOGRAD_MODULES = ("torch.autograd", "torch.func")


def autograd_evidence(source: str) -> list[str]:
    """Where a cell's code speaks of autograd, each as `line 3: loss.backward()`. The tripwire is the first witness."""
    try:
        source = TransformerManager().transform_cell(source)
        tree = ast.parse(source)
    except SyntaxError:
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
            cell.outputs = [_cut(output) for output in SANITIZE.sanitize_code_outputs(cell.outputs)]
            cell.execution_count = None
            if role(cell) == "check" and (verdict := verdicts.get(exercise(cell))):
                data = {"text/html": verdict.to_html(reveal=False), "text/plain": verdict.to_text(reveal=False)}
                cell.outputs = [new_output("display_data", data=data)]
        elif cell.source != given.get(cell.id) and re.search(r"<[a-zA-Z/!?]", cell.source):
            cell.source = SANITIZE.sanitize_html_tags(cell.source)
    notes = [html.escape(note, quote=False) for note in repairs]
    if isolation == "process":
        notes.append("Graded without a sandbox.")
    text = "\n".join(["**About this submission**", "", _summary(verdicts), "", *(f"- {note}" for note in notes)])
    notebook.cells.insert(0, new_markdown_cell(text.strip(), id="about-this-submission"))


def _summary(verdicts: dict[str, Verdict]) -> str:
    """A Markdown table of all verdicts: exercise, points, what was found. Free of hidden values."""

    def row(verdict: Verdict) -> str:
        found = verdict.to_text(reveal=False).splitlines()[0].replace(f" {verdict.exercise}:", "")
        told = html.escape(" ".join([found, *verdict.named]), quote=False).replace("|", "&#124;")
        return f"| `{verdict.exercise}` | {verdict.points:g} of {verdict.max_points:g} | {told} |"

    return "\n".join(["| exercise | points | |", "|:--|:--|:--|", *map(row, verdicts.values())])


def _cut(output: NotebookNode) -> NotebookNode:
    """An output with its long texts cut and its large images left out."""
    if output.output_type == "stream":
        output.text = _shortened(output.text)
    elif output.output_type == "error":
        output.evalue = _shortened(output.evalue)
        output.traceback = [_shortened(line) for line in output.traceback[-20:]]
    else:
        for kind, value in list(output.data.items()):
            size = len(str(value))
            if (kind.startswith("image/") and size > MAX_IMAGE) or (kind == "application/json" and size > MAX_TEXT):
                del output.data[kind]
            elif kind.startswith("text/") and size > MAX_TEXT:
                output.data[kind] = _shortened("".join(value)) if kind != "text/html" else "(too long to be shown)"
        if not output.data:
            output.data["text/plain"] = "(too large to be shown)"
    return output


def _shortened(text: str) -> str:
    return (
        text
        if len(text) <= MAX_TEXT
        else f"{text[: MAX_TEXT // 2]}\n… ({len(text) - MAX_TEXT} characters cut)\n{text[-MAX_TEXT // 2 :]}"
    )
