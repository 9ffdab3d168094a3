"""Two mistakes at once, and what follows from an earlier exercise's mistake: named, paid where it is fair, and never else."""

import asyncio
import sys
import types
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
import torch

from autograder import naming
from autograder.bank import make_bank
from autograder.exercise import Exercise, Mistake
from autograder.grade import CHANGED, grade_notebook, order_of, try_exercise
from autograder.hidden import hidden_banks
from autograder.naming import culprit, handed_over, load, make_pairs, reach, tally, two_mistakes, write_banks
from autograder.release import assignment_notebook
from autograder.submission import filled, write_submission
from autograder.week import Week
from course import codec
from course.check import Verdict
from course.codec import Failure
from course.drives import answer
from tests.conftest import ROOT, WEEK, cut_week

NAME = "week97_toy"
MASTER = """
# %%
import torch

# %% exercise="f"
def f(x):
    ### BEGIN SOLUTION
    return 3 * x + 1
    ### END SOLUTION

# %% exercise="g"
def g(x):
    ### BEGIN SOLUTION
    return f(x).sin() + f(x)[0] ** 2
    ### END SOLUTION

# %% exercise="h"
def h(x):
    ### BEGIN SOLUTION
    return g(x).cos() * 5
    ### END SOLUTION
"""
SOLUTIONS = {"f": "3 * x + 1", "g": "f(x).sin() + f(x)[0] ** 2", "h": "g(x).cos() * 5"}
ONE, TWICE, FLAT = "One is not added.", "x is doubled, not tripled.", "All entries are the first."
NO_SINE, CUBE, FIRST = (
    "The sine is missing.",
    "It is cubed, not squared.",
    "Everywhere the first entry's sine is taken.",
)
F_MISTAKES = [
    Mistake("no-one", ONE, " + 1", ""),
    Mistake("twice", TWICE, "3 *", "2 *"),
    Mistake("flat", FLAT, "3 * x", "3 * x[:1].expand_as(x)"),
]
G_MISTAKES = [
    Mistake("no-sine", NO_SINE, ".sin()", ""),
    Mistake("cube", CUBE, "** 2", "** 3"),
    Mistake("first", FIRST, "f(x).sin()", "f(x)[:1].sin().expand_as(x)"),
]
H_MISTAKES = [Mistake("no-cosine", "The cosine is missing.", ".cos()", "")]


def cases(rng: torch.Generator) -> list[tuple[str, dict]]:
    return [(f"{n} numbers", {"x": torch.randn(n, generator=rng)}) for n in (3, 4, 5, 6)]


def exercises() -> list[Exercise]:
    f = Exercise("f", 3, cases, F_MISTAKES)
    return [f, Exercise("g", 4, cases, G_MISTAKES, uses=["f"]), Exercise("h", 5, cases, H_MISTAKES, uses=["g"])]


@pytest.fixture
def week(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Week:
    """Three exercises that exist only here; g calls f, and h calls g."""
    drives = types.ModuleType(f"course.drives.{NAME}")
    drives.f = lambda student, case: student.f(case["x"])
    drives.g = lambda student, case: student.g(case["x"])
    drives.h = lambda student, case: student.h(case["x"])
    monkeypatch.setitem(sys.modules, drives.__name__, drives)
    folder = tmp_path / "solutions" / NAME
    folder.mkdir(parents=True)
    (folder / f"{NAME}.py").write_text(MASTER)
    week = Week(folder)
    week.__dict__["_module"] = types.SimpleNamespace(EXERCISES=exercises())
    return week


@pytest.fixture
def banks(week: Week, tmp_path: Path) -> Path:
    folder = tmp_path / "banks"
    folder.mkdir()
    week.__dict__["cells"] = write_banks(week, "secret", folder)
    return folder


def answers_of(week: Week, banks: Path, exercise: str, **bodies: str) -> list:
    """What a student answers whose functions return these expressions, the other ones being right."""
    sources = {name: f"def {name}(x):\n    return {body}" for name, body in bodies.items()}
    namespace = week.namespace(sources)
    return [answer(NAME, exercise, namespace, case.inputs) for case in load(banks, exercise).cases]


def graded(week: Week, banks: Path, follow_through: bool = True, **bodies: str) -> dict[str, Verdict]:
    """The verdicts on all exercises of such a student, in order."""
    verdicts: dict[str, Verdict] = {}
    for exercise in ("f", "g", "h"):
        answers = answers_of(week, banks, exercise, **bodies)
        verdicts[exercise] = reach(week, exercise, banks, answers, verdicts, follow_through)
    return verdicts


# ---------------------------------------------------------------------------------------------- two mistakes at once


def test_two_mistakes_at_once_are_named(week, banks):
    verdict = graded(week, banks, f="2 * x")["f"]
    assert (verdict.status, verdict.mistakes, verdict.named) == ("wrong", ("no-one", "twice"), (ONE, TWICE))
    assert verdict.to_text().endswith(f"This is what you get from two mistakes at once:\n– {ONE}\n– {TWICE}")
    assert graded(week, banks, f="2 * x - 1")["f"].named == ()
    assert graded(week, banks, f="2 * x + 1")["f"].named == (TWICE,), "one mistake is enough to explain it"


def test_edits_fit_together_in_either_order_or_not_at_all(week):
    exercise = week.exercise("f")
    one_way = [
        Mistake("a", "A.", "return 3", "return 0.5 + 3"),
        Mistake("b", "B.", "return 3 * x + 1", "return 3 * x + 2"),
    ]
    [(first, second, source)] = two_mistakes(week, replace(exercise, mistakes=one_way))
    assert (first, second) == ("b", "a") and "return 0.5 + 3 * x + 2" in source
    apart = [Mistake("a", "A.", "3 * x", "3 * x * x"), Mistake("b", "B.", "3 * x + 1", "4 * x + 1")]
    assert [pair[:2] for pair in two_mistakes(week, replace(exercise, mistakes=apart))] == []
    whole = Mistake("whole", "A cell of its own.", source="def f(x):\n    return x + 1")
    assert list(two_mistakes(week, replace(exercise, mistakes=[whole, F_MISTAKES[0]]))) == []


def test_pairs_that_explain_nothing_are_left_out(week):
    undone = [Mistake("up", "One more is added.", "+ 1", "+ 2"), Mistake("down", "One is taken.", "3 * x", "3 * x - 1")]
    same = [
        Mistake("twos", "It is all twos.", "3 * x + 1", "3 * x * 0 + 2"),
        Mistake("six", "It is six.", "3 *", "6 *"),
    ]
    raising = [
        Mistake("double", "It is float64.", "3 * x", "(3 * x).double()"),
        Mistake("dot", "It is summed.", "+ 1", "@ torch.ones(len(x))"),  # one of each kind raises
    ]
    for mistakes, wrong in ((undone, 0), (same, 1), (raising, 1)):
        exercise = replace(week.exercise("f"), mistakes=mistakes)
        pairs, cells = make_pairs(week, exercise, make_bank(week, exercise, "secret"))
        assert (pairs, len(cells)) == ({}, wrong), mistakes


def test_a_pair_that_does_not_run_is_left_out(week):
    a, b = (
        Mistake("a", "A.", "return 3 * x + 1", "y = 3 * x + 1\n    return y"),
        Mistake("b", "B.", "return", "    return 2 *"),
    )
    exercise = replace(week.exercise("f"), mistakes=[a, b])
    pairs, cells = make_pairs(week, exercise, make_bank(week, replace(exercise, mistakes=[]), "secret"))
    assert (pairs, cells) == ({}, [])


def test_two_pairs_that_always_agree_are_not_named(week, tmp_path):
    both = [
        *(Mistake(f"one-{i}", f"Add {i}.", "+ 1", f"+ {i}") for i in (2, 3)),
        *(Mistake(f"two-{i}", f"Take {i}.", "3 * x", f"3 * x - {i}") for i in (5, 6)),
    ]
    week.__dict__["_module"].EXERCISES[0] = replace(week.exercise("f"), mistakes=both)
    write_banks(week, "secret", tmp_path)
    assert graded(week, tmp_path, f="3 * x - 3")["f"].named == ()  # 2 - 5 and 3 - 6
    assert graded(week, tmp_path, f="3 * x - 2")["f"].named == ("Add 3.", "Take 5.")


# --------------------------------------------------------------------------------------------------- follow-through


def test_right_given_an_earlier_mistake_keeps_its_points_and_says_so(week, banks):
    verdicts = graded(week, banks, f="2 * x + 1")
    assert [verdicts[name].status for name in "fgh"] == ["wrong", "passed", "passed"]
    assert [verdicts[name].given for name in "fgh"] == ["", "f", "f"]
    assert verdicts["h"].to_text() == "✓ h: all 4 cases right, given your f. The mistake is there, not here."
    off = graded(week, banks, follow_through=False, f="2 * x + 1")
    assert [off[name].status for name in "fgh"] == ["wrong", "wrong", "wrong"] and not off["g"].given


def test_a_mistake_on_top_of_an_earlier_one_is_named_and_not_paid(week, banks):
    verdict = graded(week, banks, f="2 * x + 1", g="f(x) + f(x)[0] ** 2")["g"]
    assert (verdict.status, verdict.mistakes, verdict.given) == ("wrong", ("no-sine",), "f")
    assert f"On top of what your f gives, this is what you get from this mistake: {NO_SINE}" in verdict.to_text()
    assert graded(week, banks, f="2 * x + 1", g="f(x).cos()")["g"].named == ()


def test_where_the_earlier_mistake_hides_a_later_one_nothing_is_paid_or_named(week, banks):
    """With all entries of f alike, g's mistake `first` cannot be seen."""
    for bodies in ({}, {"g": "f(x)[:1].sin().expand_as(x) + f(x)[0] ** 2"}):
        verdict = graded(week, banks, f="3 * x[:1].expand_as(x) + 1", **bodies)["g"]
        assert (verdict.status, verdict.given, verdict.mistakes) == ("wrong", "", ())
        assert verdict.message == "It may be right given your f: the mistake there hides whether there is one here."
    other = graded(week, banks, f="3 * x[:1].expand_as(x) + 1", g="f(x).sin() + f(x)[0] ** 3")["g"]
    assert (other.named, other.given) == ((CUBE,), "f")


@pytest.mark.parametrize(
    "bodies",
    [
        {"f": "2 * x"},  # two mistakes
        {"f": "7 * x"},  # none that is known
        {"f": "y"},  # an error
        {"f": "2 * x + 1", "g": "f(x) + f(x)[0] ** 2"},  # and g is wrong itself
        {"f": "2 * x + 1", "g": "f(x) * 9"},
    ],
)
def test_only_one_single_named_mistake_is_followed(week, banks, bodies):
    verdict = graded(week, banks, **bodies)["h"]
    assert not verdict.right and not verdict.given


def test_the_culprit_is_the_only_wrong_one():
    wrong = Verdict("f", "wrong", 0, 1, mistakes=("m",), named=("M.",))
    given, right = Verdict("g", "passed", 1, 1, given="f"), Verdict("g", "passed", 1, 1)
    assert culprit(["f", "g"], {"f": wrong, "g": given}) == culprit(["f", "g"], {"f": wrong, "g": right}) == ("f", "m")
    assert culprit([], {}) is culprit(["g"], {"g": right}) is culprit(["f", "g"], {"f": wrong}) is None
    assert culprit(["f"], {"f": replace(wrong, mistakes=("m", "n"))}) is None
    assert culprit(["f"], {"f": replace(wrong, given="e")}) is None
    assert culprit(["f", "g"], {"f": wrong, "g": replace(right, status="forbidden")}) is None


def test_what_the_earlier_mistake_does_not_change_needs_no_bank(week, tmp_path):
    week.__dict__["_module"].EXERCISES[1] = replace(week.exercise("g"), mistakes=G_MISTAKES)
    blind = Mistake("blind", "It is wrong in what g does not read.", "return 3 * x + 1", "return Blind(3 * x + 1)")
    master = week.folder / f"{NAME}.py"
    extra = '# %%\nclass Blind(torch.Tensor):\n    pass\n\n# %% exercise="f"'
    master.write_text(MASTER.replace('# %% exercise="f"', extra))
    fresh = Week(week.folder)
    fresh.__dict__["_module"] = types.SimpleNamespace(
        EXERCISES=[replace(week.exercise("f"), mistakes=[blind]), *week.exercises[1:]]
    )
    write_banks(fresh, "secret", tmp_path)
    assert not (tmp_path / "given" / "f").exists() and not (tmp_path / "doubtful" / "f").exists()


def test_a_solution_that_fails_on_top_of_an_earlier_mistake_follows_from_nothing(week, tmp_path):
    scalar = Mistake("scalar", "It is summed.", "3 * x + 1", "(3 * x + 1).sum()")
    week.__dict__["_module"].EXERCISES[0] = replace(week.exercise("f"), mistakes=[scalar])
    cells = write_banks(week, "secret", tmp_path)
    assert not (tmp_path / "given" / "f").exists() and not (tmp_path / "doubtful" / "f").exists()
    counted = tally(week, tmp_path, cells)
    assert (counted.carried, counted.carried_of, counted.wrongly_paid) == (
        3,
        5,
        [],
    )  # h on top of g's three, not of f's


# -------------------------------------------------------------------------------------------------------- measuring


def test_the_tally_counts_and_finds_what_a_missing_proof_would_pay(week, banks, tmp_path, monkeypatch):
    counted = tally(week, banks, week.__dict__["cells"])
    assert counted.pairs == counted.pairs_named == 3 + 3
    assert (counted.carried, counted.carried_of, counted.wrongly_paid) == (8, 9, [])
    monkeypatch.setattr(naming, "is_proved", lambda *arguments: True)
    folder = tmp_path / "unproved"
    folder.mkdir()
    found = tally(week, folder, write_banks(week, "secret", folder))
    assert found.carried == 9
    assert "first in g would be paid on top of f/flat" in found.wrongly_paid


# ------------------------------------------------------------------------------------------------- order and repeats


class InProcess:
    """Answers as a Run does, without a kernel. `asked` has the inputs in the order in which they came."""

    def __init__(self, **functions):
        self.functions, self.asked = functions, []

    async def answers(self, week, exercise, cases, timeout, forbid):
        inputs = [codec.from_bytes(*case) for case in cases]
        self.asked += inputs
        return [answer(week, exercise, self.functions, each, forbid) for each in inputs]


def tried(week: Week, banks: Path, function) -> tuple[Verdict, list]:
    return asyncio.run(try_exercise(InProcess(f=function), week.exercise("f"), week, banks, {}))


def test_cases_come_in_a_secret_order_and_the_first_once_more(week, banks, tmp_path):
    run = InProcess(f=lambda x: 3 * x + 1)
    verdict, answers = asyncio.run(try_exercise(run, week.exercise("f"), week, banks, {}))
    lengths = [len(inputs["x"]) for inputs in run.asked]
    assert verdict.right and verdict.points == 3 and verdict.passed == verdict.total == 4
    assert lengths[0] == lengths[-1] and sorted(lengths[:-1]) == [3, 4, 5, 6]
    assert [len(value) for value in answers] == [3, 4, 5, 6], "answers are in the bank's order"

    def order(seed: str) -> list[int]:
        return order_of([codec.to_bytes(case.inputs) for case in make_bank(week, week.exercise("f"), seed).cases])

    assert len({tuple(order(seed)) for seed in map(str, range(12))}) > 4
    assert order_of(handed_over(banks, "f")) == order("secret")


def test_an_answer_that_hangs_on_earlier_calls_has_failed(week, banks):
    def remembers(x, calls=[]):  # noqa: B006
        calls.append(x)
        return 3 * x + 1 if len(calls) < 5 else x

    verdict, _ = tried(week, banks, remembers)
    assert (verdict.status, verdict.points, verdict.passed, verdict.message) == ("wrong", 0.0, 3, CHANGED)
    assert verdict.to_text().splitlines()[-1] == CHANGED and verdict.difference is None

    def mistaken_at_first(x, calls=[]):  # noqa: B006
        calls.append(x)
        return 2 * x + 1 if len(calls) < 5 else 3 * x + 1

    verdict, _ = tried(week, banks, mistaken_at_first)
    assert (verdict.status, verdict.passed, verdict.named, verdict.message) == ("wrong", 0, (), CHANGED)

    def raises_at_last(x, calls=[]):  # noqa: B006
        calls.append(x)
        return 3 * x + 1 if len(calls) < 5 else 1 / 0

    assert tried(week, banks, raises_at_last)[0].message == CHANGED


def test_a_mistake_is_named_and_noise_is_no_change(week, banks):
    assert tried(week, banks, lambda x: 2 * x + 1)[0].named == (TWICE,)

    def noisy(x, calls=[]):  # noqa: B006
        calls.append(x)
        return 3 * x + 1 + 1e-6 * len(calls)

    assert tried(week, banks, noisy)[0].right


@pytest.mark.parametrize(
    ("name", "status"), [("Timeout", "timeout"), ("Crashed", "crashed"), ("Forbidden", "forbidden")]
)
def test_what_stops_the_last_call_counts(week, banks, name, status):
    failing = type(name, (Exception,), {})

    def stops(x, calls=[]):  # noqa: B006
        calls.append(x)
        if len(calls) == 5:
            raise failing
        return 3 * x + 1

    verdict, answers = tried(week, banks, stops)
    assert (verdict.status, verdict.points, verdict.passed) == (status, 0.0, 3)
    at = order_of(handed_over(banks, "f"))[0]
    assert isinstance(answers[at], Failure)
    assert status == "forbidden" or verdict.kind == f"{at + 3} numbers"


# ---------------------------------------------------------------------------------------------------- in a kernel


@pytest.fixture(scope="module")
def course(tmp_path_factory) -> tuple[Week, Path]:
    """Week 1 with rnn_step and rnn_forward, which calls it."""
    target = tmp_path_factory.mktemp("naming")
    (target / "nbgrader_config.py").write_bytes((ROOT / "nbgrader_config.py").read_bytes())
    cut_week(target, ("rnn_step", "rnn_forward"))
    week = Week(target / "solutions" / WEEK)
    return week, write_submission(target / "release", assignment_notebook(week), WEEK)


def test_a_real_submission_with_two_mistakes_and_one_that_follows(course, tmp_path):
    week, release = course
    banks = hidden_banks(week)
    step, forward = week.exercise("rnn_step"), week.exercise("rnn_forward")
    known = {mistake.name: mistake for mistake in [*step.mistakes, *forward.mistakes]}

    def verdicts(folder: str, follow_through: bool, *names: str) -> dict[str, Verdict]:
        sources = {
            "rnn_step": week.mistaken(step, *(known[name] for name in names)),
            "rnn_forward": week.solution("rnn_forward"),
        }
        notebook = filled(nbformat.read(release, as_version=4), sources)
        path = write_submission(tmp_path / folder, notebook, WEEK)
        options = {"isolation": "process", "follow_through": follow_through}
        found = grade_notebook(path, release, week, banks, **options)
        shown = (
            next(cell for cell in found.notebook.cells if cell.id == "check-rnn-forward").outputs[0].data["text/plain"]
        )
        return {v.exercise: v for v in found.verdicts} | {"shown": shown}

    two = verdicts("two", True, "sigmoid", "w-hh-not-transposed")
    assert two["rnn_step"].mistakes == ("sigmoid", "w-hh-not-transposed") and len(two["rnn_step"].named) == 2
    assert two["rnn_forward"].points == 0.0 and not two["rnn_forward"].given

    follows = verdicts("follows", True, "sigmoid")
    assert follows["rnn_step"].named == (known["sigmoid"].message,) and follows["rnn_step"].points == 0.0
    assert (follows["rnn_forward"].points, follows["rnn_forward"].given) == (10.0, "rnn_step")
    assert "right, given your rnn_step" in follows["shown"]

    off = verdicts("off", False, "sigmoid")
    assert (off["rnn_forward"].status, off["rnn_forward"].points, off["rnn_forward"].given) == ("wrong", 0.0, "")
