"""The exercises of the warm-up: what they are tried on, and the mistakes that they name. Nothing here gives points."""

import torch
from torch import Generator, Tensor

from autograder.draws import normal
from autograder.exercise import CaseMaker, Exercise, Inputs, Mistake


def classes(rng: Generator, count: int, num_classes: int) -> Tensor:
    return torch.randint(num_classes, (count,), generator=rng)


# ------------------------------------------------------------------------------------------------------ cases


def distance_cases(rng: Generator) -> list[tuple[str, Inputs]]:
    return [
        ("4 points and 3 points in 2 dimensions", {"x": normal(rng, 4, 2), "y": normal(rng, 3, 2, mean=1.0)}),
        ("one point and 6 points in 5 dimensions", {"x": normal(rng, 1, 5), "y": normal(rng, 6, 5)}),
        ("as many points as dimensions", {"x": normal(rng, 3, 3), "y": normal(rng, 3, 3, mean=2.0)}),
    ]


def masked_mean_cases(rng: Generator) -> list[tuple[str, Inputs]]:
    def prefix(*lengths: int, time: int) -> Tensor:
        return torch.arange(time) < torch.tensor(lengths).unsqueeze(1)

    return [
        (
            "sequences of 5, 2 and 3 steps",
            {"values": normal(rng, 3, 5, 4, mean=1.0), "mask": prefix(5, 2, 3, time=5)},
        ),
        (
            "gaps in the middle",
            {
                "values": normal(rng, 2, 6, 3, mean=-1.0),
                "mask": torch.tensor([[1, 0, 1, 0, 0, 1], [0, 0, 1, 1, 0, 0]]).bool(),
            },
        ),
        (
            "one sequence without any step",
            {"values": normal(rng, 3, 4, 2, mean=1.0), "mask": prefix(2, 0, 4, time=4)},
        ),
    ]


def log_softmax_cases(rng: Generator) -> list[tuple[str, Inputs]]:
    apart = torch.tensor([1000.0, 0.0, -1000.0]).unsqueeze(1)
    peak = normal(rng, 4, 5)
    peak[:, 2] += 300.0
    return [
        ("4 rows of 6 classes", {"logits": normal(rng, 4, 6, scale=2.0)}),
        ("as many rows as classes", {"logits": normal(rng, 5, 5, scale=2.0)}),
        ("logits near 1000", {"logits": normal(rng, 3, 4, scale=2.0, mean=1000.0)}),
        ("one logit 300 above the others", {"logits": peak}),
        ("rows near 1000, near 0 and near -1000", {"logits": normal(rng, 3, 5, scale=2.0) + apart}),
    ]


def cross_entropy_cases(rng: Generator) -> list[tuple[str, Inputs]]:
    wrong = normal(rng, 4, 5)
    wrong[:, 1] += 12.0
    return [
        (
            "6 examples, 4 classes",
            {"logits": normal(rng, 6, 4, scale=2.0), "targets": torch.tensor([0, 3, 1, 1, 2, 0])},
        ),
        ("one example", {"logits": normal(rng, 1, 7, scale=2.0), "targets": classes(rng, 1, 7)}),
        ("all examples of one class", {"logits": normal(rng, 5, 3, scale=2.0), "targets": torch.full((5,), 2)}),
        ("sure of the wrong class", {"logits": wrong, "targets": torch.tensor([0, 2, 3, 4])}),
    ]


def gradient_descent_cases(rng: Generator) -> list[tuple[str, Inputs]]:
    def regression(count: int, width: int, lr: float, steps: int) -> Inputs:
        x = normal(rng, count, width)
        y = x @ normal(rng, width, mean=2.0) + normal(rng, count, scale=0.1)
        return {"w": normal(rng, width), "x": x, "y": y, "lr": lr, "steps": steps}

    return [
        ("one step", regression(6, 3, lr=0.1, steps=1)),
        ("5 steps", regression(8, 4, lr=0.05, steps=5)),
        ("20 steps with a single weight", regression(5, 1, lr=0.05, steps=20)),
    ]


def baseline_cases(rng: Generator) -> list[tuple[str, Inputs]]:
    def shuffled(counts: list[int]) -> Tensor:
        targets = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
        return targets[torch.randperm(len(targets), generator=rng)]

    def between(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=rng))

    return [
        ("4 classes, one of them common", {"targets": shuffled([between(20, 40), 3, 5, 2]), "num_classes": 4}),
        (
            "18 classes, some without an example",
            {"targets": shuffled([9, 0, between(2, 8), 0, 4, 1]), "num_classes": 18},
        ),
        ("two classes, equally common", {"targets": shuffled([between(3, 9)] * 2), "num_classes": 2}),
    ]


def overfit_cases(rng: Generator) -> list[tuple[str, Inputs]]:
    def batch(count: int, width: int, hidden: int, num_classes: int, lr: float, steps: int) -> Inputs:
        weights = {
            "0.weight": normal(rng, hidden, width, scale=width**-0.5),
            "0.bias": normal(rng, hidden, scale=0.1),
            "2.weight": normal(rng, num_classes, hidden, scale=hidden**-0.5),
            "2.bias": normal(rng, num_classes, scale=0.1),
        }
        targets = torch.arange(count) % num_classes
        return {"weights": weights, "x": normal(rng, count, width), "targets": targets, "lr": lr, "steps": steps}

    return [
        ("one step", batch(6, 4, 7, 3, lr=0.5, steps=1)),
        ("4 steps", batch(8, 5, 6, 4, lr=0.3, steps=4)),
        ("15 steps, two classes", batch(5, 3, 8, 2, lr=0.2, steps=15)),
    ]


def ungraded(name: str, cases: CaseMaker, **more) -> Exercise:
    return Exercise(name, points=0, cases=cases, **more)


# -------------------------------------------------------------------------------------------------- exercises

EXERCISES = [
    ungraded(
        "pairwise_distances",
        distance_cases,
        floor=1e-4,  # |x|^2 + |y|^2 - 2 x.y is a right answer too, and loses digits where two points are close
        mistakes=[
            Mistake("squared", "The square root is missing: these are squared distances.", ".sqrt()", ""),
            Mistake(
                "transposed",
                "The result is transposed: row i has to belong to x[i], column j to y[j].",
                "x.unsqueeze(1) - y.unsqueeze(0)",
                "x.unsqueeze(0) - y.unsqueeze(1)",
            ),
            Mistake(
                "manhattan",
                "Absolute differences are summed (the Manhattan distance) instead of squares under a root.",
                ".pow(2).sum(dim=-1).sqrt()",
                ".abs().sum(dim=-1)",
            ),
            Mistake(
                "mean",
                "The squares are averaged over the dimensions instead of summed.",
                ".sum(dim=-1)",
                ".mean(dim=-1)",
            ),
            Mistake(
                "wrong_axis",
                "The sum runs over the points of x (dim=0) instead of over the coordinates, which are the last axis.",
                "sum(dim=-1)",
                "sum(dim=0)",
            ),
        ],
    ),
    ungraded(
        "masked_mean",
        masked_mean_cases,
        mistakes=[
            Mistake(
                "divided_by_all",
                "The sum is divided by T, padding included, instead of by the number of steps that count.",
                "weights.sum(dim=1).clamp(min=1)",
                "values.size(1)",
            ),
            Mistake(
                "padding_summed",
                "The padding is summed too: the mask is used for the count, but not for the sum.",
                "(values * weights).sum",
                "values.sum",
            ),
            Mistake(
                "inverted",
                "The mask is inverted: True means that a step counts.",
                "mask.unsqueeze(-1)",
                "(~mask).unsqueeze(-1)",
            ),
            Mistake(
                "batch_count",
                "Every sequence is divided by the number of counted steps of the whole batch instead of by its own.",
                "weights.sum(dim=1)",
                "weights.sum()",
            ),
            Mistake(
                "empty_nan",
                "A sequence without any counted step gives 0 / 0 = NaN; its mean is defined as zeros here.",
                ".clamp(min=1)",
                "",
            ),
        ],
    ),
    ungraded(
        "log_softmax",
        log_softmax_cases,
        forbid=["aten::log_softmax"],
        floor=2e-4,  # logits - logsumexp is a right answer too; near 1000 a float32 has steps of 6e-5
        mistakes=[
            Mistake(
                "no_shift",
                "The largest logit is not subtracted first, so exp() overflows for large logits.",
                "logits - logits.amax(dim=-1, keepdim=True)",
                "logits",
            ),
            Mistake(
                "global_max",
                "The largest logit of the whole batch is subtracted instead of each row's own, so a row far below it "
                "underflows.",
                "logits.amax(dim=-1, keepdim=True)",
                "logits.max()",
            ),
            Mistake(
                "log_of_softmax",
                "The logarithm is taken of the finished softmax: a probability that underflowed to 0 becomes -inf.",
                "shifted - shifted.exp().sum(dim=-1, keepdim=True).log()",
                "(shifted.exp() / shifted.exp().sum(dim=-1, keepdim=True)).log()",
            ),
            Mistake(
                "no_log",
                "These are probabilities: the logarithm is missing.",
                "shifted - shifted.exp().sum(dim=-1, keepdim=True).log()",
                "shifted.exp() / shifted.exp().sum(dim=-1, keepdim=True)",
            ),
            Mistake(
                "keepdim",
                "keepdim=True is missing in the sum: its result (B,) is laid along the columns instead of the rows.",
                "sum(dim=-1, keepdim=True)",
                "sum(dim=-1)",
            ),
            Mistake(
                "wrong_axis",
                "It is normalised over the rows of the batch (dim=0) instead of over the classes (the last axis).",
                "logits.amax(dim=-1, keepdim=True)",
                "logits.amax(dim=0, keepdim=True)",
                also=[("sum(dim=-1, keepdim=True)", "sum(dim=0, keepdim=True)")],
            ),
        ],
    ),
    ungraded(
        "cross_entropy",
        cross_entropy_cases,
        uses=["log_softmax"],
        forbid=["aten::cross_entropy_loss", "aten::nll_loss_nd"],
        mistakes=[
            Mistake("sign", "The minus sign is missing: a loss is never negative.", "-chosen", "chosen"),
            Mistake("summed", "The losses are summed over the examples instead of averaged.", ".mean()", ".sum()"),
            Mistake(
                "bits",
                "This is in bits (base 2); nats, the natural logarithm, are asked for.",
                "-chosen.mean()",
                "-chosen.mean() / math.log(2)",
            ),
            Mistake(
                "all_pairs",
                "log_probs[:, targets] takes every target for every example, an (N, N) table; each example has one target.",
                "log_probs.gather(1, targets.unsqueeze(1))",
                "log_probs[:, targets]",
            ),
            Mistake(
                "probabilities",
                "The probabilities of the targets are averaged, not their logarithms.",
                "log_softmax(logits)",
                "log_softmax(logits).exp()",
            ),
            Mistake(
                "softmax_twice",
                "The softmax is applied twice: log_softmax wants logits and got probabilities.",
                "log_softmax(logits)",
                "log_softmax(log_softmax(logits).exp())",
            ),
        ],
    ),
    ungraded(
        "gradient_descent",
        gradient_descent_cases,
        mistakes=[
            Mistake(
                "accumulated",
                "The gradient is never set back: backward() adds to w.grad, so old gradients are used again.",
                "w.grad.zero_()",
                "pass",
            ),
            Mistake(
                "ascent",
                "The step goes up the gradient: subtract it to make the loss smaller.",
                "w -= lr * w.grad",
                "w += lr * w.grad",
            ),
            Mistake(
                "summed",
                "The loss is the sum of the squared errors instead of their mean.",
                ".mean()",
                ".sum()",
            ),
            Mistake(
                "halved",
                "The loss is half the mean squared error; the factor 1/2 is not in the specification.",
                ".mean()",
                ".mean() / 2",
            ),
            Mistake(
                "broadcast",
                "The predictions have the shape (N, 1) and y has (N,): their difference is an (N, N) table of all pairs.",
                "x @ w - y",
                "x @ w.unsqueeze(1) - y",
            ),
            Mistake(
                "loss_after",
                "The losses are measured after each step; the one before the step is asked for.",
                "losses.append(loss.detach())",
                "losses.append((x @ w - y).pow(2).mean().detach())",
            ),
        ],
    ),
    ungraded(
        "baseline_losses",
        baseline_cases,
        mistakes=[
            Mistake(
                "bits",
                "The first loss is in bits (base 2) and the second in nats; both are asked for in nats.",
                "math.log(num_classes)",
                "math.log2(num_classes)",
            ),
            Mistake(
                "seen_classes",
                "The first loss counts only the classes that occur in targets; an untrained network spreads its "
                "probability over all num_classes.",
                "math.log(num_classes)",
                "math.log(len(targets.unique()))",
            ),
            Mistake(
                "absent_nan",
                "A class without an example gives 0 * log 0 = NaN; it adds nothing to the loss.",
                "torch.xlogy(share, share)",
                "(share * share.log())",
            ),
            Mistake(
                "most_common",
                "The second loss is that of the most common class alone; it is the mean over all examples.",
                "-torch.xlogy(share, share).sum()",
                "-share.max().log()",
            ),
            Mistake(
                "averaged",
                "The terms of the second loss are averaged over the classes; the shares are already the weights, so sum.",
                "torch.xlogy(share, share).sum()",
                "torch.xlogy(share, share).mean()",
            ),
        ],
    ),
    ungraded(
        "overfit_one_batch",
        overfit_cases,
        uses=["cross_entropy"],
        mistakes=[
            Mistake(
                "accumulated",
                "The gradients are never set back: backward() adds to them, so every step repeats the old ones.",
                "optimizer.zero_grad()",
                "pass",
            ),
            Mistake(
                "no_step",
                "The weights never change: the gradients are zero, or not there, when step() uses them. The order is "
                "zero_grad(), backward(), step().",
                "optimizer.zero_grad()\n        loss.backward()",
                "loss.backward()\n        optimizer.zero_grad()",
            ),
            Mistake(
                "softmax_first",
                "The network's outputs go through a softmax before cross_entropy, which wants logits.",
                "cross_entropy(model(x), targets)",
                "cross_entropy(model(x).softmax(dim=-1), targets)",
            ),
            Mistake(
                "loss_after",
                "Each loss is measured with the weights after the step instead of before it.",
                "losses.append(loss.detach())",
                "losses.append(cross_entropy(model(x), targets).detach())",
            ),
            Mistake("adam", "The optimiser is Adam; plain SGD is asked for.", "torch.optim.SGD", "torch.optim.Adam"),
        ],
    ),
]
