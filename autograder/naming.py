"""What a wrong answer comes from where no mistake of its own explains it: two at once, or one in an earlier exercise.

A folder of hidden cases holds the bank of each exercise and, on the same inputs, what this module makes of it:

    SLUG                             the exercise's bank
    pairs/MISTAKE/SLUG               what the solution answers with this mistake and another one in it
    given/EARLIER/MISTAKE/SLUG       the bank as it follows from a mistake in an earlier exercise, where that is proved to
                                     hide no mistake of the exercise itself
    doubtful/EARLIER/MISTAKE/SLUG    the same where that is not proved: an answer that agrees is neither paid nor named
"""

import tokenize
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from itertools import combinations
from pathlib import Path
from typing import Any

from autograder.bank import FAR, make_bank, measured_answers, one_thread
from autograder.errors import CourseError
from autograder.exercise import Exercise
from autograder.week import Week
from course import codec
from course.check import Bank, Verdict, compare, fitting, judge, measured
from course.codec import Failure
from course.drives import measure_of, slug

GIVEN, DOUBTFUL, PAIRS = "given", "doubtful", "pairs"


def as_measured(inputs: dict, value: Any) -> Any:
    """The measure of answers that have been measured already."""
    return value


# ------------------------------------------------------------------------------------------------------- making


@one_thread()
def write_banks(week: Week, seed: str, folder: Path) -> dict[str, list[str]]:
    """Writes a week's banks under a seed into an empty folder: exercises, pairs, and what follows from earlier mistakes.

    Returns, by exercise, the solution cells with two mistakes in them that are wrong. Raises CourseError where a bank of an
    exercise cannot be made.
    """
    wrong_cells = {}
    for exercise in week.exercises:
        bank = make_bank(week, exercise, seed)
        bank.save(folder)
        pairs, cells = make_pairs(week, exercise, bank)
        for first, pair_bank in pairs.items():
            _save(pair_bank, folder / PAIRS / slug(first))
        wrong_cells[exercise.name] = cells
        for earlier, mistake, source in earlier_mistakes(week, exercise):
            given = {earlier.name: source}
            carried = make_carried(week, exercise, seed, given, bank)
            if carried is not None:
                proved = is_proved(week, exercise, given, carried, [bank, *pairs.values()], cells)
                _save(carried, folder / (GIVEN if proved else DOUBTFUL) / earlier.slug / slug(mistake))
    return wrong_cells


def _save(bank: Bank, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    bank.save(folder)


def two_mistakes(week: Week, exercise: Exercise) -> Iterator[tuple[str, str, str]]:
    """Every two mistakes whose edits fit into the solution cell together, one after the other, with the cell that has both."""
    for pair in combinations([mistake for mistake in exercise.mistakes if not mistake.source], 2):
        for first, second in (pair, pair[::-1]):
            try:
                yield first.name, second.name, week.mistaken(exercise, first, second)
                break
            except (CourseError, SyntaxError, tokenize.TokenError):
                continue


def make_pairs(week: Week, exercise: Exercise, bank: Bank) -> tuple[dict[str, Bank], list[str]]:
    """What the solution answers with two mistakes in it, and all cells with two mistakes that answer wrongly.

    The first has a bank for each mistake: its `mistakes` are the pairs with other ones, by the other one's name. Left out
    are pairs that answer as one mistake does, and those that only ever raise.
    """
    pairs: dict[str, dict[str, list[Any]]] = {}
    cells = []
    for first, second, source in two_mistakes(week, exercise):
        answers = list(_answers(week, exercise, {exercise.name: source}, bank))
        if not answers:
            continue
        verdict = judge(bank, answers, as_measured)
        if verdict.right:
            continue
        cells.append(source)
        wrong_values = any(
            not isinstance(value, Failure) and not compare(case.answer, value, case.tolerance).agrees
            for case, value in zip(bank.cases, answers, strict=True)
        )
        if wrong_values and not verdict.mistakes:
            pairs.setdefault(first, {})[second] = answers
    banks = {}
    for first, others in pairs.items():
        cases = [
            replace(case, inputs={}, accepted=[], mistakes={name: answers[i] for name, answers in others.items()})
            for i, case in enumerate(bank.cases)
        ]
        banks[first] = replace(bank, cases=cases, messages={name: bank.messages[name] for name in others})
    return banks, cells


def earlier_mistakes(week: Week, exercise: Exercise) -> Iterator[tuple[Exercise, str, str]]:
    """Every mistake of every exercise that this one calls: the exercise, the mistake's name, the cell that has it."""
    for earlier in week.exercises:
        if earlier.name in week.uses[exercise.name]:
            for mistake in earlier.mistakes:
                yield earlier, mistake.name, week.mistaken(earlier, mistake)


def make_carried(week: Week, exercise: Exercise, seed: str, given: Mapping[str, str], bank: Bank) -> Bank | None:
    """The exercise's bank as it follows from an earlier mistake; None where the same is right as without it, or where the
    solution does not work on top of it."""
    try:
        carried = make_bank(week, exercise, seed, given)
    except CourseError:
        return None
    return None if judge(bank, [case.answer for case in carried.cases], as_measured).right else carried


def is_proved(
    week: Week, exercise: Exercise, given: Mapping[str, str], carried: Bank, plain: Sequence[Bank], cells: Iterable[str]
) -> bool:
    """Whether what is right given an earlier mistake is far from every known wrong answer to the exercise."""
    known = wrong_answers(week, exercise, given, carried, plain, cells)
    return all(_misses_by_far(carried, answers()) for _, answers in known)


def wrong_answers(
    week: Week, exercise: Exercise, given: Mapping[str, str], carried: Bank, plain: Sequence[Bank], cells: Iterable[str]
) -> Iterator[tuple[str, Callable[[], Iterable[Any]]]]:
    """Every known wrong answer where an earlier exercise has a mistake: what it is, and a function that gives its answers.

    These are the exercise's mistakes on top of the earlier one (in `carried`), its mistakes and pairs of them without it
    (`plain`), and pairs of them on top of it (`cells`).
    """
    for bank in (carried, *plain):
        for name in bank.messages:
            yield name, partial(_column, bank, name)
    for cell in cells:
        yield "two mistakes at once", partial(_answers, week, exercise, {**given, exercise.name: cell}, carried)


def _column(bank: Bank, mistake: str) -> list[Any]:
    return [case.mistakes[mistake] for case in bank.cases]


def _answers(week: Week, exercise: Exercise, replaced: Mapping[str, str], bank: Bank) -> Iterator[Any]:
    """Measured answers to the bank's cases, one at a time as they are asked for; none where the cells do not run."""
    try:
        namespace = week.namespace(replaced)
    except Exception:
        return
    for case in bank.cases:
        yield from measured_answers(week, exercise, namespace, [(case.kind, case.inputs)], watched=False)


def _misses_by_far(bank: Bank, answers: Iterable[Any]) -> bool:
    """Whether, on some case, an answer is far from everything that counts as right. Asks for no more answers than it needs."""
    answered = False
    for case, value in zip(bank.cases, answers, strict=False):
        answered = True
        if min(compare(right, value, case.tolerance).ratio for right in [case.answer, *case.accepted]) >= FAR:
            return True
    return not answered


# ------------------------------------------------------------------------------------------------------ judging


def load(folder: Path, exercise: str) -> Bank:
    """A bank of hidden cases, kept in memory until its file is another one."""
    return _load(folder, exercise, (folder / f"{slug(exercise)}.json").stat().st_mtime_ns)


@lru_cache(maxsize=256)
def _load(folder: Path, exercise: str, written: int) -> Bank:
    return Bank.load(folder, exercise)


def handed_over(folder: Path, exercise: str) -> list[tuple[bytes, bytes]]:
    """The inputs of the hidden cases in the bank's order, as they go to a kernel (`codec.to_bytes`); kept as `load` does."""
    return _handed_over(folder, exercise, (folder / f"{slug(exercise)}.json").stat().st_mtime_ns)


@lru_cache(maxsize=256)
def _handed_over(folder: Path, exercise: str, written: int) -> list[tuple[bytes, bytes]]:
    return [codec.to_bytes(case.inputs) for case in _load(folder, exercise, written).cases]


def reach(
    week: Week,
    exercise: str,
    banks: Path,
    answers: Sequence[Any],
    earlier: Mapping[str, Verdict],
    follow_through: bool = True,
    measure: Callable[[dict, Any], Any] | None = None,
) -> Verdict:
    """The verdict on raw answers to the hidden cases in `banks`, by all that is known; without points.

    `earlier` has the verdicts on exercises before this one. Where all those that this one calls are right but for one with a
    single named mistake, an answer that is right given that mistake passes (`Verdict.given`), and a mistake on top of it is
    named; `follow_through=False` leaves this out. Where no mistake fits, pairs of them are tried.
    """
    bank = load(banks, exercise)
    measure = measure or measure_of(bank.week, exercise)
    values = [measured(measure, case.inputs, raw) for case, raw in zip(bank.cases, answers, strict=True)]
    verdict = judge(bank, values, as_measured)
    if verdict.status not in ("wrong", "error"):
        return verdict
    source = culprit(week.uses[exercise], earlier) if follow_through else None
    follows, proved = _carried(banks, exercise, *source) if source else (None, False)
    on_top = judge(follows, values, as_measured) if follows else None
    if on_top and on_top.right and proved:
        return replace(on_top, given=source[0])
    if on_top and on_top.right:
        hidden = f"It may be right given your {source[0]}: the mistake there hides whether there is one here."
        return replace(verdict, mistakes=(), named=(), message=hidden)
    if verdict.mistakes:
        return verdict
    if on_top and on_top.named:
        return replace(verdict, mistakes=on_top.mistakes, named=on_top.named, given=source[0])
    return _with_pair(verdict, bank, banks, values)


def culprit(uses: Iterable[str], earlier: Mapping[str, Verdict]) -> tuple[str, str] | None:
    """The one exercise of `uses` that is wrong, with the name of the one mistake in it; None where that is not all there is."""
    verdicts = [earlier.get(name) for name in uses]
    wrong = [verdict for verdict in verdicts if verdict is None or not verdict.right]
    if len(wrong) != 1 or wrong[0] is None or len(wrong[0].mistakes) != 1 or wrong[0].given:
        return None
    return wrong[0].exercise, wrong[0].mistakes[0]


def _carried(banks: Path, exercise: str, earlier: str, mistake: str) -> tuple[Bank | None, bool]:
    """The bank as it follows from the earlier mistake, and whether that is proved to hide nothing; None where there is none."""
    for kind in (GIVEN, DOUBTFUL):
        folder = banks / kind / slug(earlier) / slug(mistake)
        if (folder / f"{slug(exercise)}.json").exists():
            return load(folder, exercise), kind == GIVEN
    return None, False


def _pairs(banks: Path, bank: Bank) -> dict[str, Bank]:
    """What `make_pairs` made of the bank."""
    folders = {name: banks / PAIRS / slug(name) for name in bank.messages}
    return {n: load(f, bank.exercise) for n, f in folders.items() if (f / f"{slug(bank.exercise)}.json").exists()}


def _with_pair(verdict: Verdict, bank: Bank, banks: Path, values: Sequence[Any]) -> Verdict:
    """The verdict with the two mistakes that give these measured answers, if only one pair does."""
    pairs = _pairs(banks, bank)
    found = [(first, second) for first in pairs for second in fitting(pairs[first], values)]
    if len(found) != 1:
        return verdict
    return replace(verdict, mistakes=found[0], named=tuple(bank.messages[name] for name in found[0]))


# ---------------------------------------------------------------------------------------------------- measuring


@dataclass
class Tally:
    """How much is named and paid, under one seed.

    `pairs` are two mistakes made at once; `carried_of` counts the mistakes of earlier exercises that change what a later one
    answers, each with each later exercise, and `carried` those under which a right one keeps its points. `wrongly_paid` has
    a sentence for every wrong answer that would be paid.
    """

    pairs: int = 0
    pairs_named: int = 0
    carried: int = 0
    carried_of: int = 0
    wrongly_paid: list[str] = field(default_factory=list)


@one_thread()
def tally(week: Week, banks: Path, wrong_cells: Mapping[str, Sequence[str]]) -> Tally:
    """Puts every pair of mistakes, and every mistake and pair on top of every earlier mistake, to `reach`.

    `banks` is a folder that `write_banks` wrote, `wrong_cells` what it returned.
    """
    found = Tally()
    for exercise in week.exercises:
        bank = load(banks, exercise.name)
        pair_banks = _pairs(banks, bank)
        for first, pair_bank in pair_banks.items():
            for second in pair_bank.messages:
                answers = _column(pair_bank, second)
                verdict = reach(week, exercise.name, banks, answers, {}, measure=as_measured)
                found.pairs += 1
                found.pairs_named += len(verdict.named) == 2 and verdict.mistakes == (first, second)
        for earlier, mistake, source in earlier_mistakes(week, exercise):
            given = {earlier.name: source}
            answers = list(_answers(week, exercise, given, bank))
            if judge(bank, answers, as_measured).right:
                continue
            found.carried_of += 1
            verdicts = {name: Verdict(name, "passed", 1, 1) for name in week.uses[exercise.name]}
            verdicts[earlier.name] = Verdict(earlier.name, "wrong", 0, 1, mistakes=(mistake,), named=("It is wrong.",))

            def paid(answers: Sequence[Any], exercise: str = exercise.name, earlier: Mapping = verdicts) -> bool:
                return reach(week, exercise, banks, answers, earlier, measure=as_measured).right

            if not paid(answers):
                continue
            found.carried += 1
            carried, _ = _carried(banks, exercise.name, earlier.name, mistake)
            plain, cells = [bank, *pair_banks.values()], wrong_cells[exercise.name]
            for what, wrong in wrong_answers(week, exercise, given, carried, plain, cells):
                if not _misses_by_far(carried, wrong()) and paid(list(wrong())):
                    under = f"{earlier.name}/{mistake}"
                    found.wrongly_paid.append(f"{what} in {exercise.name} would be paid on top of {under}")
    return found
