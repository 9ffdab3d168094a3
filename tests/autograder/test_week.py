"""Reading a week: which one is meant, what its cells are, and where a mistake's text stands."""

import json
import math
import pickle
from pathlib import Path
from textwrap import dedent

import pytest

from autograder.errors import CourseError
from autograder.exercise import Exercise, Mistake, thresholds
from autograder.week import Week, find_root, find_week, weeks_of

MASTER = '''\
# %% [markdown]
# # A toy week, with `twice`

# %%
import math

OFFSET = 0

# %% exercise="twice"
def twice(x):
    """Doubles x: returns 2 * x. ∂y/∂x = 2 – für jedes x ∈ ℝ."""
    ### BEGIN SOLUTION
    y = 2 * x  # not x * 2
    return y + OFFSET
    ### END SOLUTION

# %% check="twice"
check("twice")

# %% look="twice"
raise RuntimeError("a picture was executed")

# %% experiment="long"
raise RuntimeError("an experiment was executed")

# %% exercise="Net.forward"
class Net:
    """A class whose text says return -x."""

    def forward(self, x):
        ### BEGIN SOLUTION
        return -x
        ### END SOLUTION

# %% [markdown] written="why" points=3
# Because.
'''

EXERCISES = """
from autograder.exercise import Artifact, Exercise

EXERCISES = [
    Exercise("twice", points=2, cases=lambda rng: []),
    Exercise("Net.forward", points=3, cases=lambda rng: []),
    Artifact(name="toy", file="toy.safetensors", thresholds=[(0.5, 1.0)], inputs=None, score=None),
]
"""

ALTERNATES = """
# %% alternate="twice" name="added"
def twice(x):
    return x + x

# %% alternate="twice" accepted=true
def twice(x):
    return x * 2

# %%
unrelated = True
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A course with one whole week, one that begins alike, and a folder that is no week."""
    (tmp_path / "nbgrader_config.py").touch()
    folder = tmp_path / "solutions" / "week07_toy"
    folder.mkdir(parents=True)
    (folder / "week07_toy.py").write_text(MASTER, encoding="utf-8")
    (folder / "exercises.py").write_text(EXERCISES)
    (folder / "alternates.py").write_text(ALTERNATES)
    other = tmp_path / "solutions" / "week07_toy_more"
    other.mkdir()
    (other / "week07_toy_more.py").write_text("# %%\n")
    (tmp_path / "solutions" / "week08_unwritten").mkdir()
    (tmp_path / "solutions" / "heldout").mkdir()
    return tmp_path


@pytest.fixture
def week(root: Path) -> Week:
    return find_week(root, "week07_toy")


# ------------------------------------------------------------------------------------------------------ finding


def test_the_root_is_found_from_inside(root: Path):
    assert find_root(root / "solutions" / "week07_toy") == root.resolve()
    assert find_root(root) == root.resolve()


def test_outside_a_course_there_is_no_root(tmp_path: Path):
    with pytest.raises(CourseError, match=r"is not inside a course: no folder above it has nbgrader_config\.py"):
        find_root(tmp_path)


def test_weeks_are_folders_with_a_master_notebook_in_order(root: Path):
    assert [week.name for week in weeks_of(root)] == ["week07_toy", "week07_toy_more"]


def test_a_week_is_found_by_any_unambiguous_beginning(root: Path):
    assert find_week(root, "week07_toy_").name == "week07_toy_more"
    assert find_week(root, "week07_toy").name == "week07_toy", "a whole name wins over a longer one"


@pytest.mark.parametrize(
    ("prefix", "message"),
    [
        ("week0", "More than one week begins with 'week0'. Weeks here: week07_toy, week07_toy_more."),
        ("week08", "No week begins with 'week08'. Weeks here: week07_toy, week07_toy_more."),
        ("toy", "No week begins with 'toy'."),
        ("", "No week begins with ''."),
        ("../solutions/week07", "No week begins with '../solutions/week07'."),
    ],
)
def test_any_other_beginning_is_told_with_what_there_is(root: Path, prefix: str, message: str):
    with pytest.raises(CourseError) as caught:
        find_week(root, prefix)
    assert str(caught.value).startswith(message)


def test_a_course_without_weeks(tmp_path: Path):
    with pytest.raises(CourseError, match=r"Weeks here: none\."):
        find_week(tmp_path, "week01")


# ------------------------------------------------------------------------------------------------------ reading


def test_exercises_and_artifacts(week: Week):
    assert [exercise.name for exercise in week.exercises] == ["twice", "Net.forward"]
    assert [artifact.name for artifact in week.artifacts] == ["toy"]
    assert week.exercise("net-forward") is week.exercise("Net.forward")
    with pytest.raises(CourseError, match=r"week07_toy has no exercise 'thrice'; it has twice, Net\.forward\."):
        week.exercise("thrice")


def test_alternates(week: Week, root: Path):
    first, second = week.alternates
    assert (first.exercise, first.name, first.accepted) == ("twice", "added", False)
    assert second.accepted and second.name and "x * 2" in second.source
    assert find_week(root, "week07_toy_more").alternates == []


def test_cells_that_define_something(week: Week):
    assert [name for name, _ in week.code_cells] == ["", "twice", "Net.forward"]
    assert "y = 2 * x" in week.solution("twice")


@pytest.mark.parametrize("name", ["thrice", ""])
def test_an_exercise_without_a_solution_cell(week: Week, name: str):
    with pytest.raises(CourseError, match="has 0 solution cells for"):
        week.solution(name)


def test_an_exercise_with_two_solution_cells(root: Path):
    path = root / "solutions" / "week07_toy" / "week07_toy.py"
    path.write_text(MASTER + '\n# %% exercise="twice"\ndef twice(x): return x\n', encoding="utf-8")
    with pytest.raises(CourseError, match="has 2 solution cells for twice"):
        find_week(root, "week07_toy").solution("twice")


def test_a_namespace_runs_given_cells_and_solutions_only(week: Week):
    namespace = week.namespace()
    assert namespace["twice"](4) == 8 and namespace["Net"]().forward(4) == -4
    assert namespace["__name__"] == "__main__"


def test_a_namespace_with_another_solution(week: Week):
    namespace = week.namespace({"twice": "def twice(x): return 'other'"})
    assert namespace["twice"](4) == "other" and namespace["Net"]().forward(4) == -4
    assert week.namespace()["twice"](4) == 8, "the replacement stayed"
    with pytest.raises(CourseError, match="no solution cell for thrice"):
        week.namespace({"thrice": "pass"})
    with pytest.raises(ZeroDivisionError):
        week.namespace({"twice": "1 / 0"})


def test_a_week_can_be_sent_to_another_process(week: Week):
    assert pickle.loads(pickle.dumps(Week(week.folder))).exercise("twice").points == 2


# ----------------------------------------------------------------------------------------------------- mistakes

TWICE = Exercise("twice", points=2, cases=lambda rng: [])
NET = Exercise("Net.forward", points=3, cases=lambda rng: [])


def mistaken(week: Week, *edits: tuple[str, str], exercise: Exercise = TWICE, **more) -> str:
    (find, replace), *also = edits
    return week.mistaken(exercise, Mistake("m", "A message.", find, replace, also=also, **more))


def test_a_mistake_is_an_edit_of_the_code(week: Week):
    source = mistaken(week, ("2 * x", "3 * x"))
    assert week.namespace({"twice": source})["twice"](4) == 12
    assert source == week.solution("twice").replace("y = 2 * x", "y = 3 * x")


def test_docstrings_and_comments_are_left_alone(week: Week):
    assert week.solution("twice").count("2 * x") == 2, "the docstring says it too"
    source = mistaken(week, ("return -x", "return x"), exercise=NET)
    assert "text says return -x" in source and week.namespace({"Net.forward": source})["Net"]().forward(4) == 4


@pytest.mark.parametrize("find", ["x * 2", "Doubles x", "∈ ℝ", "BEGIN SOLUTION", "returns 2 * x"])
def test_text_in_a_comment_or_a_docstring_is_no_place_for_a_mistake(week: Week, find: str):
    with pytest.raises(CourseError, match="'m' occurs 0 times in the solution's code instead of once"):
        mistaken(week, (find, "y"))


def test_text_that_is_not_there_or_there_twice(week: Week):
    with pytest.raises(CourseError) as caught:
        mistaken(week, ("4 * x", "5 * x"))
    assert str(caught.value) == (
        "week07_toy, twice: the text of mistake 'm' occurs 0 times in the solution's code instead of once: '4 * x'."
    )
    with pytest.raises(CourseError, match="occurs 2 times"):
        mistaken(week, ("y", "z"), source="def f(): return 'y', 'y'")


def test_overlapping_places_count_as_two(week: Week):
    with pytest.raises(CourseError, match="occurs 2 times"):
        mistaken(week, ("xx", ""), source="xxx = 1\n")


def test_several_edits_each_in_what_the_one_before_left(week: Week):
    source = mistaken(week, ("2 * x", "3 * x"), ("3 * x", "5 * x"), ("y + OFFSET", "y + 1"))
    assert week.namespace({"twice": source})["twice"](1) == 6


def test_a_mistake_with_a_source_of_its_own(week: Week):
    own = "def twice(x):\n    return x\n"
    assert week.mistaken(TWICE, Mistake("m", "A message.", source=own)) == own


def test_signs_outside_ascii_do_not_hide_the_code_after_them(week: Week):
    """Python's syntax tree counts columns in bytes: what follows a docstring with many signs must still be found."""
    source = dedent('''\
        def f(x):
            """∂L/∂h, ∂L/∂w, ∂L/∂b, für h ∈ ℝ."""
            y = x
            return y
        ''')
    assert "y = -x" in mistaken(week, ("y = x", "y = -x"), source=source)
    assert "-> nothing" in mistaken(week, ("\n    y = x", "\n    y = 1  # -> nothing"), source=source)
    with pytest.raises(CourseError, match="occurs 0 times"):
        mistaken(week, ("ℝ", "R"), source=source)


def test_thresholds_come_from_measured_runs(tmp_path):
    results = tmp_path / "results.json"
    assert thresholds(results, "toy", 4) == [(math.inf, 4)]
    seeds = {str(i): {"points": [[at, 0.0, 0, at / 10 + i] for at in (1, 2, 5, 10)]} for i in range(2)}
    results.write_text(json.dumps({"artifacts": {"toy": {"heldout": {"mean": 1.0, "sd": 0.05}, "seeds": seeds}}}))
    assert thresholds(results, "toy", 4) == [(pytest.approx(0.85), 4), (pytest.approx(0.7), 2)]
    assert thresholds(results, "toy", 4, early=0.5) == [(pytest.approx(0.85), 4)]  # the early runs had that already
    falling = {"0": {"points": [[at, 0.0, 0, 2 - at / 10] for at in (1, 2, 5, 10)]}}
    results.write_text(json.dumps({"artifacts": {"toy": {"heldout": {"mean": 1.0, "sd": 0.05}, "seeds": falling}}}))
    assert thresholds(results, "toy", 4, lower_is_better=True, early=0.5) == [
        (pytest.approx(1.15), 4),
        (pytest.approx(1.5), 2),
    ]
    assert thresholds(results, "another", 4, lower_is_better=True) == [(-math.inf, 4)]
