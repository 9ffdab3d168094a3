"""Week 1: points, cases and mistakes of the recurrent network's exercises.

B batch, T time, I input width, H hidden width, V vocabulary. Cases are small, float32, with random weights that are not
square where they need not be; every random number comes from the generator that is handed in.
"""

import math
from pathlib import Path

import torch
from torch import Tensor

from autograder import Artifact, Exercise, Mistake, thresholds
from autograder.draws import integers, normal, uniform
from autograder.novel import chars_artifact
from course.data import encode_surnames, read
from course.drives.week01_rnn import CaseModel, score_names

Cases = list[tuple[str, dict]]
RESULTS = Path(__file__).with_name("results.json")


def rnn_weights(rng: torch.Generator, width: int, hidden: int) -> dict[str, Tensor]:
    """Weights that keep the tanh in its curved part: neither linear nor saturated."""
    return {
        "w_ih": normal(rng, hidden, width, scale=0.6 * width**-0.5),
        "w_hh": normal(rng, hidden, hidden, scale=0.9 * hidden**-0.5),
        "b_ih": normal(rng, hidden, scale=0.3),
        "b_hh": normal(rng, hidden, scale=0.3),
    }


def run(x: Tensor, h: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    """All states (B, T, H) of a network on x (B, T, I): what the backward exercises are given."""
    states = []
    for x_t in x.unbind(dim=1):
        h = torch.tanh(x_t @ w_ih.T + b_ih + h @ w_hh.T + b_hh)
        states.append(h)
    return torch.stack(states, dim=1)


# ---------------------------------------------------------------------------------------------- trained models


def heldout_names(heldout: Path) -> tuple[dict, Tensor]:
    """(inputs of the drive, labels) of the tenth of the surnames that only the grader has."""
    tokens, lengths, labels = encode_surnames(read(heldout / "surnames.parquet"))
    return {"tokens": tokens, "lengths": lengths}, labels


# ------------------------------------------------------------------------------------------------------- cases


def step_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, batch: int, width: int, hidden: int, scale: float = 1.0) -> tuple[str, dict]:
        inputs = {
            "x": normal(rng, batch, width, scale=scale),
            "h": normal(rng, batch, hidden, scale=0.5),
            **rnn_weights(rng, width, hidden),
            "upstream": normal(rng, batch, hidden),
        }
        return kind, inputs

    return [
        case("a batch of four", 4, 3, 5),
        case("a batch of one", 1, 6, 2),
        case("inputs as wide as the state", 3, 4, 4),
        case("large inputs, where the tanh saturates", 3, 2, 5, scale=4.0),
    ]


def forward_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, lengths: list[int], steps: int, width: int, hidden: int) -> tuple[str, dict]:
        batch = len(lengths)
        inputs = {
            "x": normal(rng, batch, steps, width),
            "lengths": torch.tensor(lengths),
            "h0": normal(rng, batch, hidden, scale=0.5),
            **rnn_weights(rng, width, hidden),
            "upstream_outputs": normal(rng, batch, steps, hidden),
            "upstream_h_n": normal(rng, batch, hidden),
        }
        return kind, inputs

    return [
        case("three sequences of one length", [4, 4, 4], 4, 3, 5),
        case("one sequence of one step", [1], 1, 4, 3),
        case("lengths unequal, the padding full of numbers", [2, 5, 1, 3], 5, 2, 4),
        case("padding beyond the longest sequence", [3, 4], 6, 3, 2),
    ]


def step_backward_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, batch: int, width: int, hidden: int, scale: float = 1.0) -> tuple[str, dict]:
        x, h = normal(rng, batch, width, scale=scale), torch.tanh(normal(rng, batch, hidden))
        weights = rnn_weights(rng, width, hidden)
        inputs = {
            "grad_h_next": normal(rng, batch, hidden),
            "x": x,
            "h": h,
            "h_next": run(x.unsqueeze(1), h, **weights)[:, 0],
            "w_ih": weights["w_ih"],
            "w_hh": weights["w_hh"],
        }
        return kind, inputs

    return [
        case("a batch of four", 4, 3, 5),
        case("a batch of one", 1, 6, 3),
        case("inputs as wide as the state", 3, 4, 4),
        case("large inputs, where the tanh saturates", 3, 2, 5, scale=4.0),
    ]


def backward_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, batch: int, steps: int, width: int, hidden: int, last_only: bool = False) -> tuple[str, dict]:
        x, h0 = normal(rng, batch, steps, width), torch.tanh(normal(rng, batch, hidden))
        weights = rnn_weights(rng, width, hidden)
        grad_outputs = normal(rng, batch, steps, hidden)
        if last_only:
            grad_outputs[:, :-1] = 0.0
        inputs = {
            "grad_outputs": grad_outputs,
            "x": x,
            "h0": h0,
            "outputs": run(x, h0, **weights),
            "w_ih": weights["w_ih"],
            "w_hh": weights["w_hh"],
        }
        return kind, inputs

    return [
        case("a loss on every step", 3, 4, 2, 5),
        case("one sequence of one step", 1, 1, 4, 3),
        case("a loss on the last step only", 2, 5, 3, 4, last_only=True),
        case("one long sequence", 1, 12, 3, 4),
    ]


def clip_cases(rng: torch.Generator) -> Cases:
    shapes = [(3, 4), (5,), (2, 2, 3)]

    def case(kind: str, norm: float, max_norm: float, shapes: list[tuple[int, ...]] = shapes) -> tuple[str, dict]:
        grads = [normal(rng, *shape) for shape in shapes]
        total = torch.cat([grad.flatten() for grad in grads]).norm()
        return kind, {"grads": [grad * (norm / total) for grad in grads], "max_norm": max_norm}

    return [
        case("large gradients", 9.0, 2.5),
        case("gradients below the limit already", 0.7, 2.0),
        case("a single tensor", 3.0, 0.5, [(4, 3)]),
        case("gradients so small that the 1e-6 counts", 4e-6, 1e-6),
    ]


def classifier_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, lengths: list[int], steps: int, sizes: tuple[int, int, int, int]) -> tuple[str, dict]:
        vocab, classes, width, hidden = sizes
        weights = rnn_weights(rng, width, hidden)
        inputs = {
            "weights": {
                "embedding.weight": normal(rng, vocab, width),
                "weight_ih": weights["w_ih"],
                "weight_hh": weights["w_hh"],
                "bias_ih": weights["b_ih"],
                "bias_hh": weights["b_hh"],
                "output.weight": normal(rng, classes, hidden, scale=0.7),
                "output.bias": normal(rng, classes, scale=0.5),
            },
            "tokens": integers(rng, vocab, len(lengths), steps),
            "lengths": torch.tensor(lengths),
            "upstream": normal(rng, len(lengths), classes),
        }
        return kind, inputs

    return [
        case("names of unequal length, padded", [3, 6, 2, 4], 6, (9, 4, 3, 5)),
        case("one name without padding", [5], 5, (7, 3, 4, 6)),
        case("one character", [1, 1], 1, (5, 2, 2, 3)),
    ]


def loss_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, lengths: list[int], steps: int, vocab: int, scale: float = 1.0) -> tuple[str, dict]:
        inputs = {
            "logits": normal(rng, len(lengths), steps, vocab, scale=scale),
            "tokens": integers(rng, vocab, len(lengths), steps),
            "lengths": torch.tensor(lengths),
            "upstream": 0.5 + uniform(rng, 1)[0],
        }
        return kind, inputs

    return [
        case("no padding", [5, 5, 5], 5, 7),
        case("lengths unequal", [2, 6, 4], 6, 5, scale=2.0),
        case("one text among texts of a single character", [1, 4, 1], 5, 6),
        case("nothing to predict", [1, 1], 3, 4),
        case("a single column", [1, 1, 1], 1, 4),
    ]


def probs_cases(rng: torch.Generator) -> Cases:
    def logits(batch: int, vocab: int, scale: float = 1.5) -> Tensor:
        """Rows of logits, no two of which are nearer than about 0.1; each row lower than the one before.

        The steps down make sure that the first row's k-th largest logit is no cut that any other row could share.
        """
        steps = torch.stack([torch.randperm(vocab, generator=rng) for _ in range(batch)])
        down = torch.arange(batch).unsqueeze(1)
        return scale * (steps - down - vocab / 2 + 0.6 * uniform(rng, batch, vocab)) / vocab**0.5

    tied = logits(3, 8)
    third = tied.topk(3, dim=1)
    tied.scatter_(1, tied.topk(5, dim=1).indices[:, 3:], third.values[:, 2:].expand(3, 2))  # 3rd, 4th and 5th are equal
    return [
        ("no cut", {"logits": logits(3, 6), "temperature": 0.7, "top_k": None}),
        ("top 3 of 8, hot", {"logits": logits(4, 8), "temperature": 1.6, "top_k": 3}),
        ("top 1", {"logits": logits(2, 5), "temperature": 1.0, "top_k": 1}),
        ("a tie at the cut", {"logits": tied, "temperature": 0.8, "top_k": 4}),
        ("top_k larger than the vocabulary", {"logits": logits(2, 4), "temperature": 1.3, "top_k": 9}),
        ("large logits, cold", {"logits": 60 + 10 * logits(2, 6), "temperature": 0.5, "top_k": None}),
    ]


DRAW_MARGIN = 1e-3  # draws stay this far from every boundary of the cumulative distribution


def generate_cases(rng: torch.Generator) -> Cases:
    def case(
        kind: str, batch: int, prompt: int, steps: int, temperature: float, top_k: int | None = None, vocab: int = 9
    ) -> tuple[str, dict]:
        hidden = 6
        weights = {
            "embedding": normal(rng, vocab, hidden),
            "w_hh": normal(rng, hidden, hidden, scale=1.6 * hidden**-0.5),
            "output": normal(rng, vocab, hidden, scale=1.2),
        }
        tokens = integers(rng, vocab, batch, prompt)
        inputs = {"weights": weights, "prompt": tokens, "temperature": temperature, "top_k": top_k}
        return kind, inputs | {"draws": safe_draws(rng, weights, tokens, steps, temperature, top_k)}

    return [
        case("eight prompts, twelve characters each", 8, 4, 12, 1.0),
        case("prompts of one character, cold", 4, 1, 16, 0.5),
        case("top 3, hot", 8, 3, 12, 1.8, top_k=3),
        case("nothing to draw", 2, 3, 0, 1.0),
    ]


def safe_draws(
    rng: torch.Generator, weights: dict[str, Tensor], tokens: Tensor, steps: int, temperature: float, top_k: int | None
) -> Tensor:
    """Uniform draws (B, steps) that keep away from the boundaries met by a right answer to them."""
    model = CaseModel(weights)
    draws = torch.empty(tokens.size(0), steps)
    for n in range(steps):
        logits = model(tokens)[0][:, -1] / temperature
        if top_k is not None:
            logits = logits.masked_fill(logits < logits.topk(top_k).values[:, -1:], -math.inf)
        cumulative = logits.softmax(dim=1).cumsum(dim=1)
        draw = uniform(rng, tokens.size(0))
        while (near := (cumulative - draw.unsqueeze(1)).abs().amin(dim=1) < DRAW_MARGIN).any():
            draw = torch.where(near, uniform(rng, tokens.size(0)), draw)
        draws[:, n] = draw
        token = (cumulative <= draw.unsqueeze(1)).sum(dim=1, keepdim=True)
        tokens = torch.cat([tokens, token], dim=1)
    return draws


def horizon_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, steps: int, width: int, hidden: int) -> tuple[str, dict]:
        inputs = {
            "x": normal(rng, steps, width),
            "h0": torch.tanh(normal(rng, hidden)),
            "v": normal(rng, hidden),
            **rnn_weights(rng, width, hidden),
        }
        return kind, inputs

    return [
        case("six steps", 6, 3, 5),
        case("a single step", 1, 4, 2),
        case("as many steps as input features", 4, 4, 3),
        case("fifteen steps", 15, 2, 4),
    ]


# --------------------------------------------------------------------------------------------------- exercises

NO_BUILT_IN = ["aten::rnn_tanh", "aten::rnn_tanh_cell", "aten::rnn_relu", "aten::rnn_relu_cell"]

EXERCISES = [
    Exercise(
        "rnn_step",
        points=6,
        cases=step_cases,
        forbid=NO_BUILT_IN,
        mistakes=[
            Mistake("no-tanh", "The sum does not go through a tanh.", "torch.tanh", ""),
            Mistake(
                "tanh-of-input-only",
                "The tanh covers the input's part only; it belongs around the whole sum.",
                "b_ih + h @ w_hh.T + b_hh)",
                "b_ih) + h @ w_hh.T + b_hh",
            ),
            Mistake(
                "sigmoid",
                "The sum goes through a sigmoid (values from 0 to 1) instead of a tanh (from -1 to 1).",
                "torch.tanh",
                "torch.sigmoid",
            ),
            Mistake(
                "w-hh-not-transposed", "w_hh is not transposed: with rows as states it is h @ w_hh.T.", "w_hh.T", "w_hh"
            ),
            Mistake(
                "w-ih-not-transposed", "w_ih is not transposed: with rows as inputs it is x @ w_ih.T.", "w_ih.T", "w_ih"
            ),
            Mistake("no-b-hh", "The bias of the recurrent part, b_hh, is left out.", " + b_hh", ""),
            Mistake("no-b-ih", "The bias of the input part, b_ih, is left out.", " + b_ih", ""),
            Mistake("no-bias", "Both biases are left out.", " + b_ih", "", also=[(" + b_hh", "")]),
            Mistake("b-ih-twice", "b_ih is added twice and b_hh not at all.", "+ b_hh", "+ b_ih"),
            Mistake(
                "no-recurrence",
                "The state h does not enter the step: the recurrent part h @ w_hh.T is missing.",
                " + h @ w_hh.T",
                "",
            ),
            Mistake(
                "residual",
                "The old state is added to the new one; this step replaces it.",
                "torch.tanh(",
                "h + torch.tanh(",
            ),
            Mistake(
                "detached",
                "The old state is detached, so that no gradient reaches it.",
                "h @ w_hh.T",
                "h.detach() @ w_hh.T",
            ),
        ],
    ),
    Exercise(
        "rnn_forward",
        points=10,
        cases=forward_cases,
        uses=["rnn_step"],
        forbid=NO_BUILT_IN,
        mistakes=[
            Mistake(
                "state-not-carried",
                "The state is not carried from step to step: each step starts from h0 again.",
                "x[:, t], h,",
                "x[:, t], h0,",
            ),
            Mistake(
                "h0-ignored",
                "The initial state h0 is ignored: the network starts from zeros.",
                "h0, []",
                "torch.zeros_like(h0), []",
            ),
            Mistake(
                "h-n-after-padding",
                "h_n is the state after the padding: a short sequence runs on instead of keeping the state of its own last step.",
                "torch.where(running, h_next, h)",
                "h_next",
            ),
            Mistake(
                "lengths-ignored",
                "The lengths are ignored: outputs and h_n go on through the padding.",
                "torch.where(running, h_next, h)",
                "h_next",
                also=[("torch.where(running, h_next, 0.0)", "h_next")],
            ),
            Mistake(
                "padding-not-zero",
                "The outputs at padding are not zero: they repeat the sequence's last state.",
                "torch.where(running, h_next, 0.0)",
                "h",
            ),
            Mistake(
                "padding-runs-on",
                "The outputs at padding are not zero: they go on computing there.",
                "torch.where(running, h_next, 0.0)",
                "h_next",
            ),
            Mistake(
                "h-n-last-output",
                "h_n is zero for sequences shorter than the padded width: the outputs' last column is not their last state.",
                "torch.stack(outputs, dim=1), h",
                "torch.stack(outputs, dim=1), outputs[-1]",
            ),
            Mistake(
                "one-step-too-many",
                "Each sequence runs one step into its padding: step t belongs to it where t < lengths, not t <= lengths.",
                "t < lengths",
                "t <= lengths",
            ),
            Mistake(
                "one-step-too-few",
                "Each sequence stops one step early: its last step is lengths - 1, counted from zero.",
                "t < lengths",
                "t < lengths - 1",
            ),
            Mistake(
                "longest-only",
                "The outputs end at the longest sequence; they keep the padded width T, with zeros to the end.",
                "range(x.size(1))",
                "range(int(lengths.max()))",
            ),
            Mistake(
                "outputs-before-step",
                "The outputs hold the state before each step instead of after it.",
                "outputs.append(torch.where(running, h_next, 0.0))",
                "pass",
                also=[
                    (
                        "h_next = rnn_step(",
                        "outputs.append(torch.where(running, h, 0.0)); h_next = rnn_step(",
                    )
                ],
            ),
            Mistake("time-first", "The outputs are stacked as (T, B, H); asked is (B, T, H).", "dim=1", "dim=0"),
            Mistake(
                "state-detached",
                "The state is detached between steps: the values are right, but no gradient flows back in time.",
                "x[:, t], h,",
                "x[:, t], h.detach(),",
            ),
        ],
    ),
    Exercise(
        "rnn_step_backward",
        points=12,
        cases=step_backward_cases,
        forbid=["autograd"],
        mistakes=[
            Mistake("no-derivative", "The derivative of the tanh is missing.", " * (1 - h_next**2)", ""),
            Mistake(
                "derivative-of-old-state",
                "The derivative of the tanh is taken at the old state h; it is 1 - h_next**2.",
                "h_next**2",
                "h**2",
            ),
            Mistake(
                "tanh-twice",
                "The tanh is applied to h_next a second time: h_next is the tanh already, so its derivative is 1 - h_next**2.",
                "h_next**2",
                "torch.tanh(h_next)**2",
            ),
            Mistake(
                "not-squared",
                "The derivative of the tanh lacks the square: it is 1 - h_next**2.",
                "h_next**2",
                "h_next",
            ),
            Mistake(
                "sigmoid-derivative",
                "This is the derivative of a sigmoid, h_next * (1 - h_next); that of a tanh is 1 - h_next**2.",
                "(1 - h_next**2)",
                "h_next * (1 - h_next)",
            ),
            Mistake(
                "multiplied-by-state",
                "The gradient is multiplied by h_next instead of the derivative 1 - h_next**2.",
                "(1 - h_next**2)",
                "h_next",
            ),
            Mistake(
                "w-hh-transposed",
                "In grad_h, w_hh is transposed; backwards it is not: the forward pass had h @ w_hh.T.",
                "grad_sum @ w_hh",
                "grad_sum @ w_hh.T",
            ),
            Mistake(
                "grad-w-hh-transposed",
                "grad_w_hh is transposed: entry (i, j) belongs to the weight from state j to state i.",
                "grad_sum.T @ h",
                "h.T @ grad_sum",
            ),
            Mistake(
                "grad-w-ih-transposed",
                "grad_w_ih is transposed; it has the shape of w_ih, (H, I).",
                "grad_sum.T @ x",
                "x.T @ grad_sum",
            ),
            Mistake(
                "new-state-in-grad-w-hh",
                "grad_w_hh is made with the new state h_next; what w_hh was multiplied with is the old state h.",
                "grad_sum.T @ h",
                "grad_sum.T @ h_next",
            ),
            Mistake(
                "bias-mean",
                "The bias gradients are averaged over the batch; the gradient of a shared parameter is the sum.",
                ".sum(dim=0)",
                ".mean(dim=0)",
            ),
            Mistake(
                "bias-not-summed",
                "The bias gradients still have the batch dimension; sum over it.",
                "grad_sum.sum(dim=0)",
                "grad_sum",
            ),
            Mistake(
                "bias-without-derivative",
                "The bias gradients sum grad_h_next itself, without the derivative of the tanh.",
                "grad_sum.sum(dim=0)",
                "grad_h_next.sum(dim=0)",
            ),
            Mistake(
                "grad-h-without-derivative",
                "grad_h is made from grad_h_next itself, without the derivative of the tanh.",
                "grad_sum @ w_hh",
                "grad_h_next @ w_hh",
            ),
            Mistake(
                "averaged-over-batch",
                "All parameter gradients are divided by the batch size; the loss has done any averaging already.",
                "grad_sum.T @ x",
                "grad_sum.T @ x / x.size(0)",
                also=[("grad_sum.T @ h", "grad_sum.T @ h / x.size(0)"), (".sum(dim=0)", ".mean(dim=0)")],
            ),
        ],
    ),
    Exercise(
        "rnn_backward",
        points=14,
        cases=backward_cases,
        uses=["rnn_step_backward"],
        forbid=["autograd"],
        mistakes=[
            Mistake(
                "later-steps-ignored",
                "No gradient comes back from later steps: each step only sees the gradient of its own output.",
                "grad_outputs[:, t] + grad_h",
                "grad_outputs[:, t]",
            ),
            Mistake(
                "last-output-only",
                "Only the last output's gradient enters; every step's grad_outputs[:, t] has to be added on the way back.",
                "torch.zeros_like(h0)",
                "grad_outputs[:, -1]",
                also=[("grad_outputs[:, t] + grad_h", "grad_h")],
            ),
            Mistake(
                "last-step-only",
                "Only the last step is gone through: these are the gradients of that step alone.",
                "reversed(range(x.size(1)))",
                "[x.size(1) - 1]",
            ),
            Mistake(
                "overwritten",
                "The parameter gradients are overwritten at each step instead of added up over time.",
                "total + grad for",
                "grad for",
            ),
            Mistake(
                "averaged-over-time",
                "The parameter gradients are averaged over the steps instead of added up.",
                "total + grad for",
                "total + grad / x.size(1) for",
            ),
            Mistake(
                "grad-h0-forgotten",
                "The gradient of the initial state is forgotten: it is what comes back through the first step, not zero.",
                "return grad_x, grad_h,",
                "return grad_x, torch.zeros_like(h0),",
            ),
            Mistake(
                "grad-h0-before-first-step",
                "grad_h0 is the gradient of the first state, before it has gone back through the first step.",
                "return grad_x, grad_h,",
                "return grad_x, grad_h_next,",
            ),
            Mistake(
                "h0-ignored",
                "At the first step the previous state is taken to be zero; it is h0.",
                "else h0",
                "else torch.zeros_like(h0)",
            ),
            Mistake(
                "previous-state-wraps",
                "At the first step outputs[:, t - 1] is outputs[:, -1], the last state; the state before the first step is h0.",
                "outputs[:, t - 1] if t > 0 else h0",
                "outputs[:, t - 1]",
            ),
            Mistake(
                "same-state-twice",
                "The state before step t is taken from outputs[:, t], which is the state after it.",
                "outputs[:, t - 1] if t > 0 else h0",
                "outputs[:, t]",
            ),
            Mistake(
                "forward-in-time",
                "The loop runs forward in time; the gradient has to come back from the last step to the first.",
                "reversed(range(x.size(1)))",
                "range(x.size(1))",
            ),
            Mistake(
                "first-step-left-out",
                "The first step is left out: the loop back in time stops at t = 1.",
                "range(x.size(1))",
                "range(1, x.size(1))",
            ),
        ],
    ),
    Exercise(
        "clip_by_global_norm",
        points=5,
        cases=clip_cases,
        mistakes=[
            Mistake(
                "per-tensor",
                "Each tensor is clipped by its own norm; one factor, from the norm of all together, keeps the direction.",
                "grad * factor for",
                "grad * (max_norm / (grad.norm() + 1e-6)).clamp(max=1.0) for",
            ),
            Mistake(
                "scales-up",
                "Gradients below the limit are scaled up to it: the factor is at most 1.",
                ".clamp(max=1.0)",
                "",
            ),
            Mistake(
                "never-scales-down",
                "The factor is at least 1 where it should be at most 1.",
                "clamp(max=1.0)",
                "clamp(min=1.0)",
            ),
            Mistake("squared-norm", "The square root is missing: this is the squared norm.", "torch.sqrt", ""),
            Mistake(
                "sum-of-norms",
                "The tensors' norms are added; the global norm is the root of the sum of all squares.",
                "torch.sqrt(sum((grad**2).sum() for grad in grads))",
                "sum(grad.norm() for grad in grads)",
            ),
            Mistake(
                "largest-norm",
                "The norm is that of the largest tensor alone, not of all together.",
                "torch.sqrt(sum((grad**2).sum() for grad in grads))",
                "max(grad.norm() for grad in grads)",
            ),
            Mistake(
                "mean-of-squares",
                "The squares are averaged within each tensor instead of added up.",
                "(grad**2).sum()",
                "(grad**2).mean()",
            ),
            Mistake("no-epsilon", "The 1e-6 next to the norm is left out.", " + 1e-6", ""),
            Mistake(
                "norm-after",
                "The norm returned is that after clipping; asked is the norm before.",
                "for grad in grads], norm",
                "for grad in grads], norm * factor",
            ),
            Mistake(
                "by-value",
                "Each entry is clipped to the range from -max_norm to max_norm, which turns the gradient's direction.",
                "grad * factor for",
                "grad.clamp(-max_norm, max_norm) for",
            ),
            Mistake(
                "normalised",
                "The gradients are divided by their norm, but max_norm does not enter the factor's numerator.",
                "max_norm / (",
                "1.0 / (",
            ),
            Mistake(
                "in-place",
                "The given gradients are changed in place; return new tensors.",
                "grad * factor for",
                "grad.mul_(factor) for",
            ),
        ],
    ),
    Exercise(
        "NameClassifier.forward",
        points=6,
        cases=classifier_cases,
        uses=["rnn_forward"],
        forbid=NO_BUILT_IN,
        mistakes=[
            Mistake(
                "last-column",
                "The class is read from the last column of the outputs, which is padding for every shorter name.",
                "_, h_n = rnn_forward(",
                "outputs, _ = rnn_forward(",
                also=[("self.output(h_n)", "self.output(outputs[:, -1])")],
            ),
            Mistake(
                "lengths-ignored",
                "The lengths are ignored: the network reads the padding as if it belonged to the name.",
                "x, lengths, h0",
                "x, torch.full_like(lengths, x.size(1)), h0",
            ),
            Mistake(
                "mean-over-time",
                "The class is read from the mean of the outputs over the padded width instead of the last state.",
                "_, h_n = rnn_forward(",
                "outputs, _ = rnn_forward(",
                also=[("self.output(h_n)", "self.output(outputs.mean(dim=1))")],
            ),
            Mistake(
                "sum-over-time",
                "The class is read from the sum of all states instead of the last one.",
                "_, h_n = rnn_forward(",
                "outputs, _ = rnn_forward(",
                also=[("self.output(h_n)", "self.output(outputs.sum(dim=1))")],
            ),
            Mistake(
                "max-over-time",
                "The class is read from the largest value of each state over time instead of the last state.",
                "_, h_n = rnn_forward(",
                "outputs, _ = rnn_forward(",
                also=[("self.output(h_n)", "self.output(outputs.amax(dim=1))")],
            ),
            Mistake(
                "softmax",
                "The result went through a softmax; logits are the scores before it.",
                "self.output(h_n)",
                "self.output(h_n).softmax(dim=1)",
            ),
            Mistake(
                "log-softmax",
                "The result went through a log-softmax; logits are the scores before it.",
                "self.output(h_n)",
                "self.output(h_n).log_softmax(dim=1)",
            ),
            Mistake(
                "tanh-again",
                "The last state goes through a tanh once more before the output layer.",
                "self.output(h_n)",
                "self.output(torch.tanh(h_n))",
            ),
            Mistake(
                "output-bias-left-out",
                "Only the output layer's weight is used; its bias is left out.",
                "self.output(h_n)",
                "h_n @ self.output.weight.T",
            ),
            Mistake(
                "bias-ih-twice",
                "bias_ih is handed over twice and bias_hh not at all.",
                "self.bias_hh)",
                "self.bias_ih)",
            ),
            Mistake(
                "starts-from-ones",
                "The state starts from ones; it starts from zeros.",
                "x.new_zeros",
                "x.new_ones",
            ),
        ],
    ),
    Exercise(
        "char_lm_loss",
        points=7,
        cases=loss_cases,
        mistakes=[
            Mistake(
                "no-shift",
                "Nothing is shifted: logits[:, t] are compared with the character they have just read instead of the next one.",
                "tokens[:, 1:]",
                "tokens[:, :-1]",
            ),
            Mistake(
                "no-shift-all-positions",
                "Nothing is shifted: every character is scored by the logits at its own position, where it has just been read.",
                "tokens[:, 1:]",
                "tokens",
                also=[("logits[:, :-1]", "logits"), ("(lengths - 1)", "lengths")],
            ),
            Mistake(
                "shifted-backwards",
                "The shift goes the wrong way: logits[:, t] are compared with tokens[:, t - 1].",
                "tokens[:, 1:]",
                "tokens[:, :-1]",
                also=[("logits[:, :-1]", "logits[:, 1:]")],
            ),
            Mistake(
                "padding-counted",
                "Padding is scored like text: sum and count run over the whole padded width.",
                "(lengths - 1).unsqueeze(1)",
                "torch.full_like(lengths, targets.size(1)).unsqueeze(1)",
            ),
            Mistake(
                "divided-by-padding",
                "The padding is left out of the sum but counted in the divisor: divide by the number of predicted characters.",
                "predicted.sum()",
                "torch.tensor(predicted.numel())",
            ),
            Mistake(
                "divided-by-lengths",
                "The sum is divided by all characters of the texts; the first of each text is not predicted.",
                "predicted.sum()",
                "lengths.sum()",
            ),
            Mistake(
                "one-padding-counted",
                "One position too many counts in each text: a text of that length has lengths - 1 predicted characters.",
                "(lengths - 1)",
                "lengths",
            ),
            Mistake("nats", "The loss is in nats; bits are nats divided by the logarithm of 2.", " / math.log(2)", ""),
            Mistake(
                "times-log-2",
                "The nats are multiplied by the logarithm of 2; to get bits, divide by it.",
                " / math.log(2)",
                " * math.log(2)",
            ),
            Mistake(
                "summed",
                "The bits are added up but not divided by the number of predicted characters.",
                " / predicted.sum().clamp(min=1)",
                "",
            ),
            Mistake(
                "mean-of-means",
                "This is the mean over texts of each text's mean, in which a short text weighs as much as a long one.",
                "(nats * predicted).sum() / predicted.sum().clamp(min=1)",
                "((nats * predicted).sum(dim=1) / predicted.sum(dim=1).clamp(min=1)).mean()",
            ),
            Mistake(
                "per-text",
                "The sum is divided by the number of texts: these are bits per text.",
                "predicted.sum().clamp(min=1)",
                "logits.size(0)",
            ),
            Mistake(
                "not-a-number",
                "With nothing to predict the result is 0 divided by 0; asked is 0.",
                ".clamp(min=1)",
                "",
            ),
            Mistake(
                "detached",
                "The loss is right but detached from the logits, so nothing can be learned from it.",
                "logits[:",
                "logits.detach()[:",
            ),
        ],
    ),
    Exercise(
        "next_char_probs",
        points=5,
        cases=probs_cases,
        mistakes=[
            Mistake(
                "temperature-multiplied",
                "The logits are multiplied by the temperature; they are divided by it.",
                "logits / temperature",
                "logits * temperature",
            ),
            Mistake("temperature-ignored", "The temperature does not enter.", "logits / temperature", "logits"),
            Mistake(
                "temperature-after",
                "The temperature divides the probabilities after the softmax instead of the logits before it.",
                "logits / temperature",
                "logits",
                also=[("torch.softmax(logits, dim=-1)", "torch.softmax(logits, dim=-1) / temperature")],
            ),
            Mistake("top-k-ignored", "top_k does not enter: nothing is cut.", "if top_k is not None", "if False"),
            Mistake(
                "keeps-one-less",
                "The cut keeps one character less than top_k (though never none).",
                "min(top_k, ",
                "min(max(top_k - 1, 1), ",
            ),
            Mistake(
                "cuts-the-kth",
                "The k-th largest is cut as well: characters stay where their logit is at least as large as the k-th largest.",
                "logits < kth_largest",
                "logits <= kth_largest",
            ),
            Mistake("keeps-one-more", "The cut keeps one character more than top_k.", "min(top_k, ", "min(top_k + 1, "),
            Mistake(
                "ties-dropped",
                "Of characters tied with the k-th largest only some are kept; all of them stay.",
                "logits.masked_fill(logits < kth_largest, -math.inf)",
                "torch.full_like(logits, -math.inf).scatter(1, logits.topk(k, dim=-1).indices, logits.topk(k, dim=-1).values)",
            ),
            Mistake(
                "not-renormalised",
                "The cut comes after the softmax and what is left is not divided by its sum: the rows no longer sum to 1.",
                "logits = logits.masked_fill(logits < kth_largest, -math.inf)",
                "return torch.softmax(logits, dim=-1) * (logits >= kth_largest)",
            ),
            Mistake(
                "cut-to-zero-logit",
                "Cut characters get logit 0, which still has a probability; -inf has none.",
                "-math.inf",
                "0.0",
            ),
            Mistake(
                "keeps-the-smallest",
                "The cut keeps the top_k smallest logits instead of the largest.",
                "logits.topk(k, dim=-1).values[:, -1:]",
                "logits.topk(k, dim=-1, largest=False).values[:, -1:]",
                also=[("logits < kth_largest", "logits > kth_largest")],
            ),
            Mistake(
                "one-cut-for-all-rows",
                "The cut is made at the k-th largest logit of the first row, for every row; each row has its own.",
                "values[:, -1:]",
                "values[:1, -1:]",
            ),
            Mistake(
                "softmax-over-batch",
                "The softmax runs over the batch; it runs over the characters of each row.",
                "torch.softmax(logits, dim=-1)",
                "torch.softmax(logits, dim=0)",
            ),
            Mistake(
                "log-probabilities", "These are logarithms of probabilities.", "torch.softmax(", "torch.log_softmax("
            ),
            Mistake(
                "overflow",
                "exp of a large logit overflows: subtract the row's largest logit first, as torch.softmax does.",
                "torch.softmax(logits, dim=-1)",
                "logits.exp() / logits.exp().sum(dim=-1, keepdim=True)",
            ),
            Mistake(
                "arg-max",
                "The largest logit gets probability 1: this takes the arg-max instead of giving a distribution.",
                "torch.softmax(logits, dim=-1)",
                "F.one_hot(logits.argmax(dim=-1), logits.size(-1)).to(logits.dtype)",
            ),
        ],
    ),
    Exercise(
        "generate",
        points=5,
        cases=generate_cases,
        uses=["next_char_probs"],
        mistakes=[
            Mistake(
                "arg-max",
                "The likeliest character is taken each time (arg-max); the draws decide.",
                "(cumulative <= draw.unsqueeze(1)).sum(dim=1, keepdim=True)",
                "probs.argmax(dim=1, keepdim=True)",
            ),
            Mistake(
                "multinomial",
                "The characters are drawn with a random generator of PyTorch's own; the draws are given.",
                "(cumulative <= draw.unsqueeze(1)).sum(dim=1, keepdim=True)",
                "torch.multinomial(probs, 1)",
            ),
            Mistake(
                "state-forgotten",
                "The state is not handed on: from its second new character on the model has read only the one before.",
                "model(token, h)",
                "model(token)",
            ),
            Mistake(
                "state-of-the-prompt",
                "Every new character is read from the state after the prompt; the state has to move on.",
                "logits, h = model(token, h)",
                "logits, _ = model(token, h)",
            ),
            Mistake(
                "last-of-the-prompt",
                "The model gets only the last character of the prompt; it should read all of it.",
                "model(prompt)",
                "model(prompt[:, -1:])",
            ),
            Mistake(
                "first-position",
                "The next character is drawn from the logits at the first position; those at the last one have read everything.",
                "logits[:, -1]",
                "logits[:, 0]",
            ),
            Mistake(
                "prompt-read-twice",
                "The whole text is read again at each step, from the state that has already read it.",
                "model(token, h)",
                "model(tokens, h)",
            ),
            Mistake(
                "one-draw-for-all",
                "The first draw is used for every character; each has its own.",
                "draw.unsqueeze(1)",
                "draws[:, :1]",
            ),
            Mistake(
                "one-too-low",
                "The character before the right one is taken: the first v with p_0 + ... + p_v > draw is asked.",
                "(cumulative <= draw.unsqueeze(1)).sum(dim=1, keepdim=True)",
                "((cumulative <= draw.unsqueeze(1)).sum(dim=1, keepdim=True) - 1).clamp(min=0)",
            ),
            Mistake(
                "one-too-high",
                "The character after the right one is taken: the first v with p_0 + ... + p_v > draw is asked.",
                "(cumulative <= draw.unsqueeze(1)).sum(dim=1, keepdim=True)",
                "(cumulative <= draw.unsqueeze(1)).sum(dim=1, keepdim=True) + 1",
            ),
            Mistake(
                "sorted-first",
                "The probabilities are added up from the likeliest character on; add them up in the order of the vocabulary.",
                "cumulative = probs.cumsum(dim=-1)",
                "order = probs.argsort(dim=-1, descending=True); cumulative = probs.gather(1, order).cumsum(dim=-1)",
                also=[
                    (
                        "tokens = torch.cat([tokens, token]",
                        "token = order.gather(1, token); tokens = torch.cat([tokens, token]",
                    )
                ],
            ),
            Mistake(
                "from-the-other-end",
                "The draw is counted from the end of the vocabulary: the first v with p_0 + ... + p_v > draw is asked.",
                "cumulative <= draw",
                "cumulative <= 1 - draw",
            ),
            Mistake(
                "temperature-left-out",
                "The temperature is not handed to next_char_probs.",
                "temperature, top_k)\n",
                "1.0, top_k)\n",
            ),
            Mistake(
                "top-k-left-out",
                "top_k is not handed to next_char_probs.",
                "[:, -1], temperature, top_k)",
                "[:, -1], temperature)",
            ),
            Mistake(
                "without-prompt",
                "Only the new characters are returned; the prompt comes first.",
                "return tokens",
                "return tokens[:, prompt.size(1) :]",
            ),
        ],
    ),
    Exercise(
        "memory_horizon",
        points=5,
        stretch=True,
        cases=horizon_cases,
        uses=["rnn_step"],
        mistakes=[
            Mistake(
                "reversed",
                "The norms run backwards in time: norms[0] belongs to the first input.",
                "grad_x.norm(dim=1)",
                "grad_x.norm(dim=1).flip(0)",
            ),
            Mistake("squared", "These are squared norms.", "grad_x.norm(dim=1)", "(grad_x**2).sum(dim=1)"),
            Mistake(
                "sum-of-absolutes",
                "These are sums of absolute values; the Euclidean norm is asked.",
                "grad_x.norm(dim=1)",
                "grad_x.abs().sum(dim=1)",
            ),
            Mistake(
                "over-time",
                "The norm is taken over time; it is taken over the features of each input.",
                "norm(dim=1)",
                "norm(dim=0)",
            ),
            Mistake(
                "signed-sum",
                "The entries of each gradient are added with their signs instead of taking the norm.",
                "grad_x.norm(dim=1)",
                "grad_x.sum(dim=1)",
            ),
            Mistake(
                "v-ignored",
                "v does not enter: this is the gradient of the sum of the last state.",
                "h[0] @ v",
                "h[0].sum()",
            ),
            Mistake(
                "all-states",
                "This is the gradient of v . h_t added up over all steps; only the last state counts.",
                "w_hh, b_ih, b_hh)\n",
                "w_hh, b_ih, b_hh); total = (0.0 if x_t is x_first else total) + h[0] @ v\n",
                also=[
                    ("for x_t in x:", "steps = x.unbind(0); x_first = steps[0]\n    for x_t in steps:"),
                    ("grad(h[0] @ v", "grad(total"),
                ],
            ),
            Mistake(
                "h0-ignored",
                "The initial state h0 is ignored: the states are those of a start from zeros.",
                "h0.unsqueeze(0)",
                "torch.zeros_like(h0).unsqueeze(0)",
            ),
            Mistake(
                "relative",
                "The norms are divided by the largest one.",
                "return grad_x.norm(dim=1)",
                "return grad_x.norm(dim=1) / grad_x.norm(dim=1).max()",
            ),
            Mistake(
                "norm-of-the-state",
                "This is the gradient of the last state's norm; asked is that of v . h_T.",
                "h[0] @ v",
                "h[0].norm()",
            ),
        ],
    ),
    # ---------------------------------------------------------------------------------------------- trained models
    Artifact(
        name="names",
        file="names.safetensors",
        figure="accuracy",
        thresholds=thresholds(RESULTS, "names", points=10),
        inputs=heldout_names,
        score=score_names,
        where="held-out names",
    ),
    chars_artifact(RESULTS, points=10),
]
