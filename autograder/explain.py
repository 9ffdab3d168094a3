"""For instructors only: one exercise of one student on the hidden cases, with both answers in full."""

import difflib
import math
import textwrap
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jupyter_core.utils import run_sync
from nbformat import NotebookNode
from torch import Tensor

from autograder import verdicts
from autograder.engine import Outcome, Run
from autograder.errors import CourseError
from autograder.exercise import Artifact, Exercise
from autograder.grade import read_release, try_exercise
from autograder.hidden import hidden_banks
from autograder.kernel.sandbox import require
from autograder.naming import load
from autograder.repair import Unreadable, exercise, find_notebook, read_notebook, repair, role
from autograder.settings import load_settings
from autograder.week import Week
from course import codec
from course.check import Bank, Case, Verdict, compare, is_floating, judge_goal, leaves, measured
from course.codec import Failure
from course.drives import measure_of

MOST_VALUES = 200  # of one tensor; a larger one is printed with its middle left out
NOT_RUN = ("experiment", "look")


@dataclass(frozen=True)
class Attempt:
    """What a student's code answers to an exercise's hidden cases, as it was run now.

    `answers` are raw, one for each case of `bank` in its order; `verdict` is reached as in the grade. `own` are the code cells
    that the student added before the exercise's check, in their order.
    """

    student: str
    exercise: Exercise
    source: str
    own: list[str]
    bank: Bank
    answers: list[Any]
    verdict: Verdict


def submission_of(week: Week, student: str) -> Path:
    """The notebook that a student handed in. Raises CourseError where there is none."""
    folder = week.root / "grading" / "submitted" / student / week.name
    path = find_notebook(folder, week.name) if folder.is_dir() else None
    if path is None:
        known = sorted(path.parent.name for path in (week.root / "grading" / "submitted").glob(f"*/{week.name}"))
        near = difflib.get_close_matches(student, known) or known[:5]
        others = " and others" if len(known) > len(near) else ""
        advice = f"it was handed in by {', '.join(near)}{others}" if known else "nobody handed it in"
        raise CourseError(f"There is no notebook of {student!r} for {week.name}; {advice}.")
    return path


def attempt(week: Week, student: str, name: str, isolation: str | None = None) -> Attempt:
    """Runs a student's notebook up to the check of an exercise, and the exercise on the hidden cases.

    Raises CourseError where there is nothing to run.
    """
    chosen = week.exercise(name)
    banks, settings = hidden_banks(week), load_settings(week.root)
    notebook = _repaired(week, student)
    reached: dict[str, Verdict] = {}

    async def tried(run: Run) -> list[Any]:
        solved: dict[str, tuple[str, Outcome]] = {}
        for cell in _before(notebook, chosen.name):
            if role(cell) != "check":
                outcome = await run.cell(cell.source)
                if role(cell) == "solution":
                    solved[exercise(cell)] = (cell.source, outcome)
            elif exercise(cell) in week.uses[chosen.name]:
                await put(run, week.exercise(exercise(cell)), solved)
        return await put(run, chosen, solved)

    async def put(run: Run, each: Exercise, solved: dict[str, tuple[str, Outcome]]) -> list[Any]:
        cell = solved.get(each.name, ("", None))
        verdict, answers = await try_exercise(run, each, week, banks, reached, *cell, settings.follow_through)
        reached[each.name] = verdict
        return answers

    answers = _in_kernel(week, isolation, tried)
    source, own = _source(notebook, chosen.name), _own(notebook, chosen.name)
    return Attempt(student, chosen, source, own, load(banks, chosen.name), answers, reached[chosen.name])


def _repaired(week: Week, student: str) -> NotebookNode:
    released = read_release(week.root / "assignments" / week.name / f"{week.name}.ipynb")
    try:
        return repair(read_notebook(submission_of(week, student)), released).notebook
    except Unreadable as error:
        raise CourseError(f"The submission of {student} cannot be explained: {error}") from None


def _in_kernel(week: Week, isolation: str | None, what: Callable[[Run], Awaitable[list[Any]]]) -> list[Any]:
    settings = load_settings(week.root)
    isolation = isolation or settings.isolation
    require(isolation)

    async def done() -> list[Any]:
        async with Run(isolation, settings.cell_timeout) as run:
            return await what(run)

    return run_sync(done)()


def _before(notebook: NotebookNode, name: str) -> Iterator[NotebookNode]:
    """The code cells that count before an exercise's check. Raises CourseError where the release has no such check."""
    for cell in notebook.cells:
        if role(cell) == "check" and exercise(cell) == name:
            return
        if cell.cell_type == "code" and role(cell) not in NOT_RUN:
            yield cell
    raise CourseError(f"The released notebook has no check of {name}. Make it anew: autograder release")


def _source(notebook: NotebookNode, name: str) -> str:
    return next(cell.source for cell in notebook.cells if role(cell) == "solution" and exercise(cell) == name)


def _own(notebook: NotebookNode, name: str) -> list[str]:
    return [cell.source for cell in _before(notebook, name) if not role(cell)]


# ------------------------------------------------------------------------------------------------------ in words


def explain(week: Week, student: str, name: str, isolation: str | None = None) -> str:
    """Why an exercise of a student was refused, or not: the code, and for each case both answers in full.

    Raises CourseError for an unknown student or exercise.
    """
    artifact = next((item for item in week.artifacts if name in (item.name, item.slug)), None)
    if artifact is not None:
        return _explain_artifact(week, student, artifact, isolation)
    tried = attempt(week, student, name, isolation)
    record = verdicts.read(week.root, week.name, student)
    graded = [verdict for verdict in (record.verdicts if record else []) if verdict.exercise == tried.exercise.name]
    return told(tried, *graded)


def told(tried: Attempt, graded: Verdict | None = None) -> str:
    """An attempt in words, with the verdict of the last grading where that came to something else."""
    lines = [f"{tried.exercise.name} of {tried.student} in {tried.bank.week}, on the hidden cases, run just now", ""]
    lines += [tried.verdict.to_text()]
    if tried.verdict.right and tried.verdict.given:
        lines += [f"Below it is compared with what is right without the mistake in {tried.verdict.given}."]
    if graded is not None and graded.status != tried.verdict.status:
        lines += ["", "In the last grading it was:", graded.to_text()]
    lines += ["", "The cell as handed in:", *_indented(tried.source or "(empty)")]
    for number, (case, raw) in enumerate(zip(tried.bank.cases, tried.answers, strict=True), 1):
        lines += [
            "",
            f"Case {number} of {len(tried.answers)}: {case.kind}",
            *_indented("\n".join(_case(tried, case, raw))),
        ]
    return "\n".join(lines) + "\n"


def _case(tried: Attempt, case: Case, raw: Any) -> Iterator[str]:
    bank = tried.bank
    value = measured(measure_of(bank.week, bank.exercise), case.inputs, raw)
    difference = compare(case.answer, value, case.tolerance)
    yield from _listed("inputs     ", [f"{path} {_form(leaf)}" for path, leaf in leaves(case.inputs)])
    floating = [path or "the answer" for path, leaf in leaves(case.answer) if is_floating(leaf)]
    allowed = [f"{path} ±{limit:.3g}" for path, limit in zip(floating, case.tolerance, strict=True)]
    yield from _listed("tolerance  ", allowed or ["none: the answer has no floating-point part"])
    also = [i for i, other in enumerate(case.accepted, 1) if compare(other, value, case.tolerance).agrees]
    if difference.agrees:
        yield f"right: the largest error is {difference.ratio:.3g} of the tolerance"
    elif also:
        yield f"right: it agrees with accepted answer {also[0]}"
    else:
        far = (
            "" if math.isinf(difference.ratio) else f"the largest error is {difference.ratio:.4g} times the tolerance; "
        )
        place = f"at {difference.place}: " if difference.place else ""
        yield f"refused: {far}{place}{difference.note}"
        if difference.expected:
            yield f"           theirs {difference.got}, right {difference.expected}"
    agreeing = [name for name, answer in case.mistakes.items() if compare(answer, value, case.tolerance).agrees]
    yield f"mistakes that answer the same: {', '.join(agreeing) or 'none'}"
    yield "theirs"
    yield from _indented(_printed(value))
    yield "right"
    yield from _indented(_printed(case.answer))


def _explain_artifact(week: Week, student: str, artifact: Artifact, isolation: str | None) -> str:
    try:
        saved = artifact.load(submission_of(week, student).parent)
    except ValueError as error:
        return f"{artifact.name} of {student} in {week.name}: {error}\n"
    inputs, key = artifact.inputs(week.heldout)
    notebook = _repaired(week, student)

    async def scored(run: Run) -> list[Any]:
        for cell in _before(notebook, artifact.name):
            if role(cell) != "check":
                await run.cell(cell.source)
        return await run.answers(week.name, artifact.name, [codec.to_bytes({**inputs, **saved})], artifact.timeout, [])

    [raw] = _in_kernel(week, isolation, scored)
    verdict = judge_goal(artifact, raw, lambda outputs: artifact.score(inputs, outputs, key), artifact.where)
    limits = "; ".join(f"{limit:g} gives {points:g}" for limit, points in artifact.thresholds)
    lines = [
        f"{artifact.name} of {student} in {week.name}, run just now",
        "",
        verdict.to_text(),
        f"Points by {artifact.figure}: {limits}.",
    ]
    lines += ["", "The model's raw outputs:", *_indented(_printed(raw))]
    return "\n".join(lines) + "\n"


def _listed(head: str, items: Sequence[str]) -> list[str]:
    return textwrap.wrap("; ".join(items), 110, initial_indent=head, subsequent_indent=" " * len(head))


def _form(leaf: Any) -> str:
    """A leaf of the inputs: a tensor's dtype and shape, anything else as it is."""
    if isinstance(leaf, Tensor):
        return f"{str(leaf.dtype).removeprefix('torch.')} {tuple(leaf.shape)}"
    text = repr(leaf)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _printed(value: Any) -> str:
    if isinstance(value, Failure):
        return f"{value.type}: {value.message}" + (f" ({value.line})" if value.line else "")
    torch.set_printoptions(threshold=MOST_VALUES, precision=6, linewidth=110)
    try:
        parts = []
        for path, leaf in leaves(value):
            head = f"{path} " if path else ""
            parts.append(f"{head}{_form(leaf)}\n{leaf}" if isinstance(leaf, Tensor) else f"{head}{leaf!r}")
        return "\n".join(parts)
    finally:
        torch.set_printoptions(profile="default")


def _indented(text: str) -> list[str]:
    return [f"    {line}" for line in text.splitlines()]
