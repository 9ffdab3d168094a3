"""Week 2: how the exercises on the LSTM and the GRU are exercised.

Every function calls the student's code on one case and returns raw outputs. Gradients are taken under a random upstream
gradient that comes with the case. Modules get the case's weights by their parameters' names, which are those of torch.nn.
"""

from typing import Any

import torch
from torch import Tensor, nn

from course.data import COARSE_TAGS, brown, encode_brown
from course.drives import Student, gradients_of, set_weights, several, tracked
from course.drives.week01_rnn import chars_public, score_chars, scored_part

__all__ = ["chars_public", "score_chars"]  # as in week 1: the same text is asked in the same way

WEIGHTS = ("w_ih", "w_hh", "b_ih", "b_hh")


def lstm_step(student: Student, inputs: dict) -> dict:
    """{"h_next": (B, H), "c_next": (B, H)} and the gradients of x, h, c and the four parameters."""
    names = ("x", "h", "c", *WEIGHTS)
    arguments = tracked(*(inputs[name] for name in names))
    h_next, c_next = several(student.lstm_step(*arguments), "lstm_step", ("h_next", "c_next"))
    upstream = [inputs["upstream_h"], inputs["upstream_c"]]
    named = dict(zip(names, arguments, strict=True))
    return {"h_next": h_next, "c_next": c_next} | gradients_of([h_next, c_next], upstream, named)


def gru_step(student: Student, inputs: dict) -> dict:
    """{"h_next": (B, H)} and the gradients of x, h and the four parameters."""
    names = ("x", "h", *WEIGHTS)
    arguments = tracked(*(inputs[name] for name in names))
    h_next = student.gru_step(*arguments)
    return {"h_next": h_next} | gradients_of([h_next], [inputs["upstream"]], dict(zip(names, arguments, strict=True)))


def lstm_forward(student: Student, inputs: dict) -> dict:
    """{"outputs": (B, T, D * H), "h_n": (L * D, B, H), "c_n": (L * D, B, H)} and the gradients of x and every parameter."""
    model = set_weights(student.LSTM(**inputs["sizes"]), inputs["weights"]).train(inputs["training"])
    (x,) = tracked(inputs["x"])
    outputs, finals = several(model(x, inputs["lengths"]), "LSTM.forward", ("outputs", "(h_n, c_n)"))
    h_n, c_n = several(finals, "LSTM.forward, second,", ("h_n", "c_n"))
    upstream = [inputs["upstream_outputs"], inputs["upstream_h_n"], inputs["upstream_c_n"]]
    found = {"outputs": outputs, "h_n": h_n, "c_n": c_n}
    return found | gradients_of([outputs, h_n, c_n], upstream, {"x": x} | dict(model.named_parameters()))


def init_lstm(student: Student, inputs: dict) -> dict:
    """{"w_hh": (4H, H), "b_ih": (4H,), "b_hh": (4H,)} as they are after the call."""
    parameters = {name: nn.Parameter(inputs[name].clone()) for name in ("w_hh", "b_ih", "b_hh")}
    student.init_lstm_(*parameters.values(), inputs["noise"])
    return {name: parameter.detach() for name, parameter in parameters.items()}


def measure_init_lstm(inputs: dict, outputs: dict) -> dict:
    """The weights, and the sum of the biases: how it is shared between the two is free."""
    return {"w_hh": outputs["w_hh"], "b_ih + b_hh": outputs["b_ih"] + outputs["b_hh"]}


def cell_gradient_path(student: Student, inputs: dict) -> dict:
    """{"path": (T, H)}."""
    return {"path": student.cell_gradient_path(inputs["forget"])}


def bucket_batches(student: Student, inputs: dict) -> dict:
    """Three lists of batches: for the draws, for other draws, and for the first draws again."""
    lengths, batch_size = inputs["lengths"], inputs["batch_size"]
    draws = {"batches": "draws", "for other draws": "other_draws", "for the same draws again": "draws"}
    return {
        name: list(student.bucket_batches(lengths, batch_size, inputs[which].clone())) for name, which in draws.items()
    }


def measure_bucket_batches(inputs: dict, outputs: dict) -> dict:
    """What is wrong with the batches: zeros, False and empty lists where they are as asked."""
    lengths, batch_size = inputs["lengths"].tolist(), inputs["batch_size"]
    batches, others, again = (
        [batch.tolist() if isinstance(batch, Tensor) else [int(i) for i in batch] for batch in outputs[name]]
        for name in ("batches", "for other draws", "for the same draws again")
    )
    used = [i for batch in batches for i in batch]
    positions = sum(len(batch) * max(lengths[i] for i in batch) for batch in batches if batch)
    padding = 1 - sum(lengths[i] for i in used) / positions if positions else 0.0
    longest = [max(lengths[i] for i in batch) for batch in batches if batch]
    several_lengths = len(set(longest)) > 2
    return {
        "indices left out": sorted(set(range(len(lengths))) - set(used)),
        "indices used again": len(used) - len(set(used)),
        "batches that are too large": sum(len(batch) > batch_size for batch in batches),
        "batches beyond the least number": len(batches) - -(-len(lengths) // batch_size),
        "padding beyond 15 %": max(0.0, padding - MOST_PADDING),
        "batches come by length": several_lengths and longest in (sorted(longest), sorted(longest, reverse=True)),
        "other draws change nothing": several_lengths and batches == others,
        "the same draws give other batches": batches != again,
    }


MOST_PADDING = 0.15  # the share of padding that bucket_batches may leave


def masked_pool(student: Student, inputs: dict) -> dict:
    """{"pooled": (B, H)} and the gradient of the outputs."""
    (outputs,) = tracked(inputs["outputs"])
    pooled = student.masked_pool(outputs, inputs["mask"], inputs["how"])
    return {"pooled": pooled} | gradients_of([pooled], [inputs["upstream"]], {"outputs": outputs})


def tagger_forward(student: Student, inputs: dict) -> dict:
    """{"logits": (B, T, C)} and the gradient of every parameter under an upstream that is zero at padding."""
    weights = inputs["weights"]
    model = set_weights(_tagger(student, weights), weights)
    logits = model(inputs["tokens"], inputs["lengths"])
    return {"logits": logits} | gradients_of([logits], [inputs["upstream"]], dict(model.named_parameters()))


def measure_tagger_forward(inputs: dict, outputs: dict) -> dict:
    """The logits with zeros at padding, where anything may stand, and the gradients."""
    logits, (batch, steps) = outputs["logits"], inputs["tokens"].shape
    if isinstance(logits, Tensor) and logits.dim() == 3 and logits.shape[:2] == (batch, steps):
        real = torch.arange(steps) < inputs["lengths"].unsqueeze(1)  # (B, T)
        logits = torch.where(real.unsqueeze(2), logits, 0.0)
    return {**outputs, "logits": logits}


def tagger_loss(student: Student, inputs: dict) -> dict:
    """{"loss": scalar} and the gradient of the logits."""
    (logits,) = tracked(inputs["logits"])
    loss = student.tagger_loss(logits, inputs["tags"], inputs["mask"])
    return {"loss": loss} | gradients_of([loss], [inputs["upstream"]], {"logits": logits})


# ------------------------------------------------------------------------------------------------ trained models


def _tagger(student: Student, weights: dict[str, Tensor]) -> nn.Module:
    vocab_size, d_embed = weights["embedding.weight"].shape
    num_tags, both = weights["output.weight"].shape
    return student.Tagger(vocab_size, num_tags, d_embed, both // 2)


def tags(student: Student, inputs: dict) -> dict:
    """The trained tagger's {"logits": (N, T, 12)} on the given sentences: tokens (N, T) int64, lengths (N,)."""
    weights = inputs["weights"]
    model = set_weights(_tagger(student, weights), weights).eval()
    with torch.no_grad():
        return {"logits": model(inputs["tokens"], inputs["lengths"])}


def chars(student: Student, inputs: dict) -> dict:
    """The trained language model's logits, as in week 1's drive of this name."""
    weights = inputs["weights"]
    vocab_size, d_embed = weights["embedding.weight"].shape
    hidden_size = weights["lstm.weight_hh_l0"].size(1)
    model = set_weights(student.CharLSTM(vocab_size, d_embed, hidden_size), weights).eval()
    with torch.no_grad():
        logits, changed = (model(inputs[name]) for name in ("tokens", "changed"))
    return {"logits": scored_part(logits), "logits on changed": scored_part(changed)}


EVERY_SENTENCE, LONGEST = 8, 60  # one sentence in so many is asked for, and its first words


def tag_questions(rows: Any) -> tuple[dict, Tensor]:
    """(inputs, tags (N, T) with -1 at padding): every eighth sentence of rows of Brown, of each the first 60 words."""
    tokens, lengths, tags = encode_brown(rows.select(range(0, len(rows), EVERY_SENTENCE)), longest=LONGEST)
    real = torch.arange(tags.size(1)) < lengths.unsqueeze(1)  # (N, T)
    return {"tokens": tokens, "lengths": lengths}, tags.masked_fill(~real, -1)


def tags_public() -> tuple[dict, Tensor]:
    """(inputs, tags) of the validation documents."""
    return tag_questions(brown()["validation"])


def score_tags(inputs: dict, outputs: dict, key: Tensor) -> float:
    """The share of tokens whose tag is right. Raises ValueError where the logits are not finite or not of shape (N, T, 12)."""
    logits, real = outputs["logits"], key >= 0
    if logits.shape != (*key.shape, len(COARSE_TAGS)) or not bool(logits.isfinite().all()):
        raise ValueError(f"logits of shape {tuple(logits.shape)}, or not finite")
    return float((logits.argmax(dim=-1) == key)[real].double().mean())
