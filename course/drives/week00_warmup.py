"""How the exercises of the warm-up are exercised."""

from typing import Any

from torch import nn

from course.drives import Student, set_weights


def pairwise_distances(student: Student, case: dict) -> Any:
    return student.pairwise_distances(case["x"], case["y"])


def masked_mean(student: Student, case: dict) -> Any:
    return student.masked_mean(case["values"], case["mask"])


def log_softmax(student: Student, case: dict) -> Any:
    return student.log_softmax(case["logits"])


def cross_entropy(student: Student, case: dict) -> Any:
    return student.cross_entropy(case["logits"], case["targets"])


def gradient_descent(student: Student, case: dict) -> Any:
    return student.gradient_descent(case["w"], case["x"], case["y"], case["lr"], case["steps"])


def baseline_losses(student: Student, case: dict) -> Any:
    return student.baseline_losses(case["targets"], case["num_classes"])


def overfit_one_batch(student: Student, case: dict) -> dict[str, Any]:
    """Losses of every step and the weights after the last one, of a network with one hidden layer."""
    weights = case["weights"]
    hidden, inputs = weights["0.weight"].shape
    model = nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, len(weights["2.bias"])))
    set_weights(model, weights)
    losses = student.overfit_one_batch(model, case["x"], case["targets"], case["lr"], case["steps"])
    return {"losses": losses, "weights": dict(model.named_parameters())}
