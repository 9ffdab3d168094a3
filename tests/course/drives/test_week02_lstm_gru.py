"""Week 2's solutions against twins from outside: torch.nn's LSTM and GRU, autograd, torch's orthogonal matrices and losses."""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autograder.week import Week
from course.drives import Student, Tripwire, drive_of
from course.drives import week02_lstm_gru as drives
from tests.course.drives.conftest import CLOSE, cases_of, normal

WEEK = Week(Path(__file__).parents[3] / "solutions" / "week02_lstm_gru")
# bfloat16 has 8 bits: each of the few sums and products of a step is off by up to 2^-9 of values of about 1.
COARSE = {"rtol": 0.05, "atol": 0.05}


def random_twin(rng: torch.Generator, twin: nn.Module) -> nn.Module:
    """The module in float64 with random parameters."""
    twin.double()
    for parameter in twin.parameters():
        parameter.data = 0.6 * normal(rng, *parameter.shape)
    return twin


def both_gradients(rng: torch.Generator, mine: Any, theirs: Any, inputs: list[Tensor]) -> tuple[Any, Any]:
    """Gradients of two results, tuples of tensors, under the same random upstream."""
    upstream = [normal(rng, *result.shape) for result in theirs]
    return torch.autograd.grad(mine, inputs, upstream), torch.autograd.grad(theirs, inputs, upstream)


@pytest.mark.parametrize("batch", [1, 4])
def test_lstm_step_is_that_of_lstmcell(week: dict, rng: torch.Generator, batch: int):
    twin = random_twin(rng, nn.LSTMCell(3, 5))
    x, h, c = (normal(rng, batch, width).requires_grad_() for width in (3, 5, 5))
    mine, theirs = week["lstm_step"](x, h, c, *twin.parameters()), twin(x, (h, c))
    torch.testing.assert_close(mine, theirs, **CLOSE)
    mine, theirs = both_gradients(rng, mine, theirs, [x, h, c, *twin.parameters()])
    torch.testing.assert_close(mine, theirs, **CLOSE)


@pytest.mark.parametrize("batch", [1, 4])
def test_gru_step_is_that_of_grucell(week: dict, rng: torch.Generator, batch: int):
    twin = random_twin(rng, nn.GRUCell(3, 5))
    x, h = normal(rng, batch, 3).requires_grad_(), normal(rng, batch, 5).requires_grad_()
    mine, theirs = week["gru_step"](x, h, *twin.parameters()), twin(x, h)
    torch.testing.assert_close(mine, theirs, **CLOSE)
    mine, theirs = both_gradients(rng, [mine], [theirs], [x, h, *twin.parameters()])
    torch.testing.assert_close(mine, theirs, **CLOSE)


def test_steps_work_in_half_precision(week: dict, rng: torch.Generator):
    x, h, c = normal(rng, 2, 3), normal(rng, 2, 4), normal(rng, 2, 4)
    for name, states, twin in (("lstm_step", [h, c], nn.LSTMCell(3, 4)), ("gru_step", [h], nn.GRUCell(3, 4))):
        arguments = [x, *states, *(parameter.detach() for parameter in random_twin(rng, twin).parameters())]
        exact, coarse = week[name](*arguments), week[name](*(value.bfloat16() for value in arguments))
        for one, other in zip(*((r if isinstance(r, tuple) else (r,)) for r in (exact, coarse)), strict=True):
            assert other.dtype == torch.bfloat16
            torch.testing.assert_close(other.double(), one, **COARSE)


LAYERS = [
    {},
    {"bidirectional": True},
    {"num_layers": 2},
    {"num_layers": 3, "bidirectional": True},
    {"num_layers": 2, "bidirectional": True, "dropout": 1.0},
]


def twins(week: dict, rng: torch.Generator, **sizes: Any) -> tuple[nn.Module, nn.Module]:
    """Our LSTM and torch's with the same weights, by their names."""
    theirs = random_twin(rng, nn.LSTM(3, 4, batch_first=True, **sizes))
    mine = week["LSTM"](3, 4, **sizes).double()
    mine.load_state_dict(theirs.state_dict())
    return mine, theirs


def packed(twin: nn.Module, x: Tensor, lengths: Tensor) -> list[Tensor]:
    """[outputs, h_n, c_n] of a torch layer over a padded batch."""
    sequences = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    outputs, (h_n, c_n) = twin(sequences)
    outputs, _ = nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True, total_length=x.size(1))
    return [outputs, h_n, c_n]


@pytest.mark.parametrize("sizes", LAYERS)
@pytest.mark.parametrize("lengths", [[4, 6, 1, 3], [1], [5, 5], [1, 1, 1]])
@pytest.mark.parametrize("training", [True, False])
def test_lstm_is_nn_lstm_on_packed_sequences(
    week: dict, rng: torch.Generator, sizes: dict, lengths: list[int], training: bool
):
    mine, theirs = (module.train(training) for module in twins(week, rng, **sizes))
    x = normal(rng, len(lengths), max(lengths) + 1, 3).requires_grad_()
    outputs, finals = mine(x, torch.tensor(lengths))
    expected = packed(theirs, x, torch.tensor(lengths))
    torch.testing.assert_close([outputs, *finals], expected, **CLOSE)
    upstream = [normal(rng, *result.shape) for result in expected]
    torch.testing.assert_close(
        torch.autograd.grad([outputs, *finals], [x, *mine.parameters()], upstream),
        torch.autograd.grad(expected, [x, *theirs.parameters()], upstream),
        **CLOSE,
    )


def test_lstm_reads_nothing_of_the_padding(week: dict, rng: torch.Generator):
    mine, _ = twins(week, rng, num_layers=2, bidirectional=True)
    lengths = torch.tensor([2, 5, 1])
    x = normal(rng, 3, 6, 3)
    real = torch.arange(6)[None, :, None] < lengths[:, None, None]
    one, other = (mine(value, lengths)[0] for value in (x, torch.where(real, x, normal(rng, 3, 6, 3))))
    assert torch.equal(one, other)


def test_dropout_draws_in_training_only_and_between_layers_only(week: dict, rng: torch.Generator):
    mine, _ = twins(week, rng, num_layers=2, dropout=0.5)
    x, lengths = normal(rng, 2, 4, 3), torch.tensor([4, 3])
    assert not torch.equal(mine(x, lengths)[0], mine(x, lengths)[0])
    assert bool((mine(x, lengths)[0][0] != 0).all())  # the last layer's outputs are whole
    assert torch.equal(mine.eval()(x, lengths)[0], mine(x, lengths)[0])


def test_gru_layer_is_nn_gru_on_packed_sequences(week: dict, rng: torch.Generator):
    theirs = random_twin(rng, nn.GRU(3, 5, batch_first=True))
    mine = week["GRU"](3, 5).double()
    mine.load_state_dict(theirs.state_dict())
    x, lengths = normal(rng, 3, 6, 3), torch.tensor([4, 1, 5])
    sequences = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    outputs, h_n = theirs(sequences)
    outputs, _ = nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True, total_length=6)
    torch.testing.assert_close(mine(x, lengths), (outputs, h_n), **CLOSE)


def test_initialised_blocks_are_orthogonal_and_those_of_torch(week: dict, rng: torch.Generator):
    H = 5
    noise, w_hh = normal(rng, 4, H, H), nn.Parameter(normal(rng, 4 * H, H))
    b_ih, b_hh = nn.Parameter(normal(rng, 4 * H)), nn.Parameter(normal(rng, 4 * H))
    assert week["init_lstm_"](w_hh, b_ih, b_hh, noise) is None
    blocks = w_hh.detach().view(4, H, H)
    torch.testing.assert_close(blocks @ blocks.mT, torch.eye(H, dtype=torch.float64).expand(4, H, H), **CLOSE)
    triangle = blocks.mT @ noise  # R: upper triangular with a positive diagonal
    torch.testing.assert_close(triangle, triangle.triu(), **CLOSE)
    assert bool((triangle.diagonal(dim1=1, dim2=2) > 0).all())
    assert (b_ih + b_hh).view(4, H).tolist() == [[0.0] * H, [1.0] * H, [0.0] * H, [0.0] * H]
    assert w_hh.requires_grad and w_hh.grad_fn is None
    # torch's own orthogonal_ makes the same of the same numbers
    torch.manual_seed(0)
    block = nn.init.orthogonal_(torch.empty(H, H, dtype=torch.float64))
    torch.manual_seed(0)
    same = torch.empty(H, H, dtype=torch.float64).normal_(0, 1)
    week["init_lstm_"](w_hh, b_ih, b_hh, same.expand(4, H, H))
    torch.testing.assert_close(w_hh.detach()[:H], block, **CLOSE)


def test_path_is_the_gradient_of_the_cell_with_its_gates_held(week: dict, rng: torch.Generator):
    T, H = 7, 4
    forget = torch.sigmoid(normal(rng, T, H))
    forget[3, 1] = 0.0
    cells = [normal(rng, H).requires_grad_()]
    for gate in forget[1:]:
        cells.append(gate * cells[-1] + normal(rng, H))
    expected = torch.autograd.grad(cells[-1].sum(), cells)
    torch.testing.assert_close(week["cell_gradient_path"](forget), torch.stack(expected), **CLOSE)
    assert torch.equal(week["cell_gradient_path"](forget[:1]), torch.ones(1, H, dtype=torch.float64))


@pytest.mark.parametrize(("count", "batch_size"), [(100, 8), (7, 3), (2, 5), (1, 1), (12, 1)])
def test_batches_hold_every_index_once(week: dict, rng: torch.Generator, count: int, batch_size: int):
    lengths = torch.randint(1, 30, (count,), generator=rng)
    draws, others = torch.rand(count, generator=rng), torch.rand(count, generator=rng)
    batches = [batch.tolist() for batch in week["bucket_batches"](lengths, batch_size, draws)]
    assert sorted(i for batch in batches for i in batch) == list(range(count))
    assert len(batches) == math.ceil(count / batch_size) and max(map(len, batches)) <= batch_size
    assert batches == [batch.tolist() for batch in week["bucket_batches"](lengths, batch_size, draws)]
    spans = sorted((int(lengths[batch].min()), int(lengths[batch].max())) for batch in batches)
    assert all(one[1] <= other[0] for one, other in pairwise(spans))  # least padding there is
    if count == 100:
        assert batches != [batch.tolist() for batch in week["bucket_batches"](lengths, batch_size, others)]


def test_pooling_is_that_of_the_real_tokens_alone(week: dict, rng: torch.Generator):
    outputs = normal(rng, 4, 6, 3)
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 0, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0], [0, 1, 1, 1, 0, 0]]).bool()
    for how, pool in (("last", lambda x: x[-1]), ("mean", lambda x: x.mean(0)), ("max", lambda x: x.amax(0))):
        expected = torch.stack([pool(row[real]) for row, real in zip(outputs, mask, strict=True)])
        torch.testing.assert_close(week["masked_pool"](outputs, mask, how), expected, **CLOSE)


def test_tagger_is_nn_lstm_between_embedding_and_linear(week: dict, rng: torch.Generator):
    model = week["Tagger"](9, 3, 4, 5).double()
    twin = random_twin(rng, nn.LSTM(4, 5, batch_first=True, bidirectional=True))
    model.lstm.load_state_dict(twin.state_dict())
    tokens, lengths = torch.randint(9, (3, 6), generator=rng), torch.tensor([6, 1, 4])
    expected = model.output(packed(twin, model.embedding(tokens), lengths)[0])
    torch.testing.assert_close(model(tokens, lengths), expected, **CLOSE)


def test_tagger_loss_is_cross_entropy_of_real_words(week: dict, rng: torch.Generator):
    logits, tags = normal(rng, 3, 5, 4), torch.randint(4, (3, 5), generator=rng)
    mask = torch.arange(5) < torch.tensor([[5], [1], [3]])
    torch.testing.assert_close(
        week["tagger_loss"](logits, tags, mask), F.cross_entropy(logits[mask], tags[mask]), **CLOSE
    )
    nothing = week["tagger_loss"](logits.requires_grad_(), tags, torch.zeros_like(mask))
    assert nothing.item() == 0.0
    assert torch.equal(torch.autograd.grad(nothing, logits)[0], torch.zeros_like(logits))


def test_char_lstm_is_nn_lstm(week: dict, rng: torch.Generator):
    model, twin = week["CharLSTM"](9, 3, 4).double(), random_twin(rng, nn.LSTM(3, 4, batch_first=True))
    model.lstm.load_state_dict(twin.state_dict())
    tokens = torch.randint(9, (2, 7), generator=rng)
    torch.testing.assert_close(model(tokens), model.output(twin(model.embedding(tokens))[0]), **CLOSE)


def test_chrono_biases_are_on_the_gates_that_keep(week: dict):
    torch.manual_seed(0)
    lstm, gru = nn.LSTM(3, 500), nn.GRU(3, 500)
    for layer in (lstm, gru):
        week["chrono_"](layer, 102)
        gates = (layer.bias_ih_l0 + layer.bias_hh_l0).detach().view(-1, 500)
        u = gates[1].exp()
        assert 1 <= u.min() < 3 and 98 < u.max() <= 101 and 45 < u.mean() < 57
        assert torch.equal(gates[0], -gates[1] if layer is lstm else torch.zeros(500))
        assert not gates[2:].any()


def test_solutions_follow_the_device_of_their_inputs(week: dict):
    """On the meta device, which computes shapes alone: a tensor made on the CPU on the way raises there."""
    B, T, width, H = 3, 4, 2, 5
    with torch.device("meta"):
        x, lengths, mask = torch.ones(B, T, width), torch.ones(B, dtype=torch.int64), torch.ones(B, T) > 0
        tokens, logits = torch.ones(B, T, dtype=torch.int64), torch.ones(B, T, H)
        lstm, tagger = week["LSTM"](width, H, 2, True, 0.5), week["Tagger"](7, 3, width, H)
        gru, writer = week["GRU"](width, H), week["CharLSTM"](7, width, H)
    answers = [
        lstm(x, lengths)[0],
        gru(x, lengths)[0],
        tagger(tokens, lengths),
        writer(tokens),
        week["tagger_loss"](logits, tokens, mask),
        *(week["masked_pool"](x, mask, how) for how in ("last", "mean", "max")),
        week["cell_gradient_path"](logits[0]),
    ]
    assert {answer.device.type for answer in answers} == {"meta"}


# ------------------------------------------------------------------------------------------------------- drives


def test_wire_is_tripped_by_the_built_in_networks(week: dict):
    class BuiltIn(nn.LSTM):
        def __init__(self, input_size: int, hidden_size: int, num_layers: int, bidirectional: bool, dropout: float):
            super().__init__(
                input_size,
                hidden_size,
                num_layers,
                batch_first=True,
                bidirectional=bidirectional,
                dropout=dropout,
            )

        def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
            return super().forward(x)

    def by_cell(x: Tensor, h: Tensor, c: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        return torch.lstm_cell(x, (h, c), *weights)

    for exercise, name, code, hit in (
        ("LSTM.forward", "LSTM", BuiltIn, "aten::lstm"),
        ("lstm_step", "lstm_step", by_cell, "aten::lstm_cell"),
        ("gru_step", "gru_step", torch.gru_cell, "aten::gru_cell"),
    ):
        drive = drive_of(WEEK.name, exercise)
        with Tripwire(WEEK.exercise(exercise).forbid) as tripwire:
            drive(Student({name: code}), cases_of(WEEK, exercise)[0])
        assert tripwire.hits == [hit]


def test_drive_says_what_a_result_of_another_form_should_be(week: dict):
    student = Student({"lstm_step": lambda x, *rest: x})
    with pytest.raises(TypeError, match=r"should return 2 values, \(h_next, c_next\); yours returned one Tensor"):
        drives.lstm_step(student, cases_of(WEEK, "lstm_step")[0])


def test_measure_of_batches_finds_what_is_wrong():
    inputs = {"lengths": torch.tensor([1, 2, 3, 20, 21, 22, 40]), "batch_size": 3}
    good = [[3, 4, 5], [6], [0, 1, 2]]
    right = {"batches": good, "for other draws": good[::-1], "for the same draws again": good}
    assert not any(drives.measure_bucket_batches(inputs, right).values())
    wrong = {
        "batches": [[0, 6, 3, 3], [1, 2]],
        "for other draws": [[0, 6, 3, 3], [1, 2]],
        "for the same draws again": good,
    }
    found = drives.measure_bucket_batches(inputs, wrong)
    assert found["indices left out"] == [4, 5] and found["indices used again"] == 1
    assert found["batches that are too large"] == 1 and found["the same draws give other batches"]
    assert found["padding beyond 15 %"] == pytest.approx(1 - (1 + 40 + 20 + 20 + 2 + 3) / (4 * 40 + 2 * 3) - 0.15)
    in_order = {**right, "batches": [[0, 1, 2], [3, 4, 5], [6]], "for other draws": [[0, 1, 2], [3, 4, 5], [6]]}
    found = drives.measure_bucket_batches(inputs, in_order)
    assert found["batches come by length"] and found["other draws change nothing"]


def test_trained_models_are_loaded_with_the_sizes_of_their_weights(week: dict):
    torch.manual_seed(0)
    tagger, model = week["Tagger"](9, 3, 4, 6), week["CharLSTM"](11, 5, 7)
    tokens, lengths = torch.randint(9, (4, 7)), torch.tensor([7, 1, 4, 2])
    weights = {name: value.detach().clone() for name, value in tagger.named_parameters()}
    answer = drives.tags(Student(week), {"weights": weights, "figures": {}, "tokens": tokens, "lengths": lengths})
    torch.testing.assert_close(answer["logits"], tagger(tokens, lengths).detach())

    tokens = torch.randint(11, (2, 8))
    changed = torch.cat([tokens[:, :5], (tokens[:, 5:] + 1) % 11], dim=1)
    weights = {name: value.detach().clone() for name, value in model.named_parameters()}
    answer = drives.chars(Student(week), {"weights": weights, "figures": {}, "tokens": tokens, "changed": changed})
    torch.testing.assert_close(answer["logits"], model(tokens)[:, 3:].detach())
    assert torch.equal(answer["logits"][:, :2], answer["logits on changed"][:, :2])


def test_tags_are_scored_at_real_words_alone():
    inputs, tags = drives.tags_public()
    assert inputs["tokens"].shape == tags.shape and tags.shape[1] == 60
    assert torch.equal((tags >= 0).sum(dim=1), inputs["lengths"])
    logits = F.one_hot(tags.clamp(min=0), 12).float()
    assert logits.numel() * 4 < 15 * 2**20  # the outputs, in bytes
    assert drives.score_tags(inputs, {"logits": logits}, tags) == 1.0
    logits[0] = logits[0].roll(1, dims=-1)
    words = int((tags >= 0).sum())
    assert drives.score_tags(inputs, {"logits": logits}, tags) == pytest.approx(1 - int(inputs["lengths"][0]) / words)
    for spoil in (lambda x: x[..., :-1], lambda x: x * math.nan, lambda x: x[:-1]):
        with pytest.raises(ValueError, match="shape"):
            drives.score_tags(inputs, {"logits": spoil(logits)}, tags)
