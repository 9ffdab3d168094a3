"""Checks an exercise and names the mistake: one comparison for the student's notebook and for the official grade.

A `Bank` holds an exercise's cases: the inputs, the right answer, how far a right answer may be off, and what each known
mistake answers. `judge` compares a student's answers with them and returns a `Verdict`. The notebook reads public banks
from `course/cases/`; the grader draws its own from a secret seed. Both go through the same functions here.
"""

import builtins
import html
import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy
import torch
from safetensors.torch import load as tensors_from_bytes
from torch import Tensor

from course import codec
from course.codec import Failure, Opaque
from course.drives import answer, drives_of, measure_of, slug

CASES = Path(__file__).parent / "cases"

# How the grader ended code that would not end by itself: the type of the Failure that it puts in place of an answer.
ENDED = {
    "Timeout": "It was stopped. Is there a loop that does not end?",
    "Crashed": "It ended the Python process: a crash, or a call such as os._exit.",
    "OutOfMemory": "It used more memory than the grader allows.",
    "TooManyProcesses": "It started more processes and threads than the grader allows.",
    "TooMuchComputing": "It and what it started computed for longer than the grader allows.",
}


@dataclass(frozen=True)
class Case:
    """One input with all that is known of the answers to it.

    `answer` and the values of `mistakes` are measured outputs (see `course.drives.measure_of`). `tolerance` has one number
    for each floating-point leaf of `answer`, in the order of `leaves`: the largest absolute error of a right answer.
    """

    kind: str
    inputs: dict
    answer: Any
    tolerance: list[float]
    mistakes: dict[str, Any] = field(default_factory=dict)
    accepted: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Bank:
    """The cases of one exercise, the messages of its mistakes, and the operators it forbids."""

    week: str
    exercise: str
    cases: list[Case]
    messages: dict[str, str] = field(default_factory=dict)
    forbid: list[str] = field(default_factory=list)

    def save(self, folder: Path) -> None:
        tree = {**vars(self), "cases": [vars(case) for case in self.cases]}
        codec.save(tree, folder / slug(self.exercise))

    @classmethod
    def load(cls, folder: Path, exercise: str) -> "Bank":
        tree = codec.load(folder / slug(exercise))
        return cls(**{**tree, "cases": [Case(**case) for case in tree["cases"]]})


# ---------------------------------------------------------------------------------------------------- comparing


@dataclass(frozen=True)
class Difference:
    """How far an answer is from another. `ratio` is the largest error over its tolerance; inf where they cannot be compared.

    The rest describes the first place that differs: `path` within the outputs (`outputs["h"]`), `index` within a tensor,
    the two values as text (never shown in official feedback), and a `note` that is free of values.
    """

    ratio: float
    path: str = ""
    index: tuple[int, ...] = ()
    expected: str = ""
    got: str = ""
    note: str = ""

    @property
    def agrees(self) -> bool:
        return self.ratio <= 1.0

    @property
    def place(self) -> str:
        return f"{self.path}[{', '.join(map(str, self.index))}]" if self.index else self.path


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a tree with their paths, depth first, dicts in the order of their sorted keys."""
    if isinstance(value, dict):
        for key in sorted(value):
            yield from leaves(value[key], f"{path}.{key}" if path else key)
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from leaves(item, f"{path}[{i}]")
    else:
        yield path, value


def is_floating(leaf: Any) -> bool:
    return leaf.is_floating_point() or leaf.is_complex() if isinstance(leaf, Tensor) else isinstance(leaf, float)


def describe(value: Any) -> str:
    """A value's type, and for tensors shape and dtype, in words that give none of its numbers away."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)} and dtype {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, Opaque):
        return _a(value.type)
    if isinstance(value, Failure):
        return f"an exception ({value.type})"
    if value is None:
        return "None"
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    return _a(type(value).__name__)


def _a(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def compare(expected: Any, got: Any, tolerance: Sequence[float] = ()) -> Difference:
    """Compares structure, type, shape, dtype and finiteness, then values. Python numbers and 0-d tensors are alike.

    Returns the Difference with the largest ratio over all leaves and the place of the first leaf that is off.
    """
    remaining = iter(tolerance)
    worst = 0.0
    first: Difference | None = None

    def note(difference: Difference) -> None:
        nonlocal worst, first
        worst = max(worst, difference.ratio)
        if not difference.agrees and first is None:
            first = difference

    def walk(right: Any, mine: Any, path: str) -> None:
        containers = dict | list | tuple
        if isinstance(right, containers) or isinstance(mine, containers):
            if type(right) is not type(mine):
                note(_unlike(path, right, mine))
            elif isinstance(right, dict):
                if right.keys() != mine.keys():
                    lacking, extra = sorted(right.keys() - mine.keys()), sorted(mine.keys() - right.keys())
                    note(Difference(math.inf, path, note=f"the names differ: missing {lacking}, unexpected {extra}"))
                for key in sorted(right.keys() & mine.keys()):
                    walk(right[key], mine[key], f"{path}.{key}" if path else key)
            else:
                if len(right) != len(mine):
                    note(Difference(math.inf, path, note=f"{len(mine)} items where {len(right)} are expected"))
                for i, (a, b) in enumerate(zip(right, mine, strict=False)):
                    walk(a, b, f"{path}[{i}]")
        else:
            limit = next(remaining, 0.0) if is_floating(right) else 0.0
            note(_compare_leaf(right, mine, path, limit))

    walk(expected, got, "")
    return replace(first, ratio=worst) if first else Difference(worst)


def _unlike(path: str, right: Any, mine: Any) -> Difference:
    return Difference(math.inf, path, note=f"{describe(mine)} where {describe(right)} is expected")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same_kind(tensor: Tensor, number: int | float) -> tuple[Tensor, Tensor]:
    """A 0-d tensor and a number as two tensors: of one dtype if both are floating or both are whole numbers."""
    if tensor.dtype == torch.bool or is_floating(tensor) != is_floating(number):
        return tensor, torch.tensor(number)
    if is_floating(tensor):
        return tensor, torch.tensor(number, dtype=tensor.dtype)
    return tensor.long(), torch.tensor(number)


def _compare_leaf(right: Any, mine: Any, path: str, limit: float) -> Difference:
    if isinstance(right, Failure) or isinstance(mine, Failure):
        same = isinstance(right, Failure) and isinstance(mine, Failure) and right.type == mine.type
        return Difference(0.0, path) if same else _unlike(path, right, mine)
    if isinstance(right, Tensor) and right.ndim == 0 and _is_number(mine):
        right, mine = _same_kind(right, mine)
    elif isinstance(mine, Tensor) and mine.ndim == 0 and _is_number(right):
        mine, right = _same_kind(mine, right)
    if not isinstance(right, Tensor) or not isinstance(mine, Tensor):
        if _is_number(right) and _is_number(mine):
            if is_floating(right) != is_floating(mine):
                return _unlike(path, right, mine)
            right, mine = (torch.tensor(value, dtype=torch.float64 if limit else None) for value in (right, mine))
        elif type(right) is not type(mine):
            return _unlike(path, right, mine)
        else:
            ratio = 0.0 if right == mine else math.inf
            return Difference(ratio, path, expected=repr(right), got=repr(mine), note="another value than expected")
    if right.shape != mine.shape:
        note = f"shape {tuple(mine.shape)} where {tuple(right.shape)} is expected"
        return Difference(math.inf, path, note=note)
    if right.dtype != mine.dtype:
        names = [str(tensor.dtype).removeprefix("torch.") for tensor in (mine, right)]
        return Difference(math.inf, path, note=f"dtype {names[0]} where {names[1]} is expected")
    return _compare_values(right, mine, path, limit)


def _compare_values(right: Tensor, mine: Tensor, path: str, limit: float) -> Difference:
    if torch.equal(right, mine):
        return Difference(0.0, path)
    if right.is_complex():
        right, mine = torch.view_as_real(right), torch.view_as_real(mine)
    if not right.is_floating_point():
        error = torch.where(right == mine, 0.0, math.inf).double()
    else:
        same = (right == mine) | (right.isnan() & mine.isnan())
        error = (right.double() - mine.double()).abs().div(limit if limit > 0 else 1e-300)
        error = torch.where(same, 0.0, torch.nan_to_num(error, nan=math.inf, posinf=math.inf))
    ratio = float(error.max())
    if ratio <= 1.0:
        return Difference(ratio, path)
    flat = int((error.reshape(-1) > 1.0).nonzero()[0])
    index = tuple(int(i) for i in numpy.unravel_index(flat, error.shape))
    wrong = int((error > 1.0).sum())
    note = f"{wrong} of {error.numel()} values differ"
    if right.is_floating_point() and not bool(mine.isfinite().all()) and bool(right.isfinite().all()):
        bad = mine.isfinite().logical_not()
        note = f"{int(bad.sum())} of {bad.numel()} values are {'NaN' if bool(mine.isnan().any()) else 'infinite'}"
    return Difference(ratio, path, index, _number(right[index]), _number(mine[index]), note)


def _number(value: Tensor) -> str:
    return f"{value.item():.6g}" if value.is_floating_point() else str(value.item())


# ------------------------------------------------------------------------------------------------------ judging


@dataclass(frozen=True)
class Verdict:
    """What was found out about one exercise of one student. Deterministic: the same answers give the same verdict.

    `status` is one of: passed, wrong, error (the code raised), missing (not written or not defined), forbidden (points
    withheld until an instructor decides), timeout, crashed.
    `mistakes` are the known mistakes that fit, `named` their messages where there is only one way to get there: one mistake,
    or two made at once. `given` is an earlier exercise of the student's with a named mistake in it: a passed exercise is then
    right given that one, and a mistake named in this one comes on top of it.
    `message` is safe to show to anybody. `difference` and `detail` (what an exception said) may hold values of a case and
    are shown in the student's own notebook only.
    """

    exercise: str
    status: str
    passed: int
    total: int
    points: float = 0.0
    max_points: float = 0.0
    kind: str = ""
    message: str = ""
    detail: str = ""
    mistakes: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    given: str = ""
    difference: Difference | None = None

    @property
    def right(self) -> bool:
        return self.status == "passed"

    def to_text(self, reveal: bool = True) -> str:
        """Plain text, at most a few lines: number, place and likely cause. Values only if `reveal`."""
        return "\n".join(_lines(self, reveal))

    def to_html(self, reveal: bool = True) -> str:
        """The same as HTML, all text escaped, readable on light and dark backgrounds."""
        head, *rest = (html.escape(line) for line in _lines(self, reveal))
        colour = "#2e9e4f" if self.right else "#d9822b" if self.status in ("missing", "forbidden") else "#d64545"
        values = "font-family:var(--jp-code-font-family,monospace);font-size:.93em;"
        body = "".join(
            f'<div style="margin-top:.35em;white-space:pre-wrap;{values if line.startswith(" ") else ""}">{line}</div>'
            for line in rest
        )
        return (
            f'<div style="border-left:4px solid {colour};padding:.4em .8em;margin:.3em 0;line-height:1.45">'
            f"<strong>{head}</strong>{body}</div>"
        )

    def __str__(self) -> str:
        return self.to_text()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.to_html()


def _lines(verdict: Verdict, reveal: bool) -> list[str]:
    name, passed, total = verdict.exercise, verdict.passed, verdict.total
    if not total and verdict.status in ("passed", "wrong"):  # a trained artifact
        return [f"{'✓' if verdict.right else '✗'} {name}: {verdict.message}"]
    if verdict.right and verdict.given:
        return [f"✓ {name}: all {total} cases right, given your {verdict.given}. The mistake is there, not here."]
    if verdict.right:
        return [f"✓ {name}: all {total} cases right." + (f" {verdict.message}" if verdict.message else "")]
    counted = f"{passed} of {total} cases right; " if total else ""
    lines = [
        {
            "missing": f"○ {name}: not written yet." if total else f"○ {name}: nothing to grade.",
            "error": f"✗ {name}: {counted}your code stopped with an error.",
            "timeout": f"✗ {name}: {counted}your code took too long.",
            "crashed": f"✗ {name}: {counted}your code ended the kernel.",
            "forbidden": f"△ {name}: points withheld.",
        }.get(verdict.status, f"✗ {name}: {passed} of {total} cases right.")
    ]
    if verdict.kind:
        lines.append(f"First case that fails: {verdict.kind}.")
    difference = verdict.difference
    if difference and verdict.status == "wrong":
        place = difference.place or "the result"
        lines.append(f"At {place}: {difference.note}.")
        if reveal and difference.expected:
            lines.append(f"    yours     {difference.got}\n    expected  {difference.expected}")
    if verdict.message:
        lines.append(verdict.message)
    if verdict.detail:
        lines.append(verdict.detail if reveal else "The check in your notebook tells more, if it fails there too.")
    return lines + _causes(verdict)


def _causes(verdict: Verdict) -> list[str]:
    if len(verdict.named) > 1:
        return ["This is what you get from two mistakes at once:", *(f"– {text}" for text in verdict.named)]
    what = "This is what you get from this mistake:"
    if verdict.given:
        what = f"On top of what your {verdict.given} gives, this is what you get from this mistake:"
    return [f"{what} {text}" for text in verdict.named]


def judge(bank: Bank, answers: Sequence[Any], measure: Callable[[dict, Any], Any] | None = None) -> Verdict:
    """Compares raw answers, one for each case of the bank in its order, with the right ones, and names the mistake.

    A mistake is named only if it agrees with the answers on every case and is the only one to do so.
    """
    measure = measure or measure_of(bank.week, bank.exercise)
    values = [measured(measure, case.inputs, raw) for case, raw in zip(bank.cases, answers, strict=True)]
    differences = [_nearest(case, value) for case, value in zip(bank.cases, values, strict=True)]
    passed = sum(difference.agrees for difference in differences)
    verdict = Verdict(bank.exercise, "passed", passed, len(bank.cases))
    forbidden = [value for value in values if isinstance(value, Failure) and value.type == "Forbidden"]
    if forbidden:
        known = (*bank.forbid, "turning off the profiler")
        used = [name for name in known if name in forbidden[0].message] or ["what it forbids"]
        what = f"This exercise is to be solved without {', '.join(used)}, which your code uses."
        return replace(verdict, status="forbidden", message=what)
    if passed == len(bank.cases):
        return verdict
    at = next(i for i, difference in enumerate(differences) if not difference.agrees)
    value = values[at]
    status, message, detail = _explain(value) if isinstance(value, Failure) else ("wrong", "", "")
    if status == "missing":
        return replace(verdict, status=status, message=message, detail=detail)
    names = fitting(bank, values)
    named = tuple(bank.messages[name] for name in names) if len(names) == 1 else ()
    return replace(
        verdict,
        status=status,
        message=message,
        detail=detail,
        kind=bank.cases[at].kind,
        difference=differences[at],
        mistakes=tuple(names),
        named=named,
    )


def fitting(bank: Bank, values: Sequence[Any]) -> list[str]:
    """The mistakes that agree with measured answers on every case."""
    return [
        name
        for name in bank.messages
        if all(_agrees(case, name, value) for case, value in zip(bank.cases, values, strict=True))
    ]


def measured(measure: Callable[[dict, Any], Any], inputs: dict, raw: Any) -> Any:
    """What is compared of a raw answer: its measure, or the Failure that came in its place."""
    if isinstance(raw, Failure):
        return raw
    try:
        return codec.normalise(measure(inputs, raw))
    except Exception as error:  # outputs of a form that the measure cannot read
        return Failure("Unreadable", f"{type(error).__name__}: {error}")


def _nearest(case: Case, value: Any) -> Difference:
    """The difference to the solution, or to an accepted alternate where the value agrees with one."""
    difference = compare(case.answer, value, case.tolerance)
    if not difference.agrees and any(compare(other, value, case.tolerance).agrees for other in case.accepted):
        return Difference(1.0)
    return difference


def _agrees(case: Case, mistake: str, value: Any) -> bool:
    return compare(case.mistakes[mistake], value, case.tolerance).agrees


def _explain(failure: Failure) -> tuple[str, str, str]:
    """Status, message and detail of a failure that came in place of an answer.

    A failure comes from the student's side, so that its words may say anything, hidden inputs included: they are detail.
    """
    told = f"{failure.message} ({failure.line})".strip() if failure.line else failure.message
    if failure.type == "NotImplementedError":
        return "missing", "Replace `raise NotImplementedError()` with your solution.", ""
    if failure.type == "Missing":
        return "missing", "Its name is not defined when the check is reached.", failure.message
    if failure.type in ENDED:
        return "timeout" if failure.type == "Timeout" else "crashed", ENDED[failure.type], ""
    if failure.type == "SystemExit":
        return "error", "Your code calls exit(); a function should return instead.", failure.line
    if failure.type == "TooLarge":
        return "error", "The result is too large.", failure.message
    if failure.type == "Unreadable":
        return "error", "The result has another form than the exercise asks for.", failure.message
    number = re.match(r"line (\d{1,4}):?", failure.line)
    where = f" in line {number[1]} of its cell" if number else ""
    return "error", f"{exception_name(failure.type)}{where}.", told


def exception_name(name: str) -> str:
    """The name of an exception of Python's own; "An exception" for any other, which students can name as they like."""
    return name if isinstance(getattr(builtins, name, None), type) else "An exception"


# -------------------------------------------------------------------------------------------- trained artifacts


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What an experiment's saved model has to reach.

    name        names the drive, which gets the inputs plus "weights" (the file's tensors) and "figures" (the JSON beside it)
    file        `names.safetensors`, saved beside the notebook; its figures are in `names.json`
    figure      what is scored, in words: "accuracy"
    thresholds  [(least figure, points), ...]; the largest figure where `lower_is_better`
    """

    name: str
    file: str
    thresholds: Sequence[tuple[float, float]]
    figure: str = "score"
    lower_is_better: bool = False
    max_bytes: int = 16 * 2**20

    @property
    def points(self) -> float:
        return max(points for _, points in self.thresholds)

    def points_for(self, figure: float) -> float:
        """The points of the best threshold that the figure reaches; 0 for NaN."""
        sign = -1.0 if self.lower_is_better else 1.0
        return max((points for limit, points in self.thresholds if sign * figure >= sign * limit), default=0.0)

    def verdict(self, figure: float, where: str) -> Verdict:
        """The verdict on a measured figure; `where` says on which data: "held-out names"."""
        points = self.points_for(figure)
        full = next(limit for limit, most in self.thresholds if most == self.points)
        goal = f"full points {'down to' if self.lower_is_better else 'from'} {full:.3g}"
        message = f"{self.figure} {figure:.3f} on {where}; {goal}."
        status = "passed" if points == self.points else "wrong"
        return Verdict(self.name, status, 0, 0, points, self.points, message=message)

    def load(self, folder: Path) -> dict[str, Any]:
        """{"weights", "figures"} as saved in `folder`. Raises ValueError where they are missing, too large or unreadable."""
        weights, figures = folder / self.file, (folder / self.file).with_suffix(".json")
        for path, limit in ((weights, self.max_bytes), (figures, 2**20)):
            if path.is_symlink() or not path.is_file():
                raise ValueError(f"{path.name} is not there. Run the experiment that saves it beside the notebook.")
            if path.stat().st_size > limit:
                raise ValueError(f"{path.name} is larger than {limit // 2**20} MB.")
        try:
            return {"weights": tensors_from_bytes(weights.read_bytes()), "figures": json.loads(figures.read_bytes())}
        except Exception as error:  # safetensors and json raise types of their own
            raise ValueError(f"{self.file} cannot be read: {error}") from None

    def save(self, folder: Path) -> None:
        fields = ("name", "file", "thresholds", "figure", "lower_is_better", "max_bytes")
        text = json.dumps({field: getattr(self, field) for field in fields}, indent=1, sort_keys=True) + "\n"
        (folder / f"{slug(self.name)}.goal.json").write_text(text, encoding="utf-8")


def judge_goal(goal: Goal, raw: Any, score: Callable[[Any], float], where: str) -> Verdict:
    """The verdict on what an artifact's drive answered; `score` turns it into the figure, in a trusted process."""
    if isinstance(raw, Failure):
        status, message, detail = _explain(raw)
        return Verdict(goal.name, status, 0, 0, 0.0, goal.points, message=message, detail=detail)
    try:
        return goal.verdict(float(score(raw)), where)
    except Exception as error:  # outputs of a form that the score cannot read
        message, detail = "The model's outputs cannot be scored.", f"{type(error).__name__}: {error}"
        return Verdict(goal.name, "error", 0, 0, 0.0, goal.points, message=message, detail=detail)


# --------------------------------------------------------------------------------------------- in the notebook


class CheckFailed(AssertionError):
    """Raised after a failing check has told what is wrong, so that nbgrader's Validate button sees it too."""

    def _render_traceback_(self) -> list[str]:
        return [f"CheckFailed: {self}"]


def checks_for(week: str, cases: Path = CASES) -> Callable[[str], None]:
    """The `check` of a week's notebook.

        check = checks_for("week01_rnn")
        check("rnn_step")

    `check` runs an exercise of the notebook it is called in on the week's public cases, offline, shows the verdict, and
    raises CheckFailed unless all is right. Raises ValueError for a name that is not an exercise of the week.
    """

    def check(exercise: str) -> None:
        namespace = sys._getframe(1).f_globals
        goal = cases / week / f"{slug(exercise)}.goal.json"
        if goal.exists():
            verdict = _check_artifact(week, Goal(**json.loads(goal.read_text(encoding="utf-8"))), namespace)
        else:
            try:
                bank = Bank.load(cases / week, exercise)
            except ValueError:
                known = sorted(path.name.split(".")[0] for path in (cases / week).glob("*.json"))
                message = f"There is no exercise {exercise!r} in {week}; there are: {', '.join(known)}."
                raise ValueError(message) from None
            answers = [answer(week, exercise, namespace, case.inputs, bank.forbid) for case in bank.cases]
            verdict = judge(bank, answers)
        _show(verdict)
        if not verdict.right:
            raise CheckFailed(_headline(verdict))

    return check


def _headline(verdict: Verdict) -> str:
    """One line for the error under the verdict, which is all that nbgrader's Validate dialog shows."""
    head = _lines(verdict, reveal=False)[0].lstrip("✗○△ ")
    return " ".join([head, *verdict.named])


def _check_artifact(week: str, goal: Goal, namespace: dict[str, Any]) -> Verdict:
    """Scores what is saved beside the notebook on public data, as a forecast of the official grade."""
    drives = drives_of(week)
    name = slug(goal.name).replace("-", "_")
    try:
        saved = goal.load(Path.cwd())
    except ValueError as error:
        return Verdict(goal.name, "missing", 0, 0, 0.0, goal.points, message=str(error))
    inputs, key = getattr(drives, f"{name}_public")()
    raw = answer(week, goal.name, namespace, {**inputs, **saved})
    return judge_goal(goal, raw, lambda outputs: getattr(drives, f"score_{name}")(inputs, outputs, key), "public data")


def _show(verdict: Verdict) -> None:
    """Rich in a notebook, plain in a terminal."""
    from IPython import get_ipython
    from IPython.display import display

    shell = get_ipython()
    if shell is not None and hasattr(shell, "kernel"):
        display(verdict)
    else:
        print(verdict)
