"""Week 7: how the exercises on compression are exercised.

Every function calls the student's code on one case and returns raw outputs. Dicts of tensors come as lists of [name, tensor],
since their order matters. Models are made here, of the case's weights.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course.data import libreoffice
from course.drives import Student, gradients_of, set_weights, several, tracked
from course.drives.week04_transformer import EVERY, pairs_asked, score_translation

# ---------------------------------------------------------------------------------------------------- eight bits


def quantize(student: Student, inputs: dict) -> dict:
    """{"q": int8, "scale", "zero_point": int32}."""
    found = student.quantize(inputs["x"].clone(), inputs["scheme"], inputs["axis"])
    q, scale, zero_point = several(found, "quantize", ("q", "scale", "zero_point"))
    return {"q": q, "scale": scale, "zero_point": zero_point}


def dequantize(student: Student, inputs: dict) -> dict:
    """{"x": of q's shape}."""
    q, scale, zero_point = (inputs[name].clone() for name in ("q", "scale", "zero_point"))
    return {"x": student.dequantize(q, scale, zero_point, inputs["axis"])}


def int8_linear(student: Student, inputs: dict) -> dict:
    """{"y": (..., out)}."""
    bias = inputs["bias"]
    arguments = (inputs["x"].clone(), inputs["weight"].clone(), inputs["scale"].clone())
    return {"y": student.int8_linear(*arguments, None if bias is None else bias.clone())}


class _Reader(nn.Module):
    """Embeddings, layers of two linear layers and a norm, and an output that may be tied to the embedding; never called."""

    def __init__(self, vocab_size: int, width: int, layers: int, tied: bool):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width)
        self.register_buffer("positions", torch.zeros(3, width))
        self.layers = nn.ModuleList(
            nn.ModuleDict(
                {
                    "inner": nn.Sequential(nn.Linear(width, 2 * width, bias=False), nn.ReLU()),
                    "output": nn.Linear(2 * width, width),
                    "norm": nn.LayerNorm(width),
                }
            )
            for _ in range(layers)
        )
        self.output = nn.Linear(width, vocab_size, bias=not tied)
        if tied:
            self.output.weight = self.embedding.weight


def quantize_model(student: Student, inputs: dict) -> dict:
    """{"report", "types": module -> its type's name, "state": every tensor of the model afterwards}; always in float32."""
    model = set_weights(_Reader(*inputs["sizes"], inputs["tied"]), inputs["weights"]).float()
    report = student.quantize_model(model, list(inputs["keep"]))
    types = {name: type(module).__name__ for name, module in model.named_modules() if name}
    return {"report": report, "types": types, "state": dict(model.state_dict())}


# -------------------------------------------------------------------------------------------------- distillation


def distillation_loss(student: Student, inputs: dict) -> dict:
    """{"loss": ()} and the gradients of both logits."""
    mine, theirs = tracked(inputs["student"], inputs["teacher"])
    loss = student.distillation_loss(mine, theirs, inputs["targets"], inputs["temperature"], inputs["alpha"])
    found = gradients_of([loss], [inputs["upstream"]], {"student_logits": mine, "teacher_logits": theirs})
    return {"loss": loss} | found


def match_hidden(student: Student, inputs: dict) -> dict:
    """{"loss": ()} and the gradients of every layer of both, and of the projections."""
    named = {}
    for name in ("student", "teacher", "projections"):
        named |= {f"{name}[{i}]": tensor for i, tensor in enumerate(tracked(*inputs[name]))}
    mine, theirs, projections = (
        [tensor for key, tensor in named.items() if key.startswith(name)]
        for name in ("student", "teacher", "projections")
    )
    loss = student.match_hidden(mine, theirs, projections, inputs["mask"])
    return {"loss": loss} | gradients_of([loss], [inputs["upstream"]], named)


# ------------------------------------------------------------------------------------------------------- pruning


def head_importance(student: Student, inputs: dict) -> dict:
    """{"importance": (L, H), "recorded": whether it has a graph, "the gradient that was there": of the model's weight}.

    The model adds up gated heads that come with each example, layer by layer, and tells a class.
    """
    output, before = inputs["output"].clone().requires_grad_(), inputs["before"]
    output.grad = before.clone()

    def loss_of(example: dict, gates: Tensor) -> Tensor:
        x = torch.zeros(example["heads"].size(-1), dtype=output.dtype)
        for layer, heads in enumerate(example["heads"]):  # (H, D)
            x = x + torch.tanh((gates[layer].unsqueeze(1) * heads).sum(dim=0) + 0.5 * x.roll(1))
        return F.cross_entropy(output @ x, torch.tensor(example["target"]))

    _, num_layers, num_heads, _ = inputs["heads"].shape
    examples = [
        {"heads": heads, "target": target} for heads, target in zip(inputs["heads"], inputs["targets"], strict=True)
    ]
    importance = student.head_importance(loss_of, examples, num_layers, num_heads)
    recorded = bool(getattr(importance, "requires_grad", False))
    return {"importance": importance, "recorded": recorded, "the gradient that was there": output.grad}


def prune_heads(student: Student, inputs: dict) -> dict:
    """{"raised", "sizes", "weights": the parameters afterwards, "y": (B, T, D), or in words why there is none}."""
    attention = student.Attention(*inputs["sizes"])
    attention = set_weights(attention, inputs["weights"])
    raised = False
    try:
        student.prune_heads(attention, list(inputs["heads"]))
    except ValueError:
        raised = True
    layers = {name: getattr(attention, name) for name in ("q_proj", "k_proj", "v_proj", "out_proj")}
    sizes = {name: [layer.in_features, layer.out_features] for name, layer in layers.items()}
    sizes |= {"num_heads": attention.num_heads, "head_width": attention.head_width}
    y: Tensor | str = "not computed"
    if not raised:
        try:
            with torch.no_grad():
                y = attention(inputs["x"], inputs["mask"])
        except RuntimeError:  # what does not fit is seen in the sizes and weights
            y = "its parts do not fit"
    return {"raised": raised, "sizes": sizes, "weights": dict(attention.named_parameters()), "y": y}


def magnitude_prune(student: Student, inputs: dict) -> dict:
    """{"masks": [[name, bool tensor], ...], "weights": they, afterwards}."""
    weights = {name: weight.clone().requires_grad_() for name, weight in inputs["weights"]}
    masks = student.magnitude_prune(weights, inputs["sparsity"])
    return {"masks": [[name, mask] for name, mask in masks.items()], "weights": list(weights.values())}


def pareto_front(student: Student, inputs: dict) -> dict:
    """{"indices": a list}."""
    return {"indices": student.pareto_front(inputs["points"].clone())}


# ------------------------------------------------------------------------------------------------------- further


def fake_quantize(student: Student, inputs: dict) -> dict:
    """{"y": x's shape} and the gradients of x and of the scale."""
    x, scale = tracked(inputs["x"], inputs["scale"])
    y = student.fake_quantize(x, scale)
    return {"y": y} | gradients_of([y], [inputs["upstream"]], {"x": x, "scale": scale})


def cubic_sparsity(student: Student, inputs: dict) -> dict:
    """{"sparsity": a float for each of the steps}."""
    curve = (inputs["begin"], inputs["end"], inputs["final"], inputs["initial"])
    return {"sparsity": [float(student.cubic_sparsity(step, *curve)) for step in inputs["steps"]]}


def sparse_step(student: Student, inputs: dict) -> dict:
    """{"weight", "velocity", "given": the arguments afterwards}."""
    given = [inputs[name].clone() for name in ("weight", "gradient", "velocity", "mask")]
    found = student.sparse_step(*given, inputs["lr"], inputs["momentum"])
    weight, velocity = several(found, "sparse_step", ("weight", "velocity"))
    return {"weight": weight, "velocity": velocity, "given": given}


# ------------------------------------------------------------------------------------------------ trained models


def small_translator(student: Student, inputs: dict) -> dict:
    """The small translator's logits on pairs and on some of these with other endings, as in week 4's drive `translation`.

    The student's `unpacked` makes the model of what was saved: matrices in int8, with a scale for each row.
    """
    model = student.unpacked(inputs["weights"]).eval()
    target, changed = inputs["target"], inputs["changed"]
    with torch.no_grad():
        logits = model(inputs["source"], target)[target[:, 1:] != 0]
        others = model(inputs["source"][::EVERY], changed)[changed[:, 1:] != 0]
    return {"logits": logits, "logits on changed": others}


def small_translator_public() -> tuple[dict, dict]:
    """(inputs, key) of the validation pages."""
    return pairs_asked(libreoffice()["validation"])


score_small_translator = score_translation
