"""Week 8's solutions against twins from outside: PyTorch's attention and FlexAttention, its counter of operations, Llama's rotary
positions, identities; and the measure of memory against allocations of known size."""

import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, create_mask, flex_attention
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

from autograder.kernel.sandbox import Limits
from autograder.week import Week
from course.drives import Student, drive_of, measure_of, peak_bytes
from course.drives.week08_efficient import GROWTH, NO_TRITON
from tests.course.drives.conftest import CLOSE, cases_of, normal

WEEK = Week(Path(__file__).parents[3] / "solutions" / "week08_efficient")
MEASURED = [
    exercise.name for exercise in WEEK.exercises if any("repeats" in case for case in cases_of(WEEK, exercise.name))
]
# tests/conftest.py asks for Triton's interpreter, before anything imports Triton.
needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is on Linux only")


def with_gradients(attend: Callable[..., Tensor], upstream: Tensor, *tensors: Tensor) -> list[Tensor]:
    """An output and the gradients of all tensors that went in."""
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    output = attend(*leaves)
    return [output.detach(), *torch.autograd.grad((output * upstream).sum(), leaves)]


def tensors(rng: torch.Generator, T: int, S: int, K: int = 8, width: int = 5) -> tuple[Tensor, ...]:
    return normal(rng, 2, 3, T, K), normal(rng, 2, 3, S, K), normal(rng, 2, 3, S, width), normal(rng, 2, 3, T, width)


# --------------------------------------------------------------------------------------- everything with everything


def flops_of(call: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def test_costs_are_what_pytorch_counts_of_the_solutions(week: dict, rng: torch.Generator):
    T, K, P = 96, 16, 24
    q, k, v = normal(rng, 3, T, K)
    cost, projection = week["attention_cost"], normal(rng, P, K)
    e, f = normal(rng, P, T), normal(rng, P, T)
    assert flops_of(lambda: week["full_attention"](q, k, v)) == cost("full", T, K)[0]
    assert flops_of(lambda: week["online_softmax_attention"](q, k, v, 20)) == cost("online", T, K, 20)[0]
    assert flops_of(lambda: week["linformer_attention"](q, k, v, e, f)) == cost("linformer", T, K, P)[0]
    assert flops_of(lambda: week["performer_attention"](q, k, v, projection)) == cost("performer", T, K, P)[0]
    four_of_six = torch.eye(6, dtype=torch.bool) | (torch.arange(6) < 3) | (torch.arange(6) == 5)
    four_of_six[[0, 1, 2, 5], 4] = True
    assert set(four_of_six.sum(dim=1).tolist()) == {5}
    assert flops_of(lambda: week["bigbird_attention"](q, k, v, four_of_six, 16)) == cost("sparse", T, K, 5 * 16)[0]


def test_scores_are_the_bytes_that_a_product_allocates(week: dict):
    q, k = torch.randn(2, 300, 16)
    assert peak_bytes(lambda: q @ k.T) == week["attention_cost"]("full", 300, 16)[1]


@pytest.mark.parametrize("block_size", [1, 3, 4, 11, 50])
@pytest.mark.parametrize("is_causal", [False, True])
def test_online_softmax_is_pytorchs_attention(week: dict, rng: torch.Generator, block_size: int, is_causal: bool):
    *qkv, upstream = tensors(rng, 11, 11 if is_causal else 17)
    mine = with_gradients(
        lambda q, k, v: week["online_softmax_attention"](q, k, v, block_size, is_causal), upstream, *qkv
    )
    theirs = with_gradients(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=is_causal), upstream, *qkv
    )
    for one, two in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, two, **CLOSE)


def test_online_softmax_of_scores_that_overflow(week: dict, rng: torch.Generator):
    q, k, v, _ = tensors(rng, 5, 9)
    q = 300 * q
    expected = F.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(week["online_softmax_attention"](q, k, v, 2), expected, **CLOSE)


# -------------------------------------------------------------------------------------------- holes in the matrix


def flex(mask_mod: Callable[..., Tensor], N: int) -> Tensor:
    """FlexAttention's mask of a mask_mod."""
    return create_mask(mask_mod, 1, 1, N, N, device="cpu")[0, 0]


@pytest.mark.parametrize("window", [0, 1, 3, 20])
def test_window_is_flexattentions(week: dict, window: int):
    expected = flex(lambda b, h, i, j: (i - j).abs() <= window, 9)
    assert torch.equal(week["window_mask"](9, window), expected)


@pytest.mark.parametrize("positions", [[], [2], [6, 0, 3]])
def test_global_is_flexattentions(week: dict, positions: list[int]):
    chosen = torch.tensor([i in positions for i in range(8)])
    expected = flex(lambda b, h, i, j: chosen[i] | chosen[j], 8)
    assert torch.equal(week["global_mask"](8, torch.tensor(positions, dtype=torch.int64)), expected)


def test_random_partners_are_new_and_as_many_as_asked(week: dict, rng: torch.Generator):
    taken = torch.rand(12, 12, generator=rng) < 0.4
    mask = week["random_mask"](torch.rand(12, 12, generator=rng), taken, 4)
    assert not (mask & taken).any()
    assert torch.equal(mask.sum(dim=1), (~taken).sum(dim=1).clamp(max=4))


def test_random_partners_are_drawn_evenly(week: dict, rng: torch.Generator):
    """In 4,000 rows each of 8 free keys is one of two in a quarter of them; sd sqrt(4000 * 3/16) = 27, and six of these."""
    taken = torch.zeros(8, 8, dtype=torch.bool)
    counts = sum(week["random_mask"](torch.rand(8, 8, generator=rng), taken, 2).sum(dim=0) for _ in range(500))
    assert (counts - 1000).abs().max() < 6 * 27.4


def blockwise(pattern: Tensor, size: int, T: int) -> Tensor:
    return pattern.repeat_interleave(size, 0).repeat_interleave(size, 1)[:T, :T]


@pytest.mark.parametrize(("T", "size"), [(12, 3), (13, 4), (7, 1), (9, 20)])
def test_bigbird_is_pytorchs_attention_under_the_mask(week: dict, rng: torch.Generator, T: int, size: int):
    *qkv, upstream = tensors(rng, T, T)
    N = -(-T // size)
    pattern = (torch.rand(N, N, generator=rng) < 0.5) | torch.eye(N, dtype=torch.bool)
    for allowed in (pattern, torch.ones_like(pattern)):
        mask = None if allowed.all() else blockwise(allowed, size, T)
        mine = with_gradients(
            lambda q, k, v, allowed=allowed: week["bigbird_attention"](q, k, v, allowed, size), upstream, *qkv
        )
        theirs = with_gradients(
            lambda q, k, v, mask=mask: F.scaled_dot_product_attention(q, k, v, attn_mask=mask), upstream, *qkv
        )
        for one, two in zip(mine, theirs, strict=True):
            torch.testing.assert_close(one, two, **CLOSE)


# ---------------------------------------------------------------------------------------------- a shorter memory


def test_linformer_with_the_identity_is_full_attention(week: dict, rng: torch.Generator):
    q, k, v, _ = tensors(rng, 6, 9)
    identity = torch.eye(9, dtype=q.dtype)
    expected = F.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(week["linformer_attention"](q, k, v, identity, identity), expected, **CLOSE)


def test_linformer_is_full_attention_to_the_mixtures(week: dict, rng: torch.Generator):
    *qkv, upstream = tensors(rng, 6, 9)
    projections = normal(rng, 4, 9), normal(rng, 4, 9)
    mine = with_gradients(week["linformer_attention"], upstream, *qkv, *projections)
    theirs = with_gradients(
        lambda q, k, v, e, f: F.scaled_dot_product_attention(q, e @ k, f @ v), upstream, *qkv, *projections
    )
    for one, two in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, two, **CLOSE)


# ------------------------------------------------------------------------------------------------ random features


def test_projections_are_orthogonal_and_keep_their_lengths(week: dict, rng: torch.Generator):
    draws = normal(rng, 14, 6)
    rows = week["orthogonal_projections"](draws)
    torch.testing.assert_close(rows.norm(dim=1), draws.norm(dim=1), **CLOSE)
    for block, drawn in zip(rows.split(6), draws.split(6), strict=True):
        products = block @ block.T
        torch.testing.assert_close(products, products.diagonal().diag(), **CLOSE)
        torch.testing.assert_close(block[0], drawn[0], **CLOSE)
        assert ((block * drawn).sum(dim=1) > 0).all()


def kernel_estimate(week: dict, q: Tensor, k: Tensor, projection: Tensor) -> Tensor:
    """softmax weights (T, S) as the features have them."""
    products = week["performer_features"](q, projection, True) @ week["performer_features"](k, projection, False).T
    return products / products.sum(dim=1, keepdim=True)


def test_features_estimate_the_softmax_and_the_error_falls(week: dict, rng: torch.Generator):
    """A mean of M draws has an error in proportion to 1 / sqrt(M): 64 times the features, an eighth; allowed is a quarter."""
    q, k = 0.5 * normal(rng, 2, 20, 8)
    exact = (q @ k.T / 8**0.5).softmax(dim=1)
    few, many = (
        sum((kernel_estimate(week, q, k, normal(rng, M, 8)) - exact).norm() for _ in range(8)) for M in (64, 4096)
    )
    assert many < few / 4 and many / 8 < 0.05 * exact.norm()


def test_features_are_positive_and_bounded(week: dict, rng: torch.Generator):
    x, projection = 9.0 * torch.randn(3, 5, 6, generator=rng), torch.randn(10, 6, generator=rng)
    for is_query in (True, False):
        features = week["performer_features"](x, projection, is_query)
        largest = features.amax(dim=-1) if is_query else features.amax(dim=(-2, -1))
        assert (features >= 0).all()
        torch.testing.assert_close(largest, torch.full_like(largest, 10**-0.5))


def test_performer_is_its_own_quadratic_form(week: dict, rng: torch.Generator):
    q, k, v, _ = tensors(rng, 6, 9)
    projection = normal(rng, 12, 8)
    expected = torch.stack(
        [
            torch.stack([kernel_estimate(week, q[b, h], k[b, h], projection) @ v[b, h] for h in range(3)])
            for b in range(2)
        ]
    )
    torch.testing.assert_close(week["performer_attention"](q, k, v, projection), expected, **CLOSE)


def test_causal_performer_is_performer_on_each_beginning(week: dict, rng: torch.Generator):
    q, k, v, _ = tensors(rng, 7, 7)
    projection = normal(rng, 12, 8)
    causal = week["causal_performer_attention"](q, k, v, projection)
    for t in range(7):
        alone = week["performer_attention"](q[..., t : t + 1, :], k[..., : t + 1, :], v[..., : t + 1, :], projection)
        torch.testing.assert_close(causal[..., t : t + 1, :], alone, **CLOSE)


# -------------------------------------------------------------------------------------------------------- memory


def test_peak_bytes_of_what_is_known():
    def two_at_once() -> Tensor:
        first = torch.empty(1000)
        del first
        return torch.empty(100) if torch.empty(300).numel() else None

    assert peak_bytes(two_at_once) == 4000
    assert peak_bytes(lambda: [torch.empty(10), torch.empty(20)]) == 120
    assert peak_bytes(lambda: None) == 0
    with pytest.raises(ZeroDivisionError):
        peak_bytes(lambda: 1 / 0)


@pytest.mark.parametrize("exercise", MEASURED)
def test_memory_of_the_solution_grows_with_the_length(week: dict, exercise: str):
    for case in cases_of(WEEK, exercise):
        if "repeats" in case:
            for repeats in ([1, 2], [2, 4]):
                outputs = drive_of(WEEK.name, exercise)(Student(week), case | {"repeats": repeats})
                assert measure_of(WEEK.name, exercise)(case, outputs)[GROWTH], outputs["peaks"]
                assert ("far away" in outputs) == ("reach" in case)
    assert len(MEASURED) == 4


def test_memory_of_the_full_matrix_is_found_out(week: dict):
    [case] = [case for case in cases_of(WEEK, "bigbird_attention") if "repeats" in case]

    def masked(q: Tensor, k: Tensor, v: Tensor, pattern: Tensor, size: int) -> Tensor:
        return F.softmax(q @ k.T + blockwise(pattern, size, len(q)).log(), dim=-1) @ v

    outputs = drive_of(WEEK.name, "bigbird_attention")(Student({"bigbird_attention": masked}), case)
    assert outputs["peaks"][1] > 3.5 * outputs["peaks"][0] and "far away" not in outputs
    assert measure_of(WEEK.name, "bigbird_attention")(case, outputs) == {GROWTH: False}
    assert measure_of(WEEK.name, "bigbird_attention")(case, {"peaks": [0, 0]}) == {GROWTH: False}


@pytest.mark.parametrize("exercise", ["bigbird_attention", "performer_attention"])
def test_whoever_forges_the_record_meets_the_kernels_limit(exercise: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("course.drives.week08_efficient.peak_bytes", lambda call: 100)
    lengths = []

    def attend(q: Tensor, k: Tensor, v: Tensor, *rest: object) -> Tensor:
        lengths.append(len(q))
        return torch.zeros(len(q), v.size(-1))

    [case] = [case for case in cases_of(WEEK, exercise) if "repeats" in case]
    drive_of(WEEK.name, exercise)(Student({exercise: attend}), case)
    assert lengths[-1] ** 2 * 4 > Limits.memory


# ------------------------------------------------------------------------------------------------------- further


@needs_triton
@pytest.mark.parametrize(("T", "S", "blocks"), [(32, 48, (16, 16)), (21, 50, (16, 32)), (70, 7, (32, 16))])
def test_the_kernel_is_pytorchs_attention(week: dict, rng: torch.Generator, T: int, S: int, blocks: tuple[int, int]):
    q, k, v = (torch.randn(2, n, 16, generator=rng) for n in (T, S, S))
    case = {"q": q, "k": k, "v": v, "BLOCK_T": blocks[0], "BLOCK_S": blocks[1]}
    outputs = drive_of(WEEK.name, "flash_kernel")(Student(week), case)
    torch.testing.assert_close(outputs["output"], F.scaled_dot_product_attention(q, k, v))
    torch.testing.assert_close(outputs["output"], week["online_softmax_attention"](q, k, v, blocks[1]))


@needs_triton
def test_a_kernel_that_is_not_written_is_missing():
    def flash_kernel(q, k, v, out, T, S, K, BLOCK_T, BLOCK_S):
        raise NotImplementedError()

    with pytest.raises(NotImplementedError):
        drive_of(WEEK.name, "flash_kernel")(Student({"flash_kernel": flash_kernel}), cases_of(WEEK, "flash_kernel")[0])


def test_without_triton_the_check_says_so(week: dict, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(RuntimeError, match="Triton is not installed") as raised:
        drive_of(WEEK.name, "flash_kernel")(Student(week), cases_of(WEEK, "flash_kernel")[0])
    assert str(raised.value) == NO_TRITON
    namespace = WEEK.namespace()  # every cell runs without it
    assert namespace["triton"] is None
    q = torch.randn(2, 5, 16)
    torch.testing.assert_close(namespace["flash_attention"](q, q, q), F.scaled_dot_product_attention(q, q, q))


def test_flex_mask_is_taken_by_flexattention(week: dict, rng: torch.Generator):
    document = torch.tensor([4] * 9 + [1] * 3 + [2] * 20)
    mask_mod = week["flex_mask"](document, 5)
    mask = torch.tensor([[bool(document[i] == document[j]) and 0 <= i - j <= 5 for j in range(32)] for i in range(32)])
    assert torch.equal(flex(mask_mod, 32), mask)
    q, k, v = torch.randn(3, 1, 2, 32, 16, generator=rng)
    block_mask = create_block_mask(mask_mod, 1, 1, 32, 32, device="cpu")
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    torch.testing.assert_close(flex_attention(q, k, v, block_mask=block_mask), expected)


@pytest.mark.parametrize(("base", "factor"), [(10000.0, 1.0), (500.0, 4.0)])
def test_rotary_is_llamas(week: dict, rng: torch.Generator, base: float, factor: float):
    q, k = torch.randn(2, 1, 3, 9, 8, generator=rng)
    positions = torch.arange(100, 109)
    scaled = {"rope_type": "linear", "factor": factor, "rope_theta": base}
    config = LlamaConfig(hidden_size=24, num_attention_heads=3, rope_parameters=scaled)
    cos, sin = LlamaRotaryEmbedding(config)(q, positions.unsqueeze(0))
    for mine, theirs in zip((q, k), apply_rotary_pos_emb(q, k, cos, sin), strict=True):
        torch.testing.assert_close(week["rotary"](mine, positions, base, factor), theirs, rtol=1e-4, atol=1e-5)


def test_rotary_knows_distances_only(week: dict, rng: torch.Generator):
    q, k = normal(rng, 2, 1, 8)

    def product(t: int, s: int) -> Tensor:
        return week["rotary"](q, torch.tensor([t])) @ week["rotary"](k, torch.tensor([s])).T

    torch.testing.assert_close(product(20, 3), product(1020, 1003), rtol=1e-9, atol=1e-10)
    assert not torch.isclose(product(20, 3), product(20, 4))
