"""Validate: proves a week's checks before anybody is graded by them.

Over several seeds, for every exercise: the solution passes and the untouched template does not; every alternate passes
with room to spare; every mistake is refused by far and named as itself; every case is able to fail. For the week: no two
mistakes share a message, and nothing private stands in what students get. Under the public seed: how many pairs of
mistakes are named, and under how many earlier mistakes a later exercise keeps its points, no wrong answer being paid.
Last, the solution and the template go through the same `grade_notebook` as every submission, and score full marks and
nothing; and what the solution's code takes of the processor, when it is graded, stays under MOST_SECONDS.
"""

import math
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from autograder.bank import FAR, PUBLIC_SEED, make_bank, measured_answers, one_thread
from autograder.cost import code_seconds
from autograder.errors import CourseError
from autograder.exercise import Exercise
from autograder.grade import grade_notebook
from autograder.hidden import write_heldout
from autograder.naming import Tally, tally, write_banks
from autograder.release import Release, leaks, release
from autograder.settings import load_settings
from autograder.submission import filled, write_submission
from autograder.week import Week
from course.check import Bank, compare, judge

SEEDS = 5  # the public one and four others
MOST_SECONDS = 20.0  # of one processor, for one submission
ROOM = 0.25  # of the tolerance is the most that an alternate may use


@dataclass
class MistakeRow:
    """One mistake over all seeds: on which cases it was refused (`refusals[case]` counts seeds), and how far it missed."""

    name: str
    message: str
    refusals: list[int]
    miss: float = math.inf  # the least, over seeds, of its largest ratio
    named: bool = True


@dataclass
class ExerciseProof:
    """What validation found out about one exercise. `room` is the largest share of the tolerance that an alternate used."""

    exercise: Exercise
    kinds: list[str] = field(default_factory=list)
    mistakes: list[MistakeRow] = field(default_factory=list)
    alternates: int = 0
    accepted: int = 0
    room: float = 0.0
    problems: list[str] = field(default_factory=list)


@dataclass
class Proof:
    """What validation found out about a week."""

    week: Week
    exercises: list[ExerciseProof]
    seeds: int = SEEDS
    problems: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    solution_points: float | None = None
    template_points: float | None = None
    seconds: float | None = None

    @property
    def core_points(self) -> float:
        """Points of all that is checked, stretch exercises included."""
        return sum(e.points for e in self.week.exercises) + sum(a.points for a in self.week.artifacts)

    @property
    def all_problems(self) -> list[str]:
        found = [f"{proof.exercise.name}: {problem}" for proof in self.exercises for problem in proof.problems]
        return found + self.problems + self.tally.wrongly_paid + self.leaks

    @property
    def passed(self) -> bool:
        return not self.all_problems

    def as_json(self) -> dict[str, Any]:
        rows = [row for proof in self.exercises for row in proof.mistakes]
        return {
            "week": self.week.name,
            "exercises": len(self.exercises),
            "points": self.core_points,
            "mistakes": len(rows),
            "refused": sum(row.miss >= FAR for row in rows),
            "named": sum(row.named for row in rows),
            "alternates": sum(proof.alternates for proof in self.exercises),
            "accepted": sum(proof.accepted for proof in self.exercises),
            "solution_points": self.solution_points,
            "template_points": self.template_points,
            "seconds": None if self.seconds is None else round(self.seconds, 2),
            "leaks": len(self.leaks),
            "pairs": self.tally.pairs,
            "pairs_named": self.tally.pairs_named,
            "carried": self.tally.carried,
            "carried_of": self.tally.carried_of,
            "wrongly_paid": len(self.tally.wrongly_paid),
            "passed": self.passed,
            "problems": self.all_problems,
        }


@one_thread()
def validate(
    week: Week,
    built: Release | None = None,
    progress: Callable[[str], None] = lambda exercise: None,
    grade: bool = True,
    seeds: int = SEEDS,
) -> Proof:
    """Proves a week. `built` is the release that is about to be written, if one is: what it replaces is then not searched
    for leaks. `grade=False` leaves the kernels out. `seeds` is how many seeds every exercise is tried under.

    Raises CourseError where the week cannot even be read.
    """
    public = [week.root / "course", *([] if built else [week.root / "assignments" / week.name])]
    built = built or release(week)
    proof = Proof(week, [], seeds)
    for exercise in week.exercises:
        progress(exercise.name)
        bank = next(bank for bank in built.banks if bank.exercise == exercise.name)
        proof.exercises.append(prove(week, exercise, bank, seeds))
    messages = [(m.message.strip(), f"{e.name}/{m.name}") for e in week.exercises for m in e.mistakes]
    for (message, first), (other, second) in combinations(messages, 2):
        if message == other:
            proof.problems.append(f"{first} and {second} have the same message: {message}")
    known = {exercise.name for exercise in week.exercises}
    for exercise in week.exercises:
        proof.problems += [
            f"{exercise.name} uses {name!r}, which is no exercise" for name in exercise.uses if name not in known
        ]
    stray = sorted({alternate.exercise for alternate in week.alternates} - known)
    proof.problems += [f"alternates.py has a cell for {name!r}, which is no exercise" for name in stray]
    proof.leaks = leaks(week, built.notebook, public)
    if not any(part.problems for part in proof.exercises):
        progress("two mistakes at once, and mistakes that later exercises follow from")
        with tempfile.TemporaryDirectory() as banks:
            proof.tally = tally(week, Path(banks), write_banks(week, PUBLIC_SEED, Path(banks)))
    if grade:
        progress("the solution and the template, graded")
        _grade_both(proof, built)
    return proof


def prove(week: Week, exercise: Exercise, public: Bank, seeds: int = SEEDS) -> ExerciseProof:
    """One exercise under the public seed and `seeds - 1` others."""
    names = [PUBLIC_SEED, *(f"validate-{i}" for i in range(1, seeds))]
    proof = ExerciseProof(exercise)
    alternates = [alternate for alternate in week.alternates if alternate.exercise == exercise.name]
    proof.alternates = len(alternates)
    refused_alternates: dict[str, str] = {}
    if not alternates:
        proof.problems.append("it has no alternate")
    if not exercise.mistakes:
        proof.problems.append("it has no mistake")
    try:
        banks = [public if seed == PUBLIC_SEED else make_bank(week, exercise, seed) for seed in names]
    except CourseError as error:
        proof.problems.append(str(error))
        return proof
    proof.kinds = [case.kind for case in public.cases]
    proof.mistakes = [MistakeRow(m.name, m.message, [0] * len(public.cases)) for m in exercise.mistakes]
    for seed, bank in zip(names, banks, strict=True):
        if [case.kind for case in bank.cases] != proof.kinds:
            proof.problems.append(f"seed {seed} gives other kinds of cases than the public seed")
            return proof
        _refute(proof, bank, seed)
        cases = [(case.kind, case.inputs) for case in bank.cases]
        again = measured_answers(week, exercise, week.namespace(), cases)
        if not all(
            compare(case.answer, value, case.tolerance).agrees for case, value in zip(bank.cases, again, strict=True)
        ):
            proof.problems.append(f"the solution does not give the same answer twice (seed {seed})")
        for alternate in alternates:
            answers = measured_answers(week, exercise, week.namespace({exercise.name: alternate.source}), cases)
            for i, (case, value) in enumerate(zip(bank.cases, answers, strict=True)):
                reference = (
                    case.answer if not alternate.accepted else _accepted_answer(case.accepted, alternates, alternate)
                )
                difference = compare(reference, value, case.tolerance)
                if math.isfinite(difference.ratio):
                    proof.room = max(proof.room, difference.ratio)
                if difference.ratio > ROOM and alternate.name not in refused_alternates:
                    how = (
                        f"{difference.ratio:.2g} of the tolerance, at most {ROOM} allowed"
                        if difference.agrees
                        else "refused"
                    )
                    detail = f"at {difference.place}: {difference.note}" if difference.note else ""
                    refused_alternates[alternate.name] = f"{how}, case {i} ({case.kind}), seed {seed} {detail}".strip()
    proof.accepted = len(alternates) - len(refused_alternates)
    proof.problems += [f"correct alternate {name!r} does not fit: {why}" for name, why in refused_alternates.items()]
    proof.problems += [
        f"case {i} ({kind}) cannot fail: no mistake is refused on it"
        for i, kind in enumerate(proof.kinds)
        if exercise.mistakes and not any(row.refusals[i] for row in proof.mistakes)
    ]
    return proof


def _accepted_answer(accepted: list[Any], alternates: list[Any], alternate: Any) -> Any:
    return accepted[[other for other in alternates if other.accepted].index(alternate)]


def _refute(proof: ExerciseProof, bank: Bank, seed: str) -> None:
    """Every mistake refused by far, named as itself and told apart from every other, under one seed."""
    for row in proof.mistakes:
        ratios = [compare(case.answer, case.mistakes[row.name], case.tolerance).ratio for case in bank.cases]
        row.refusals = [count + (ratio > 1.0) for count, ratio in zip(row.refusals, ratios, strict=True)]
        row.miss = min(row.miss, max(ratios))
        if max(ratios) <= 1.0:
            proof.problems.append(f"mistake {row.name!r} gets through (seed {seed})")
        elif max(ratios) < FAR:
            proof.problems.append(f"mistake {row.name!r} misses by only {max(ratios):.2g} tolerances (seed {seed})")
        verdict = judge(bank, [case.mistakes[row.name] for case in bank.cases], measure=lambda inputs, value: value)
        if verdict.mistakes != (row.name,):
            row.named = False
            why = (
                f"also fits {[n for n in verdict.mistakes if n != row.name]}"
                if verdict.mistakes
                else f"is {verdict.status}"
            )
            proof.problems.append(f"mistake {row.name!r} is not named as itself: {why} (seed {seed})")
    for one, two in combinations(proof.mistakes, 2):
        ratios = [
            compare(case.mistakes[one.name], case.mistakes[two.name], case.tolerance).ratio for case in bank.cases
        ]
        if 1.0 < max(ratios) < FAR:
            proof.problems.append(f"mistakes {one.name!r} and {two.name!r} are hardly told apart (seed {seed})")


def _grade_both(proof: Proof, built: Release) -> None:
    """The solution and the template as submissions, in real kernels: full marks and nothing."""
    week, settings = proof.week, load_settings(proof.week.root)
    solution = filled(built.notebook, {exercise.name: week.solution(exercise.name) for exercise in week.exercises})
    with tempfile.TemporaryDirectory() as scratch:
        banks, released = Path(scratch) / "banks", Path(scratch) / "release"
        banks.mkdir()
        for bank in built.banks:
            bank.save(banks)
        write_heldout(week, banks)
        release_path = write_submission(released, built.notebook, week.name)
        for what, notebook in (("solution", solution), ("template", built.notebook)):
            folder = Path(scratch) / what
            path = write_submission(folder, notebook, week.name)
            if what == "solution" and (week.folder / "artifacts").is_dir():
                shutil.copytree(week.folder / "artifacts", folder, dirs_exist_ok=True)
            verdicts = grade_notebook(path, release_path, week, banks, settings.isolation).verdicts
            setattr(proof, f"{what}_points", sum(verdict.points for verdict in verdicts))
            for verdict in verdicts:
                if what == "solution" and not verdict.right:
                    proof.problems.append(
                        f"the solution, graded as a submission, fails: {verdict.to_text(reveal=True)}"
                    )
                if what == "template" and (verdict.right or verdict.points):
                    proof.problems.append(f"the untouched template passes {verdict.exercise}")
        twice = [Path(scratch) / "solution"] * 2  # the first time warms up, and imports
        proof.seconds = code_seconds(week, twice, banks)[1]
    if proof.seconds > MOST_SECONDS:
        proof.problems.append(
            f"grading the solution takes {proof.seconds:.1f} s of a processor, more than {MOST_SECONDS:g}"
        )


def kill_matrix(proof: Proof) -> str:
    """The proof as text: for each exercise one row a mistake, one column a case; how far each was missed by."""
    lines = []
    marks = {0: "·", proof.seeds: "●"}
    for part in proof.exercises:
        points = f"{part.exercise.points:g} points"
        lines.append(
            f"\n{part.exercise.name}  ({points}; {part.accepted} of {part.alternates} alternates, room {part.room:.2g})"
        )
        lines += [f"    case {i}: {kind}" for i, kind in enumerate(part.kinds)]
        for row in part.mistakes:
            cells = " ".join(marks.get(count, "◐") for count in row.refusals)
            flag = "named" if row.named else "NOT NAMED"
            lines.append(f"    {cells}  missed by {row.miss:9.3g}  {flag:9}  {row.name}")
    lines.append(f"\n● refused under all {proof.seeds} seeds   ◐ under some   · the case cannot see it")
    return "\n".join(lines)
