"""Week 2: points, cases and mistakes of the exercises on the LSTM and the GRU.

B batch, T time, I input width, H hidden width, V vocabulary, C classes. Cases are small, float32, with random weights that
are not square where they need not be; every random number comes from the generator that is handed in.
"""

from pathlib import Path

import torch
from torch import Tensor

from autograder import Artifact, Exercise, Mistake, thresholds
from autograder.draws import integers, normal, uniform
from autograder.novel import chars_artifact
from course.data import read
from course.drives.week02_lstm_gru import MOST_PADDING, score_tags, tag_questions

Cases = list[tuple[str, dict]]
RESULTS = Path(__file__).with_name("results.json")


def gate_weights(rng: torch.Generator, gates: int, width: int, hidden: int) -> dict[str, Tensor]:
    """Weights of a layer with so many gates, that keep all of them in their curved part."""
    return {
        "w_ih": normal(rng, gates * hidden, width, scale=width**-0.5),
        "w_hh": normal(rng, gates * hidden, hidden, scale=hidden**-0.5),
        "b_ih": normal(rng, gates * hidden, scale=0.5),
        "b_hh": normal(rng, gates * hidden, scale=0.5),
    }


def lstm_weights(rng: torch.Generator, width: int, hidden: int, layers: int, directions: int) -> dict[str, Tensor]:
    """The parameters of an LSTM by their names in torch.nn."""
    found = {}
    for layer in range(layers):
        for suffix in ("", "_reverse")[:directions]:
            weights = gate_weights(rng, 4, width if layer == 0 else directions * hidden, hidden)
            for own, name in (("w_ih", "weight_ih"), ("w_hh", "weight_hh"), ("b_ih", "bias_ih"), ("b_hh", "bias_hh")):
                found[f"{name}_l{layer}{suffix}"] = weights[own]
    return found


def prefix_mask(lengths: list[int], steps: int) -> Tensor:
    return torch.arange(steps) < torch.tensor(lengths).unsqueeze(1)


# ---------------------------------------------------------------------------------------------- trained models


def heldout_tags(heldout: Path) -> tuple[dict, Tensor]:
    """(inputs of the drive, tags) of documents of Brown that only the grader has."""
    return tag_questions(read(heldout / "brown_pos.parquet"))


# ------------------------------------------------------------------------------------------------------- cases


def lstm_step_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, batch: int, width: int, hidden: int, scale: float = 1.0) -> tuple[str, dict]:
        inputs = {
            "x": normal(rng, batch, width, scale=scale),
            "h": normal(rng, batch, hidden, scale=0.5),
            "c": normal(rng, batch, hidden),
            **gate_weights(rng, 4, width, hidden),
            "upstream_h": normal(rng, batch, hidden),
            "upstream_c": normal(rng, batch, hidden),
        }
        return kind, inputs

    return [
        case("a batch of three", 3, 2, 4),
        case("a batch of one", 1, 5, 3),
        case("large inputs, where the gates saturate", 2, 3, 3, scale=4.0),
    ]


def gru_step_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, batch: int, width: int, hidden: int, scale: float = 1.0) -> tuple[str, dict]:
        inputs = {
            "x": normal(rng, batch, width, scale=scale),
            "h": normal(rng, batch, hidden, scale=0.7),
            **gate_weights(rng, 3, width, hidden),
            "upstream": normal(rng, batch, hidden),
        }
        return kind, inputs

    return [
        case("a batch of three", 3, 2, 4),
        case("a batch of one", 1, 5, 3),
        case("large inputs, where the gates saturate", 2, 3, 3, scale=4.0),
    ]


def lstm_forward_cases(rng: torch.Generator) -> Cases:
    def case(
        kind: str,
        lengths: list[int],
        steps: int,
        width: int,
        hidden: int,
        layers: int = 1,
        both: bool = False,
        dropout: float = 0.0,
        training: bool = True,
    ) -> tuple[str, dict]:
        batch, directions = len(lengths), 1 + both
        sizes = {"input_size": width, "hidden_size": hidden, "num_layers": layers, "bidirectional": both}
        inputs = {
            "sizes": sizes | {"dropout": dropout},
            "training": training,
            "weights": lstm_weights(rng, width, hidden, layers, directions),
            "x": normal(rng, batch, steps, width),
            "lengths": torch.tensor(lengths),
            "upstream_outputs": normal(rng, batch, steps, directions * hidden),
            "upstream_h_n": normal(rng, layers * directions, batch, hidden),
            "upstream_c_n": normal(rng, layers * directions, batch, hidden),
        }
        return kind, inputs

    return [
        case("one layer, lengths unequal", [2, 3, 1], 3, 2, 3),
        case("both directions, padding beyond the longest", [3, 1], 4, 2, 2, both=True),
        case("two layers, both directions", [1, 3], 3, 3, 2, layers=2, both=True),
        case("dropout 1 in training, two layers", [2, 2], 2, 3, 2, layers=2, dropout=1.0),
        case("dropout 1 at evaluation, two layers", [2, 1], 2, 3, 2, layers=2, dropout=1.0, training=False),
        case("one sequence of one step, three layers", [1], 1, 3, 2, layers=3),
    ]


def init_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, hidden: int) -> tuple[str, dict]:
        noise = normal(rng, 4, hidden, hidden)
        while float(torch.linalg.cond(noise).max()) > 30:  # else rounding would show in the last columns
            noise = normal(rng, 4, hidden, hidden)
        inputs = {
            "w_hh": normal(rng, 4 * hidden, hidden),
            "b_ih": normal(rng, 4 * hidden),
            "b_hh": normal(rng, 4 * hidden),
            "noise": noise,
        }
        return kind, inputs

    return [case("a state of four", 4), case("a state of three", 3)]


def path_cases(rng: torch.Generator) -> Cases:
    def gates(steps: int, hidden: int, shift: float = 0.0) -> Tensor:
        return torch.sigmoid(shift + normal(rng, steps, hidden))

    closed = gates(5, 3)
    closed[2, 1] = 0.0  # a gate that is shut
    closed[1, 0] = 1.0  # and one that is wide open
    return [
        ("six steps", {"forget": gates(6, 3)}),
        ("a single step", {"forget": gates(1, 4)}),
        ("a gate that is shut", {"forget": closed}),
        ("as many steps as units", {"forget": gates(4, 4, shift=1.0)}),
    ]


def bucket_cases(rng: torch.Generator) -> Cases:
    def padding(lengths: Tensor, batch_size: int) -> float:
        longest = sum(int(batch.max()) * len(batch) for batch in lengths.split(batch_size))
        return 1 - int(lengths.sum()) / longest

    def case(kind: str, count: int, batch_size: int, low: int, high: int) -> tuple[str, dict]:
        lengths = low + integers(rng, high - low + 1, count)
        if count > batch_size:  # far from the limit on both sides
            while (
                padding(lengths.sort().values, batch_size) > 0.7 * MOST_PADDING
                or padding(lengths, batch_size) < 1.3 * MOST_PADDING
            ):
                lengths = low + integers(rng, high - low + 1, count)
        inputs = {"lengths": lengths, "batch_size": batch_size, "draws": uniform(rng, count)}
        return kind, inputs | {"other_draws": uniform(rng, count)}

    return [
        case("ninety-six sequences in batches of eight", 96, 8, 2, 30),
        case("a last batch that is not full", 59, 5, 3, 40),
        case("fewer sequences than a batch holds", 3, 8, 20, 21),
    ]


def pool_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, how: str, mask: Tensor, hidden: int, shift: float = 0.0) -> tuple[str, dict]:
        inputs = {
            "outputs": shift + normal(rng, *mask.shape, hidden),
            "mask": mask,
            "how": how,
            "upstream": normal(rng, mask.size(0), hidden),
        }
        return kind, inputs

    ragged = prefix_mask([2, 5, 1], 6)
    left = prefix_mask([3, 1, 4], 5).flip(1)  # padding on the left
    return [
        case("the last real token", "last", ragged, 3),
        case("the last real token, padding on the left", "last", left, 2),
        case("the mean", "mean", ragged, 4),
        case("the mean, padding on the left", "mean", left, 3),
        case("the largest", "max", ragged, 4),
        case("the largest of negative numbers", "max", left, 3, shift=-6.0),
    ]


def tagger_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, lengths: list[int], steps: int, sizes: tuple[int, int, int, int]) -> tuple[str, dict]:
        vocab, num_tags, width, hidden = sizes
        weights = {f"lstm.{name}": value for name, value in lstm_weights(rng, width, hidden, 1, 2).items()}
        real = prefix_mask(lengths, steps).unsqueeze(2)
        inputs = {
            "weights": {
                "embedding.weight": normal(rng, vocab, width),
                **weights,
                "output.weight": normal(rng, num_tags, 2 * hidden, scale=0.7),
                "output.bias": normal(rng, num_tags, scale=0.5),
            },
            "tokens": integers(rng, vocab, len(lengths), steps),
            "lengths": torch.tensor(lengths),
            "upstream": normal(rng, len(lengths), steps, num_tags) * real,
        }
        return kind, inputs

    return [
        case("sentences of unequal length", [2, 4, 1], 4, (7, 3, 2, 3)),
        case("one sentence without padding", [3], 3, (5, 4, 3, 2)),
        case("sentences of one word", [1, 1], 2, (5, 2, 2, 3)),
    ]


def loss_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, lengths: list[int], steps: int, num_tags: int, scale: float = 1.0) -> tuple[str, dict]:
        inputs = {
            "logits": normal(rng, len(lengths), steps, num_tags, scale=scale),
            "tags": integers(rng, num_tags, len(lengths), steps),
            "mask": prefix_mask(lengths, steps),
            "upstream": 0.5 + uniform(rng, 1)[0],
        }
        return kind, inputs

    return [
        case("no padding", [4, 4], 4, 5),
        case("lengths unequal", [2, 5, 3], 6, 4, scale=2.0),
        case("nothing but padding", [0, 0], 3, 4),
    ]


# --------------------------------------------------------------------------------------------------- exercises

NO_BUILT_IN = ["aten::lstm", "aten::lstm_cell", "aten::gru", "aten::gru_cell"]

EXERCISES = [
    Exercise(
        "lstm_step",
        points=12,
        cases=lstm_step_cases,
        forbid=NO_BUILT_IN,
        mistakes=[
            Mistake(
                "order-ifog",
                "The gates are taken in the order i, f, o, g; torch.nn has the candidate g before the output gate o.",
                "i, f, g, o = ",
                "i, f, o, g = ",
            ),
            Mistake(
                "order-figo",
                "The gates are taken in the order f, i, g, o; torch.nn has the input gate before the forget gate.",
                "i, f, g, o = ",
                "f, i, g, o = ",
            ),
            Mistake(
                "order-igfo",
                "The gates are taken in the order i, g, f, o, which is TensorFlow's; torch.nn has i, f, g, o.",
                "i, f, g, o = ",
                "i, g, f, o = ",
            ),
            Mistake(
                "candidate-sigmoid",
                "The candidate g goes through a sigmoid, so that it can only add; it goes through a tanh.",
                "torch.tanh(g)",
                "torch.sigmoid(g)",
            ),
            Mistake(
                "output-exchanged",
                "In the output, sigmoid and tanh are exchanged: the sigmoid belongs to the gate o, the tanh to the cell.",
                "torch.sigmoid(o) * torch.tanh(c_next)",
                "torch.tanh(o) * torch.sigmoid(c_next)",
            ),
            Mistake(
                "output-without-tanh",
                "The output is o times the cell itself; the cell goes through a tanh first.",
                "torch.tanh(c_next)",
                "c_next",
            ),
            Mistake(
                "output-of-old-cell",
                "The output is made from the old cell c; it is made from the new one.",
                "torch.tanh(c_next)",
                "torch.tanh(c)",
            ),
            Mistake(
                "cell-not-passed-on",
                "The old cell state does not enter the new one: f * c is missing.",
                "torch.sigmoid(f) * c + ",
                "",
            ),
            Mistake(
                "no-forget-gate",
                "The old cell is passed on whole, without the forget gate: that is the LSTM of 1997, before Gers et al.",
                "torch.sigmoid(f) * c",
                "c",
            ),
            Mistake(
                "coupled",
                "The input gate is 1 - f; it is a gate of its own, the sigmoid of i.",
                "torch.sigmoid(i)",
                "(1 - torch.sigmoid(f))",
            ),
            Mistake(
                "cell-squashed",
                "The new cell goes through a tanh before it is passed on; the tanh is for the output only.",
                "c_next = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)",
                "c_next = torch.tanh(torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g))",
            ),
            Mistake("one-bias", "Only b_ih is added; there are two biases, and b_hh is the other.", " + b_hh", ""),
            Mistake(
                "returned-in-the-other-order",
                "The two results are returned as (c_next, h_next); asked is (h_next, c_next).",
                "return h_next, c_next",
                "return c_next, h_next",
            ),
        ],
    ),
    Exercise(
        "gru_step",
        points=10,
        cases=gru_step_cases,
        forbid=NO_BUILT_IN,
        mistakes=[
            Mistake(
                "update-gate-reversed",
                "The update gate is the other way round: in torch.nn, z is the share of the old state that is kept.",
                "(1 - z) * n + z * h",
                "z * n + (1 - z) * h",
            ),
            Mistake(
                "reset-before-product",
                "The reset gate is applied to h before the matrix product, as in the paper; torch.nn applies it after, to "
                "the product and its bias.",
                "r * h_n",
                "(r * h) @ w_hh.chunk(3)[2].T + b_hh.chunk(3)[2]",
            ),
            Mistake(
                "bias-outside-the-reset",
                "The reset gate covers the product with h but not its bias b_hn; it covers both.",
                "r * h_n",
                "r * (h_n - b_hh.chunk(3)[2]) + b_hh.chunk(3)[2]",
            ),
            Mistake(
                "reset-covers-the-input",
                "The reset gate is applied to the input's part of the candidate as well; it resets the state's part only.",
                "x_n + r * h_n",
                "r * (x_n + h_n)",
            ),
            Mistake("no-reset", "The reset gate is left out of the candidate.", "r * h_n", "h_n"),
            Mistake(
                "order-zrn",
                "The gates are taken in the order z, r, n; torch.nn has the reset gate first.",
                "x_r, x_z, x_n = ",
                "x_z, x_r, x_n = ",
                also=[("h_r, h_z, h_n = ", "h_z, h_r, h_n = ")],
            ),
            Mistake(
                "candidate-sigmoid",
                "The candidate n goes through a sigmoid; only the gates do, the candidate goes through a tanh.",
                "torch.tanh(",
                "torch.sigmoid(",
            ),
            Mistake(
                "one-bias",
                "The bias b_hh is not added; the state's product has a bias, and so has the input's.",
                " + b_hh",
                "",
            ),
            Mistake(
                "candidate-only",
                "The new state is the candidate alone; z says how much of the old state stays.",
                "(1 - z) * n + z * h",
                "n + 0 * z",
            ),
            Mistake(
                "old-state-added-whole",
                "The whole old state is added, not its share z.",
                "+ z * h",
                "+ h",
            ),
        ],
    ),
    Exercise(
        "LSTM.forward",
        points=18,
        cases=lstm_forward_cases,
        uses=["lstm_step"],
        forbid=NO_BUILT_IN,
        mistakes=[
            Mistake(
                "cell-not-passed-on",
                "The cell state is not passed on from step to step: every step starts from a cell of zeros.",
                "torch.where(running, c_next, c)",
                "c",
            ),
            Mistake(
                "final-state-at-the-padded-end",
                "h_n and c_n of the forward direction are taken at the padded end: short sequences run on through their "
                "padding.",
                "torch.where(running, h_next, h), torch.where(running, c_next, c)",
                "torch.where(running | (direction == 0), h_next, h), torch.where(running | (direction == 0), c_next, c)",
            ),
            Mistake(
                "reversed-with-its-padding",
                "The backward direction starts in the padding: each sequence must begin with its own last real step.",
                "torch.where(running, h_next, h), torch.where(running, c_next, c)",
                "torch.where(running | (direction == 1), h_next, h), torch.where(running | (direction == 1), c_next, c)",
            ),
            Mistake(
                "padding-not-zero",
                "The outputs at padding are not zero: the layer goes on computing there.",
                "torch.where(running, h_next, 0.0)",
                "h_next",
            ),
            Mistake(
                "backward-in-reading-order",
                "The backward direction's outputs are left in the order in which it read, last step first; turn them round.",
                "outputs[t] = ",
                "outputs[t if direction == 0 else x.size(1) - 1 - t] = ",
            ),
            Mistake(
                "backward-is-a-second-forward",
                "The second direction reads forwards as well.",
                "reversed(range(x.size(1)))",
                "range(x.size(1))",
            ),
            Mistake(
                "one-set-of-weights",
                "Both directions use the weights of the forward one; the backward direction has its own, `_reverse`.",
                "self.weights_of(layer, direction)",
                "self.weights_of(layer, 0)",
            ),
            Mistake(
                "backward-first",
                "The backward direction comes first in the outputs; concatenate forward, then backward.",
                "torch.cat(directions, dim=2)",
                "torch.cat(directions[::-1], dim=2)",
            ),
            Mistake(
                "finals-by-direction",
                "h_n and c_n have all forward layers first, then all backward ones; the order is layer by layer.",
                "(torch.stack(h_n), torch.stack(c_n))",
                "(torch.stack(h_n[:: self.num_directions] + h_n[1 :: 2] * (self.num_directions - 1)), "
                "torch.stack(c_n[:: self.num_directions] + c_n[1 :: 2] * (self.num_directions - 1)))",
            ),
            Mistake(
                "top-layer-only",
                "h_n and c_n hold the last layer only; they hold every layer's final state.",
                "(torch.stack(h_n), torch.stack(c_n))",
                "(torch.stack(h_n[-self.num_directions :]), torch.stack(c_n[-self.num_directions :]))",
            ),
            Mistake(
                "state-handed-up",
                "A layer starts from the final state of the one below; every layer and direction starts from zeros.",
                "h = c = x.new_zeros(x.size(0), self.hidden_size)",
                "if not h_n: h = c = x.new_zeros(x.size(0), self.hidden_size)",
            ),
            Mistake(
                "dropout-after-the-last-layer",
                "Dropout is applied to the last layer's outputs too; it stands between layers only.",
                "return x, ",
                "return F.dropout(x, self.dropout, self.training), ",
            ),
            Mistake(
                "dropout-at-evaluation",
                "Dropout is applied at evaluation; it is for training only, as `self.training` tells.",
                "self.dropout, self.training",
                "self.dropout, True",
            ),
            Mistake(
                "no-dropout",
                "There is no dropout between the layers.",
                "F.dropout(x, self.dropout, self.training)",
                "x",
            ),
            Mistake(
                "dropout-on-the-input",
                "Dropout is applied to the input of the first layer too; it stands between layers only.",
                "layer > 0",
                "layer >= 0",
            ),
        ],
    ),
    Exercise(
        "init_lstm_",
        points=8,
        cases=init_cases,
        mistakes=[
            Mistake(
                "signs-left",
                "The signs are left as QR gives them; multiply each column of Q by the sign of R's diagonal entry.",
                "q * r.diagonal().sign()",
                "q",
            ),
            Mistake(
                "signs-on-rows",
                "The signs of R's diagonal multiply the rows of Q; they belong to its columns.",
                "q * r.diagonal().sign()",
                "q * r.diagonal().sign().unsqueeze(1)",
            ),
            Mistake(
                "blocks-transposed",
                "Each block is the transpose of the one asked for.",
                "q * r.diagonal().sign()",
                "(q * r.diagonal().sign()).T",
            ),
            Mistake(
                "one-block-for-all",
                "All four gates get the same block; each has its own matrix in the noise.",
                "noise[k]",
                "noise[0]",
            ),
            Mistake(
                "orthogonal-as-a-whole",
                "The columns of the whole (4H, H) matrix are orthogonal, its blocks are not; decompose each block by itself.",
                "torch.linalg.qr(noise[k])",
                "torch.linalg.qr(noise.reshape(4 * H, H))",
                also=[("q * r", "q[k * H : (k + 1) * H] * r")],
            ),
            Mistake(
                "noise-itself",
                "The blocks are the random matrices as they were given, not orthogonal ones.",
                "q * r.diagonal().sign()",
                "noise[k]",
            ),
            Mistake(
                "rows-of-length-one",
                "The rows of each block have length 1, but they are not at right angles.",
                "q * r.diagonal().sign()",
                "F.normalize(noise[k], dim=1)",
            ),
            Mistake(
                "input-gate-bias",
                "The 1 is in the bias of the input gate; the forget gate is the second block.",
                "b_ih[H : 2 * H]",
                "b_ih[:H]",
            ),
            Mistake(
                "candidate-bias",
                "The 1 is in the bias of the candidate, the third block; the forget gate is the second.",
                "b_ih[H : 2 * H]",
                "b_ih[2 * H : 3 * H]",
            ),
            Mistake(
                "forget-bias-twice",
                "Both biases of the forget gate are 1, so that together they are 2; the sum is to be 1.",
                "b_ih[H : 2 * H] = 1.0",
                "b_ih[H : 2 * H] = b_hh[H : 2 * H] = 1.0",
            ),
            Mistake(
                "every-bias-1",
                "The bias of every gate is 1; only the forget gate's is.",
                "b_ih[H : 2 * H]",
                "b_ih[:]",
            ),
            Mistake(
                "forget-bias-0",
                "The bias of the forget gate is 0 like the others.",
                "b_ih[H : 2 * H] = 1.0",
                "pass",
            ),
            Mistake(
                "b-hh-left",
                "b_hh keeps its old values, and they come on top of b_ih.",
                "b_hh.zero_()",
                "pass",
            ),
        ],
    ),
    Exercise(
        "cell_gradient_path",
        points=5,
        stretch=True,
        cases=path_cases,
        mistakes=[
            Mistake(
                "own-gate-included",
                "The product begins with the step's own gate; c_t lies behind that gate, so it begins with the next one.",
                "torch.cat([forget[1:], torch.ones_like(forget[:1])])",
                "forget",
            ),
            Mistake(
                "from-the-beginning",
                "The product runs from the first step to t; it runs from t to the last step.",
                "later.flip(0).cumprod(dim=0).flip(0)",
                "torch.cat([torch.ones_like(forget[:1]), forget[:-1]]).cumprod(dim=0)",
            ),
            Mistake(
                "backwards-in-time",
                "The rows run from the last step to the first; path[0] belongs to the first step.",
                ".cumprod(dim=0).flip(0)",
                ".cumprod(dim=0)",
            ),
            Mistake(
                "summed",
                "The gates are added up; gradients along a path are multiplied.",
                ".cumprod(dim=0)",
                ".cumsum(dim=0)",
            ),
            Mistake(
                "divided",
                "This divides the whole product by a part of it, which is 0 / 0 where a gate is shut.",
                "later.flip(0).cumprod(dim=0).flip(0)",
                "forget.prod(dim=0) / forget.cumprod(dim=0)",
            ),
            Mistake(
                "next-gate-only",
                "Only the next step's gate is there, not the product of all later ones.",
                "later.flip(0).cumprod(dim=0).flip(0)",
                "later",
            ),
            Mistake(
                "over-units",
                "The product runs over the units; it runs over time, for each unit by itself.",
                "later.flip(0).cumprod(dim=0).flip(0)",
                "later.flip(1).cumprod(dim=1).flip(1)",
            ),
            Mistake(
                "last-row-0",
                "The last row is 0: nothing comes after the last step, and an empty product is 1.",
                "later.flip(0).cumprod(dim=0).flip(0)",
                "torch.cat([later.flip(0).cumprod(dim=0).flip(0)[:-1], torch.zeros_like(forget[:1])])",
            ),
        ],
    ),
    Exercise(
        "bucket_batches",
        points=6,
        cases=bucket_cases,
        mistakes=[
            Mistake(
                "not-sorted",
                "The batches are random: sequences of all lengths come together, and much is padding.",
                "order[lengths[order].argsort(stable=True)]",
                "order",
            ),
            Mistake(
                "draws-ignored",
                "The draws change nothing: every epoch would get the same batches in the same order.",
                "draws.argsort()",
                "torch.arange(len(lengths))",
                also=[("draws[: len(batches)].argsort()", "lengths[: len(batches)].argsort(stable=True)")],
            ),
            Mistake(
                "short-batches-first",
                "The batches come from short to long every time; put them in an order that the draws decide.",
                "[batches[turn] for turn in turns.tolist()]",
                "list(batches)",
            ),
            Mistake(
                "last-batch-dropped",
                "The last batch is dropped when it is not full; every sequence belongs to a batch.",
                "batches = order.split(batch_size)",
                "batches = order[: len(order) // batch_size * batch_size].split(batch_size)",
            ),
            Mistake(
                "last-batch-filled-up",
                "The last batch is filled up with sequences that other batches have already.",
                "batches = order.split(batch_size)",
                "batches = torch.cat([order, order[: -len(order) % batch_size]]).split(batch_size)",
            ),
            Mistake(
                "one-too-many",
                "Batches hold one sequence more than batch_size.",
                "split(batch_size)",
                "split(batch_size + 1)",
            ),
            Mistake(
                "positions-instead-of-indices",
                "The batches hold lengths, not the indices of sequences.",
                "order.split(batch_size)",
                "lengths.sort().values.split(batch_size)",
            ),
            Mistake(
                "own-randomness",
                "The order comes from PyTorch's own generator; the same draws must give the same batches.",
                "draws[: len(batches)].argsort()",
                "torch.randperm(len(batches))",
            ),
        ],
    ),
    Exercise(
        "tagger_loss",
        points=6,
        cases=loss_cases,
        mistakes=[
            Mistake(
                "loss-over-padding",
                "The loss is taken over the padding as well.",
                "(nats * mask).sum() / mask.sum().clamp(min=1)",
                "nats.mean()",
            ),
            Mistake(
                "divided-by-padding",
                "Padding is left out of the sum but counted in the divisor: divide by the number of real tokens.",
                "mask.sum().clamp(min=1)",
                "mask.numel()",
            ),
            Mistake("summed", "The losses are added up but not divided.", " / mask.sum().clamp(min=1)", ""),
            Mistake(
                "per-sentence",
                "The sum is divided by the number of sentences.",
                "mask.sum().clamp(min=1)",
                "mask.size(0)",
            ),
            Mistake(
                "mean-of-means",
                "This is the mean of the sentences' means, where a word of a short sentence weighs more.",
                "(nats * mask).sum() / mask.sum().clamp(min=1)",
                "((nats * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)).mean()",
            ),
            Mistake(
                "mask-inverted",
                "The padding is scored and the real tokens are not: the mask is True at real tokens.",
                "nats * mask",
                "nats * ~mask",
                also=[("mask.sum()", "(~mask).sum()")],
            ),
            Mistake(
                "shifted",
                "Each token's logits are compared with the next token's tag, as in a language model; a tagger has its own.",
                "F.cross_entropy(logits.transpose(1, 2), tags, ",
                "F.cross_entropy(logits.transpose(1, 2), tags.roll(-1, dims=1), ",
            ),
            Mistake(
                "softmax-twice",
                "The logits go through a softmax before the cross-entropy, which takes one itself.",
                "logits.transpose(1, 2)",
                "logits.softmax(dim=-1).transpose(1, 2)",
            ),
            Mistake(
                "not-a-number",
                "With nothing but padding this is 0 divided by 0; asked is 0.",
                ".clamp(min=1)",
                "",
            ),
        ],
    ),
    Exercise(
        "Tagger.forward",
        points=6,
        cases=tagger_cases,
        uses=["LSTM.forward"],
        mistakes=[
            Mistake(
                "lengths-ignored",
                "The LSTM is told that every sentence is as long as the batch: its backward direction starts in the padding.",
                "self.lstm(self.embedding(tokens), lengths)",
                "self.lstm(self.embedding(tokens), torch.full_like(lengths, tokens.size(1)))",
            ),
            Mistake(
                "softmax",
                "These are probabilities; logits are asked, without softmax.",
                "self.output(outputs)",
                "self.output(outputs).softmax(dim=-1)",
            ),
            Mistake(
                "log-softmax",
                "These are logarithms of probabilities; the loss takes the softmax, the model returns logits.",
                "self.output(outputs)",
                "self.output(outputs).log_softmax(dim=-1)",
            ),
            Mistake(
                "one-for-the-sentence",
                "Every token gets the logits of the sentence's final states; each has an output of its own.",
                "outputs, _ = ",
                "outputs, (h_n, _) = ",
                also=[
                    ("self.output(outputs)", "self.output(torch.cat([*h_n], dim=1).unsqueeze(1).expand_as(outputs))")
                ],
            ),
            Mistake(
                "embedding-detached",
                "The embedded tokens are detached, so that the embedding learns nothing.",
                "self.embedding(tokens)",
                "self.embedding(tokens).detach()",
            ),
            Mistake(
                "extra-relu",
                "The outputs go through a ReLU before the linear layer, which loses all that is negative.",
                "self.output(outputs)",
                "self.output(outputs.relu())",
            ),
        ],
    ),
    Exercise(
        "masked_pool",
        points=8,
        cases=pool_cases,
        mistakes=[
            Mistake(
                "last-column",
                "For `last`, the last column is taken, padding or not.",
                "(positions * mask).argmax(dim=1)",
                "torch.full_like(mask[:, 0], mask.size(1) - 1, dtype=torch.int64)",
            ),
            Mistake(
                "counted-from-the-left",
                "For `last`, real tokens are counted and the row is taken to begin with them; padding may be on the left.",
                "(positions * mask).argmax(dim=1)",
                "mask.sum(dim=1) - 1",
            ),
            Mistake(
                "first",
                "For `last`, the first real token is taken.",
                "(positions * mask).argmax(dim=1)",
                "mask.int().argmax(dim=1)",
            ),
            Mistake(
                "mean-over-padding",
                "The mean is taken over the padding as well.",
                "(outputs * real).sum(dim=1) / real.sum(dim=1)",
                "outputs.mean(dim=1)",
            ),
            Mistake(
                "divided-by-the-width",
                "For the mean, the padding is left out of the sum but counted in the divisor.",
                "/ real.sum(dim=1)",
                "/ real.size(1)",
            ),
            Mistake(
                "sum",
                "For the mean, the sum is not divided by the number of real tokens.",
                " / real.sum(dim=1)",
                "",
            ),
            Mistake(
                "max-over-padding",
                "The maximum is taken over the padding as well.",
                "outputs.masked_fill(~real, -math.inf)",
                "outputs",
            ),
            Mistake(
                "max-with-zeros",
                "For the maximum, padding counts as 0, which wins where everything real is negative.",
                "outputs.masked_fill(~real, -math.inf)",
                "outputs.masked_fill(~real, 0.0)",
            ),
            Mistake(
                "mask-inverted",
                "The mask is read the other way round: True is a real token.",
                "real = mask.unsqueeze(2)",
                "mask = ~mask; real = mask.unsqueeze(2)",
            ),
        ],
    ),
    # ---------------------------------------------------------------------------------------------- trained models
    Artifact(
        name="tags",
        file="tags.safetensors",
        figure="accuracy",
        thresholds=thresholds(RESULTS, "tags", points=8),
        inputs=heldout_tags,
        score=score_tags,
        where="held-out documents of Brown",
    ),
    chars_artifact(RESULTS, points=8),
]
