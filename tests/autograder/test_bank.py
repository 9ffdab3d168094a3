"""Making a bank: drawn from a seed, with a tolerance that has a reason, and only from a solution that answers."""

import math
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from autograder.bank import NOISE, draw_cases, make_bank, measured_answers, seed_of, to_double, tolerance_of
from autograder.errors import CourseError
from autograder.exercise import Exercise, Mistake
from autograder.week import Week
from course.check import judge
from course.codec import Failure

NAME = "week98_toy"
SOLUTION = '''
# %%
import torch

# %% exercise="f"
def f(x):
    """A sum of sines."""
    ### BEGIN SOLUTION
    return x.sin().sum(dim=-1)
    ### END SOLUTION
'''


def one_case(rng: torch.Generator) -> list[tuple[str, dict]]:
    return [
        ("three numbers", {"x": torch.randn(3, generator=rng)}),
        ("a table", {"x": torch.randn(4, 2, generator=rng)}),
    ]


def exercise(*mistakes: Mistake, **more) -> Exercise:
    return Exercise("f", points=1, cases=one_case, mistakes=mistakes, **more)


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Week]:
    """A week that exists only here, with a solution of the test's choice."""
    module = types.ModuleType(f"course.drives.{NAME}")
    module.f = lambda student, case: student.f(case["x"])
    monkeypatch.setitem(sys.modules, module.__name__, module)
    folder = tmp_path / "solutions" / NAME
    folder.mkdir(parents=True)

    def make(solution: str = "return x.sin().sum(dim=-1)", alternates: str = "") -> Week:
        source = SOLUTION.replace("return x.sin().sum(dim=-1)", solution)
        (folder / f"{NAME}.py").write_text(source)
        (folder / "alternates.py").write_text(alternates)
        return Week(folder)

    return make


# ---------------------------------------------------------------------------------------------------------- seeds


def test_a_seed_depends_on_every_part():
    seeds = {
        seed_of(*parts) for parts in (("a", "b", "c"), ("a", "bc", ""), ("ab", "c"), ("a", "b", "d"), ("x", "b", "c"))
    }
    assert len(seeds) == 5 and all(0 <= seed < 2**63 for seed in seeds)
    assert seed_of("week01_rnn", "rnn_step", "public") == 1072980769192663986, "every class would get other cases"


def test_the_same_seed_gives_the_same_bank(toy, tmp_path: Path):
    mistake = Mistake("cosine", "The cosine was taken.", "sin", "cos")
    for folder, seed in (("one", "a"), ("two", "a"), ("three", "b")):
        (tmp_path / folder).mkdir()
        make_bank(toy(), exercise(mistake), seed).save(tmp_path / folder)
    one, two, three = ({p.name: p.read_bytes() for p in (tmp_path / f).iterdir()} for f in ("one", "two", "three"))
    assert one == two and one["f.safetensors"] != three["f.safetensors"]


def test_the_global_generator_is_not_used(toy):
    torch.manual_seed(1)
    first = draw_cases(toy(), exercise(), "a")[0][1]["x"]
    torch.manual_seed(2)
    assert draw_cases(toy(), exercise(), "a")[0][1]["x"].equal(first)


# --------------------------------------------------------------------------------------------------- tolerances


def test_the_tolerance_is_noise_or_the_floor_by_the_size_of_the_leaf():
    double = torch.tensor([1.0, -50.0], dtype=torch.float64)
    quiet, noisy = double.float(), (double + torch.tensor([0.25, 0.0])).float()
    assert tolerance_of(quiet, double, 1e-3) == pytest.approx([50 * 1e-3])
    assert tolerance_of(noisy, double, 1e-3) == pytest.approx([NOISE * 0.25])


def test_each_floating_leaf_has_a_tolerance_and_others_have_none():
    tree = {"b": torch.tensor([4.0]), "a": [torch.tensor([3]), 2.0, "text", True], "c": Failure("ValueError")}
    assert tolerance_of(tree, to_double(tree), 1e-2) == pytest.approx([0.02, 0.04])


@pytest.mark.parametrize("values", [[0.0, 0.0], [], [math.inf, math.nan]], ids=str)
def test_a_leaf_without_size_gets_the_floor_itself(values: list[float]):
    leaf = torch.tensor(values)
    assert tolerance_of(leaf, leaf.double(), 1e-4) == pytest.approx([1e-4])


def test_infinities_do_not_make_the_tolerance_infinite():
    leaf = torch.tensor([2.0, math.inf, math.nan])
    assert tolerance_of(leaf, leaf.double(), 1e-4) == pytest.approx([2e-4])


def test_only_float32_is_doubled():
    tree = {"a": torch.tensor([1.0]), "b": [torch.tensor([1]), (torch.tensor([True]), 1.5, "x")]}
    doubled = to_double(tree)
    assert doubled["a"].dtype == torch.float64 and doubled["b"][0].dtype == torch.int64
    assert doubled["b"][1][0].dtype == torch.bool and doubled["b"][1][1:] == (1.5, "x")
    assert tree["a"].dtype == torch.float32, "the tree itself was changed"


# -------------------------------------------------------------------------------------------------------- banks


def test_a_bank_has_what_every_mistake_answers(toy):
    week = toy()
    cosine = Mistake("cosine", "The cosine was taken.", "sin", "cos")
    raises = Mistake("axis", "A wrong axis.", "dim=-1", "dim=7")
    bank = make_bank(week, exercise(cosine, raises, forbid=["aten::tan"]), "a")
    assert [case.kind for case in bank.cases] == ["three numbers", "a table"]
    assert bank.messages == {"cosine": "The cosine was taken.", "axis": "A wrong axis."}
    assert bank.forbid == ["aten::tan"]
    for case in bank.cases:
        torch.testing.assert_close(case.answer, case.inputs["x"].sin().sum(dim=-1))
        torch.testing.assert_close(case.mistakes["cosine"], case.inputs["x"].cos().sum(dim=-1))
        assert case.mistakes["axis"].type == "IndexError"
        assert case.answer.dtype == torch.float32
    for name, message in bank.messages.items():
        assert judge(bank, [case.mistakes[name] for case in bank.cases]).named == (message,)


def test_the_measure_is_applied_to_the_answers(toy):
    sys.modules[f"course.drives.{NAME}"].measure_f = lambda inputs, raw: raw.abs() + inputs["x"].numel()
    week = toy()
    bank = make_bank(week, exercise(), "a")
    assert all((case.answer >= case.inputs["x"].numel()).all() for case in bank.cases)
    answers = measured_answers(week, exercise(), week.namespace(), [(case.kind, case.inputs) for case in bank.cases])
    assert all(answer.equal(case.answer) for answer, case in zip(answers, bank.cases, strict=True))


def test_accepted_alternates_are_right_answers_of_their_own(toy):
    alternates = '# %% alternate="f" name="minus" accepted=true\ndef f(x):\n    return -x.sin().sum(dim=-1)\n'
    bank = make_bank(toy(alternates=alternates), exercise(), "a")
    assert judge(bank, [-case.answer for case in bank.cases]).right
    ordinary = make_bank(toy(alternates=alternates.replace(" accepted=true", "")), exercise(), "a")
    assert not judge(ordinary, [-case.answer for case in ordinary.cases]).right


def test_an_exception_may_be_the_right_answer(toy):
    solution = "raise ValueError('too short') if x.ndim == 1 else x.sin().sum(dim=-1)"
    week = toy(f"if x.ndim == 1:\n        {solution.split(' if ')[0]}\n    return x.sin().sum(dim=-1)")
    bank = make_bank(week, exercise(raises=["ValueError"]), "a")
    assert bank.cases[0].answer.type == "ValueError" and bank.cases[0].tolerance == []
    assert judge(bank, [Failure("ValueError", "other words"), bank.cases[1].answer]).right
    with pytest.raises(CourseError, match="case 'three numbers': the solution fails: ValueError: too short"):
        make_bank(week, exercise(), "a")


@pytest.mark.parametrize(
    ("solution", "message"),
    [
        ("return x.nothing", "the solution fails: AttributeError"),
        ("raise NotImplementedError()", "the solution fails: NotImplementedError"),
        ("return x.sum() if x.dtype == torch.float32 else [x.sum(), x.sum()]", "float64 answer has another form"),
        ("return x.sum() if x.dtype == torch.float32 else 'text'", "float64 answer has another form"),
        ("return x.sum() if x.dtype == torch.float32 else x.nothing", "float64 answer has another form"),
        ("return x.sum() if x.dtype == torch.float32 else torch.zeros(9)", "float64 answer has another form"),
        ("return (x * 1e8).long().sum()", "answers otherwise in float64"),
    ],
)
def test_a_solution_that_does_not_hold_is_told_with_its_case(toy, solution: str, message: str):
    with pytest.raises(CourseError) as caught:
        make_bank(toy(solution), exercise(), "a")
    assert str(caught.value).startswith(f"{NAME}, f, case '") and message in str(caught.value)


def test_a_mistake_that_no_longer_fits_or_does_not_run_is_told(toy):
    with pytest.raises(CourseError, match="mistake 'gone' occurs 0 times"):
        make_bank(toy(), exercise(Mistake("gone", "A message.", "tanh", "")), "a")
    with pytest.raises(CourseError, match=r"mistake 'broken' does not run: .*was never closed"):
        make_bank(toy(), exercise(Mistake("broken", "A message.", "dim=-1)", "dim=-1")), "a")
