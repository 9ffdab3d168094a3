"""Week 1's solutions against twins from outside: torch.nn's recurrent layers, autograd, torch's own clipping and losses."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autograder.week import Week
from course.drives import Student, Tripwire
from course.drives import week01_rnn as drives
from tests.course.drives.conftest import CLOSE, cases_of, normal

WEEK = Week(Path(__file__).parents[3] / "solutions" / "week01_rnn")


def twin_of(rng: torch.Generator, layer: type[nn.Module], width: int, hidden: int, **options: Any) -> tuple:
    """A torch.nn recurrent layer and its parameters in the order w_ih, w_hh, b_ih, b_hh, random and in float64."""
    twin = layer(width, hidden, **options).double()
    for parameter in twin.parameters():
        parameter.data = 0.6 * normal(rng, *parameter.shape)
    return twin, list(twin.parameters())


def test_step_is_that_of_rnncell(week: dict, rng: torch.Generator):
    twin, weights = twin_of(rng, nn.RNNCell, 3, 5)
    x, h = normal(rng, 4, 3), normal(rng, 4, 5)
    torch.testing.assert_close(week["rnn_step"](x, h, *weights), twin(x, h), **CLOSE)


def test_forward_is_that_of_nn_rnn_on_packed_sequences(week: dict, rng: torch.Generator):
    twin, weights = twin_of(rng, nn.RNN, 3, 5, batch_first=True)
    lengths = torch.randint(1, 7, (4,), generator=rng)
    x, h0 = normal(rng, 4, 7, 3), normal(rng, 4, 5)
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    packed_outputs, h_n = twin(packed, h0.unsqueeze(0))
    expected, _ = nn.utils.rnn.pad_packed_sequence(packed_outputs, batch_first=True, total_length=7)
    outputs, mine = week["rnn_forward"](x, lengths, h0, *weights)
    torch.testing.assert_close(outputs, expected, **CLOSE)
    torch.testing.assert_close(mine, h_n[0], **CLOSE)


def test_forward_reads_nothing_of_the_padding(week: dict, rng: torch.Generator):
    _, weights = twin_of(rng, nn.RNN, 3, 5)
    lengths = torch.tensor([2, 5, 1])
    x, h0 = normal(rng, 3, 6, 3), normal(rng, 3, 5)
    other = torch.where(torch.arange(6)[None, :, None] < lengths[:, None, None], x, normal(rng, 3, 6, 3))
    for one, two in zip(
        week["rnn_forward"](x, lengths, h0, *weights), week["rnn_forward"](other, lengths, h0, *weights), strict=True
    ):
        assert torch.equal(one, two)


def test_gradients_flow_back_through_forward_as_through_nn_rnn(week: dict, rng: torch.Generator):
    twin, weights = twin_of(rng, nn.RNN, 3, 5, batch_first=True)
    x, h0 = normal(rng, 2, 6, 3).requires_grad_(), normal(rng, 2, 5).requires_grad_()
    upstream = normal(rng, 2, 6, 5)
    expected = torch.autograd.grad(twin(x, h0.unsqueeze(0))[0], [x, h0, *weights], upstream)
    outputs, _ = week["rnn_forward"](x, torch.tensor([6, 6]), h0, *weights)
    torch.testing.assert_close(torch.autograd.grad(outputs, [x, h0, *weights], upstream), expected, **CLOSE)


def test_step_backward_is_autograds(week: dict, rng: torch.Generator):
    twin, (w_ih, w_hh, b_ih, b_hh) = twin_of(rng, nn.RNNCell, 3, 5)
    x, h = normal(rng, 4, 3).requires_grad_(), normal(rng, 4, 5).requires_grad_()
    h_next, upstream = twin(x, h), normal(rng, 4, 5)
    expected = torch.autograd.grad(h_next, [x, h, w_ih, w_hh, b_ih, b_hh], upstream)
    with torch.no_grad():
        mine = week["rnn_step_backward"](upstream, x, h, h_next, w_ih, w_hh)
    torch.testing.assert_close(mine, expected, **CLOSE)


@pytest.mark.parametrize("steps", [1, 9])
def test_backward_through_time_is_autograds(week: dict, rng: torch.Generator, steps: int):
    twin, (w_ih, w_hh, b_ih, b_hh) = twin_of(rng, nn.RNN, 3, 5, batch_first=True)
    x, h0 = normal(rng, 4, steps, 3).requires_grad_(), normal(rng, 4, 5).requires_grad_()
    outputs, _ = twin(x, h0.unsqueeze(0))
    upstream = normal(rng, 4, steps, 5)
    expected = torch.autograd.grad(outputs, [x, h0, w_ih, w_hh, b_ih, b_hh], upstream)
    with torch.no_grad():
        mine = week["rnn_backward"](upstream, x, h0, outputs, w_ih, w_hh)
    torch.testing.assert_close(mine, expected, **CLOSE)


@pytest.mark.parametrize("max_norm", [1e-7, 0.5, 100.0])
def test_clipping_is_torchs(week: dict, rng: torch.Generator, max_norm: float):
    grads = [normal(rng, 3, 4), normal(rng, 5), normal(rng, 2, 2, 3)]
    parameters = [nn.Parameter(torch.zeros_like(grad)) for grad in grads]
    for parameter, grad in zip(parameters, grads, strict=True):
        parameter.grad = grad.clone()
    expected = nn.utils.clip_grad_norm_(parameters, max_norm)
    given = [grad.clone() for grad in grads]
    clipped, norm = week["clip_by_global_norm"](grads, max_norm)
    assert all(torch.equal(grad, copy) for grad, copy in zip(grads, given, strict=True))
    torch.testing.assert_close(norm, expected, **CLOSE)
    torch.testing.assert_close(clipped, [parameter.grad for parameter in parameters], **CLOSE)


def test_classifier_is_nn_rnn_between_embedding_and_linear(week: dict, rng: torch.Generator):
    twin, weights = twin_of(rng, nn.RNN, 4, 6, batch_first=True)
    model = week["NameClassifier"](9, 3, 4, 6).double()
    own = [model.weight_ih, model.weight_hh, model.bias_ih, model.bias_hh]
    for parameter, value in zip(own, weights, strict=True):
        parameter.data = value.data
    tokens, lengths = torch.randint(9, (4, 7), generator=rng), torch.tensor([7, 1, 4, 2])
    packed = nn.utils.rnn.pack_padded_sequence(model.embedding(tokens), lengths, batch_first=True, enforce_sorted=False)
    torch.testing.assert_close(model(tokens, lengths), model.output(twin(packed)[1][0]), **CLOSE)


def test_char_rnn_is_nn_rnn_and_goes_on_from_its_state(week: dict, rng: torch.Generator):
    twin, weights = twin_of(rng, nn.RNN, 4, 6, batch_first=True)
    model = week["CharRNN"](9, 4, 6).double()
    own = [model.weight_ih, model.weight_hh, model.bias_ih, model.bias_hh]
    for parameter, value in zip(own, weights, strict=True):
        parameter.data = value.data
    tokens = torch.randint(9, (3, 8), generator=rng)
    logits, h_n = model(tokens)
    expected, last = twin(model.embedding(tokens))
    torch.testing.assert_close(logits, model.output(expected), **CLOSE)
    torch.testing.assert_close(h_n, last[0], **CLOSE)
    rest, _ = model(tokens[:, 5:], model(tokens[:, :5])[1])
    torch.testing.assert_close(rest, logits[:, 5:], **CLOSE)


def test_loss_is_cross_entropy_in_bits(week: dict, rng: torch.Generator):
    logits, tokens = normal(rng, 4, 6, 5), torch.randint(5, (4, 6), generator=rng)
    lengths = torch.tensor([6, 1, 3, 5])
    rows = [(logits[b, t], tokens[b, t + 1]) for b in range(4) for t in range(int(lengths[b]) - 1)]
    expected = F.cross_entropy(torch.stack([row for row, _ in rows]), torch.stack([target for _, target in rows]))
    torch.testing.assert_close(week["char_lm_loss"](logits, tokens, lengths), expected / math.log(2), **CLOSE)


def test_loss_of_equal_logits_is_the_logarithm_of_the_vocabulary(week: dict):
    tokens = torch.tensor([[3, 1, 4, 1], [5, 7, 2, 6]])
    loss = week["char_lm_loss"](torch.zeros(2, 4, 8), tokens, torch.tensor([4, 2]))
    assert loss.item() == pytest.approx(3.0, abs=1e-6)  # 8 symbols: 3 bits


def test_loss_of_nothing_to_predict_is_zero_with_zero_gradient(week: dict):
    logits = torch.randn(2, 3, 4, requires_grad=True)
    loss = week["char_lm_loss"](logits, torch.zeros(2, 3, dtype=torch.int64), torch.tensor([1, 1]))
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_probabilities_are_those_of_a_categorical_distribution(week: dict, rng: torch.Generator):
    logits = normal(rng, 3, 7)
    expected = torch.distributions.Categorical(logits=logits / 0.7).probs
    torch.testing.assert_close(week["next_char_probs"](logits, 0.7), expected, **CLOSE)


def test_probabilities_of_large_logits_are_finite(week: dict):
    probs = week["next_char_probs"](torch.tensor([[200.0, 199.0, 0.0]]), 0.5)
    torch.testing.assert_close(probs, torch.tensor([[1.0, math.exp(-2.0), 0.0]]) / (1 + math.exp(-2.0)))


def test_cut_keeps_the_likeliest_in_their_proportions(week: dict, rng: torch.Generator):
    logits = normal(rng, 3, 7)
    whole, cut = week["next_char_probs"](logits, 0.7), week["next_char_probs"](logits, 0.7, top_k=3)
    kept = torch.zeros_like(whole).scatter(1, whole.topk(3).indices, 1.0) * whole
    torch.testing.assert_close(cut, kept / kept.sum(dim=1, keepdim=True), **CLOSE)


def test_cut_keeps_all_that_tie(week: dict):
    probs = week["next_char_probs"](torch.tensor([[1.0, 2.0, 1.0, 0.0, 1.0]]), 1.0, top_k=2)
    assert (probs[0] > 0).tolist() == [True, True, True, False, True]


def test_generated_characters_invert_the_cumulative_distribution(week: dict, rng: torch.Generator):
    """One character after one prompt, at draws just inside each character's interval."""
    model = drives.CaseModel({"embedding": normal(rng, 5, 4), "w_hh": normal(rng, 4, 4), "output": normal(rng, 5, 4)})
    prompt = torch.randint(5, (1, 3), generator=rng)
    edges = torch.cat([torch.zeros(1), model(prompt)[0][0, -1].softmax(0).cumsum(0)]).double()
    draws = torch.stack([edges[:-1] + 1e-9, edges[1:] - 1e-9], dim=1).reshape(10, 1)
    tokens = week["generate"](model, prompt.expand(10, 3), draws, 1.0)
    assert tokens[:, 3].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert torch.equal(tokens[:, :3], prompt.expand(10, 3))


def test_generating_step_by_step_is_reading_the_whole_again(week: dict, rng: torch.Generator):
    """A text made in one go, and the same draws with the model asked afresh for each character."""
    model = drives.CaseModel({"embedding": normal(rng, 7, 4), "w_hh": normal(rng, 4, 4), "output": normal(rng, 7, 4)})
    prompt, draws = torch.randint(7, (2, 3), generator=rng), torch.rand(2, 10, generator=rng, dtype=torch.float64)
    expected = prompt
    for n in range(10):
        probs = torch.softmax(model(expected)[0][:, -1] / 1.3, dim=1)
        token = [
            int(torch.searchsorted(row.cumsum(0), draw, right=True))
            for row, draw in zip(probs, draws[:, n], strict=True)
        ]
        expected = torch.cat([expected, torch.tensor(token)[:, None]], dim=1)
    assert torch.equal(week["generate"](model, prompt, draws, 1.3), expected)


def test_generating_with_top_1_is_greedy_whatever_the_draws(week: dict, rng: torch.Generator):
    model = drives.CaseModel({"embedding": normal(rng, 7, 4), "w_hh": normal(rng, 4, 4), "output": normal(rng, 7, 4)})
    prompt, draws = torch.randint(7, (2, 3), generator=rng), torch.rand(2, 10, generator=rng, dtype=torch.float64)
    tokens = week["generate"](model, prompt, draws, 1.0, top_k=1)
    logits, _ = model(tokens)
    assert torch.equal(tokens[:, 3:], logits[:, 2:-1].argmax(dim=2))


def test_horizon_is_the_jacobians(week: dict, rng: torch.Generator):
    twin, weights = twin_of(rng, nn.RNN, 3, 5)
    x, h0, v = normal(rng, 8, 3), normal(rng, 5), normal(rng, 5)
    jacobian = torch.autograd.functional.jacobian(lambda x: twin(x, h0.unsqueeze(0))[1][0] @ v, x)
    torch.testing.assert_close(week["memory_horizon"](x, h0, v, *weights), jacobian.norm(dim=1), **CLOSE)


def test_solutions_follow_the_device_of_their_inputs(week: dict):
    """On the meta device, which computes shapes alone: a tensor made on the CPU on the way raises there."""
    B, T, width, H, V = 3, 4, 2, 5, 7
    with torch.device("meta"):
        weights = torch.ones(H, width), torch.ones(H, H), torch.ones(H), torch.ones(H)
        x, h0, lengths = torch.ones(B, T, width), torch.ones(B, H), torch.ones(B, dtype=torch.int64)
        tokens, logits, draws = torch.ones(B, T, dtype=torch.int64), torch.ones(B, T, V), torch.ones(B, 6)
        classifier, model = week["NameClassifier"](V, 3, width, H), week["CharRNN"](V, width, H)
    outputs, h_n = week["rnn_forward"](x, lengths, h0, *weights)
    answers = [
        *week["rnn_backward"](outputs, x, h0, outputs, *weights[:2]),
        *week["clip_by_global_norm"](list(weights), 1.0)[0],
        classifier(tokens, lengths),
        model(tokens)[0],
        week["char_lm_loss"](logits, tokens, lengths),
        week["next_char_probs"](logits[:, 0], 0.5, top_k=3),
        week["generate"](model, tokens, draws, 1.0, top_k=3),
        week["memory_horizon"](x[0], h0[0], h0[0], *weights),
    ]
    assert h_n.shape == (B, H)
    assert {answer.device.type for answer in answers} == {"meta"}


# ------------------------------------------------------------------------------------------------------- drives


def test_wire_is_tripped_by_autograd_and_by_the_built_in_network(week: dict):
    def by_autograd(grad_h_next: Tensor, x: Tensor, h: Tensor, h_next: Tensor, w_ih: Tensor, w_hh: Tensor) -> tuple:
        x = x.clone().requires_grad_()
        total = (grad_h_next * torch.tanh(x @ w_ih.T)).sum()
        return (torch.autograd.grad(total, x)[0], h, w_ih, w_hh, w_hh[0], w_hh[0])

    with Tripwire(WEEK.exercise("rnn_step_backward").forbid) as tripwire:
        drives.rnn_step_backward(Student({"rnn_step_backward": by_autograd}), cases_of(WEEK, "rnn_step_backward")[0])
    assert tripwire.hits == ["autograd"]

    def built_in(x: Tensor, h: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
        return torch.rnn_tanh_cell(x, h, w_ih, w_hh, b_ih, b_hh)

    with Tripwire(WEEK.exercise("rnn_step").forbid) as tripwire:
        drives.rnn_step(Student({"rnn_step": built_in}), cases_of(WEEK, "rnn_step")[0])
    assert tripwire.hits == ["aten::rnn_tanh_cell"]


def test_drive_says_what_a_result_of_another_form_should_be(week: dict):
    student = Student({"rnn_forward": lambda x, *rest: x})
    with pytest.raises(TypeError, match=r"should return 2 values, \(outputs, h_n\); yours returned one Tensor"):
        drives.rnn_forward(student, cases_of(WEEK, "rnn_forward")[0])


def test_drive_of_the_wrong_shape_still_returns_the_output(week: dict):
    student = Student({"rnn_step": lambda x, *rest: x[:, :1]})
    outputs = drives.rnn_step(student, cases_of(WEEK, "rnn_step")[0])
    assert outputs["h_next"].shape == (4, 1)
    assert outputs["the gradient of x"] is None


def test_trained_models_are_loaded_with_the_sizes_of_their_weights(week: dict):
    torch.manual_seed(0)
    classifier, model = week["NameClassifier"](9, 3, 4, 6), week["CharRNN"](11, 5, 7)
    tokens, lengths = torch.randint(9, (4, 7)), torch.tensor([7, 1, 4, 2])
    weights = {name: value.detach().clone() for name, value in classifier.named_parameters()}
    answer = drives.names(Student(week), {"weights": weights, "figures": {}, "tokens": tokens, "lengths": lengths})
    torch.testing.assert_close(answer["logits"], classifier(tokens, lengths).detach())

    tokens = torch.randint(11, (2, 8))
    changed = torch.cat([tokens[:, :5], (tokens[:, 5:] + 1) % 11], dim=1)
    weights = {name: value.detach().clone() for name, value in model.named_parameters()}
    answer = drives.chars(Student(week), {"weights": weights, "figures": {}, "tokens": tokens, "changed": changed})
    torch.testing.assert_close(answer["logits"], model(tokens)[0][:, 3:].detach())
    assert torch.equal(answer["logits"][:, :2], answer["logits on changed"][:, :2])
    assert not torch.allclose(answer["logits"][:, 2:], answer["logits on changed"][:, 2:])
