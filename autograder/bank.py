"""Makes an exercise's bank: draws its cases and records what the solution and every mistake answer."""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from autograder.errors import CourseError
from autograder.exercise import Exercise
from autograder.week import Week
from course.check import Bank, Case, compare, is_floating, leaves, measured
from course.codec import Failure
from course.drives import answer, measure_of

NOISE = 16.0  # tolerance over the float32 noise of the solution
FAR = 10.0  # tolerances by which a mistake must miss
PUBLIC_SEED = "public"


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch on one thread, as in the kernels: on cases as small as ours, and beside another job, two are ten times slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def seed_of(*parts: str) -> int:
    """A 63-bit seed that depends on every part."""
    return int.from_bytes(hashlib.sha256("\0".join(parts).encode()).digest()[:8], "big") >> 1


def draw_cases(week: Week, exercise: Exercise, seed: str) -> list[tuple[str, dict]]:
    """The exercise's cases under a seed: (kind, inputs)."""
    rng = torch.Generator().manual_seed(seed_of(week.name, exercise.name, seed))
    return exercise.cases(rng)


def measured_answers(
    week: Week, exercise: Exercise, namespace: Mapping[str, Any], cases: list[tuple[str, dict]], watched: bool = True
) -> list[Any]:
    """What the code in `namespace` answers to each case, measured. `watched`: what the exercise forbids is caught."""
    measure, forbid = measure_of(week.name, exercise.name), exercise.forbid if watched else ()
    answers = [answer(week.name, exercise.name, dict(namespace), inputs, forbid) for _, inputs in cases]
    return [measured(measure, inputs, value) for (_, inputs), value in zip(cases, answers, strict=True)]


def to_double(value: Any) -> Any:
    """The tree with its float32 tensors in float64."""
    if isinstance(value, Tensor):
        return value.double() if value.dtype == torch.float32 else value
    if isinstance(value, dict):
        return {key: to_double(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(to_double(item) for item in value)
    return value


def tolerance_of(answer32: Any, answer64: Any, floor: float) -> list[float]:
    """The absolute tolerance of each floating-point leaf: NOISE times the float32 noise of the solution, with a floor.

    Both are relative to the largest finite value of the leaf. A leaf that is all zeros gets the floor itself.
    Raises ValueError where the two answers differ in their leaves, in the type of one or in its shape.
    """
    tolerances = []
    for (_, single), (_, double) in zip(leaves(answer32), leaves(answer64), strict=True):
        if type(single) is not type(double) or getattr(single, "shape", ()) != getattr(double, "shape", ()):
            raise ValueError("the two answers have different forms")
        if is_floating(single):
            single, double = (torch.as_tensor(value, dtype=torch.float64) for value in (single, double))
            finite = single.isfinite() & double.isfinite()
            values = single[finite].abs()
            scale = float(values.max()) if values.numel() else 0.0
            noise = float((single - double)[finite].abs().max()) if values.numel() else 0.0
            tolerances.append(max(NOISE * noise, floor * (scale or 1.0)))
    return tolerances


@one_thread()
def make_bank(week: Week, exercise: Exercise, seed: str, given: Mapping[str, str] | None = None) -> Bank:
    """The bank of an exercise under a seed. The same seed gives the same bank.

    `given` has other sources for the solution cells of earlier exercises. The inputs stay the same; everything else, what is
    right included, is then what follows from these sources.

    Raises CourseError where the solution itself fails on a case, answers otherwise in float64 than in float32, or where
    a mistake no longer fits its solution.
    """
    given = dict(given or {})
    cases = draw_cases(week, exercise, seed)
    namespace = week.namespace(given)
    right = measured_answers(week, exercise, namespace, cases)
    doubled = [(kind, to_double(inputs)) for kind, inputs in cases]
    double = measured_answers(week, exercise, namespace, doubled, watched=False)
    accepted = [
        measured_answers(week, exercise, week.namespace(given | {exercise.name: alternate.source}), cases)
        for alternate in week.alternates
        if alternate.exercise == exercise.name and alternate.accepted
    ]
    wrong = {}
    for mistake in exercise.mistakes:
        source = week.mistaken(exercise, mistake)
        try:
            mistaken = week.namespace(given | {exercise.name: source})
        except Exception as error:
            raise CourseError(
                f"{week.name}, {exercise.name}: mistake {mistake.name!r} does not run: {error}."
            ) from error
        wrong[mistake.name] = measured_answers(week, exercise, mistaken, cases, watched=False)
    bank = []
    for i, (kind, inputs) in enumerate(cases):
        where = f"{week.name}, {exercise.name}, case {kind!r}"
        if isinstance(right[i], Failure) and right[i].type not in exercise.raises:
            raise CourseError(f"{where}: the solution fails: {right[i].type}: {right[i].message} ({right[i].line}).")
        try:
            tolerance = tolerance_of(right[i], double[i], exercise.floor)
        except ValueError:
            raise CourseError(f"{where}: the solution's float64 answer has another form: {double[i]}.") from None
        exact = compare(right[i], _single_like(double[i], right[i]), tolerance)
        if not exact.agrees:
            raise CourseError(f"{where}: the solution answers otherwise in float64 ({exact.place}: {exact.note}).")
        bank.append(
            Case(
                kind,
                inputs,
                right[i],
                tolerance,
                {name: answers[i] for name, answers in wrong.items()},
                [answers[i] for answers in accepted],
            )
        )
    return Bank(week.name, exercise.name, bank, {m.name: m.message for m in exercise.mistakes}, list(exercise.forbid))


def _single_like(double: Any, single: Any) -> Any:
    """The float64 answer with the dtypes of the float32 one, so that the two can be compared."""
    if isinstance(double, Tensor) and isinstance(single, Tensor):
        return double.to(single.dtype) if double.is_floating_point() else double
    if isinstance(double, dict) and isinstance(single, dict):
        return {key: _single_like(value, single.get(key)) for key, value in double.items()}
    if isinstance(double, list | tuple) and isinstance(single, list | tuple):
        return type(double)(_single_like(a, b) for a, b in zip(double, single, strict=False))
    return double
