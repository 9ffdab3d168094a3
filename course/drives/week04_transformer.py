"""Week 4: how the exercises on the transformer are exercised.

Every function calls the student's code on one case and returns raw outputs. Gradients are taken under random upstream
gradients that come with the case.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from course.data import encode_pairs, libreoffice
from course.drives import Student, by_part, gradients_of, set_weights, several, tracked
from course.train import padded

# ----------------------------------------------------------------------------------------------------- the model


def positional_encoding(student: Student, inputs: dict) -> dict:
    """{"encoding": (T, D)}."""
    return {"encoding": student.positional_encoding(inputs["length"], inputs["d_model"])}


def layernorm_forward(student: Student, inputs: dict) -> dict:
    """{"output": as x} and the gradients of x, weight and bias."""
    weights = inputs["weights"]
    layer = set_weights(student.LayerNorm(weights["weight"].numel(), inputs["eps"]), weights)
    (x,) = tracked(inputs["x"])
    output = layer(x)
    return {"output": output} | gradients_of([output], [inputs["upstream"]], {"x": x, **dict(layer.named_parameters())})


def feedforward_forward(student: Student, inputs: dict) -> dict:
    """{"output": as x} and the gradients of x and every parameter."""
    weights = inputs["weights"]
    d_ff, d_model = weights["linear1.weight"].shape
    layer = set_weights(student.FeedForward(d_model, d_ff), weights)
    (x,) = tracked(inputs["x"])
    output = layer(x)
    return {"output": output} | gradients_of([output], [inputs["upstream"]], {"x": x, **dict(layer.named_parameters())})


# An exercise stands or falls by itself: what a module is made of by earlier exercises is put in place here, of PyTorch's parts
# with the same parameter names. A wrong norm costs the norm's points and no others.


def encoderlayer_forward(student: Student, inputs: dict) -> dict:
    """{"output": (B, S, D)} at evaluation, the output in training where dropout leaves nothing, and gradients."""
    layer = _layer(student.EncoderLayer, inputs, ("norm1", "norm2"))
    return _exercised(layer, {"x": inputs["x"]}, [inputs["mask"]], inputs["upstream"])


def decoderlayer_forward(student: Student, inputs: dict) -> dict:
    """{"output": (B, T, D)} at evaluation, the output in training where dropout leaves nothing, and gradients."""
    layer = _layer(student.DecoderLayer, inputs, ("norm1", "norm2", "norm3"))
    masks = [inputs["mask"], inputs["memory_mask"]]
    return _exercised(layer, {"x": inputs["x"], "memory": inputs["memory"]}, masks, inputs["upstream"])


def _layer(make: Callable[..., nn.Module], inputs: dict, norms: Sequence[str]) -> nn.Module:
    """A layer of the case's sizes with the case's weights, in which dropout drops everything; norms and network are torch's."""
    weights = inputs["weights"]
    d_ff, d_model = weights["feed_forward.linear1.weight"].shape
    layer = make(d_model, inputs["num_heads"], d_ff, 1.0, inputs["norm_first"])
    for norm in norms:
        setattr(layer, norm, nn.LayerNorm(d_model))
    parts = {"linear1": nn.Linear(d_model, d_ff), "relu": nn.ReLU(), "linear2": nn.Linear(d_ff, d_model)}
    layer.feed_forward = nn.Sequential(OrderedDict(parts))
    return set_weights(layer, weights)


def _exercised(layer: nn.Module, given: dict[str, Tensor], masks: list[Tensor], upstream: Tensor) -> dict:
    """The layer's outputs, and the gradients of what it is given and of each of its parts."""
    with torch.no_grad():
        layer.eval()(*given.values(), *masks)  # where PyTorch's own layers take the path that the wire sees
    arguments = dict(zip(given, tracked(*given.values()), strict=True))
    output = layer(*arguments.values(), *masks)
    found = gradients_of([output], [upstream], arguments | dict(layer.named_parameters()))
    with torch.no_grad():
        dropped = layer.train()(*given.values(), *masks)
    return {"output": output, "output with everything dropped": dropped} | by_part(found, layer)


def transformer_forward(student: Student, inputs: dict) -> dict:
    """What `embed`, `encode`, `decode` and `forward` give at evaluation, the logits in training where dropout leaves
    nothing, and the gradient of the embedding, which everything goes through."""
    model = _transformer(student, inputs)
    source, target = inputs["source"], inputs["target"]
    model.eval()
    with torch.no_grad():
        embedded = model.embed(source)
        memory, mask = several(model.encode(source), "Transformer.encode", ("memory", "mask"))
        decoded = model.decode(target, inputs["memory"], inputs["memory_mask"])
    logits = model(source, target)
    found = gradients_of([logits], [inputs["upstream"]], {"embedding.weight": model.embedding.weight})
    with torch.no_grad():
        dropped = model.train()(source, target)
    return {
        "embedded source": embedded,
        "memory": memory,
        "mask of the memory": mask,
        "logits of decode": decoded,
        "logits": logits,
        "logits with everything dropped": dropped,
    } | found


class _Reader(nn.Module):
    """In place of an encoder's layer: its attention alone."""

    def __init__(self, attention: nn.Module):
        super().__init__()
        self.self_attn = attention

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return x + self.self_attn(x, x, mask)


class _Writer(nn.Module):
    """In place of a decoder's layer: its two attentions alone."""

    def __init__(self, attention: nn.Module, attention_to_memory: nn.Module):
        super().__init__()
        self.self_attn, self.cross_attn = attention, attention_to_memory

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor, memory_mask: Tensor) -> Tensor:
        return x + self.self_attn(x, x, mask) + self.cross_attn(x, memory, memory_mask)


def _transformer(student: Student, inputs: dict) -> nn.Module:
    """A model of the case's sizes with the case's weights, in which dropout drops everything; layers are mere attention."""
    weights, num_heads = inputs["weights"], inputs["num_heads"]
    vocab_size, d_model = weights["embedding.weight"].shape
    model = student.Transformer(vocab_size, d_model, num_heads, 0, 0, d_model, 1.0, inputs["norm_first"])

    def attention() -> nn.Module:
        return student.MultiHeadAttention(d_model, num_heads)

    model.encoder = nn.ModuleList(_Reader(attention()) for _ in range(inputs["num_encoder_layers"]))
    model.decoder = nn.ModuleList(_Writer(attention(), attention()) for _ in range(inputs["num_decoder_layers"]))
    if inputs["norm_first"]:
        model.encoder_norm, model.decoder_norm = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
    return set_weights(model, weights)


# -------------------------------------------------------------------------------------- loss, score and search


def label_smoothing_loss(student: Student, inputs: dict) -> dict:
    """{"loss": scalar} and the gradient of the logits."""
    (logits,) = tracked(inputs["logits"])
    loss = student.label_smoothing_loss(logits, inputs["target"], inputs["eps"])
    return {"loss": loss} | gradients_of([loss], [inputs["upstream"]], {"logits": logits})


def corpus_bleu(student: Student, inputs: dict) -> dict:
    """{"bleu": number}."""
    return {"bleu": student.corpus_bleu(inputs["hypotheses"], inputs["references"])}


def measure_corpus_bleu(inputs: dict, outputs: dict) -> dict:
    """The number as a float: a score of 0 may be written without a point."""
    bleu = outputs["bleu"]
    return {"bleu": float(bleu) if type(bleu) is int else bleu}


class CaseTranslator:
    """The `next_log_probs` of a case, for searches to be tried on whatever else is solved.

    What comes next depends on the whole prefix: a state moves on with each token, BEGIN included, and each state has its
    own log-probabilities. `moves` (M, V) int64 says to which state a token leads, `table` (M, V) what the next token is worth;
    `start` (B,) is the state in front of BEGIN, one a row, or a single one for any number of rows.
    """

    def __init__(self, moves: Tensor, table: Tensor, start: Tensor):
        self.moves, self.table, self.start = moves, table, start

    def __call__(self, prefixes: Tensor) -> Tensor:
        """prefixes (N, T) int64. Returns (N, V), of the token after each. Raises ValueError for other shapes and rows."""
        if prefixes.dim() != 2:
            raise ValueError(
                f"next_log_probs takes prefixes (N, T); it was given a tensor of shape {tuple(prefixes.shape)}"
            )
        rows, known = len(prefixes), len(self.start)
        if known not in (1, rows):
            raise ValueError(f"next_log_probs takes one prefix for each of the {known} rows; it was given {rows}")
        state = self.start.expand(rows)
        for tokens in prefixes.T:
            state = self.moves[state, tokens]
        return self.table[state]


def greedy_decode(student: Student, inputs: dict) -> dict:
    """{"tokens": (B, T)}."""
    translator = CaseTranslator(inputs["moves"], inputs["table"], inputs["starts"])
    return {"tokens": student.greedy_decode(translator, len(inputs["starts"]), inputs["longest"])}


def beam_search(student: Student, inputs: dict) -> dict:
    """{"tokens": a list for each sentence, "scores": a number for each}. `alpha` is None in some cases: left to its default."""
    given = () if inputs["alpha"] is None else (inputs["alpha"],)
    found = []
    for start in inputs["starts"].split(1):
        translator = CaseTranslator(inputs["moves"], inputs["table"], start)
        result = student.beam_search(translator, inputs["width"], inputs["longest"], *given)
        found.append(several(result, "beam_search", ("tokens", "score")))
    return {"tokens": [tokens for tokens, _ in found], "scores": [score for _, score in found]}


def measure_beam_search(inputs: dict, outputs: dict) -> dict:
    """The tokens of each sentence as a tensor, and the scores as one: a list and a tensor of whole numbers are alike."""
    tokens = [torch.as_tensor(one, dtype=torch.int64) for one in outputs["tokens"]]
    return {
        "tokens": tokens,
        "scores": torch.stack([torch.as_tensor(s, dtype=torch.float64) for s in outputs["scores"]]),
    }


def token_batches(student: Student, inputs: dict) -> dict:
    """{"batches": list of lists of indices}."""
    return {"batches": list(student.token_batches(list(inputs["lengths"]), inputs["max_tokens"]))}


MOST_PADDING = 0.15  # the share of padding that token_batches may leave


def measure_token_batches(inputs: dict, outputs: dict) -> dict:
    """What is wrong with the batches: zeros and empty lists where they are as asked. `fewest` comes with the case."""
    lengths, most = inputs["lengths"], inputs["max_tokens"]
    batches = [[int(i) for i in batch] for batch in outputs["batches"]]
    used = [i for batch in batches for i in batch]
    known = [[lengths[i] for i in batch if 0 <= i < len(lengths)] for batch in batches]
    positions = [len(batch) * max(batch, default=0) for batch in known]
    padding = 1 - sum(sum(batch) for batch in known) / max(sum(positions), 1)
    return {
        "indices left out": sorted(set(range(len(lengths))) - set(used)),
        "indices that do not exist": sorted(i for i in set(used) if not 0 <= i < len(lengths)),
        "indices used again": len(used) - len(set(used)),
        "empty batches": sum(not batch for batch in batches),
        "batches beyond max_tokens": sum(size > most for size in positions),
        "batches beyond the least number": max(0, len(batches) - inputs["fewest"]),
        "padding beyond 15 %": max(0.0, padding - MOST_PADDING),
    }


# ------------------------------------------------------------------------------------------------ trained models


def translation(student: Student, inputs: dict) -> dict:
    """The trained translator's logits on pairs, and on some of these with other endings.

    `source` (N, S) and `target` (N, T) are int64, padded with 0; each row of `changed` (N/5, T) agrees with every fifth target
    up to some position. What comes before the change must not depend on it: whoever scores these outputs judges that from
    {"logits": (M, V), "logits on changed": (M', V)}, those that predict the tokens of a target but its first, row after row,
    padding left out.
    """
    weights, target, changed = (inputs[name] for name in ("weights", "target", "changed"))
    layers = [
        sum(name.startswith(side) and name.endswith("self_attn.in_proj_bias") for name in weights)
        for side in ("encoder.", "decoder.")
    ]
    vocab_size, d_model = weights["embedding.weight"].shape
    d_ff = len(weights["encoder.0.feed_forward.linear1.bias"])
    model = student.Transformer(vocab_size, d_model, inputs["figures"]["num_heads"], *layers, d_ff)
    model = set_weights(model, weights).eval()
    with torch.no_grad():
        logits = model(inputs["source"], target)[target[:, 1:] != 0]
        others = model(inputs["source"][::EVERY], changed)[changed[:, 1:] != 0]
    return {"logits": logits, "logits on changed": others}


SCORED_PAIRS, LONGEST_PAIR, PIECES = 120, 40, 4000
EVERY = 5  # one pair in so many is asked for a second time, with another ending


def pairs_asked(rows: Any) -> tuple[dict, dict]:
    """(inputs, key) of rows of `en`, `fr`: 120 of the pairs of at most 40 pieces, evenly spaced.

    key: the French `characters`, and `cuts` (N/5,), from where on the pieces of every fifth target are others in `changed`.
    Raises ValueError for fewer than 120 pairs.
    """
    sides = encode_pairs(rows)
    short = [i for i, (en, fr) in enumerate(zip(*sides, strict=True)) if max(len(en) - 1, len(fr) - 2) <= LONGEST_PAIR]
    if len(short) < SCORED_PAIRS:
        raise ValueError(f"{len(short)} pairs of at most {LONGEST_PAIR} pieces are too few")
    chosen = [short[i * len(short) // SCORED_PAIRS] for i in range(SCORED_PAIRS)]
    source, target = (padded(side, chosen) for side in sides)
    asked = target[::EVERY]
    lengths = (asked != 0).sum(dim=1)
    share = torch.rand(len(asked), generator=torch.Generator().manual_seed(2017))
    cuts = 1 + (share * (lengths - 1)).long()  # after BEGIN, up to END
    behind = (torch.arange(target.size(1)) >= cuts.unsqueeze(1)) & (asked != 0)
    changed = torch.where(behind, 4 + (asked + PIECES // 2) % (PIECES - 4), asked)
    characters = sum(len(rows[i]["fr"]) for i in chosen)
    return {"source": source, "target": target, "changed": changed}, {"characters": characters, "cuts": cuts}


def translation_public() -> tuple[dict, dict]:
    """(inputs, key) of the validation pages."""
    return pairs_asked(libreoffice()["validation"])


def score_translation(inputs: dict, outputs: dict, key: dict) -> float:
    """Bits for each character of French; the logits are normalised here.

    Raises ValueError where the logits are not finite or not of shape (M, 4000), one row for each predicted token, where a
    prediction changes with tokens that come after it, and where nothing changes with the tokens before it.
    """
    target, changed, cuts = inputs["target"], inputs["changed"], key["cuts"]
    real, real_changed = (tokens[:, 1:] != 0 for tokens in (target, changed))
    logits, others = outputs["logits"], outputs["logits on changed"]
    for given, where in ((logits, real), (others, real_changed)):
        shape = (int(where.sum()), PIECES)
        if given.shape != shape or not bool(given.isfinite().all()):
            raise ValueError(f"logits of shape {tuple(given.shape)} where {shape} is expected, or not finite")
    log_probs, others = torch.log_softmax(logits.float(), dim=-1), torch.log_softmax(others.float(), dim=-1)
    twice = torch.zeros_like(real)
    twice[::EVERY] = True
    moved = (log_probs[twice[real]] - others).abs().amax(dim=-1)  # (M',)
    last_read = torch.arange(real_changed.size(1)).expand_as(real_changed)[real_changed]  # its position
    before = last_read < cuts.repeat_interleave(real_changed.sum(dim=1))
    if float(moved[before].max()) > 1e-3:
        raise ValueError("predictions change with tokens that come after them: the model looks ahead")
    if float(moved[~before].max()) <= 1e-3:
        raise ValueError("predictions do not depend on the tokens before them")
    scored = log_probs.gather(1, target[:, 1:][real].unsqueeze(1))
    return float(-scored.double().sum()) / math.log(2) / key["characters"]
