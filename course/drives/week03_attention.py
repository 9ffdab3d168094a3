"""Week 3: how the exercises on attention are exercised.

Every function calls the student's code on one case and returns raw outputs. Gradients are taken under random upstream
gradients that come with the case.
"""

import torch
from torch import Tensor, nn

from course import scenes
from course.drives import Student, gradients_of, set_weights, several, tracked
from course.train import accuracy


def soft_lookup(student: Student, inputs: dict) -> dict:
    """{"answer": (D,), "weights": (N,)} and the gradients of query, keys and values."""
    names = ("query", "keys", "values")
    arguments = tracked(*(inputs[name] for name in names))
    result = student.soft_lookup(*arguments, inputs["temperature"])
    answer, weights = several(result, "soft_lookup", ("answer", "weights"))
    upstream = [inputs["upstream_answer"], inputs["upstream_weights"]]
    found = gradients_of([answer, weights], upstream, dict(zip(names, arguments, strict=True)))
    return {"answer": answer, "weights": weights} | found


def masked_softmax(student: Student, inputs: dict) -> dict:
    """{"weights": as scores} and the gradient of the scores."""
    (scores,) = tracked(inputs["scores"])
    weights = student.masked_softmax(scores, inputs["mask"])
    return {"weights": weights} | gradients_of([weights], [inputs["upstream"]], {"scores": scores})


def additive_attention(student: Student, inputs: dict) -> dict:
    """{"context": (B, F), "weights": (B, S)} and the gradients of everything but the mask."""
    names = ("query", "keys", "values", "w_q", "w_k", "v")
    query, keys, values, *weights_of_it = arguments = tracked(*(inputs[name] for name in names))
    result = student.additive_attention(query, keys, values, inputs["mask"], *weights_of_it)
    context, weights = several(result, "additive_attention", ("context", "weights"))
    upstream = [inputs["upstream_context"], inputs["upstream_weights"]]
    found = gradients_of([context, weights], upstream, dict(zip(names, arguments, strict=True)))
    return {"context": context, "weights": weights} | found


def scaled_dot_product_attention(student: Student, inputs: dict) -> dict:
    """{"output": (..., T, D), "weights": (..., T, S)} and the gradients of q, k and v. `mask` is None in some cases."""
    names = ("q", "k", "v")
    arguments = tracked(*(inputs[name] for name in names))
    masks = () if inputs["mask"] is None else (inputs["mask"],)
    result = student.scaled_dot_product_attention(*arguments, *masks)
    output, weights = several(result, "scaled_dot_product_attention", ("output", "weights"))
    upstream = [inputs["upstream_output"], inputs["upstream_weights"]]
    found = gradients_of([output, weights], upstream, dict(zip(names, arguments, strict=True)))
    return {"output": output, "weights": weights} | found


def causal_mask(student: Student, inputs: dict) -> dict:
    """{"mask": (T, S)}."""
    return {"mask": student.causal_mask(inputs["T"], inputs["S"])}


def padding_mask(student: Student, inputs: dict) -> dict:
    """{"mask": (B, 1, S)}."""
    return {"mask": student.padding_mask(inputs["lengths"], inputs["S"])}


def decoder_mask(student: Student, inputs: dict) -> dict:
    """{"mask": (B, T, T)}."""
    return {"mask": student.decoder_mask(inputs["lengths"], inputs["T"])}


def multiheadattention_forward(student: Student, inputs: dict) -> dict:
    """{"output": (B, T, D), "weights": (B, H, T, S)} and the gradients of query, key, value and every parameter."""
    weights = inputs["weights"]
    d_model = weights["out_proj.weight"].size(0)
    module = set_weights(student.MultiHeadAttention(d_model, inputs["num_heads"]), weights)
    names = ("query", "key", "value")
    arguments = tracked(*(inputs[name] for name in names))
    masks = () if inputs["mask"] is None else (inputs["mask"],)
    result = module(*arguments, *masks)
    output, attended = several(result, "MultiHeadAttention.forward", ("output", "weights"))
    leaves = dict(zip(names, arguments, strict=True)) | dict(module.named_parameters())
    found = gradients_of([output, attended], [inputs["upstream_output"], inputs["upstream_weights"]], leaves)
    return {"output": output, "weights": attended} | found


def attentiondecoder_step(student: Student, inputs: dict) -> dict:
    """{"logits": (B, V), "state": (B, H), "weights": (B, S)} and the gradients of state, memory and every parameter."""
    decoder = set_weights(_decoder(student, inputs["weights"]), inputs["weights"])
    state, memory = tracked(inputs["state"], inputs["memory"])
    result = decoder.step(inputs["tokens"], state, memory, inputs["mask"])
    outputs = several(result, "AttentionDecoder.step", ("logits", "state", "weights"))
    upstream = [inputs[f"upstream_{name}"] for name in ("logits", "state", "weights")]
    found = gradients_of(outputs, upstream, {"state": state, "memory": memory, **dict(decoder.named_parameters())})
    return dict(zip(("logits", "state", "weights"), outputs, strict=True)) | found


def _decoder(student: Student, weights: dict[str, Tensor]) -> nn.Module:
    vocab_size, d_embed = weights["embedding.weight"].shape
    d_attn, hidden_size = weights["w_q"].shape
    return student.AttentionDecoder(vocab_size, d_embed, hidden_size, weights["w_k"].size(1), d_attn)


def patchify(student: Student, inputs: dict) -> dict:
    """{"patches": (B, N, C P P)}."""
    return {"patches": student.patchify(inputs["images"], inputs["P"])}


def attention_rollout(student: Student, inputs: dict) -> dict:
    """{"rollout": (B, N, N)}."""
    return {"rollout": student.attention_rollout(inputs["weights"])}


# ------------------------------------------------------------------------------------------------ trained models


def pictures(student: Student, inputs: dict) -> dict:
    """The trained reader's {"logits": (B, 12)} on scenes with a question each: images (B, 3, 32, 32), questions (B, 6)."""
    weights = inputs["weights"]
    num_words, d_model = weights["word.weight"].shape
    sizes = weights["output.bias"].numel(), len(weights["position"]), weights["patch.0.weight"].size(1)
    layers = sum(name.endswith(".in_proj_bias") for name in weights)
    model = student.PictureReader(num_words, *sizes, d_model, layers)
    model = set_weights(model, weights).eval()
    with torch.no_grad():
        return {"logits": model(inputs["images"], inputs["questions"])[0]}


PUBLIC_SCENES, SCENES = 2014, 1000


def scenes_asked(seed: int) -> tuple[dict, Tensor]:
    """(inputs of the drive, answers (B,)) of 1,000 scenes."""
    images, questions, answers = scenes.draw(SCENES, torch.Generator().manual_seed(seed))
    return {"images": images, "questions": questions}, answers


def pictures_public() -> tuple[dict, Tensor]:
    """(inputs, answers (B,)) of the scenes that the check in the notebook draws."""
    return scenes_asked(PUBLIC_SCENES)


def score_pictures(inputs: dict, outputs: dict, key: Tensor) -> float:
    """Accuracy. Raises ValueError where the logits are not finite or not of shape (B, 12)."""
    logits = outputs["logits"]
    if logits.shape != (len(key), len(scenes.ANSWERS)) or not bool(logits.isfinite().all()):
        raise ValueError(f"logits of shape {tuple(logits.shape)}, or not finite")
    return accuracy(logits, key)
