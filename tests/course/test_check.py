"""The one comparison, the naming of mistakes, and what a student reads."""

import json
import math
import sys
import types
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from textwrap import dedent

import nbformat
import pytest
import torch
from nbclient import NotebookClient
from torch import Tensor

from course.check import (
    Bank,
    Case,
    CheckFailed,
    Difference,
    Goal,
    Verdict,
    checks_for,
    compare,
    describe,
    judge,
    judge_goal,
    leaves,
)
from course.codec import Failure, Opaque, normalise

WEEK = "week98_toy"
t = torch.tensor

# ---------------------------------------------------------------------------------------------------- comparing


@pytest.mark.parametrize(
    ("right", "mine"),
    [
        (t([1.0, 2.0]), t([1.0, 2.0])),
        (t(3.0), 3.0),
        (3.0, t(3.0)),
        (3.0, t(3.0, dtype=torch.float64)),
        (t(3), 3),
        (3, t(3)),
        (300, t(300, dtype=torch.int32)),
        (t(3, dtype=torch.int32), 3),
        (2**53 + 1, 2**53 + 1),
        (True, True),
        ("a", "a"),
        (None, None),
        ([1, (2.0, "x")], [1, (2.0, "x")]),
        ({"a": 1, "b": [t([1])]}, {"b": [t([1])], "a": 1}),
        (t([math.nan, math.inf, -math.inf]), t([math.nan, math.inf, -math.inf])),
        (math.nan, math.nan),
        (t([]), t([])),
        (t([1 + 2j]), t([1 + 2j])),
        (Failure("ValueError", "one message"), Failure("ValueError", "another")),
        (Opaque("set"), Opaque("set")),
    ],
    ids=str,
)
def test_alike(right, mine):
    assert compare(right, mine).agrees


@pytest.mark.parametrize(
    ("right", "mine", "note"),
    [
        # structure and type
        (t([1.0]), [1.0], "a list of 1 where a tensor of shape (1,) and dtype float32 is expected"),
        ([1.0], t([1.0]), "a tensor of shape (1,) and dtype float32 where a list of 1 is expected"),
        ((1, 2), [1, 2], "a list of 2 where a tuple of 2 is expected"),
        ([1, 2], (1, 2), "a tuple of 2 where a list of 2 is expected"),
        ([1, 2], [1, 2, 3], "3 items where 2 are expected"),
        ([1, 2], [1], "1 items where 2 are expected"),
        ({"a": 1}, [1], "a list of 1 where a dict is expected"),
        ({"a": 1, "b": 2}, {"a": 1, "c": 2}, "the names differ: missing ['b'], unexpected ['c']"),
        (t([1.0]), None, "None where a tensor of shape (1,) and dtype float32 is expected"),
        (
            t([1.0]),
            Opaque("numpy.ndarray"),
            "a numpy.ndarray where a tensor of shape (1,) and dtype float32 is expected",
        ),
        (1, "1", "a str where an int is expected"),
        (None, 0, "an int where None is expected"),
        # an exception instead of an answer, and an answer instead of an exception
        (t([1.0]), Failure("KeyError"), "an exception (KeyError) where a tensor of shape (1,) and dtype float32"),
        (Failure("KeyError"), t(1.0), "a tensor of shape () and dtype float32 where an exception (KeyError)"),
        (Failure("KeyError"), Failure("IndexError"), "an exception (IndexError) where an exception (KeyError)"),
        # numbers
        (True, 1, "an int where a bool is expected"),
        (1, True, "a bool where an int is expected"),
        (t(True), 1, "dtype int64 where bool is expected"),
        (1, t(True), "dtype bool where int64 is expected"),
        (1, 1.0, "a float where an int is expected"),
        (1.0, 1, "an int where a float is expected"),
        (t(1.0), 1, "dtype int64 where float32 is expected"),
        (t(1), 1.0, "dtype float32 where int64 is expected"),
        # shapes and dtypes
        (t([1.0, 2.0]), t([[1.0, 2.0]]), "shape (1, 2) where (2,) is expected"),
        (t([1.0]), t(1.0), "shape () where (1,) is expected"),
        (t([1.0]), 1.0, "a float where a tensor of shape (1,) and dtype float32 is expected"),
        (torch.zeros(0, 2), torch.zeros(2, 0), "shape (2, 0) where (0, 2) is expected"),
        (t([1.0]), t([1.0]).double(), "dtype float64 where float32 is expected"),
        (t([1]), t([1]).int(), "dtype int32 where int64 is expected"),
        (t([True]), t([1]), "dtype int64 where bool is expected"),
        (t([1.0]), t([1 + 0j]), "dtype complex64 where float32 is expected"),
        # values
        (t([1, 2, 3]), t([1, 2, 4]), "1 of 3 values differ"),
        (3, 4, "1 of 1 values differ"),
        (2**53, 2**53 + 1, "1 of 1 values differ"),
        (300, t(44, dtype=torch.uint8), "1 of 1 values differ"),
        (t([True, False]), t([True, True]), "1 of 2 values differ"),
        (t([1 + 2j]), t([1 + 3j]), "1 of 2 values differ"),
        ("a", "b", "another value than expected"),
        (Opaque("set"), Opaque("dict"), "another value than expected"),
        # finiteness
        (t([1.0, 2.0]), t([1.0, math.nan]), "1 of 2 values are NaN"),
        (t([1.0, 2.0]), t([math.inf, -math.inf]), "2 of 2 values are infinite"),
        (t([1.0, math.nan]), t([1.0, 2.0]), "1 of 2 values differ"),
        (t([math.inf]), t([-math.inf]), "1 of 1 values differ"),
        (t([math.inf]), t([3e38]), "1 of 1 values differ"),
        (1.0, math.nan, "1 of 1 values are NaN"),
    ],
    ids=str,
)
def test_unlike_however_large_the_tolerance(right, mine, note: str):
    difference = compare(right, mine, [1e30] if "differ" not in note or "names" in note else [1e-5])
    assert not difference.agrees
    assert difference.note.startswith(note)


def test_the_tolerance_is_honoured_just_inside_and_just_outside():
    right = t([1.0, 100.0], dtype=torch.float64)
    for sign in (1, -1):
        assert compare(right, right + t([0.0, sign * 0.00999]), [0.01]).agrees
        outside = compare(right, right + t([0.0, sign * 0.01001]), [0.01])
        assert not outside.agrees and outside.index == (1,)
        assert outside.ratio == pytest.approx(1.001)
    assert compare(2.0, 2.00999, [0.01]).agrees and not compare(2.0, 2.01001, [0.01]).agrees
    assert compare(t(2.0), 2.00999, [0.01]).agrees and not compare(t(2.0), 2.01001, [0.01]).agrees


def test_without_a_tolerance_floats_must_be_equal():
    assert compare(t([1.0]), t([1.0])).agrees
    assert not compare(t([1.0]), t([1.0]).nextafter(t([2.0]))).agrees


def test_each_floating_leaf_has_its_own_tolerance_in_the_order_of_sorted_keys():
    right = {"b": t([1.0]), "count": t([7]), "a": [t([1.0]), "text", 1.0]}
    assert [path for path, _ in leaves(right)] == ["a[0]", "a[1]", "a[2]", "b", "count"]
    tolerance = [0.1, 0.2, 0.3]  # a[0], a[2], b
    mine = {"b": t([1.29]), "count": t([7]), "a": [t([1.09]), "text", 1.19]}
    assert compare(right, mine, tolerance).agrees
    for path, index, wrong in (
        ("a[0]", (0,), {**mine, "a": [t([1.11]), "text", 1.19]}),
        ("a[2]", (), {**mine, "a": [t([1.09]), "text", 1.21]}),
        ("b", (0,), {**mine, "b": t([1.31])}),
        ("count", (0,), {**mine, "count": t([8])}),
    ):
        difference = compare(right, wrong, tolerance)
        assert (difference.agrees, difference.path, difference.index) == (False, path, index)


def test_the_first_difference_is_told_and_the_largest_ratio_kept():
    right = {"a": torch.zeros(2, 3), "b": torch.zeros(2)}
    mine = {"a": torch.zeros(2, 3), "b": t([0.0, 50.0])}
    mine["a"][1, 2] = 2.0
    mine["a"][1, 1] = 3.0
    difference = compare(right, mine, [1.0, 1.0])
    assert (difference.place, difference.got, difference.expected) == ("a[1, 1]", "3", "0")
    assert difference.note == "2 of 6 values differ"
    assert difference.ratio == 50.0


def test_descriptions_give_no_numbers_away():
    assert describe(t([[1.5, 2.5]])) == "a tensor of shape (1, 2) and dtype float32"
    assert [describe(x) for x in (12345, "secret", 1.5)] == ["an int", "a str", "a float"]


# ------------------------------------------------------------------------------------------------------ judging


def case(kind: str, answer, tolerance=(0.01,), **mistakes) -> Case:
    return Case(kind, {"x": t([1.0])}, answer, list(tolerance), mistakes)


@pytest.fixture
def bank() -> Bank:
    """Three cases; `one` and `two` agree on the first, `never` equals the right answer on the first."""
    return Bank(
        WEEK,
        "double",
        [
            case("first kind", t([2.0]), one=t([5.0]), two=t([5.0]), never=t([2.0])),
            case("second kind", t([4.0]), one=t([6.0]), two=t([7.0]), never=t([0.0])),
            case("third kind", t([8.0]), one=t([9.0]), two=t([8.0]), never=Failure("RuntimeError", "shapes")),
        ],
        {"one": "Message one.", "two": "Message two.", "never": "Message never."},
    )


@pytest.fixture(autouse=True)
def toy_drives(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Drives of a week that exists only here."""
    module = types.ModuleType(f"course.drives.{WEEK}")
    module.double = lambda student, case: student.double(case["x"])
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


RIGHT = [t([2.0]), t([4.0]), t([8.0])]


def test_all_right(bank: Bank):
    verdict = judge(bank, RIGHT)
    assert (verdict.status, verdict.passed, verdict.total, verdict.right) == ("passed", 3, 3, True)
    assert verdict.to_text() == "✓ double: all 3 cases right."
    assert verdict.difference is None and verdict.named == ()


def test_a_mistake_is_named_if_it_agrees_on_every_case(bank: Bank):
    verdict = judge(bank, [t([5.001]), t([5.999]), t([9.0])])
    assert (verdict.status, verdict.passed, verdict.kind) == ("wrong", 0, "first kind")
    assert (verdict.mistakes, verdict.named) == (("one",), ("Message one.",))


def test_a_mistake_that_is_right_on_some_cases_is_named_and_those_count_as_passed(bank: Bank):
    verdict = judge(bank, [t([5.0]), t([7.0]), t([8.0])])
    assert (verdict.passed, verdict.named) == (1, ("Message two.",))


def test_a_mistake_that_raises_is_named_too_and_the_first_failing_case_is_told(bank: Bank):
    verdict = judge(bank, [t([2.0]), t([0.0]), Failure("RuntimeError", "other words")])
    assert (verdict.status, verdict.passed, verdict.kind) == ("wrong", 1, "second kind")
    assert verdict.named == ("Message never.",)


def test_nothing_is_named_where_one_case_disagrees(bank: Bank):
    for i in range(3):
        answers = [t([5.0]), t([6.0]), t([9.0])]
        answers[i] = t([-1.0])
        verdict = judge(bank, answers)
        assert verdict.named == () and verdict.mistakes == ()
        assert verdict.status == "wrong"


def test_nothing_is_named_where_two_mistakes_fit(bank: Bank):
    only = Bank(WEEK, "double", bank.cases[:1], bank.messages)
    verdict = judge(only, [t([5.0])])
    assert verdict.mistakes == ("one", "two") and verdict.named == ()


def test_nothing_is_named_where_the_answer_is_right(bank: Bank):
    only = Bank(WEEK, "double", bank.cases[:1], {"never": "Message never."})
    assert judge(only, [t([2.0])]).named == ()


def test_one_answer_for_each_case(bank: Bank):
    with pytest.raises(ValueError):
        judge(bank, RIGHT[:2])


def test_an_accepted_answer_counts_as_right(bank: Bank):
    first = Case("first kind", {}, t([2.0]), [0.01], {"one": t([5.0])}, accepted=[t([-2.0])])
    bank = Bank(WEEK, "double", [first], {"one": "Message one."})
    assert judge(bank, [t([-2.0])]).right and judge(bank, [t([2.0])]).right
    assert not judge(bank, [t([-2.5])]).right


@pytest.mark.parametrize(
    ("failure", "status", "text"),
    [
        (Failure("NotImplementedError"), "missing", "Replace `raise NotImplementedError()` with your solution."),
        (Failure("Missing", "`double` is not defined."), "missing", "not defined when the check is reached"),
        (Failure("Timeout", "anything"), "timeout", "Is there a loop that does not end?"),
        (Failure("Crashed", "anything"), "crashed", "It ended the Python process"),
        (Failure("SystemExit", "0", "line 2: exit()"), "error", "Your code calls exit();"),
        (Failure("TooLarge", "more than 64 MB"), "error", "The result is too large."),
        (Failure("ZeroDivisionError", "by zero", "line 3: 1 / 0"), "error", "ZeroDivisionError in line 3 of its cell."),
        (Failure("Mine", "by zero", "line 3: 1 / 0"), "error", "An exception in line 3 of its cell."),
        (Failure("Forbidden", "aten::rnn_tanh"), "forbidden", "solved without aten::rnn_tanh, which your code uses"),
        (Failure("Forbidden", "turning off the profiler"), "forbidden", "solved without turning off the profiler"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.type,
)
def test_failures(bank: Bank, failure: Failure, status: str, text: str):
    bank = replace(bank, forbid=["autograd", "aten::rnn_tanh"])
    verdict = judge(bank, [RIGHT[0], failure, RIGHT[2]])
    assert (verdict.status, verdict.passed, verdict.right) == (status, 2, False)
    assert text in verdict.message and text in verdict.to_text() and verdict.named == ()


@pytest.mark.parametrize(
    "kind", ["ValueError", "x = 0.7312", "Missing", "Unreadable", "TooLarge", "Timeout", "Forbidden"]
)
def test_what_a_failure_says_is_for_the_students_own_notebook_only(bank: Bank, kind: str):
    """A student can raise anything, the hidden inputs too."""
    failure = Failure(kind, "x = 0.7312", "line 2: x = 0.7312")
    verdict = judge(bank, [failure, *RIGHT[1:]])
    assert "0.7312" not in verdict.to_text(reveal=False) + verdict.to_html(reveal=False) + verdict.message
    if kind == "ValueError":
        assert "x = 0.7312 (line 2: x = 0.7312)" in verdict.to_text()


def test_forbidden_is_told_before_anything_else(bank: Bank):
    bank = replace(bank, forbid=["autograd"])
    verdict = judge(bank, [Failure("NotImplementedError"), t([0.0]), Failure("Forbidden", "autograd")])
    assert verdict.status == "forbidden" and "autograd" in verdict.message


def test_a_wrong_answer_before_an_exception_is_what_is_told(bank: Bank):
    verdict = judge(bank, [RIGHT[0], t([0.5]), Failure("ValueError", "later")])
    assert (verdict.status, verdict.kind, verdict.message) == ("wrong", "second kind", "")


def test_measures_are_compared_and_one_that_raises_is_an_error(bank: Bank):
    def halved(inputs: dict, raw: Tensor) -> Tensor:
        assert inputs["x"].equal(t([1.0]))
        return raw / 2

    assert judge(bank, [2 * answer for answer in RIGHT], halved).right
    unreadable = judge(bank, [RIGHT[0] * 2, "text", RIGHT[2] * 2], halved)
    assert (unreadable.status, unreadable.passed) == ("error", 2)
    assert "has another form than the exercise asks for" in unreadable.message
    failed = judge(bank, [Failure("ValueError", "mine"), *RIGHT[1:]], halved)
    assert failed.detail == "mine", "a failure reached the measure"


def test_the_measure_beside_the_drive_is_used_unless_another_is_given(bank: Bank, toy_drives: types.ModuleType):
    toy_drives.measure_double = lambda inputs, raw: raw + 1
    assert judge(bank, [answer - 1 for answer in RIGHT]).right


def test_the_same_answers_give_the_same_verdict(bank: Bank):
    assert judge(bank, [t([5.0]), t([6.0]), t([9.0])]) == judge(bank, [t([5.0]), t([6.0]), t([9.0])])


def test_a_bank_comes_back_from_its_files(bank: Bank, tmp_path: Path):
    bank.save(tmp_path)
    again = Bank.load(tmp_path, "double")
    assert (again.week, again.messages, again.forbid) == (bank.week, bank.messages, bank.forbid)
    for answers in (RIGHT, [t([5.0]), t([6.0]), t([9.0])]):
        assert judge(again, answers) == judge(bank, answers)
    with pytest.raises(ValueError):
        Bank.load(tmp_path, "treble")


# ------------------------------------------------------------------------------------------------------ showing


class Tags(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.seen: set[str] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list):
        self.seen.add(tag)

    def handle_data(self, data: str):
        self.text += data


def test_what_students_wrote_is_escaped(bank: Bank):
    attack = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    for failure in (Failure("ValueError", attack, attack), Failure(attack, attack), Failure("Missing", attack)):
        page = Tags(judge(bank, [failure, *RIGHT[1:]]).to_html())
        assert page.seen <= {"div", "strong"}
        assert attack in page.text
    named = Bank(WEEK, "double", [case("kind", "right")])
    page = Tags(judge(named, [attack]).to_html())
    assert page.seen <= {"div", "strong"} and attack in page.text
    keys = Bank(WEEK, "double", [case("kind", {"a": 1})])
    assert Tags(judge(keys, [{attack: 1}]).to_html()).seen <= {"div", "strong"}


def test_number_place_and_cause_in_that_order(bank: Bank):
    assert judge(bank, [t([5.0]), t([6.0]), t([9.0])]).to_text() == (
        "✗ double: 0 of 3 cases right.\n"
        "First case that fails: first kind.\n"
        "At [0]: 1 of 1 values differ.\n"
        "    yours     5\n"
        "    expected  2\n"
        "This is what you get from this mistake: Message one."
    )


def test_official_feedback_shows_no_values():
    for right, mine in (
        (t([2.5, 31.25]), t([2.5, 77.125])),
        (31.25, 77.125),
        (31, 77),
        ("31.25", "77.125"),
        (t([31, 31]), t([77, 77])),
        ([t([31.25])], [t([math.nan])]),
    ):
        verdict = judge(Bank(WEEK, "double", [case("kind", right)]), [mine])
        for shown in (verdict.to_text(reveal=False), verdict.to_html(reveal=False)):
            assert "31" not in shown and "77" not in shown and "yours" not in shown
            assert "First case that fails: kind." in shown
        assert "31" in verdict.to_text() or math.nan in mine[0].tolist()


@pytest.mark.parametrize(
    ("status", "head"),
    [
        ("missing", "○ f: not written yet."),
        ("error", "✗ f: 1 of 2 cases right; your code stopped with an error."),
        ("timeout", "✗ f: 1 of 2 cases right; your code took too long."),
        ("crashed", "✗ f: 1 of 2 cases right; your code ended the kernel."),
        ("forbidden", "△ f: points withheld."),
        ("wrong", "✗ f: 1 of 2 cases right."),
        ("passed", "✓ f: all 2 cases right."),
    ],
)
def test_every_status_has_its_head(status: str, head: str):
    verdict = Verdict("f", status, 1, 2)
    assert str(verdict) == repr(verdict) == head
    assert f"<strong>{head}</strong>" in verdict._repr_html_()


def test_what_hangs_on_an_earlier_exercise_says_so():
    assert Verdict("g", "passed", 2, 2, given="f").to_text() == (
        "✓ g: all 2 cases right, given your f. The mistake is there, not here."
    )
    on_top = Verdict("g", "wrong", 0, 2, mistakes=("one",), named=("Message one.",), given="f")
    assert on_top.to_text().splitlines()[1:] == [
        "On top of what your f gives, this is what you get from this mistake: Message one."
    ]
    both = Verdict("g", "wrong", 0, 2, mistakes=("one", "two"), named=("Message one.", "Message two."))
    assert both.to_text().splitlines()[1:] == [
        "This is what you get from two mistakes at once:",
        "– Message one.",
        "– Message two.",
    ]
    for verdict in (on_top, both):
        assert all(line in Tags(verdict.to_html()).text for line in verdict.to_text().splitlines())


def test_values_are_shown_for_wrong_answers_only():
    difference = Difference(math.inf, "a", (1,), "7", "8", "1 of 2 values differ")
    assert "yours" in Verdict("f", "wrong", 0, 1, difference=difference).to_text()
    assert "yours" not in Verdict("f", "error", 0, 1, difference=difference).to_text()


# -------------------------------------------------------------------------------------------- trained artifacts


@pytest.fixture
def goal() -> Goal:
    return Goal(name="names", file="names.safetensors", thresholds=[(0.5, 2.0), (0.8, 5.0)], figure="accuracy")


def test_points_by_thresholds(goal: Goal):
    assert [goal.points_for(x) for x in (0.49, 0.5, 0.79, 0.8, 1.0, math.nan)] == [0, 2, 2, 5, 5, 0]
    loss = Goal(name="loss", file="x", thresholds=[(3.0, 1.0), (2.0, 4.0)], lower_is_better=True)
    assert [loss.points_for(x) for x in (3.1, 3.0, 2.1, 2.0, 0.0, math.nan)] == [0, 1, 1, 4, 4, 0]
    assert "full points down to 2" in loss.verdict(2.5, "the novel").message


def test_a_figure_becomes_a_verdict(goal: Goal):
    verdict = judge_goal(goal, t([1.0, 0.0]), lambda raw: raw.mean(), "new names")
    assert (verdict.status, verdict.points, verdict.max_points) == ("wrong", 2.0, 5.0)
    assert verdict.to_text() == "✗ names: accuracy 0.500 on new names; full points from 0.8."
    assert judge_goal(goal, t([1.0]), lambda raw: raw.mean(), "new names").right


def test_an_artifact_that_fails_or_cannot_be_scored(goal: Goal):
    failed = judge_goal(goal, Failure("RuntimeError", "sizes", "line 2: x"), len, "")
    assert (failed.status, failed.points, failed.message) == ("error", 0.0, "RuntimeError in line 2 of its cell.")
    assert failed.detail == "sizes (line 2: x)"
    unread = judge_goal(goal, None, lambda raw: raw.mean(), "")
    assert unread.status == "error" and "cannot be scored" in unread.message and "NoneType" in unread.detail


def test_what_an_artifact_is_loaded_from(goal: Goal, tmp_path: Path):
    from safetensors.torch import save_file

    with pytest.raises(ValueError, match=r"names\.safetensors is not there\. Run the experiment"):
        goal.load(tmp_path)
    save_file({"w": t([1.0])}, tmp_path / goal.file)
    with pytest.raises(ValueError, match=r"names\.json is not there"):
        goal.load(tmp_path)
    (tmp_path / "names.json").write_text('{"accuracy": 0.5}')
    assert goal.load(tmp_path) == {"weights": {"w": t([1.0])}, "figures": {"accuracy": 0.5}}
    (tmp_path / "names.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be read"):
        goal.load(tmp_path)
    with (tmp_path / goal.file).open("r+b") as file:
        file.truncate(goal.max_bytes + 1)
    with pytest.raises(ValueError, match="larger than 16 MB"):
        goal.load(tmp_path)
    (tmp_path / goal.file).rename(tmp_path / "elsewhere")
    (tmp_path / goal.file).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="is not there"):
        goal.load(tmp_path)


def test_a_goal_comes_back_from_its_file(goal: Goal, tmp_path: Path):
    goal.save(tmp_path)
    again = Goal(**json.loads((tmp_path / "names.goal.json").read_text()))
    assert [again.points_for(x) for x in (0.4, 0.6, 0.9)] == [0, 2, 5]
    assert (again.name, again.file, again.figure) == (goal.name, goal.file, goal.figure)


# --------------------------------------------------------------------------------------------- in the notebook


def doubling_bank(folder: Path) -> Path:
    """Public cases of `double`, in a folder of their own."""
    cases = [Case("one number", {"x": t([3.0])}, t([6.0]), [1e-4], {"squared": t([9.0])})]
    target = folder / WEEK
    target.mkdir(parents=True)
    Bank(WEEK, "double", cases, {"squared": "x is squared, not doubled."}).save(target)
    return folder


def run_check(cases: Path, source: str, exercise: str = "double") -> None:
    """Runs a program that defines something and checks it, in a plain namespace."""
    namespace = {"torch": torch, "check": checks_for(WEEK, cases)}
    exec(dedent(source) + f"\ncheck({exercise!r})", namespace)


def test_check_passes_in_a_plain_namespace(tmp_path: Path, capsys: pytest.CaptureFixture):
    run_check(doubling_bank(tmp_path), "def double(x): return 2 * x")
    assert capsys.readouterr().out == "✓ double: all 1 cases right.\n"


def test_check_prints_the_verdict_and_raises(tmp_path: Path, capsys: pytest.CaptureFixture):
    with pytest.raises(CheckFailed, match=r"double: 0 of 1 cases right\. x is squared, not doubled\."):
        run_check(doubling_bank(tmp_path), "def double(x): return x * x")
    printed = capsys.readouterr().out
    assert "expected  6" in printed and "this mistake: x is squared, not doubled." in printed


def test_check_before_the_function_is_defined(tmp_path: Path, capsys: pytest.CaptureFixture):
    with pytest.raises(CheckFailed, match="not written yet"):
        run_check(doubling_bank(tmp_path), "")
    assert "`double` is not defined. Run the cell that defines it" in capsys.readouterr().out


def test_check_tells_the_line_that_raised(tmp_path: Path, capsys: pytest.CaptureFixture):
    with pytest.raises(CheckFailed):
        run_check(doubling_bank(tmp_path), "def double(x):\n    return x + torch.zeros(5, 2).bad")
    assert "'Tensor' object has no attribute 'bad' (line 2" in capsys.readouterr().out


def test_check_of_an_unknown_exercise_says_which_there_are(tmp_path: Path):
    with pytest.raises(ValueError, match="There is no exercise 'treble' in week98_toy; there are: double"):
        run_check(doubling_bank(tmp_path), "", "treble")


def test_check_reads_the_function_as_it_is_now(tmp_path: Path):
    namespace = {"check": checks_for(WEEK, doubling_bank(tmp_path)), "double": lambda x: 3 * x}
    with pytest.raises(CheckFailed):
        exec("check('double')", namespace)
    namespace["double"] = lambda x: 2 * x
    exec("check('double')", namespace)


def test_check_scores_what_is_saved_beside_the_notebook(
    tmp_path: Path,
    goal: Goal,
    toy_drives: types.ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
):
    from safetensors.torch import save_file

    (tmp_path / WEEK).mkdir()
    goal.save(tmp_path / WEEK)
    toy_drives.names_public = lambda: ({"x": t([1.0, 2.0])}, t([2.0, 4.0]))
    toy_drives.names = lambda student, case: student.apply(case["weights"]["w"], case["x"])
    toy_drives.score_names = lambda inputs, outputs, key: (outputs == key).double().mean()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckFailed):
        run_check(tmp_path, "", "names")
    assert "names.safetensors is not there" in capsys.readouterr().out
    (tmp_path / "names.json").write_text("{}")
    for weight, passes in ((2.0, True), (3.0, False)):
        save_file({"w": t([weight])}, tmp_path / goal.file)
        if passes:
            run_check(tmp_path, "def apply(w, x): return w * x", "names")
        else:
            with pytest.raises(CheckFailed):
                run_check(tmp_path, "def apply(w, x): return w * x", "names")
        assert f"accuracy {float(passes):.3f} on public data" in capsys.readouterr().out


def test_check_in_a_kernel_is_rich_and_fails_the_cell(tmp_path: Path):
    """As in JupyterLab: one kernel, the public cases that came with the course, no network."""
    given = "import torch\nfrom course.check import checks_for\ncheck = checks_for('week00_warmup')"
    mistaken = "def pairwise_distances(x, y):\n    return (x[:, None] - y[None]).pow(2).sum(-1)"
    broken = "def pairwise_distances(x, y):\n    return x.nothing"
    right = mistaken + ".sqrt()"
    sources = [given]
    for definition in (mistaken, broken, right):
        sources += [definition, "check('pairwise_distances')"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    NotebookClient(notebook, timeout=60, allow_errors=True, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [cell.outputs for cell in notebook.cells]

    [shown, error] = outputs[2]
    assert error.output_type == "error" and error.ename == "CheckFailed"
    assert error.traceback == [f"CheckFailed: {error.evalue}"], "students are shown this package's own frames"
    assert "squared distances" in error.evalue
    assert shown.data["text/html"].startswith("<div") and "squared distances" in shown.data["text/html"]
    assert "expected" in shown.data["text/plain"]

    [shown, error] = outputs[4]
    assert "'Tensor' object has no attribute 'nothing' (line 2: return x.nothing)" in shown.data["text/plain"]
    assert error.ename == "CheckFailed"

    [shown] = outputs[6]
    assert "all 3 cases right" in shown.data["text/html"]


def test_numbers_from_a_normalised_answer_keep_their_meaning():
    """What the notebook compares is what the grader compares after the border."""
    for value in (True, 3, 2.5, t(2.5), "x", None, {"a": (1,)}):
        assert compare(normalise(value), value).agrees
