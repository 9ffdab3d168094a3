"""Explaining a refusal and accepting a wrongly refused answer, end to end on two exercises of week 1."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from autograder.accept import accept, candidate
from autograder.bank import make_bank
from autograder.cli import app
from autograder.errors import CourseError
from autograder.explain import Attempt, attempt, explain, told
from autograder.release import assignment_notebook, notebook_bytes
from autograder.submission import filled, write_submission
from autograder.week import Week
from course.check import Verdict, judge
from course.drives import answer
from tests.conftest import ROOT, WEEK, cut_week

# Draws pick from the unlikeliest character up: as good a sampler as the one asked for, in another order.
HELPER = """
def unlikeliest_first(probs, draw):
    ordered, order = probs.sort(dim=-1, stable=True)
    at = (ordered.cumsum(dim=-1) <= draw.unsqueeze(1)).sum(dim=1, keepdim=True)
    return order.gather(1, at.clamp(max=probs.size(1) - 1))
"""
UNRELATED = "something_else = 3"
OTHER_CONVENTION = """
def generate(model, prompt, draws, temperature, top_k=None):
    tokens = prompt
    logits, h = model(prompt)
    for draw in draws.unbind(dim=1):
        token = unlikeliest_first(next_char_probs(logits[:, -1], temperature, top_k), draw)
        tokens = torch.cat([tokens, token], dim=1)
        logits, h = model(token, h)
    return tokens
"""


@pytest.fixture(scope="module")
def week(tmp_path_factory) -> Week:
    """A course with two exercises, released, and one student's submission of it."""
    target = tmp_path_factory.mktemp("explain")
    settings = (ROOT / "nbgrader_config.py").read_text()
    (target / "nbgrader_config.py").write_text(f'{settings}\nc.Course.isolation = "process"\n')
    cut_week(target, ("next_char_probs", "generate"))
    week = Week(target / "solutions" / WEEK)
    released = assignment_notebook(week)
    write_submission(target / "assignments" / WEEK, released, WEEK)
    assert (target / "assignments" / WEEK / f"{WEEK}.ipynb").read_bytes() == notebook_bytes(released)
    sources = {"next_char_probs": week.solution("next_char_probs"), "generate": OTHER_CONVENTION}
    handed_in = filled(released, sources)
    at = next(i for i, cell in enumerate(handed_in.cells) if cell.id == "generate")
    for source in (UNRELATED, HELPER):
        own = handed_in.cells[at].copy()
        own.update(source=source, id=f"new{len(source)}", metadata={})
        handed_in.cells.insert(at, own)
    write_submission(target / "grading" / "submitted" / "ada" / WEEK, handed_in, WEEK)
    return week


def tried(week: Week, name: str, source: str) -> Attempt:
    """An attempt with the given source, answered in this process."""
    exercise = week.exercise(name)
    bank = make_bank(week, exercise, "tried")
    namespace = week.namespace({name: source})
    answers = [answer(week.name, name, namespace, case.inputs) for case in bank.cases]
    return Attempt("ben", exercise, source, [], bank, answers, judge(bank, answers))


def mistaken(week: Week, name: str, mistake: str) -> str:
    exercise = week.exercise(name)
    return week.mistaken(exercise, next(m for m in exercise.mistakes if m.name == mistake))


def unchanged(week: Week) -> str:
    return (week.folder / "alternates.py").read_text()


def command(*words: str) -> str:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    return done.output


def test_an_answer_in_another_convention_is_explained_accepted_and_right_from_then_on(week, monkeypatch):
    monkeypatch.chdir(week.root)
    text = command("explain", "week01", "ada", "generate")
    assert "✗ generate: 1 of 4 cases right." in text
    assert "This is what you get from two mistakes at once:" in text  # sorted downwards, and drawn from the other end
    assert "token = unlikeliest_first(" in text  # the student's own code
    assert text.count("mistakes that answer the same:") == text.count("\nCase ") == 4
    assert "refused: at tokens[0, " in text

    assert f"autograder grade {WEEK}" in command("accept", "week01", "ada", "generate", "--yes")
    fresh = Week(week.folder)
    [accepted] = [alternate for alternate in fresh.alternates if alternate.accepted]
    assert (accepted.exercise, accepted.name) == ("generate", "accepted-ada")
    assert accepted.source == f"{HELPER.strip()}\n\n\n{OTHER_CONVENTION.strip()}"  # and nothing that it does not need
    after = attempt(fresh, "ada", "generate")
    assert after.verdict.right
    assert "right: it agrees with accepted answer 1" in told(after)
    assert "In the last grading it was:\n○" in told(after, Verdict("generate", "missing", 0, 4))
    right = tried(fresh, "generate", fresh.solution("generate"))
    assert (
        right.verdict.right and tried(fresh, "generate", mistaken(fresh, "generate", "state-forgotten")).verdict.named
    )
    with pytest.raises(CourseError, match="right already"):
        candidate(after)
    with pytest.raises(CourseError, match="has an alternate 'accepted-ada' of generate already"):
        accept(fresh, after.exercise, accepted.source, "accepted-ada")


def test_it_is_explained_as_it_is_graded_where_an_earlier_mistake_is_followed(week):
    earlier = mistaken(week, "next_char_probs", "keeps-one-more")
    released = assignment_notebook(week)
    sources = {"next_char_probs": earlier, "generate": week.solution("generate")}
    write_submission(week.root / "grading" / "submitted" / "cleo" / WEEK, filled(released, sources), WEEK)
    text = explain(week, "cleo", "generate")
    assert "✓ generate: all 4 cases right, given your next_char_probs." in text
    assert "compared with what is right without the mistake in next_char_probs" in text and "refused: " in text


def test_a_known_mistake_is_never_accepted(week):
    text = unchanged(week)
    wrong = tried(week, "next_char_probs", mistaken(week, "next_char_probs", "keeps-one-less"))
    assert wrong.verdict.named
    with pytest.raises(CourseError, match="'keeps-one-less' would pass with it"):
        accept(week, wrong.exercise, candidate(wrong), "accepted-ben")
    assert unchanged(week) == text


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (
            "def next_char_probs(logits, temperature, top_k=None):\n    return helper(logits)",
            "name 'helper' is not defined",
        ),
        ("def next_char_probs(logits:", "does not run by itself"),
        ("import not_a_package", "No module named 'not_a_package'"),
        (
            "def next_char_probs(logits, temperature, top_k=None):\n    return torch.full_like(logits, random())\n\n\n"
            "from random import random",
            "answers otherwise each time",
        ),
        (
            "def next_char_probs(logits, temperature, top_k=None):\n    return -logits\n\n\n# %% cell\nx = 1",
            "cannot be kept in alternates.py",
        ),
    ],
)
def test_what_cannot_be_accepted_changes_nothing(week, source, why):
    text = unchanged(week)
    with pytest.raises(CourseError, match=why):
        accept(week, week.exercise("next_char_probs"), source, "accepted-ben")
    assert unchanged(week) == text


def test_unknown_student_and_exercise_are_one_clear_sentence(week):
    with pytest.raises(CourseError, match="no notebook of 'eve' for week01_rnn; it was handed in by ada"):
        explain(week, "eve", "generate")
    with pytest.raises(CourseError, match="has no exercise 'rnn_stop'; it has next_char_probs, generate"):
        explain(week, "ada", "rnn_stop")
    assert not list(Path(week.root / "grading" / "submitted").glob("eve*"))
