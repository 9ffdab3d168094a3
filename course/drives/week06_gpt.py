"""Week 6: how the exercises on GPT are exercised.

Every function calls the student's code on one case and returns raw outputs. Gradients are taken under random upstream
gradients that come with the case. Pieces of text come as lists of bytes, merges as lists of pairs.
"""

from typing import Any

import torch
from torch import Tensor, nn

from course.drives import Student, by_part, gradients_of, set_weights, several, tracked
from course.drives.week01_rnn import chars_public, score_chars, scored_part

__all__ = ["chars_public", "score_chars"]  # as in week 1: the same text is asked in the same way

# ------------------------------------------------------------------------------------------------ pairs of bytes


def _merges(inputs: dict) -> list[tuple[int, int]]:
    return [(left, right) for left, right in inputs["merges"]]


def bpe_train(student: Student, inputs: dict) -> dict:
    """{"merges": [[left, right], ...]}."""
    counts = {bytes(piece): count for piece, count in zip(inputs["pieces"], inputs["counts"], strict=True)}
    merges = student.bpe_train(counts, inputs["num_merges"])
    return {"merges": [list(pair) for pair in merges]}


def bpe_encode(student: Student, inputs: dict) -> dict:
    """{"tokens": the list of tokens of each piece}."""
    return {"tokens": [student.bpe_encode(bytes(piece), _merges(inputs)) for piece in inputs["pieces"]]}


def bpe_decode(student: Student, inputs: dict) -> dict:
    """{"data": the bytes, as a list of numbers}; what is not bytes stays as it is."""
    data = student.bpe_decode(list(inputs["tokens"]), _merges(inputs))
    return {"data": list(data) if isinstance(data, bytes) else data}


# ----------------------------------------------------------------------------------------------------- the model


def _cache_of(inputs: dict) -> tuple[tuple[Tensor, Tensor], ...]:
    """The case's cache as the one argument that follows x; none where there is no cache."""
    cache = inputs["cache"]
    return () if cache is None else ((cache["k"].clone(), cache["v"].clone()),)


def causalselfattention_forward(student: Student, inputs: dict) -> dict:
    """{"output": (B, T, D), "keys": (B, H, S, K), "values": as keys} and the gradients of x and every parameter."""
    weights = inputs["weights"]
    module = student.CausalSelfAttention(weights["c_proj.weight"].size(0), inputs["num_heads"])
    module = set_weights(module, weights)
    (x,) = tracked(inputs["x"])
    output, cache = several(module(x, *_cache_of(inputs)), "CausalSelfAttention.forward", ("output", "cache"))
    keys, values = several(cache, "The cache of CausalSelfAttention.forward", ("k", "v"))
    found = gradients_of([output], [inputs["upstream"]], {"x": x, **dict(module.named_parameters())})
    return {"output": output, "keys": keys, "values": values} | found


# An exercise stands or falls by itself: what a module is made of by earlier exercises is put in place here.


class _Mean(nn.Module):
    """In place of an attention: a layer, then the mean over all positions up to each; with a cache of the same form."""

    def __init__(self, d_model: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.layer = nn.Linear(d_model, d_model)

    def forward(self, x: Tensor, cache: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        v = self.layer(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, H, T, K)
        if cache is not None:
            v = torch.cat([cache[1], v], dim=2)
        means = v.cumsum(dim=2) / torch.arange(1, v.size(2) + 1, device=x.device).unsqueeze(1)
        return means[:, :, -x.size(1) :].transpose(1, 2).flatten(-2), (2 * v, v)


def block_forward(student: Student, inputs: dict) -> dict:
    """{"x": (B, T, D), "keys", "values"} and the gradients of x and of each part."""
    weights = inputs["weights"]
    d_model = weights["ln_1.weight"].numel()
    block = student.Block(d_model, inputs["num_heads"])
    block.attn = _Mean(d_model, inputs["num_heads"])
    block = set_weights(block, weights)
    (x,) = tracked(inputs["x"])
    output, cache = several(block(x, *_cache_of(inputs)), "Block.forward", ("x", "cache"))
    keys, values = several(cache, "The cache of Block.forward", ("k", "v"))
    found = gradients_of([output], [inputs["upstream"]], {"x": x, **dict(block.named_parameters())})
    return {"x": output, "keys": keys, "values": values} | by_part(found, block)


class _MeanBlock(nn.Module):
    """In place of a block: x and the mean of what came before."""

    def __init__(self, d_model: int, num_heads: int):
        super().__init__()
        self.attn = _Mean(d_model, num_heads)

    def forward(self, x: Tensor, cache: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        found, cache = self.attn(x, cache)
        return x + found, cache


def gpt_forward(student: Student, inputs: dict) -> dict:
    """{"logits": (B, T, V), "cache": the keys of each block} of the whole, and of the rest after a first part was read; the
    gradients of each part, of the whole."""
    weights, heads, layers = inputs["weights"], inputs["num_heads"], inputs["num_layers"]
    (vocab_size, d_model), context = weights["wte.weight"].shape, len(weights["wpe.weight"])
    model = student.GPT(vocab_size, context, d_model, heads, layers)
    model.h = nn.ModuleList(_MeanBlock(d_model, heads) for _ in range(layers))
    model = set_weights(model, weights)
    if inputs["cache"] is None:
        logits, cache = several(model(inputs["tokens"]), "GPT.forward", ("logits", "cache"))
    else:
        before = [(k.clone(), v.clone()) for k, v in inputs["cache"]]
        logits, cache = several(model(inputs["tokens"], before), "GPT.forward", ("logits", "cache"))
    kept = [list(several(pair, "The cache of a block", ("k", "v"))) for pair in cache]
    found = gradients_of([logits], [inputs["upstream"]], dict(model.named_parameters()))
    return {"logits": logits, "cache": kept} | by_part(found, model)


def init_weights(student: Student, inputs: dict) -> dict:
    """{name: the parameter afterwards}; before, every parameter is 7."""
    model = student.GPT(*inputs["sizes"])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7.0)
    model = model.to(next(iter(inputs["draws"].values())).dtype)
    student.init_weights_(model, inputs["draws"])
    return dict(model.named_parameters())


# -------------------------------------------------------------------------------------------------------- text


def lm_loss(student: Student, inputs: dict) -> dict:
    """{"loss": ()} and the gradient of the logits."""
    (logits,) = tracked(inputs["logits"])
    loss = student.lm_loss(logits, inputs["tokens"])
    return {"loss": loss} | gradients_of([loss], [inputs["upstream"]], {"logits": logits})


def top_k_top_p(student: Student, inputs: dict) -> dict:
    """{"probs": (B, V)}."""
    return {"probs": student.top_k_top_p(inputs["logits"].clone(), inputs["temperature"], inputs["k"], inputs["p"])}


class Reader:
    """In place of a model: a sum of vectors of all tokens, older ones weighing less; its cache is that sum.

    `read` notes how many tokens it was given at each call.
    """

    def __init__(self, embedding: Tensor, output: Tensor):
        self.embedding, self.output = embedding, output
        self.read: list[int] = []

    def __call__(self, tokens: Tensor, cache: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self.read.append(tokens.size(1))
        state = torch.zeros_like(self.embedding[tokens[:, 0]]) if cache is None else cache
        states = []
        for new in tokens.unbind(dim=1):
            state = 0.6 * state + self.embedding[new]
            states.append(state)
        return torch.stack(states, dim=1) @ self.output.T, state


def generate(student: Student, inputs: dict) -> dict:
    """{"tokens": (B, T + N), "read": the number of tokens that the model was given, call by call}."""
    model = Reader(inputs["embedding"], inputs["output"])
    setting = {name: inputs[name] for name in ("temperature", "k", "p")}
    tokens = student.generate(model, inputs["tokens"].clone(), inputs["uniforms"], **setting)
    return {"tokens": tokens, "read": model.read}


# ------------------------------------------------------------------------------------------- arithmetic of size


def _counted(inputs: dict) -> nn.Module:
    """A small model of the case's sizes: embeddings, positions, layers, a norm with buffers, and an output."""
    vocab_size, context, width, layers = inputs["sizes"]
    model = nn.ModuleDict({"wte": nn.Embedding(vocab_size, width)})
    if context:
        model["wpe"] = nn.Embedding(context, width)
    model["layers"] = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
    model["norm"] = nn.BatchNorm1d(width)
    if inputs["output"] != "none":
        model["head"] = nn.Linear(width, vocab_size, bias=False)
    if inputs["output"] == "tied":
        model["head"].weight = model["wte"].weight
    if inputs["frozen"]:
        model["layers"][0].requires_grad_(False)
    return model


def count_parameters(student: Student, inputs: dict) -> dict:
    """{"every", "without embeddings"}: two numbers."""
    counted = _counted(inputs)
    every = student.count_parameters(counted)
    return {"every": every, "without embeddings": student.count_parameters(counted, embeddings=False)}


def training_flops(student: Student, inputs: dict) -> dict:
    """{"flops": a float}."""
    flops = student.training_flops(_counted(inputs), inputs["num_tokens"])
    return {"flops": float(flops) if isinstance(flops, int) else flops}


def fit_scaling_law(student: Student, inputs: dict) -> dict:
    """{"a", "alpha"}: two floats."""
    a, alpha = several(student.fit_scaling_law(inputs["compute"], inputs["loss"]), "fit_scaling_law", ("a", "alpha"))
    return {"a": _number(a), "alpha": _number(alpha)}


def _number(value: Any) -> Any:
    """A tensor or NumPy's number of a single value as a float; anything else as it is."""
    single = getattr(value, "ndim", None) == 0 and callable(getattr(value, "item", None))
    return value.item() if single else value


# ------------------------------------------------------------------------------------------------------ further


def accumulate_gradients(student: Student, inputs: dict) -> dict:
    """{"loss": (), "calls": what happened in which order, "recorded": whether the loss has a graph still} and the gradients.

    The model is a table of logits for the next token, and a scale; both have gradients before.
    """
    weight, scale = (inputs[name].clone().requires_grad_() for name in ("weight", "scale"))
    weight.grad, scale.grad = inputs["weight_before"].clone(), inputs["scale_before"].clone()
    calls: list[str] = []

    def loss_of(rows: Tensor) -> Tensor:
        calls.append(f"{len(rows)} rows read")
        scores = weight[rows[:, :-1]] * scale
        loss = nn.functional.cross_entropy(scores.flatten(0, 1), rows[:, 1:].flatten())
        loss.register_hook(lambda gradient: calls.append("backward"))
        return loss

    loss = student.accumulate_gradients(loss_of, inputs["tokens"], inputs["size"])
    recorded = bool(getattr(loss, "requires_grad", False))
    return {
        "loss": loss,
        "calls": calls,
        "recorded": recorded,
        "the gradient of weight": weight.grad,
        "the gradient of scale": scale.grad,
    }


def induction_score(student: Student, inputs: dict) -> dict:
    """{"score": (...)}."""
    return {"score": student.induction_score(inputs["weights"], inputs["tokens"])}


def rouge_l(student: Student, inputs: dict) -> dict:
    """{"score": a float}."""
    return {"score": student.rouge_l(list(inputs["candidate"]), list(inputs["reference"]))}


# ------------------------------------------------------------------------------------------------ trained models


def _read(model: nn.Module, tokens: Tensor, context: int) -> Tensor:
    """Logits (N, T, V) of a model that sees `context` tokens at most, each after the first context from half of it or more."""
    logits, done = [], 0
    last = max(tokens.size(1) - context, 0)
    for start in (*range(0, last, max(context // 2, 1)), last):
        found, _ = model(tokens[:, start : start + context])
        logits.append(found[:, done - start :])
        done = start + found.size(1)
    return torch.cat(logits, dim=1)


def chars(student: Student, inputs: dict) -> dict:
    """The trained language model's logits, as in week 1's drive of this name."""
    weights = inputs["weights"]
    (vocab_size, d_model), context = weights["wte.weight"].shape, len(weights["wpe.weight"])
    layers = len({name.split(".")[1] for name in weights if name.startswith("h.")})
    model = student.GPT(vocab_size, context, d_model, inputs["figures"]["num_heads"], layers)
    model = set_weights(model, weights).eval()
    with torch.no_grad():
        logits, changed = (_read(model, inputs[name], context) for name in ("tokens", "changed"))
    return {"logits": scored_part(logits), "logits on changed": scored_part(changed)}
