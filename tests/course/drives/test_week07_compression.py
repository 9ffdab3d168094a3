"""Week 7's solutions against truth from outside: torch's own quantization, kl_div and pruning, and identities."""

import copy
import math
from itertools import combinations, pairwise, product
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune

from autograder.week import Week
from course.drives import Student, drive_of
from tests.course.drives.conftest import CLOSE, cases_of, normal

WEEK = Week(Path(__file__).parents[3] / "solutions" / "week07_compression")
# float32: a unit in the last place is 6e-8 of the value, and sums here have fewer than a hundred terms of size 1.
SINGLE = {"rtol": 1e-5, "atol": 1e-6}


def single(rng: torch.Generator, *shape: int) -> Tensor:
    return normal(rng, *shape, dtype=torch.float32)


# ---------------------------------------------------------------------------------------------------- eight bits


@pytest.mark.parametrize("scheme", ["affine", "symmetric"])
def test_one_scale_is_torchs_quantize_per_tensor(week: dict, rng: torch.Generator, scheme: str):
    x = single(rng, 6, 7) + 0.4
    q, scale, zero_point = week["quantize"](x, scheme)
    twin = torch.quantize_per_tensor(x, scale.item(), zero_point.item(), torch.qint8)
    assert torch.equal(q, twin.int_repr())
    torch.testing.assert_close(week["dequantize"](q, scale, zero_point), twin.dequantize(), **SINGLE)


@pytest.mark.parametrize(("scheme", "axis"), list(product(["affine", "symmetric"], [0, 1, 2])))
def test_a_scale_for_each_channel_is_torchs_quantize_per_channel(
    week: dict, rng: torch.Generator, scheme: str, axis: int
):
    x = single(rng, 3, 4, 5) * torch.tensor([0.1, 1.0, 7.0]).view(3, 1, 1)
    q, scale, zero_point = week["quantize"](x, scheme, axis)
    twin = torch.quantize_per_channel(x, scale, zero_point, axis, torch.qint8)
    assert torch.equal(q, twin.int_repr())
    torch.testing.assert_close(week["dequantize"](q, scale, zero_point, axis), twin.dequantize(), **SINGLE)


@pytest.mark.parametrize("axis", [None, 0])
def test_affine_scales_are_those_of_torchs_observers(week: dict, rng: torch.Generator, axis: int | None):
    observers = torch.ao.quantization.observer
    x = single(rng, 4, 9) + 0.3
    kind = {"dtype": torch.qint8, "quant_min": -128, "quant_max": 127}
    if axis is None:
        observer = observers.MinMaxObserver(qscheme=torch.per_tensor_affine, **kind)
    else:
        observer = observers.PerChannelMinMaxObserver(ch_axis=axis, qscheme=torch.per_channel_affine, **kind)
    observer(x)
    expected_scale, expected_zero = observer.calculate_qparams()
    _, scale, zero_point = week["quantize"](x, "affine", axis)
    torch.testing.assert_close(scale.reshape(-1), expected_scale.reshape(-1), **SINGLE)
    assert torch.equal(zero_point.reshape(-1).long(), expected_zero.reshape(-1).long())


def test_half_way_the_even_number_is_taken(week: dict):
    x = torch.tensor([127.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5]) / 8
    q, scale, _ = week["quantize"](x, "symmetric")
    assert scale == 1 / 8 and q.tolist() == [127, 0, 2, 2, 0, -2, -2]


def test_zero_is_written_exactly_and_the_error_is_half_a_step(week: dict, rng: torch.Generator):
    for shift in (-5.0, -0.3, 0.0, 0.3, 5.0):
        x = torch.cat([torch.zeros(1), single(rng, 50) + shift])
        for scheme in ("affine", "symmetric"):
            q, scale, zero_point = week["quantize"](x, scheme)
            back = week["dequantize"](q, scale, zero_point)
            assert back[0] == 0
            # The zero point is rounded too: at the ends of the affine range that can cost another half of a step.
            assert ((back - x).abs() / scale).max() <= (1.001 if scheme == "affine" else 0.501)
    q, scale, zero_point = week["quantize"](torch.zeros(3, 2), "affine", 0)
    assert scale.tolist() == [1.0] * 3 and (week["dequantize"](q, scale, zero_point, 0) == 0).all()


def test_symmetric_is_symmetric(week: dict, rng: torch.Generator):
    x = single(rng, 40)
    assert torch.equal(week["quantize"](-x, "symmetric")[0], -week["quantize"](x, "symmetric")[0])
    assert week["quantize"](x, "symmetric")[0].min() >= -127


@pytest.mark.parametrize("scheme", ["affine", "symmetric"])
def test_vectors_and_single_numbers(week: dict, scheme: str):
    q, scale, zero_point = week["quantize"](torch.tensor([2.0, -3.0, 0.0]), scheme, 0)
    assert scale.shape == zero_point.shape == (3,) and scale[2] == 1
    torch.testing.assert_close(
        week["dequantize"](q, scale, zero_point, 0), torch.tensor([2.0, -3.0, 0.0]), rtol=1e-2, atol=0
    )
    q, scale, _ = week["quantize"](torch.tensor(-2.0), scheme)
    assert q.shape == scale.shape == ()


def test_linear_is_the_linear_layer_on_what_was_dequantized(week: dict, rng: torch.Generator):
    """Whole numbers and their scales give what floats give on rounded operands: the sums are exact."""
    x, weight, bias = single(rng, 2, 3, 40), single(rng, 6, 40), single(rng, 6)
    q, scale, zero = week["quantize"](weight, "symmetric", 0)
    rounded = week["dequantize"](q, scale, zero, 0).double()
    seen = week["dequantize"](*week["quantize"](x, "symmetric")).double()
    found = week["int8_linear"](x, q, scale, bias)
    torch.testing.assert_close(found.double(), F.linear(seen, rounded, bias.double()), **SINGLE)
    close = F.linear(x, weight, bias)
    assert 0 < (found - close).norm() / close.norm() < 0.02


def test_sums_of_long_rows_do_not_overflow(week: dict):
    x, weight = torch.ones(1, 5000), torch.full((2, 5000), 127, dtype=torch.int8)
    found = week["int8_linear"](x, weight, torch.tensor([1.0, 0.5]))
    torch.testing.assert_close(found, torch.tensor([[635000.0, 317500.0]]))


def test_a_quantized_model_answers_almost_as_before_and_its_bytes_are_counted(week: dict):
    torch.manual_seed(7)
    model = nn.Sequential(nn.Linear(20, 64), nn.LayerNorm(64), nn.Sequential(nn.ReLU(), nn.Linear(64, 3, bias=False)))
    x = torch.randn(50, 20)
    with torch.no_grad():
        before = model(x)
    report = week["quantize_model"](model)
    assert [type(model[i]).__name__ for i in (0, 1)] == ["QuantizedLinear", "LayerNorm"]
    assert report == {"before": 4 * (20 * 64 + 64 + 128 + 64 * 3), "after": 20 * 64 + 8 * 64 + 4 * 128 + 64 * 3 + 4 * 3}
    assert report["after"] == sum(t.numel() * t.element_size() for t in model.state_dict().values())
    with torch.no_grad():
        assert (model(x) - before).norm() / before.norm() < 0.02
    assert week["quantize_model"](model) == {"before": report["after"], "after": report["after"]}


# -------------------------------------------------------------------------------------------------- distillation


@pytest.mark.parametrize("temperature", [0.7, 1.0, 4.0])
def test_soft_part_is_torchs_kl_div(week: dict, rng: torch.Generator, temperature: float):
    mine, theirs = normal(rng, 5, 7).requires_grad_(), normal(rng, 5, 7).requires_grad_()
    targets = torch.arange(5)
    twin = F.kl_div(
        (mine / temperature).log_softmax(-1), (theirs.detach() / temperature).softmax(-1), reduction="batchmean"
    )
    expected = 0.3 * temperature**2 * twin + 0.7 * F.cross_entropy(mine, targets)
    found = week["distillation_loss"](mine, theirs, targets, temperature, 0.3)
    torch.testing.assert_close(found, expected, **CLOSE)
    (a,), (b,) = torch.autograd.grad(found, mine), torch.autograd.grad(expected, mine)
    torch.testing.assert_close(a, b, **CLOSE)
    assert not week["distillation_loss"](mine.detach(), theirs, targets, temperature, 0.3).requires_grad


def test_gradient_of_the_soft_part_is_the_one_in_the_question(week: dict, rng: torch.Generator):
    mine, theirs = normal(rng, 1, 6).requires_grad_(), normal(rng, 1, 6)
    (found,) = torch.autograd.grad(week["distillation_loss"](mine, theirs, torch.tensor([0]), 3.0, 1.0), mine)
    torch.testing.assert_close(found, 3.0 * ((mine / 3).softmax(-1) - (theirs / 3).softmax(-1)), **CLOSE)


def test_a_student_like_its_teacher_has_no_soft_loss(week: dict, rng: torch.Generator):
    logits = normal(rng, 4, 5)
    loss = week["distillation_loss"](logits + 2.0, logits, torch.zeros(4, dtype=torch.long), 2.0, 1.0)
    assert abs(loss.item()) < 1e-12


def test_log_softmax_twice_does_no_harm_as_the_hint_says(rng: torch.Generator):
    logits = normal(rng, 4, 5)
    once = logits.log_softmax(-1)
    torch.testing.assert_close(once.log_softmax(-1), once, **CLOSE)


def test_hidden_layers_of_every_second_one_match_themselves(week: dict, rng: torch.Generator):
    teacher = [normal(rng, 2, 3, 4) for _ in range(6)]
    eye, mask = torch.eye(4, dtype=torch.float64), torch.tensor([[True, True, False], [True, False, False]])
    student = [teacher[i].clone() for i in (1, 3, 5)]
    assert week["match_hidden"](student, teacher, [eye] * 3, mask) == 0
    student[0][0, 2] += 100.0  # padding
    assert week["match_hidden"](student, teacher, [eye] * 3, mask) == 0
    student[0][0, 0] += 1.0
    torch.testing.assert_close(
        week["match_hidden"](student, teacher, [eye] * 3, mask), torch.tensor(1 / 9, dtype=torch.float64), **CLOSE
    )


def test_matching_one_layer_is_mse_loss(week: dict, rng: torch.Generator):
    mine, theirs, projection = normal(rng, 2, 3, 2), normal(rng, 2, 3, 5), normal(rng, 5, 2)
    found = week["match_hidden"]([mine], [theirs], [projection], torch.ones(2, 3, dtype=torch.bool))
    torch.testing.assert_close(found, F.mse_loss(F.linear(mine, projection), theirs), **CLOSE)


# ------------------------------------------------------------------------------------------------------- pruning


def attention(week: dict, rng: torch.Generator, d_model: int, num_heads: int, head_width: int) -> nn.Module:
    module = week["Attention"](d_model, num_heads, head_width).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(normal(rng, *parameter.shape))
    return module


def test_pruned_heads_are_masked_heads(week: dict, rng: torch.Generator):
    """Every set of heads but all: the same output as with gates of zero, from fewer parameters; and what stays can learn."""
    whole, x = attention(week, rng, 6, 4, 3), normal(rng, 2, 5, 6)
    mask = torch.ones(5, 5, dtype=torch.bool).tril()
    for size in range(4):
        for heads in combinations(range(4), size):
            gates = torch.ones(4, dtype=torch.float64)
            gates[list(heads)] = 0
            pruned = copy.deepcopy(whole)
            assert week["prune_heads"](pruned, heads) is None
            torch.testing.assert_close(pruned(x, mask), whole(x, mask, gates), **CLOSE)
            count = sum(parameter.numel() for parameter in pruned.parameters())
            assert count == sum(p.numel() for p in whole.parameters()) - size * 3 * (4 * 6 + 3)
            pruned(x, mask).sum().backward()
            assert all(p.grad is not None and p.grad.shape == p.shape for p in pruned.parameters())


def test_heads_can_be_pruned_again(week: dict, rng: torch.Generator):
    one, two, x = attention(week, rng, 4, 4, 2), None, normal(rng, 1, 3, 4)
    two = copy.deepcopy(one)
    week["prune_heads"](one, [0, 3])
    week["prune_heads"](two, [0])
    week["prune_heads"](two, [2])  # it was the fourth
    torch.testing.assert_close(one(x), two(x), **CLOSE)


def test_attention_is_torchs(week: dict, rng: torch.Generator):
    mine, x = attention(week, rng, 6, 2, 3), normal(rng, 2, 4, 6)
    twin = nn.MultiheadAttention(6, 2, batch_first=True, dtype=torch.float64)
    layers = (mine.q_proj, mine.k_proj, mine.v_proj)
    with torch.no_grad():
        twin.in_proj_weight.copy_(torch.cat([layer.weight for layer in layers]))
        twin.in_proj_bias.copy_(torch.cat([layer.bias for layer in layers]))
        twin.out_proj.load_state_dict(mine.out_proj.state_dict())
    torch.testing.assert_close(mine(x), twin(x, x, x)[0], **CLOSE)


def test_importance_is_the_change_of_the_loss_by_a_gate(week: dict, rng: torch.Generator):
    module, xs = attention(week, rng, 6, 3, 2), [normal(rng, 1, 4, 6) for _ in range(4)]

    def loss_of(x: Tensor, gates: Tensor) -> Tensor:
        return module(x, gates=gates[0]).sin().sum()

    found = week["head_importance"](loss_of, xs, 1, 3)
    step, slopes = 1e-3, torch.zeros(1, 3)
    for x in xs:
        for head in range(3):
            up, down = torch.ones(2, 1, 3, dtype=torch.float64)
            up[0, head], down[0, head] = 1 + step, 1 - step
            slopes[0, head] += abs((loss_of(x, up) - loss_of(x, down)).item()) / (2 * step)
    # Central differences are off by the square of the step.
    torch.testing.assert_close(found, F.normalize(slopes, dim=1), rtol=1e-4, atol=1e-4)
    assert all(parameter.grad is None for parameter in module.parameters())


@pytest.mark.parametrize("sparsity", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_masks_are_those_of_torchs_global_pruning(week: dict, rng: torch.Generator, sparsity: float):
    """Of 48 numbers these are whole shares: torch rounds where floor is asked for here."""
    layers = {"a": nn.Linear(4, 6, bias=False), "b": nn.Linear(8, 3, bias=False)}
    for layer in layers.values():
        layer.weight.data = single(rng, *layer.weight.shape)
    weights = {name: layer.weight.detach().clone() for name, layer in layers.items()}
    found = week["magnitude_prune"](weights, sparsity)
    prune.global_unstructured([(layer, "weight") for layer in layers.values()], prune.L1Unstructured, amount=sparsity)
    for name, layer in layers.items():
        assert torch.equal(found[name], layer.weight_mask.bool())


def test_exactly_so_many_are_pruned_whatever_is_equal(week: dict):
    weights = {"b": torch.ones(3, 3), "a": -torch.ones(4)}
    for percent in range(0, 101, 7):
        masks = week["magnitude_prune"](weights, percent / 100)
        flat = torch.cat([mask.flatten() for mask in masks.values()])
        number = math.floor(percent / 100 * 13)
        assert flat.tolist() == [False] * number + [True] * (13 - number)


# --------------------------------------------------------------------------------------------- front and further


def test_front_is_what_no_other_point_dominates(week: dict, rng: torch.Generator):
    for figures in (1, 2, 3):
        points = torch.randint(4, (15, figures), generator=rng).float()  # many are equal
        front = week["pareto_front"](points)
        rows = points.tolist()
        for i, own in enumerate(rows):
            better = [o for o in rows if o != own and all(a <= b for a, b in zip(o, own, strict=True))]
            assert (i in front) == (not better)
        assert week["pareto_front"](points[front]) == list(range(len(front)))


def test_fake_quantize_is_torchs(week: dict, rng: torch.Generator):
    x, scale = (100 * single(rng, 60)).requires_grad_(), torch.tensor(0.9)
    found = week["fake_quantize"](x, scale)
    twin = torch.fake_quantize_per_tensor_affine(x, 0.9, 0, -127, 127)
    torch.testing.assert_close(found, twin, **SINGLE)
    upstream = single(rng, 60)
    (mine,), (theirs,) = torch.autograd.grad(found, x, upstream), torch.autograd.grad(twin, x, upstream)
    torch.testing.assert_close(mine, theirs, **SINGLE)
    assert (mine == 0).any() and (mine != 0).any()


def test_sparsity_grows_fast_first_and_ends_at_the_final_one(week: dict):
    curve = [week["cubic_sparsity"](step, 10, 50, 0.9, 0.1) for step in range(70)]
    assert curve[0] == curve[10] == pytest.approx(0.1) and curve[50] == curve[-1] == pytest.approx(0.9)
    steps = [b - a for a, b in pairwise(curve[10:51])]
    assert all(a > b > 0 for a, b in pairwise(steps))
    assert curve[30] == pytest.approx(0.9 - 0.8 / 8)


def test_a_step_is_torchs_sgd_where_nothing_is_pruned_and_what_is_pruned_stays(week: dict, rng: torch.Generator):
    parameter = nn.Parameter(normal(rng, 3, 4))
    weight, velocity = parameter.detach().clone(), torch.zeros(3, 4, dtype=torch.float64)
    mask = torch.ones(3, 4, dtype=torch.bool)
    optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=0.9)
    for _ in range(4):
        parameter.grad = normal(rng, 3, 4)
        optimizer.step()
        weight, velocity = week["sparse_step"](weight, parameter.grad, velocity, mask, 0.1, 0.9)
    torch.testing.assert_close(weight, parameter.detach(), **CLOSE)
    mask[1] = False
    for _ in range(3):
        weight, velocity = week["sparse_step"](weight, normal(rng, 3, 4), velocity, mask, 0.1, 0.9)
    assert (weight[1] == 0).all() and (velocity[1] == 0).all() and (weight[0] != 0).all()


def test_a_model_that_cannot_compute_any_more_is_still_shown(week: dict):
    """A student whose matrices do not fit gets a message about the sizes, not one about a product inside the drive."""

    def wrong(module: nn.Module, heads: list[int]) -> None:
        module.out_proj.weight = nn.Parameter(module.out_proj.weight.detach()[:, 2:])

    student = Student({**week, "prune_heads": wrong})
    outputs = drive_of(WEEK.name, "prune_heads")(student, cases_of(WEEK, "prune_heads")[0])
    assert outputs["y"] == "its parts do not fit" and not outputs["raised"]
