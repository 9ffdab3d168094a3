"""Week 4's solutions against twins from outside: torch.nn's norm, its transformer layers and its Transformer, and identities."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autograder.week import Week
from course.drives import Student, Tripwire, drive_of, set_weights
from course.drives import week04_transformer as drives
from tests.course.drives.conftest import CLOSE, cases_of, normal

WEEK = Week(Path(__file__).parents[3] / "solutions" / "week04_transformer")
# float32: a unit in the last place is 6e-8 of the value; gradients here are sums of some hundred terms of size 1 to 10.
SINGLE = {"rtol": 2e-5, "atol": 1e-5}
CLOSE_IN = {torch.float64: CLOSE, torch.float32: SINGLE}
PAD, UNKNOWN, BEGIN, END = range(4)

# ----------------------------------------------------------------------------------------------------- the model


def gradients(outputs: list[Tensor], upstream: list[Tensor], inputs: list[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(outputs, inputs, upstream)


def shaken(rng: torch.Generator, module: nn.Module, dtype: torch.dtype = torch.float64) -> nn.Module:
    """The module with random parameters, norms and biases too."""
    module.to(dtype)
    for parameter in module.parameters():
        parameter.data = 0.5 * normal(rng, *parameter.shape, dtype=dtype)
    return module


def ours(state: dict[str, Any]) -> dict[str, Any]:
    """What torch's transformer layers call a parameter, in our names."""
    found = {}
    for name, value in state.items():
        name = name.replace("multihead_attn.", "cross_attn.")
        for inner in ("linear1.", "linear2."):
            name = name.replace(inner, f"feed_forward.{inner}")
        for side in ("encoder", "decoder"):
            name = name.replace(f"{side}.layers.", f"{side}.").replace(f"{side}.norm.", f"{side}_norm.")
        found[name] = value
    return found


def forbidden(mask: Tensor, heads: int, *shape: int) -> Tensor:
    """Our mask as torch wants it: (B heads, T, S), True where attention is forbidden."""
    return ~mask.expand(shape).repeat_interleave(heads, dim=0)


# Positions


@pytest.mark.parametrize("width", [2, 6, 64, 512])
def test_positions_are_the_formula_in_double_precision(week: dict, width: int):
    encoding = week["positional_encoding"](300, width)
    assert encoding.shape == (300, width) and encoding.dtype == torch.float32
    for t in (0, 1, 17, 299):
        for i in range(width // 2):
            angle = t / 10000 ** (2 * i / width)
            assert encoding[t, 2 * i].item() == pytest.approx(math.sin(angle), abs=5e-5)
            assert encoding[t, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=5e-5)


def test_products_of_positions_depend_on_their_distance_alone(week: dict):
    encoding = week["positional_encoding"](60, 32).double()
    products = encoding @ encoding.T
    for distance in range(20):
        along = products.diagonal(distance)
        torch.testing.assert_close(along, along[:1].expand_as(along), rtol=0, atol=1e-4)
    torch.testing.assert_close(products.diagonal(), torch.full((60,), 16.0).double(), rtol=0, atol=1e-4)


def test_positions_of_a_longer_text_begin_with_those_of_a_shorter(week: dict):
    assert torch.equal(week["positional_encoding"](900, 10)[:40], week["positional_encoding"](40, 10))
    assert week["positional_encoding"](0, 4).shape == (0, 4)


@pytest.mark.parametrize("width", [1, 3, 513])
def test_odd_widths_are_refused_with_their_number(week: dict, width: int):
    with pytest.raises(ValueError, match=str(width)):
        week["positional_encoding"](4, width)


# Norm and network


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", [(5,), (4, 6), (2, 3, 4, 7)])
@pytest.mark.parametrize("eps", [1e-5, 0.1])
def test_norm_is_torchs_forward_and_backward(
    week: dict, rng: torch.Generator, shape: tuple, eps: float, dtype: torch.dtype
):
    twin = shaken(rng, nn.LayerNorm(shape[-1], eps=eps), dtype)
    mine = week["LayerNorm"](shape[-1], eps).to(dtype)
    mine.load_state_dict(twin.state_dict())
    x, upstream = (3 * normal(rng, *shape, dtype=dtype) + 1).requires_grad_(), normal(rng, *shape, dtype=dtype)
    output, expected = mine(x), twin(x)
    torch.testing.assert_close(output, expected, **CLOSE_IN[dtype])
    torch.testing.assert_close(
        gradients([output], [upstream], [x, *mine.parameters()]),
        gradients([expected], [upstream], [x, *twin.parameters()]),
        **CLOSE_IN[dtype],
    )


def test_norm_takes_an_addition_and_a_factor_back(week: dict, rng: torch.Generator):
    norm, x = week["LayerNorm"](16, 0.0).double(), normal(rng, 3, 16)
    torch.testing.assert_close(norm(7 * x - 2), norm(x), **CLOSE)


def test_norm_of_features_that_are_all_the_same_is_the_bias(week: dict, rng: torch.Generator):
    norm = shaken(rng, week["LayerNorm"](4))
    torch.testing.assert_close(norm(torch.full((2, 4), 3.0).double()), norm.bias.expand(2, 4), **CLOSE)


def test_network_is_two_layers_of_torch_at_each_position(week: dict, rng: torch.Generator):
    mine = shaken(rng, week["FeedForward"](4, 9))
    twin = nn.Sequential(mine.linear1, nn.ReLU(), mine.linear2)
    x = normal(rng, 2, 3, 4)
    torch.testing.assert_close(mine(x), twin(x), **CLOSE)
    torch.testing.assert_close(mine(x)[1, 2], mine(x[1, 2]), **CLOSE)


# Attention, which is given


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_attention_is_nn_multihead_attention(week: dict, rng: torch.Generator, dtype: torch.dtype):
    twin = shaken(rng, nn.MultiheadAttention(6, 3, batch_first=True), dtype)
    mine = week["MultiHeadAttention"](6, 3).to(dtype)
    mine.load_state_dict(twin.state_dict())
    query, key = normal(rng, 2, 4, 6, dtype=dtype), normal(rng, 2, 5, 6, dtype=dtype)
    mask = torch.rand(2, 4, 5, generator=rng) < 0.6
    mask[..., 0] = True
    expected, weights = twin(
        query, key, key, attn_mask=forbidden(mask, 3, 2, 4, 5), average_attn_weights=False, need_weights=True
    )
    torch.testing.assert_close(mine(query, key, mask), expected, **CLOSE_IN[dtype])
    torch.testing.assert_close(mine.weights(query, key, mask), weights, **CLOSE_IN[dtype])
    itself = torch.ones(4, 4, dtype=torch.bool).tril()  # one product for all three
    torch.testing.assert_close(mine(query, query, itself), mine(query, query.clone(), itself), **CLOSE_IN[dtype])


# Layers


def test_our_names_are_those_of_torchs_layers(week: dict):
    for name, twin in (("EncoderLayer", nn.TransformerEncoderLayer), ("DecoderLayer", nn.TransformerDecoderLayer)):
        theirs = ours(twin(6, 2, 10).state_dict())
        mine = week[name](6, 2, 10).state_dict()
        assert {n: v.shape for n, v in mine.items()} == {n: v.shape for n, v in theirs.items()}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("norm_first", [True, False])
def test_encoder_layer_is_torchs_forward_and_backward(
    week: dict, rng: torch.Generator, norm_first: bool, dtype: torch.dtype
):
    twin = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True, norm_first=norm_first)
    twin = shaken(rng, twin, dtype)
    mine = week["EncoderLayer"](8, 2, 12, 0.0, norm_first).to(dtype)
    mine.load_state_dict(ours(twin.state_dict()))
    x, upstream = normal(rng, 3, 5, 8, dtype=dtype).requires_grad_(), normal(rng, 3, 5, 8, dtype=dtype)
    padding = torch.arange(5) < torch.tensor([5, 2, 3])[:, None]
    each = torch.rand(5, 5, generator=rng) < 0.5
    each |= torch.eye(5, dtype=torch.bool)
    each[:, 0] = True
    for mask in (padding[:, None], each, each & padding[:, None]):
        output, expected = mine(x, mask), twin(x, src_mask=forbidden(mask, 2, 3, 5, 5))
        torch.testing.assert_close(output, expected, **CLOSE_IN[dtype])
        own, theirs = dict(mine.named_parameters()), ours(dict(twin.named_parameters()))
        torch.testing.assert_close(
            gradients([output], [upstream], [x, *own.values()]),
            gradients([expected], [upstream], [x, *(theirs[name] for name in own)]),
            **CLOSE_IN[dtype],
        )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("norm_first", [True, False])
def test_decoder_layer_is_torchs_forward_and_backward(
    week: dict, rng: torch.Generator, norm_first: bool, dtype: torch.dtype
):
    twin = nn.TransformerDecoderLayer(8, 2, 12, dropout=0.0, batch_first=True, norm_first=norm_first)
    twin = shaken(rng, twin, dtype)
    mine = week["DecoderLayer"](8, 2, 12, 0.0, norm_first).to(dtype)
    mine.load_state_dict(ours(twin.state_dict()))
    x, memory = (normal(rng, 3, n, 8, dtype=dtype).requires_grad_() for n in (4, 6))
    upstream = normal(rng, 3, 4, 8, dtype=dtype)
    mask = torch.ones(4, 4, dtype=torch.bool).tril() & (torch.arange(4) < torch.tensor([3, 4, 2])[:, None])[:, None]
    memory_mask = (torch.arange(6) < torch.tensor([2, 6, 5])[:, None])[:, None]
    output = mine(x, memory, mask, memory_mask)
    expected = twin(
        x, memory, tgt_mask=forbidden(mask, 2, 3, 4, 4), memory_key_padding_mask=~memory_mask[:, 0]
    )  # torch's masks are True where attention is forbidden
    torch.testing.assert_close(output, expected, **CLOSE_IN[dtype])
    own, theirs = dict(mine.named_parameters()), ours(dict(twin.named_parameters()))
    torch.testing.assert_close(
        gradients([output], [upstream], [x, memory, *own.values()]),
        gradients([expected], [upstream], [x, memory, *(theirs[name] for name in own)]),
        **CLOSE_IN[dtype],
    )


@pytest.mark.parametrize("exercise", ["EncoderLayer.forward", "DecoderLayer.forward"])
def test_torchs_layers_answer_the_cases_as_the_solution_does(week: dict, exercise: str):
    """Every case, at evaluation and with everything dropped: torch's layer in our names gives what the drive gets of ours."""
    made = nn.TransformerEncoderLayer if exercise == "EncoderLayer.forward" else nn.TransformerDecoderLayer
    for inputs in cases_of(WEEK, exercise):
        weights, heads = inputs["weights"], inputs["num_heads"]
        d_ff, d_model = weights["feed_forward.linear1.weight"].shape
        twin = made(d_model, heads, d_ff, dropout=1.0, batch_first=True, norm_first=inputs["norm_first"])
        renamed = {
            theirs: weights[name] for theirs, name in zip(twin.state_dict(), ours(twin.state_dict()), strict=True)
        }
        twin.load_state_dict(renamed)
        x = inputs["x"]
        B, T, _ = x.shape
        if exercise == "EncoderLayer.forward":
            arguments = {"src": x, "src_mask": forbidden(inputs["mask"], heads, B, T, T)}
        else:
            memory = inputs["memory"]
            S = memory.size(1)
            arguments = {
                "tgt": x,
                "memory": memory,
                "tgt_mask": forbidden(inputs["mask"], heads, B, T, T),
                "memory_mask": forbidden(inputs["memory_mask"], heads, B, T, S),
            }
        found = drive_of(WEEK.name, exercise)(Student(week), inputs)
        torch.testing.assert_close(found["output"], twin.eval()(**arguments), **SINGLE)
        torch.testing.assert_close(found["output with everything dropped"], twin.train()(**arguments), **SINGLE)


@pytest.mark.parametrize("norm_first", [True, False])
def test_dropout_falls_on_what_is_added_and_on_nothing_else(week: dict, rng: torch.Generator, norm_first: bool):
    layer = shaken(rng, week["EncoderLayer"](6, 2, 8, 1.0, norm_first)).train()
    x, mask = normal(rng, 2, 3, 6), torch.ones(3, 3, dtype=torch.bool)
    expected = x if norm_first else layer.norm2(layer.norm1(x))
    torch.testing.assert_close(layer(x, mask), expected, **CLOSE)
    none = week["EncoderLayer"](6, 2, 8, 0.0, norm_first).double()
    none.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer.eval()(x, mask), none(x, mask), **CLOSE)


# The whole


def whole(week: dict, rng: torch.Generator, norm_first: bool = True, dtype: torch.dtype = torch.float64) -> nn.Module:
    model = week["Transformer"](11, 8, 2, 2, 3, 12, 0.0, norm_first)
    return shaken(rng, model, dtype)


def sentences(rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """source (3, 6) and target (3, 5) with padding, of a vocabulary of 11."""
    source, target = torch.randint(4, 11, (3, 6), generator=rng), torch.randint(4, 11, (3, 5), generator=rng)
    target[:, 0] = BEGIN
    for row, (s, t) in enumerate([(6, 3), (2, 5), (4, 4)]):
        source[row, s:], target[row, t - 1], target[row, t:] = PAD, END, PAD
    return source, target


@pytest.mark.filterwarnings(
    "ignore:enable_nested_tensor is True"
)  # torch has a faster path for post-norm only, and says so
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("norm_first", [True, False])
def test_whole_is_nn_transformer_forward_and_backward(
    week: dict, rng: torch.Generator, norm_first: bool, dtype: torch.dtype
):
    twin = nn.Transformer(8, 2, 2, 3, 12, dropout=0.0, batch_first=True, norm_first=norm_first)
    if not norm_first:  # torch norms the end even so
        twin.encoder.norm = twin.decoder.norm = None
    twin = shaken(rng, twin, dtype)
    mine = whole(week, rng, norm_first, dtype)
    mine.load_state_dict(ours(twin.state_dict()) | {"embedding.weight": mine.embedding.weight.detach().clone()})
    source, target = sentences(rng)
    read = target[:, :-1]

    def embedded(tokens: Tensor) -> Tensor:
        positions = week["positional_encoding"](tokens.size(1), 8).to(dtype)
        return math.sqrt(8) * mine.embedding.weight[tokens] + positions

    states = twin(
        embedded(source),
        embedded(read),
        tgt_mask=nn.Transformer.generate_square_subsequent_mask(4) < 0,  # True where attention is forbidden
        src_key_padding_mask=source == PAD,
        tgt_key_padding_mask=read == PAD,
        memory_key_padding_mask=source == PAD,
    )
    expected, logits = states @ mine.embedding.weight.T, mine(source, target)
    assert logits.shape == (3, 4, 11)
    torch.testing.assert_close(logits, expected, **CLOSE_IN[dtype])
    upstream = normal(rng, 3, 4, 11, dtype=dtype)
    own = dict(mine.named_parameters())
    theirs = ours(dict(twin.named_parameters())) | {"embedding.weight": mine.embedding.weight}
    assert own.keys() == theirs.keys()
    found = gradients([logits], [upstream], list(own.values()))
    wanted = gradients([expected], [upstream], [theirs[name] for name in own])
    atol = (
        1e-10 if dtype == torch.float64 else 2e-4
    )  # five layers, each with norms that divide, double the errors a few times
    for one, other in zip(found, wanted, strict=True):
        scale = float(other.abs().max())
        torch.testing.assert_close(one / scale, other / scale, rtol=0, atol=atol)


def test_no_logit_depends_on_what_comes_later(week: dict, rng: torch.Generator):
    model = whole(week, rng)
    source, target = sentences(rng)
    target[:] = torch.where(target == PAD, 5, target)
    logits = model(source, target)
    for t in range(1, 4):
        changed = target.clone()
        changed[:, t:] = (changed[:, t:] - 3) % 7 + 4
        other = model(source, changed)
        torch.testing.assert_close(other[:, :t], logits[:, :t], **CLOSE)
        assert not torch.allclose(other[:, t], logits[:, t])


def test_every_logit_depends_on_every_source_word_and_every_earlier_target_word(week: dict, rng: torch.Generator):
    model = whole(week, rng)
    source, target = sentences(rng)
    logits = model(source, target)
    for s in range(6):
        changed = source.clone()
        changed[0, s] = (changed[0, s] - 3) % 7 + 4
        assert bool((model(changed, target)[0] != logits[0]).any(dim=-1).all())
    changed = target.clone()
    changed[1, 1] = (changed[1, 1] - 3) % 7 + 4
    assert bool((model(source, changed)[1] != logits[1]).any(dim=-1)[1:].all())


@pytest.mark.parametrize("norm_first", [True, False])
def test_a_sentence_alone_and_in_a_padded_batch_is_the_same(week: dict, rng: torch.Generator, norm_first: bool):
    model = whole(week, rng, norm_first)
    source, target = sentences(rng)
    logits = model(source, target)
    for b in range(3):
        s, t = int((source[b] != PAD).sum()), int((target[b] != PAD).sum())
        alone = model(source[b : b + 1, :s], target[b : b + 1, :t])
        torch.testing.assert_close(logits[b, : t - 1], alone[0], **CLOSE)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("norm_first", [True, False])
def test_a_source_of_padding_alone_never_gives_nan(
    week: dict, rng: torch.Generator, norm_first: bool, dtype: torch.dtype
):
    model = whole(week, rng, norm_first, dtype)
    source, target = sentences(rng)
    source[1] = PAD
    logits = model(source, target)
    found = torch.autograd.grad(logits.sum(), list(model.parameters()))
    assert bool(logits.isfinite().all()) and all(bool(gradient.isfinite().all()) for gradient in found)
    whole_rows = model(source[[0, 2]], target[[0, 2]])
    close = CLOSE if dtype == torch.float64 else {"rtol": 0.05, "atol": 0.05 * float(logits.detach().abs().max())}
    torch.testing.assert_close(logits[[0, 2]], whole_rows, **close)


def test_the_source_is_encoded_once_and_decoded_in_any_number_of_pieces(week: dict, rng: torch.Generator):
    """What greedy search relies on: decode of a beginning gives the same rows as decode of the whole."""
    model = whole(week, rng)
    source, target = sentences(rng)
    memory, mask = model.encode(source)
    assert memory.shape == (3, 6, 8) and torch.equal(mask, (source != PAD)[:, None])
    logits = model.decode(target, memory, mask)
    for t in range(1, 6):
        torch.testing.assert_close(model.decode(target[:, :t], memory, mask), logits[:, :t], **CLOSE)
    torch.testing.assert_close(model(source, target), logits[:, :-1], **CLOSE)


def test_without_positions_the_encoder_does_not_know_the_order(week: dict, rng: torch.Generator):
    unordered = dict(week)
    exec(WEEK.solution("Transformer.forward"), unordered)  # the class's own globals, to be changed without harm
    unordered["positional_encoding"] = lambda length, d_model: torch.zeros(length, d_model)
    model = shaken(rng, unordered["Transformer"](11, 8, 2, 2, 3, 12, 0.0))
    source, order = torch.randint(4, 11, (2, 6), generator=rng), torch.randperm(6, generator=rng)
    torch.testing.assert_close(model.encode(source[:, order])[0], model.encode(source)[0][:, order], **CLOSE)
    real = whole(week, rng)
    assert not torch.allclose(real.encode(source[:, order])[0], real.encode(source)[0][:, order])


def test_an_untrained_model_expects_the_word_just_read(week: dict):
    """What the question on the shared matrix asks about, and a loss of about ln V + 1/2 for words drawn at random."""
    torch.manual_seed(0)
    model = week["Transformer"](2000, 64, 4, 2, 2, 128).eval()
    source, target = torch.randint(4, 2000, (16, 8)), torch.randint(4, 2000, (16, 9))
    with torch.no_grad():
        logits = model(source, target)
    assert float((logits.argmax(dim=-1) == target[:, :-1]).double().mean()) > 0.95
    loss = F.cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten())
    assert 0.2 < float(loss) - math.log(2000) < 1.0


def test_solutions_follow_the_device_of_their_inputs(week: dict):
    """On the meta device, which computes shapes alone: a tensor made on the CPU on the way raises there."""
    with torch.device("meta"):
        model = week["Transformer"](11, 8, 2, 1, 1, 12)
        source, target = torch.ones(2, 5, dtype=torch.int64), torch.ones(2, 4, dtype=torch.int64)
    logits = model(source, target)
    assert logits.device.type == "meta" and logits.shape == (2, 3, 11)


# Drives

MODEL = [
    "positional_encoding",
    "LayerNorm.forward",
    "FeedForward.forward",
    "EncoderLayer.forward",
    "DecoderLayer.forward",
    "Transformer.forward",
]


@pytest.mark.parametrize("exercise", MODEL[1:])
def test_drives_of_the_model_return_finite_outputs_and_a_gradient_for_everything(week: dict, exercise: str):
    drive = drive_of(WEEK.name, exercise)
    for inputs in cases_of(WEEK, exercise):
        with Tripwire(WEEK.exercise(exercise).forbid) as tripwire:
            outputs = drive(Student(week), inputs)
        assert tripwire.hits == []
        assert all(isinstance(value, Tensor) and bool(value.isfinite().all()) for value in outputs.values())


def test_an_exercise_stands_or_falls_by_itself():
    """With the solution's part before it spoilt, each of the later exercises answers as it does with the part whole."""
    spoilt = {
        "LayerNorm.forward": ("torch.addcmul(self.bias, normal, self.weight)", "normal"),
        "FeedForward.forward": ("torch.relu", ""),
        "EncoderLayer.forward": ("if self.norm_first:", "if not self.norm_first:"),
        "DecoderLayer.forward": ("if self.norm_first:", "if not self.norm_first:"),
    }
    cells = {}
    for name, (find, replacement) in spoilt.items():
        assert find in WEEK.solution(name)
        cells[name] = WEEK.solution(name).replace(find, replacement)
    for exercise in MODEL[3:]:
        others = {name: cell for name, cell in cells.items() if name != exercise}
        right, found = Student(WEEK.namespace()), Student(WEEK.namespace(others))
        drive = drive_of(WEEK.name, exercise)
        for inputs in cases_of(WEEK, exercise):
            one, other = drive(right, inputs), drive(found, inputs)
            assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_gradients_of_a_layer_come_part_by_part(week: dict):
    inputs = cases_of(WEEK, "EncoderLayer.forward")[0]
    outputs = drives.encoderlayer_forward(Student(week), inputs)
    parts = ("x", "self_attn", "feed_forward", "norm1", "norm2")
    assert outputs.keys() == {"output", "output with everything dropped", *(f"the gradient of {p}" for p in parts)}
    d_ff, d_model = inputs["weights"]["feed_forward.linear1.weight"].shape
    assert outputs["the gradient of feed_forward"].shape == (2 * d_ff * d_model + d_ff + d_model,)


def test_a_part_that_is_left_out_has_a_gradient_of_zeros(week: dict):
    """And an output of the wrong shape has none at all, but is returned."""
    inputs = cases_of(WEEK, "EncoderLayer.forward")[0]

    class Lazy(week["EncoderLayer"]):
        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return self.norm1(x)[:, : self.steps]

    Lazy.steps = None
    outputs = drives.encoderlayer_forward(Student({"EncoderLayer": Lazy}), inputs)
    assert bool(outputs["the gradient of norm1"].any()) and outputs["the gradient of norm2"] is None
    Lazy.steps = 1
    outputs = drives.encoderlayer_forward(Student({"EncoderLayer": Lazy}), inputs)
    assert outputs["output"].shape[1] == 1 and outputs["the gradient of x"] is outputs["the gradient of norm1"] is None


def test_wire_is_tripped_by_torchs_norm(week: dict):
    class Ready(week["LayerNorm"]):
        def forward(self, x: Tensor) -> Tensor:
            return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)

    with Tripwire(WEEK.exercise("LayerNorm.forward").forbid) as tripwire:
        drives.layernorm_forward(Student({"LayerNorm": Ready}), cases_of(WEEK, "LayerNorm.forward")[0])
    assert "aten::layer_norm" in tripwire.hits


def test_wire_is_tripped_by_torchs_layers(week: dict):
    """They run their fast path at evaluation without gradients, and this is what the drive begins with."""

    class ReadyEncoder(week["EncoderLayer"]):
        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            twin = nn.TransformerEncoderLayer(
                x.size(-1), 2, self.feed_forward.linear1.out_features, 1.0, batch_first=True, norm_first=self.norm_first
            ).train(self.training)
            state = twin.state_dict()
            mine = self.state_dict()
            twin.load_state_dict({theirs: mine[name] for theirs, name in zip(state, ours(state), strict=True)})
            return twin(x, src_key_padding_mask=~mask[:, 0])

    class ReadyDecoder(week["DecoderLayer"]):
        def forward(self, x: Tensor, memory: Tensor, mask: Tensor, memory_mask: Tensor) -> Tensor:
            twin = nn.TransformerDecoderLayer(
                x.size(-1), 2, self.feed_forward.linear1.out_features, 1.0, batch_first=True, norm_first=self.norm_first
            ).train(self.training)
            return twin(x, memory, memory_key_padding_mask=~memory_mask[:, 0])

    for exercise, made in (("EncoderLayer.forward", ReadyEncoder), ("DecoderLayer.forward", ReadyDecoder)):
        name = exercise.split(".")[0]
        with Tripwire(WEEK.exercise(exercise).forbid) as tripwire:
            drive_of(WEEK.name, exercise)(Student({name: made}), cases_of(WEEK, exercise)[0])
        assert tripwire.hits


def test_drive_says_what_encode_should_return(week: dict):
    class Short(week["Transformer"]):
        def encode(self, source: Tensor) -> Tensor:
            return super().encode(source)[0]

    with pytest.raises(TypeError, match=r"Transformer.encode should return 2 values, \(memory, mask\)"):
        drives.transformer_forward(Student(week | {"Transformer": Short}), cases_of(WEEK, "Transformer.forward")[0])


def test_an_output_layer_of_ones_own_is_named_as_an_unexpected_parameter(week: dict):
    class Untied(week["Transformer"]):
        def __init__(self, vocab_size: int, d_model: int, *sizes: int, **options: Any):
            super().__init__(vocab_size, d_model, *sizes, **options)
            self.output = nn.Linear(d_model, vocab_size, bias=False)

    with pytest.raises(KeyError, match=r"unexpected \['output.weight'\]"):
        drives.transformer_forward(Student(week | {"Transformer": Untied}), cases_of(WEEK, "Transformer.forward")[0])


def test_sentences_of_the_cases_are_marked_and_padded(week: dict):
    for inputs in cases_of(WEEK, "Transformer.forward"):
        for rows, begins in ((inputs["source"], False), (inputs["target"], True)):
            for row in rows:
                length = int((row != PAD).sum())
                assert bool((row[length:] == PAD).all())
                assert length == 0 or row[length - 1] == END
                assert not begins or (row[0] == BEGIN and length > 1)
        model = set_weights(drives._transformer(Student(week), inputs), inputs["weights"])
        assert model(inputs["source"], inputs["target"]).shape == inputs["upstream"].shape


# -------------------------------------------------------------------------------------- loss, score and search
