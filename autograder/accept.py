"""A wrongly refused answer becomes an accepted alternate, if that lets no known mistake through.

An accepted alternate is code in solutions/<week>/alternates.py that the grader runs in its own process from then on, to
know what is right besides the solution. So a person reads it first.
"""

import ast
import json
from collections.abc import Sequence
from typing import Any

import jupytext

from autograder.bank import draw_cases, make_bank, measured_answers
from autograder.errors import CourseError
from autograder.exercise import Exercise
from autograder.explain import Attempt
from autograder.week import Week
from course.check import Case, compare
from course.codec import Failure

SEEDS = ("accept 1", "accept 2", "accept 3", "accept 4", "accept 5")
HEADER = '"""Right answers written in other ways. All of them must pass."""\n'


def candidate(tried: Attempt) -> str:
    """The source that would be accepted: the student's cell, behind those of the student's own cells that it needs.

    Raises CourseError where the answer is right already.
    """
    if tried.verdict.right:
        raise CourseError(
            f"{tried.exercise.name} of {tried.student} is right already. Withheld points are given in formgrader."
        )
    needed, wanted = [], _names(tried.source, ast.Load)
    for cell in reversed(tried.own):
        if _names(cell, ast.Store) & wanted:
            needed.insert(0, cell)
            wanted |= _names(cell, ast.Load)
    return "\n\n\n".join([*(cell.strip() for cell in needed), tried.source.strip()])


def _names(source: str, use: type[ast.expr_context]) -> set[str]:
    """The names that a cell reads (ast.Load), or binds at its top level (ast.Store); none where it is no plain Python."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return set()
    if use is ast.Load:
        return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    bound = set()
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            bound.add(statement.name)
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            bound |= {(alias.asname or alias.name).split(".")[0] for alias in statement.names}
        else:
            bound |= {n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return bound


def accept(week: Week, exercise: Exercise, source: str, name: str) -> None:
    """Appends `source` to the week's alternates.py as an accepted alternate of that name. Runs it in this process.

    Raises CourseError, nothing changed, where the source does not run by itself among the week's solutions, where its
    answers are not determined by the inputs, where a known mistake would pass with it under any of several seeds, or
    where the file would not give the source back.
    """
    if any(other.exercise == exercise.name and other.name == name for other in week.alternates):
        raise CourseError(
            f"{week.name} has an alternate {name!r} of {exercise.name} already. Choose another with --name."
        )
    try:
        namespace = week.namespace({exercise.name: source})
    except Exception as error:
        raise CourseError(
            f"Not accepted: the cell does not run by itself ({type(error).__name__}: {error})."
        ) from error
    for seed in SEEDS:
        _prove(week, exercise, namespace, seed)
    path = week.folder / "alternates.py"
    before = path.read_text(encoding="utf-8") if path.exists() else HEADER
    options = f"alternate={json.dumps(exercise.name)} name={json.dumps(name)} accepted=true"
    text = f"{before.rstrip()}\n\n\n# %% {options}\n{source.strip()}\n"
    last = jupytext.reads(text, fmt="py:percent").cells[-1]
    if last.source != source.strip() or last.metadata.get("name") != name:
        raise CourseError(
            f"Not accepted: the cell cannot be kept in {path.name} as it is (has it lines with # %% or magics?)."
        )
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _prove(week: Week, exercise: Exercise, namespace: dict, seed: str) -> None:
    """Raises CourseError where, with these answers accepted, the checks under a seed would no longer hold."""
    bank = make_bank(week, exercise, seed)
    cases = draw_cases(week, exercise, seed)
    answers, again = (measured_answers(week, exercise, namespace, cases) for _ in range(2))
    for case, answer, repeated in zip(bank.cases, answers, again, strict=True):
        if isinstance(answer, Failure) and answer.type not in exercise.raises:
            why = f"{answer.type}: {answer.message}"
            raise CourseError(f"Not accepted: among the week's own solutions it fails in case {case.kind!r} ({why}).")
        if not compare(answer, repeated, case.tolerance).agrees:
            raise CourseError(f"Not accepted: it answers otherwise each time in case {case.kind!r}.")
    for mistake in exercise.mistakes:
        of_mistake = [(case, case.mistakes[mistake.name]) for case in bank.cases]
        passes = all(_right(case, value, []) for case, value in of_mistake)
        would = all(_right(c, v, [answer]) for (c, v), answer in zip(of_mistake, answers, strict=True))
        if would and not passes:
            raise CourseError(f"Not accepted: the mistake {mistake.name!r} would pass with it. ({mistake.message})")


def _right(case: Case, value: Any, also: Sequence[Any]) -> bool:
    """Whether a value would count as right if the answers in `also` were accepted too."""
    return any(compare(right, value, case.tolerance).agrees for right in [case.answer, *case.accepted, *also])
