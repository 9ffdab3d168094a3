"""Week 0 against the outside: PyTorch's own functions, and what its notebook promises. `test_weeks` proves its checks."""

import re
from pathlib import Path

import matplotlib
import pytest
import torch
from torch import nn
from torch.nn import functional

from autograder.bank import PUBLIC_SEED, draw_cases, make_bank
from autograder.week import Week
from course.check import judge

ROOT = Path(__file__).parents[1]
WEEK = Week(ROOT / "solutions" / "week00_warmup")


@pytest.fixture(scope="module")
def solution() -> dict:
    return WEEK.namespace()


def inputs_of(exercise: str) -> list[dict]:
    return [inputs for _, inputs in draw_cases(WEEK, WEEK.exercise(exercise), "truth")]


def test_distances_are_those_of_cdist(solution: dict):
    for case in inputs_of("pairwise_distances"):
        torch.testing.assert_close(solution["pairwise_distances"](**case), torch.cdist(case["x"], case["y"]))


def test_masked_mean_is_that_of_a_masked_array(solution: dict):
    for case in inputs_of("masked_mean"):
        values = case["values"].masked_fill(~case["mask"].unsqueeze(-1), torch.nan)
        truth = values.nanmean(dim=1).nan_to_num(0.0)
        torch.testing.assert_close(solution["masked_mean"](**case), truth)


def test_log_softmax_and_cross_entropy_are_those_of_torch(solution: dict):
    for case in inputs_of("log_softmax"):
        torch.testing.assert_close(solution["log_softmax"](**case), case["logits"].log_softmax(dim=-1))
    for case in inputs_of("cross_entropy"):
        torch.testing.assert_close(
            solution["cross_entropy"](**case), functional.cross_entropy(case["logits"], case["targets"])
        )


def test_gradient_descent_is_that_of_the_closed_gradient(solution: dict):
    """The gradient of the mean squared error is 2/N x^T (x w - y)."""
    for case in inputs_of("gradient_descent"):
        w, before = case["w"].clone(), case["w"].clone()
        for _ in range(case["steps"]):
            w = w - case["lr"] * 2 / len(case["y"]) * case["x"].T @ (case["x"] @ w - case["y"])
        found, losses = solution["gradient_descent"](**case)
        torch.testing.assert_close(found, w)
        torch.testing.assert_close(losses[0], functional.mse_loss(case["x"] @ before, case["y"]))
        assert losses.shape == (case["steps"],)
        assert torch.equal(case["w"], before), "the caller's weights were changed"


def test_baselines_are_losses_of_constant_logits(solution: dict):
    for case in inputs_of("baseline_losses"):
        targets, count = case["targets"], case["num_classes"]
        even, constant = solution["baseline_losses"](**case)
        assert even == pytest.approx(float(functional.cross_entropy(torch.zeros(len(targets), count), targets)))
        shares = torch.bincount(targets, minlength=count) / len(targets)
        logits = shares.log().clamp(min=-50).expand(len(targets), count)
        torch.testing.assert_close(constant, functional.cross_entropy(logits, targets))


def test_a_batch_is_overfitted_from_log_c_down(solution: dict):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 24), nn.Tanh(), nn.Linear(24, 5))
    nn.init.zeros_(model[2].weight), nn.init.zeros_(model[2].bias)
    x, targets = torch.randn(10, 6), torch.arange(10) % 5
    losses = solution["overfit_one_batch"](model, x, targets, lr=1.0, steps=300)
    assert float(losses[0]) == pytest.approx(solution["baseline_losses"](targets, 5)[0])
    assert losses[-1] < 0.05
    assert model(x).argmax(dim=1).equal(targets)


def test_the_failing_check_in_the_introduction_is_what_the_check_says():
    bank = make_bank(WEEK, WEEK.exercise("pairwise_distances"), PUBLIC_SEED)
    said = judge(bank, [case.mistakes["squared"] for case in bank.cases]).to_text()
    prose = next(cell.source for cell in WEEK.master.cells if "How an exercise works" in cell.source)
    quoted = re.search(r"```text\n(.*?)\n```", prose, re.S).group(1)

    def rounded(text: str) -> str:  # the last digits of a float32 depend on the processor
        return re.sub(r"\d+\.\d+", lambda number: f"{float(number[0]):.3f}", text)

    assert rounded(quoted) == rounded(said)


def test_every_picture_is_drawn_by_the_solution(solution: dict, monkeypatch: pytest.MonkeyPatch):
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(plt.gcf().axes))
    looks = [cell for cell in WEEK.master.cells if "look" in cell.metadata]
    namespace = dict(solution)
    for cell in looks:
        exec(compile(cell.source, f"<look {cell.metadata['look']}>", "exec"), namespace)
        plt.close("all")
    assert len(shown) == len(looks) == len(WEEK.exercises) + 1
    assert all(ax.has_data() for axes in shown for ax in axes)


def test_nothing_counts_and_every_exercise_says_how_long_it_takes():
    prose = "\n".join(cell.source for cell in WEEK.master.cells if cell.cell_type == "markdown")
    minutes = [int(number) for number in re.findall(r"`difficulty [1-5] of 5 · (\d+) min`", prose)]
    assert len(minutes) == len(WEEK.exercises)
    assert 60 <= sum(minutes) <= 90
    assert all(exercise.points == 0 for exercise in WEEK.exercises)
