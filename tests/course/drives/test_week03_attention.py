"""Week 3's solutions against twins from outside: torch.nn's attention, softmax, GRU cell and unfold, and identities."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autograder.week import Week
from course import scenes
from course.drives import Student, Tripwire, drive_of
from course.drives import week03_attention as drives
from tests.course.drives.conftest import CLOSE, cases_of, normal

WEEK = Week(Path(__file__).parents[3] / "solutions" / "week03_attention")
# float32: a unit in the last place is 6e-8 of the value, and sums here have fewer than a hundred terms of size 1.
SINGLE = {"rtol": 1e-5, "atol": 2e-6}
# In half precision a unit in the last place is 1e-3 (float16) or 8e-3 (bfloat16) of the value.
HALF = {torch.float16: 4e-3, torch.bfloat16: 3e-2}


def gradients(outputs: list[Tensor], upstream: list[Tensor], inputs: list[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(outputs, inputs, upstream)


# ------------------------------------------------------------------------------------------------- soft lookups


def test_lookup_is_attention_of_one_query_with_another_scale(week: dict, rng: torch.Generator):
    query, keys, values = normal(rng, 6), normal(rng, 9, 6), normal(rng, 9, 4)
    answer, weights = week["soft_lookup"](query, keys, values, 0.7)
    expected = F.scaled_dot_product_attention(query[None], keys, values, scale=1 / 0.7)[0]
    torch.testing.assert_close(answer, expected, **CLOSE)
    torch.testing.assert_close(weights.sum(), torch.tensor(1.0, dtype=torch.float64), **CLOSE)


def test_lookup_in_a_cold_dictionary_is_a_lookup_in_a_dictionary(week: dict, rng: torch.Generator):
    keys, values = torch.eye(5, dtype=torch.float64), normal(rng, 5, 3)
    for i in range(5):
        torch.testing.assert_close(week["soft_lookup"](keys[i], keys, values, 1e-3)[0], values[i], **CLOSE)


def test_lookup_in_a_hot_one_is_the_mean(week: dict, rng: torch.Generator):
    query, keys, values = normal(rng, 6), normal(rng, 9, 6), normal(rng, 9, 4)
    torch.testing.assert_close(week["soft_lookup"](query, keys, values, 1e14)[0], values.mean(dim=0), **CLOSE)


# ---------------------------------------------------------------------------------------------- masked softmax


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (2, 3, 4, 6)])
def test_softmax_without_hidden_positions_is_torchs_forward_and_backward(
    week: dict, rng: torch.Generator, shape: tuple
):
    scores, upstream = normal(rng, *shape).requires_grad_(), normal(rng, *shape)
    mine, expected = week["masked_softmax"](scores, torch.ones(shape, dtype=torch.bool)), scores.softmax(dim=-1)
    torch.testing.assert_close(mine, expected, **CLOSE)
    torch.testing.assert_close(
        gradients([mine], [upstream], [scores]), gradients([expected], [upstream], [scores]), **CLOSE
    )


def test_softmax_of_some_positions_is_torchs_on_these_alone(week: dict, rng: torch.Generator):
    scores, upstream = normal(rng, 4, 7).requires_grad_(), normal(rng, 4, 7)
    mask = torch.rand(4, 7, generator=rng) < 0.5
    mask[:, 3] = True
    mine = week["masked_softmax"](scores, mask)
    (gradient,) = gradients([mine], [upstream], [scores])
    for row, allowed, out, up, grad in zip(scores, mask, mine, upstream, gradient, strict=True):
        alone = row[allowed].detach().requires_grad_()
        expected = alone.softmax(dim=0)
        torch.testing.assert_close(out[allowed], expected, **CLOSE)
        torch.testing.assert_close(grad[allowed], gradients([expected], [up[allowed]], [alone])[0], **CLOSE)
        assert torch.equal(out[~allowed], torch.zeros_like(out[~allowed]))
        assert torch.equal(grad[~allowed], torch.zeros_like(grad[~allowed]))


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, *HALF])
def test_softmax_of_nothing_is_zero_with_a_zero_gradient(week: dict, rng: torch.Generator, dtype: torch.dtype):
    scores = normal(rng, 3, 5, dtype=torch.float32).to(dtype).requires_grad_()
    mask = torch.tensor([[True] * 5, [False] * 5, [False, True, True, False, True]])
    with torch.autograd.detect_anomaly(check_nan=True):  # no NaN on the way either
        weights = week["masked_softmax"](scores, mask)
        (gradient,) = gradients([weights], [torch.ones_like(weights)], [scores])
    assert weights.dtype == gradient.dtype == dtype
    assert torch.equal(weights[1], torch.zeros_like(weights[1]))
    assert torch.equal(gradient[1], torch.zeros_like(gradient[1]))
    assert bool(weights.isfinite().all()) and bool(gradient.isfinite().all())


@pytest.mark.parametrize("dtype", HALF)
def test_softmax_in_half_precision_is_that_in_single(week: dict, rng: torch.Generator, dtype: torch.dtype):
    scores, mask = 3 * normal(rng, 6, 9, dtype=torch.float32), torch.rand(6, 9, generator=rng) < 0.6
    expected = week["masked_softmax"](scores.to(dtype).float(), mask)
    torch.testing.assert_close(
        week["masked_softmax"](scores.to(dtype), mask).float(), expected, rtol=0, atol=HALF[dtype]
    )


def test_softmax_of_large_scores_is_finite(week: dict):
    weights = week["masked_softmax"](torch.tensor([[3e38, -3e38, 1e38]]), torch.tensor([[False, True, True]]))
    assert weights.tolist() == [[0.0, 0.0, 1.0]]


# ------------------------------------------------------------------------------------------- additive attention


def test_additive_attention_is_a_network_of_nn_layers(week: dict, rng: torch.Generator):
    """Bahdanau's formula with nn.Linear and torch's softmax, sentence by sentence, forward and backward."""
    layers = [nn.Linear(3, 6, bias=False), nn.Linear(4, 6, bias=False), nn.Linear(6, 1, bias=False)]
    for layer in layers:
        layer.double().weight.data = normal(rng, *layer.weight.shape)
    to_query, to_key, to_score = layers
    query, keys, values = normal(rng, 3, 3), normal(rng, 3, 5, 4), normal(rng, 3, 5, 2)
    inputs = [tensor.requires_grad_() for tensor in (query, keys, values)] + [layer.weight for layer in layers]
    lengths = [5, 1, 3]
    mask = torch.arange(5) < torch.tensor(lengths)[:, None]
    context, weights = week["additive_attention"](
        query, keys, values, mask, to_query.weight, to_key.weight, to_score.weight[0]
    )
    upstream, expected = normal(rng, 3, 2), []
    for b, n in enumerate(lengths):
        alpha = to_score(torch.tanh(to_query(query[b]) + to_key(keys[b, :n]))).softmax(dim=0)  # (n, 1)
        torch.testing.assert_close(weights[b, :n], alpha[:, 0], **CLOSE)
        expected.append((alpha * values[b, :n]).sum(dim=0))
    torch.testing.assert_close(context, torch.stack(expected), **CLOSE)
    mine = gradients([context], [upstream], inputs)
    torch.testing.assert_close(mine, gradients([torch.stack(expected)], [upstream], inputs), **CLOSE)


def test_additive_attention_of_nothing_is_zero(week: dict, rng: torch.Generator):
    mask = torch.tensor([[False, False]])
    w_q, w_k, v = normal(rng, 5, 3), normal(rng, 5, 4), normal(rng, 5)
    context, weights = week["additive_attention"](
        normal(rng, 1, 3), normal(rng, 1, 2, 4), normal(rng, 1, 2, 2), mask, w_q, w_k, v
    )
    assert torch.equal(context, torch.zeros_like(context)) and torch.equal(weights, torch.zeros_like(weights))


# ---------------------------------------------------------------------------------------- dot product attention


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 5), (4, 5, 5)])
def test_attention_is_torchs_forward_and_backward(week: dict, rng: torch.Generator, shape: tuple, dtype: torch.dtype):
    B, T, S = shape
    q, k, v = (normal(rng, *size, dtype=dtype).requires_grad_() for size in ((B, 2, T, 4), (B, 2, S, 4), (B, 2, S, 3)))
    mask = torch.rand(B, 1, T, S, generator=rng) < 0.6
    mask[..., 0] = True  # torch's gives NaN where nothing may be attended
    upstream, close = normal(rng, B, 2, T, 3, dtype=dtype), CLOSE if dtype == torch.float64 else SINGLE
    for given in (None, mask):
        mine, weights = week["scaled_dot_product_attention"](q, k, v, given)
        expected = F.scaled_dot_product_attention(q, k, v, attn_mask=given)
        torch.testing.assert_close(mine, expected, **close)
        torch.testing.assert_close(
            gradients([mine], [upstream], [q, k, v]), gradients([expected], [upstream], [q, k, v]), **close
        )
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(B, 2, T, dtype=dtype), **close)


@pytest.mark.parametrize("dtype", HALF)
def test_attention_in_half_precision_is_torchs(week: dict, rng: torch.Generator, dtype: torch.dtype):
    q, k, v = (normal(rng, 2, 4, 8, dtype=torch.float32).to(dtype) for _ in range(3))
    mine, _ = week["scaled_dot_product_attention"](q, k, v)
    assert mine.dtype == dtype
    expected = F.scaled_dot_product_attention(q.float(), k.float(), v.float())
    torch.testing.assert_close(mine.float(), expected, rtol=0, atol=4 * HALF[dtype])


def test_a_query_with_nothing_to_attend_gets_zeros_and_harms_nobody(week: dict, rng: torch.Generator):
    q, k, v = (normal(rng, 1, 3, 4).requires_grad_() for _ in range(3))
    mask = torch.tensor([[True, True, False], [False, False, False], [True, True, True]])
    output, weights = week["scaled_dot_product_attention"](q, k, v, mask)
    assert not bool(output[0, 1].any()) and not bool(weights[0, 1].any())
    found = gradients([output], [torch.ones_like(output)], [q, k, v])
    assert all(bool(gradient.isfinite().all()) for gradient in found) and not bool(found[0][0, 1].any())
    others, _ = week["scaled_dot_product_attention"](q[:, [0, 2]], k, v, mask[[0, 2]])
    torch.testing.assert_close(output[:, [0, 2]], others, **CLOSE)


# -------------------------------------------------------------------------------------------------------- masks


@pytest.mark.parametrize("size", [1, 2, 5])
def test_causal_mask_is_torchs_negated(week: dict, size: int):
    assert torch.equal(week["causal_mask"](size, size), nn.Transformer.generate_square_subsequent_mask(size) == 0)


def test_causal_mask_of_the_last_queries_is_the_last_rows_of_the_whole(week: dict):
    for T in range(1, 7):
        assert torch.equal(week["causal_mask"](T, 6), week["causal_mask"](6, 6)[6 - T :])


def test_padding_mask_counts_the_lengths(week: dict):
    lengths = torch.tensor([3, 0, 5, 1])
    mask = week["padding_mask"](lengths, 5)
    assert mask.shape == (4, 1, 5) and mask.dtype == torch.bool
    assert torch.equal(mask.sum(dim=(1, 2)), lengths)
    assert torch.equal(mask, mask.sort(dim=-1, descending=True, stable=True).values)  # the real ones come first


def test_with_the_decoders_mask_no_output_depends_on_the_future_or_on_padding(week: dict, rng: torch.Generator):
    lengths, T = torch.tensor([5, 2, 4]), 5
    mask = week["decoder_mask"](lengths, T)
    q, k, v = (normal(rng, 3, T, 4) for _ in range(3))
    output, _ = week["scaled_dot_product_attention"](q, k, v, mask)
    for b, length in enumerate(lengths.tolist()):
        for t in range(T):
            seen = min(t + 1, length)
            expected = F.scaled_dot_product_attention(q[b, t : t + 1], k[b, :seen], v[b, :seen])[0]
            torch.testing.assert_close(output[b, t], expected, **CLOSE)


# --------------------------------------------------------------------------------------------------- many heads


def heads_and_twin(week: dict, rng: torch.Generator, width: int, heads: int, dtype: torch.dtype) -> tuple:
    """A student's module and torch's, with the same random weights: torch's own state goes into ours."""
    twin = nn.MultiheadAttention(width, heads, batch_first=True).to(dtype)
    for parameter in twin.parameters():
        parameter.data = 0.5 * normal(rng, *parameter.shape, dtype=dtype)
    mine = week["MultiHeadAttention"](width, heads).to(dtype)
    mine.load_state_dict(twin.state_dict())
    return mine, twin


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("B", "T", "S", "width", "heads"), [(1, 1, 1, 4, 1), (1, 4, 4, 6, 3), (3, 2, 5, 8, 2)])
def test_heads_are_those_of_nn_multihead_attention_forward_and_backward(
    week: dict, rng: torch.Generator, B: int, T: int, S: int, width: int, heads: int, dtype: torch.dtype
):
    mine, twin = heads_and_twin(week, rng, width, heads, dtype)
    query, key, value = (normal(rng, B, n, width, dtype=dtype).requires_grad_() for n in (T, S, S))
    lengths = torch.randint(1, S + 1, (B,), generator=rng)
    padding = week["padding_mask"](lengths, S)
    each = torch.rand(T, S, generator=rng) < 0.6
    each[:, 0] = True
    upstream, close = normal(rng, B, T, width, dtype=dtype), CLOSE if dtype == torch.float64 else SINGLE
    for mask, options in (
        (None, {}),
        (padding, {"key_padding_mask": ~padding[:, 0]}),  # torch's masks are True where attention is forbidden
        (each, {"attn_mask": ~each}),
        (each & padding, {"attn_mask": ~each, "key_padding_mask": ~padding[:, 0]}),
    ):
        output, weights = mine(query, key, value, mask)
        expected, attended = twin(query, key, value, average_attn_weights=False, **options)
        torch.testing.assert_close(output, expected, **close)
        torch.testing.assert_close(weights, attended, **close)
        own, theirs = [query, key, value, *mine.parameters()], [query, key, value, *twin.parameters()]
        torch.testing.assert_close(
            gradients([output], [upstream], own), gradients([expected], [upstream], theirs), **close
        )


def test_heads_with_nothing_to_attend_give_the_output_bias(week: dict, rng: torch.Generator):
    mine, _ = heads_and_twin(week, rng, 6, 2, torch.float64)
    x = normal(rng, 2, 3, 6)
    output, weights = mine(x, x, x, torch.zeros(3, 3, dtype=torch.bool))
    torch.testing.assert_close(output, mine.out_proj.bias.expand(2, 3, 6), **CLOSE)
    assert not bool(weights.any())


@pytest.mark.parametrize("dtype", HALF)
def test_heads_in_half_precision_are_those_in_single(week: dict, rng: torch.Generator, dtype: torch.dtype):
    mine, _ = heads_and_twin(week, rng, 8, 2, torch.float32)
    x = normal(rng, 2, 4, 8, dtype=torch.float32)
    mask = week["decoder_mask"](torch.tensor([4, 2]), 4)
    expected, _ = mine(x, x, x, mask)
    output, weights = mine.to(dtype)(*[x.to(dtype)] * 3, mask)
    assert output.dtype == weights.dtype == dtype
    scale = float(expected.detach().abs().max())
    torch.testing.assert_close(output.float() / scale, expected / scale, rtol=0, atol=4 * HALF[dtype])


def test_heads_do_not_know_the_order_of_what_they_read(week: dict, rng: torch.Generator):
    mine, _ = heads_and_twin(week, rng, 6, 3, torch.float64)
    x, order = normal(rng, 1, 5, 6), torch.randperm(5, generator=rng)
    torch.testing.assert_close(mine(x[:, order], x[:, order], x[:, order])[0], mine(x, x, x)[0][:, order], **CLOSE)


# ------------------------------------------------------------------------------------------------------ decoder


def test_a_step_with_one_word_to_look_at_is_a_gru_cell_with_that_word(week: dict, rng: torch.Generator):
    """With one source word its vector is the context, whatever the scores: the step is nn.GRUCell and nn.Linear."""
    decoder = week["AttentionDecoder"](9, 3, 5, 4, 6).double()
    tokens, state, memory = torch.randint(9, (3,), generator=rng), normal(rng, 3, 5), normal(rng, 3, 1, 4)
    logits, new, weights = decoder.step(tokens, state, memory, torch.ones(3, 1, dtype=torch.bool))
    cell = nn.GRUCell(7, 5).double()
    cell.load_state_dict(decoder.cell.state_dict())
    expected = cell(torch.cat([decoder.embedding.weight[tokens], memory[:, 0]], dim=1), state)
    torch.testing.assert_close(new, expected, **CLOSE)
    joined = torch.cat([expected, memory[:, 0]], dim=1)
    torch.testing.assert_close(logits, joined @ decoder.output.weight.T + decoder.output.bias, **CLOSE)
    assert torch.equal(weights, torch.ones_like(weights))


def test_a_step_looks_back_once_with_the_old_state(week: dict, rng: torch.Generator):
    """All weights in hand: one context, from the state before the step, goes into nn.GRUCell and into the output."""
    decoder = week["AttentionDecoder"](9, 3, 5, 4, 6).double()
    tokens, state, memory = torch.randint(9, (3,), generator=rng), normal(rng, 3, 5), normal(rng, 3, 4, 4)
    logits, new, weights = decoder.step(tokens, state, memory, torch.ones(3, 4, dtype=torch.bool))
    hidden = torch.tanh(F.linear(state, decoder.w_q)[:, None] + F.linear(memory, decoder.w_k))
    alpha = (hidden * decoder.v).sum(dim=-1).softmax(dim=-1)
    context = torch.einsum("bs,bse->be", alpha, memory)
    expected = decoder.cell(torch.cat([decoder.embedding(tokens), context], dim=1), state)
    torch.testing.assert_close(weights, alpha, **CLOSE)
    torch.testing.assert_close(new, expected, **CLOSE)
    torch.testing.assert_close(logits, decoder.output(torch.cat([expected, context], dim=1)), **CLOSE)


def test_a_step_reads_nothing_of_the_padding_and_rows_do_not_mix(week: dict, rng: torch.Generator):
    decoder = week["AttentionDecoder"](9, 3, 5, 4, 6).double()
    lengths = torch.tensor([4, 1, 3])
    mask = torch.arange(4) < lengths[:, None]
    tokens, state, memory = torch.randint(9, (3,), generator=rng), normal(rng, 3, 5), normal(rng, 3, 4, 4)
    whole = decoder.step(tokens, state, memory, mask)
    other = torch.where(mask[..., None], memory, normal(rng, 3, 4, 4))
    for one, two in zip(whole, decoder.step(tokens, state, other, mask), strict=True):
        assert torch.equal(one, two)
    for b, n in enumerate(lengths.tolist()):
        row = slice(b, b + 1)
        logits, new, weights = decoder.step(tokens[row], state[row], memory[row, :n], mask[row, :n])
        torch.testing.assert_close(logits, whole[0][row], **CLOSE)
        torch.testing.assert_close(new, whole[1][row], **CLOSE)
        torch.testing.assert_close(weights, whole[2][row, :n], **CLOSE)


# ----------------------------------------------------------------------------------------------------- pictures


@pytest.mark.parametrize(("shape", "P"), [((1, 1, 2, 2), 2), ((2, 3, 4, 6), 2), ((1, 2, 9, 3), 3), ((2, 3, 2, 4), 1)])
def test_patches_are_those_of_unfold(week: dict, rng: torch.Generator, shape: tuple, P: int):
    images = normal(rng, *shape)
    expected = F.unfold(images, kernel_size=P, stride=P).transpose(1, 2)
    assert torch.equal(week["patchify"](images, P), expected)


def test_a_linear_layer_on_patches_is_a_strided_convolution(week: dict, rng: torch.Generator):
    images, conv = normal(rng, 2, 3, 8, 12), nn.Conv2d(3, 5, kernel_size=4, stride=4).double()
    mine = week["patchify"](images, 4) @ conv.weight.flatten(1).T + conv.bias
    torch.testing.assert_close(mine, conv(images).flatten(2).transpose(1, 2), **CLOSE)


def test_rollout_is_what_residual_layers_do_to_their_input(week: dict, rng: torch.Generator):
    """Layers x -> (x + mean over heads of A x) / 2, run on an input: linear in it, with the rollout as its matrix."""
    weights = normal(rng, 3, 2, 4, 5, 5).softmax(dim=-1)
    x = start = normal(rng, 2, 5, 7)
    for layer in weights:
        x = 0.5 * (x + (layer @ x.unsqueeze(1)).mean(dim=1))
    rollout = week["attention_rollout"](weights)
    torch.testing.assert_close(rollout @ start, x, **CLOSE)
    torch.testing.assert_close(rollout.sum(dim=-1), torch.ones(2, 5, dtype=torch.float64), **CLOSE)


def test_rollout_of_causal_layers_is_causal(week: dict, rng: torch.Generator):
    scores = normal(rng, 4, 1, 2, 6, 6)
    weights = week["masked_softmax"](scores, week["causal_mask"](6, 6))
    rollout = week["attention_rollout"](weights)
    assert torch.equal(rollout, rollout.tril())


def test_solutions_follow_the_device_of_their_inputs(week: dict):
    """On the meta device, which computes shapes alone: a tensor made on the CPU on the way raises there."""
    with torch.device("meta"):
        x, lengths, tokens = torch.ones(2, 5, 6), torch.ones(2, dtype=torch.int64), torch.ones(2, dtype=torch.int64)
        attention, decoder = week["MultiHeadAttention"](6, 2), week["AttentionDecoder"](9, 3, 4, 6, 5)
        images, maps, state = torch.ones(2, 3, 4, 4), torch.ones(3, 2, 2, 5, 5), torch.ones(2, 4)
    mask = week["padding_mask"](lengths, 5)
    answers = [
        *week["soft_lookup"](x[0, 0], x[0], x[0], 0.5),
        week["causal_mask"](3, 5, device="meta"),
        week["decoder_mask"](lengths, 5),
        *week["scaled_dot_product_attention"](x, x, x),
        *attention(x, x, x, mask),
        *decoder.step(tokens, state, x, mask[:, 0]),
        week["patchify"](images, 2),
        week["attention_rollout"](maps),
    ]
    assert {answer.device.type for answer in [mask, *answers]} == {"meta"}


# ------------------------------------------------------------------------------------------------------- drives


@pytest.mark.parametrize("exercise", [exercise.name for exercise in WEEK.exercises])
def test_drives_return_finite_outputs_and_a_gradient_for_everything(week: dict, exercise: str):
    drive = drive_of(WEEK.name, exercise)
    for inputs in cases_of(WEEK, exercise):
        with Tripwire(WEEK.exercise(exercise).forbid) as tripwire:
            outputs = drive(Student(week), inputs)
        assert tripwire.hits == []
        assert all(isinstance(value, Tensor) and bool(value.isfinite().all()) for value in outputs.values())


def test_wire_is_tripped_by_the_built_in_attention(week: dict):
    def built_in(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask), q @ k.mT

    with Tripwire(WEEK.exercise("scaled_dot_product_attention").forbid) as tripwire:
        drives.scaled_dot_product_attention(
            Student({"scaled_dot_product_attention": built_in}), cases_of(WEEK, "scaled_dot_product_attention")[0]
        )
    assert "aten::scaled_dot_product_attention" in tripwire.hits


def test_drive_says_what_a_result_of_another_form_should_be(week: dict):
    student = Student({"soft_lookup": lambda query, *rest: query})
    with pytest.raises(TypeError, match=r"should return 2 values, \(answer, weights\); yours returned one Tensor"):
        drives.soft_lookup(student, cases_of(WEEK, "soft_lookup")[0])


def test_drive_of_the_wrong_shape_still_returns_the_output(week: dict):
    student = Student({"masked_softmax": lambda scores, mask: scores[:1]})
    outputs = drives.masked_softmax(student, cases_of(WEEK, "masked_softmax")[0])
    assert outputs["weights"].shape == (1, 6) and outputs["the gradient of scores"] is None


def test_large_scores_of_a_lookup_overflow_without_care(week: dict):
    inputs = cases_of(WEEK, "soft_lookup")[3]
    scores = inputs["keys"] @ inputs["query"] / inputs["temperature"]
    assert not bool(scores.exp().isfinite().all())
    assert float(scores.max() - scores.min()) < 10  # and yet no weight is all or nothing


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def test_a_trained_reader_is_loaded_with_the_sizes_of_its_weights(week: dict):
    torch.manual_seed(0)
    reader = week["PictureReader"](len(scenes.WORDS), len(scenes.ANSWERS), 22, 192, 8, num_layers=3)
    inputs, _ = drives.scenes_asked(7)
    some = {name: value[:5] for name, value in inputs.items()}
    answer = drives.pictures(Student(week), {"weights": weights_of(reader), "figures": {}, **some})
    logits, maps = reader(some["images"], some["questions"])
    torch.testing.assert_close(answer["logits"], logits.detach())
    assert maps.shape == (3, 5, reader.HEADS, 22, 22)
    torch.testing.assert_close(maps.sum(dim=-1), torch.ones(3, 5, reader.HEADS, 22))


def test_scenes_are_scored_by_accuracy_and_nothing_else_is():
    inputs, key = drives.scenes_asked(7)
    right = 10.0 * F.one_hot(key, len(scenes.ANSWERS))
    assert drives.score_pictures(inputs, {"logits": right}, key) == 1.0
    assert drives.score_pictures(inputs, {"logits": right.roll(1, dims=1)}, key) == 0.0
    for spoilt in (right[:-1], right[:, :-1], right / 0):
        with pytest.raises(ValueError, match="logits of shape"):
            drives.score_pictures(inputs, {"logits": spoilt}, key)


def test_public_scenes_are_not_the_graders(week: dict):
    artifact = next(artifact for artifact in WEEK.artifacts if artifact.name == "pictures")
    (public, _), (hidden, _) = drives.pictures_public(), artifact.inputs(WEEK.heldout)
    assert not torch.equal(public["images"][0], hidden["images"][0])


def test_the_character_model_does_not_look_ahead(week: dict):
    torch.manual_seed(0)
    model = week["CharAttention"](11, 8, 8, num_layers=2).double()
    tokens = torch.randint(11, (2, 8))
    changed = torch.cat([tokens[:, :5], (tokens[:, 5:] + 1) % 11], dim=1)
    one, other = model(tokens), model(changed)
    torch.testing.assert_close(one[:, :5], other[:, :5], **CLOSE)
    assert not torch.allclose(one[:, 5:], other[:, 5:])


@pytest.mark.parametrize("look_back", [True, False])
def test_a_translator_reads_nothing_of_the_padding(week: dict, look_back: bool):
    torch.manual_seed(0)
    model = week["Translator"](9, 7, 4, 5, look_back).double()
    source, lengths = torch.randint(4, 9, (3, 6)), torch.tensor([6, 2, 4])
    target = torch.randint(4, 7, (3, 5))
    whole = model(source, lengths, target)
    for b, n in enumerate(lengths.tolist()):
        alone = model(source[b : b + 1, :n], lengths[b : b + 1], target[b : b + 1])
        torch.testing.assert_close(whole[b : b + 1], alone, **CLOSE)
    tokens, maps = model.translate(source, lengths, longest=4)
    assert tokens.shape[0] == 3 and maps.shape[-1] == (6 if look_back else 1)
    torch.testing.assert_close(maps.sum(dim=-1), torch.ones(maps.shape[:2], dtype=torch.float64), **CLOSE)
