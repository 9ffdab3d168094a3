"""Week 5: how the exercises on BERT are exercised.

Every function calls the student's code on one case and returns raw outputs. Gradients are taken under random upstream
gradients that come with the case.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from course.data import austen, bert_vocab, sotu
from course.drives import Student, by_part, gradients_of, set_weights, several, tracked
from course.wordpiece import piece_tokenizer


def wordpiece_encode(student: Student, inputs: dict) -> dict:
    """{"tokens": a list of ints}."""
    return {"tokens": student.wordpiece_encode(inputs["words"], inputs["vocab"], inputs["max_input_chars"])}


def measure_wordpiece_encode(inputs: dict, outputs: dict) -> dict:
    """A list of ints as one tensor, which is compared faster; whatever else it is stays as it is."""
    tokens = outputs["tokens"]
    plain = isinstance(tokens, list) and all(type(token) is int for token in tokens)
    return {"tokens": torch.tensor(tokens, dtype=torch.int64) if plain else tokens}


def pack_pair(student: Student, inputs: dict) -> dict:
    """{"tokens", "segments", "mask"}, each (T,), and whether the two parts that were handed in have changed."""
    a, b = list(inputs["a"]), None if inputs["b"] is None else list(inputs["b"])
    names = ("tokens", "segments", "mask")
    parts = several(student.pack_pair(a, b, inputs["max_length"]), "pack_pair", names)
    return dict(zip(names, parts, strict=True)) | {
        "a is as it was": a == inputs["a"],
        "b is as it was": b == inputs["b"],
    }


def mask_tokens(student: Student, inputs: dict) -> dict:
    """{"masked", "labels"}, both (B, T), and what has become of the tokens that were handed in."""
    tokens = inputs["tokens"].clone()
    draws = [inputs[name] for name in ("choose", "action", "replacement")]
    masked, labels = several(student.mask_tokens(tokens, *draws, inputs["share"]), "mask_tokens", ("masked", "labels"))
    return {"masked": masked, "labels": labels, "tokens afterwards": tokens}


def next_sentence_pairs(student: Student, inputs: dict) -> dict:
    """{"a", "b", "labels"}, each (M,)."""
    names = ("a", "b", "labels")
    result = student.next_sentence_pairs(*(inputs[name] for name in ("documents", "first", "coin", "other")))
    return dict(zip(names, several(result, "next_sentence_pairs", names), strict=True))


# Dropout is seen by its extreme: with a share of 1 it leaves nothing in training, and everything at evaluation.


def bertembeddings_forward(student: Student, inputs: dict) -> dict:
    """{"x": (B, T, D)} at evaluation, the same in training where dropout leaves nothing, and the gradients."""
    weights = inputs["weights"]
    vocab_size, d_model = weights["word_embeddings.weight"].shape
    module = student.BertEmbeddings(vocab_size, len(weights["position_embeddings.weight"]), d_model, 1.0)
    module = set_weights(module, weights).eval()
    x = module(inputs["tokens"], inputs["segments"])
    found = gradients_of([x], [inputs["upstream"]], dict(module.named_parameters()))
    with torch.no_grad():
        dropped = module.train()(inputs["tokens"], inputs["segments"])
    return {"x": x, "x with everything dropped": dropped} | found


class _Summed(nn.Module):
    """Mere embeddings: the model stands or falls by itself, whatever the student's embeddings do."""

    def __init__(self, vocab_size: int, d_model: int):
        super().__init__()
        self.word_embeddings = nn.Embedding(vocab_size, d_model)
        self.token_type_embeddings = nn.Embedding(2, d_model)

    def forward(self, tokens: Tensor, segments: Tensor) -> Tensor:
        return self.word_embeddings(tokens) + self.token_type_embeddings(segments)


def bertmodel_forward(student: Student, inputs: dict) -> dict:
    """{"hidden": (B, T, D), "pooled": (B, D)} at evaluation, the same in training where dropout leaves nothing, and the
    gradients of the embeddings, of each layer and of the pooler."""
    weights = inputs["weights"]
    vocab_size, d_model = weights["embeddings.word_embeddings.weight"].shape
    layers = sum(name.endswith("norm1.weight") for name in weights)
    d_ff = len(weights["layers.0.linear1.weight"])
    model = student.BertModel(vocab_size, inputs["tokens"].size(1), d_model, inputs["num_heads"], layers, d_ff, 1.0)
    model.embeddings = _Summed(vocab_size, d_model)
    model = set_weights(model, weights).eval()
    batch, names = [inputs[name] for name in ("tokens", "segments", "mask")], ("hidden", "pooled")
    outputs = several(model(*batch), "BertModel.forward", names)
    upstream = [inputs["upstream_hidden"], inputs["upstream_pooled"]]
    found = gradients_of(outputs, upstream, dict(model.named_parameters()))
    with torch.no_grad():
        dropped = several(model.train()(*batch), "BertModel.forward", names)
    answer = dict(zip(names, outputs, strict=True))
    answer |= {f"{name} with everything dropped": value for name, value in zip(names, dropped, strict=True)}
    layers = ((f"layers.{i}", layer) for i, layer in enumerate(model.layers))
    return answer | by_part(found, model, [("embeddings", model.embeddings), *layers, ("pooler", model.pooler)])


def pretraining_loss(student: Student, inputs: dict) -> dict:
    """{"loss": (), "word_logits": (M, V), "next_logits": (B, 2)} and the gradients of the loss."""
    weights, names = inputs["weights"], ("loss", "word_logits", "next_logits")
    heads = student.PretrainingHeads(weights["dense.weight"].size(0), weights["bias"].numel())
    heads = set_weights(heads, weights)
    given = ("word_embeddings", "hidden", "pooled")
    arguments = tracked(*(inputs[name] for name in given))
    result = student.pretraining_loss(heads, *arguments, inputs["labels"], inputs["next_labels"])
    outputs = several(result, "pretraining_loss", names)
    leaves = dict(zip(given, arguments, strict=True)) | dict(heads.named_parameters())
    found = gradients_of(outputs[:1], [torch.ones_like(inputs["hidden"][0, 0, 0])], leaves)
    # Where no word or no pair counts, a loss may leave a part out or add nothing of it: no gradient, or zeros.
    found = {name: torch.zeros_like(leaf) if found[name] is None else found[name] for name, leaf in _named(leaves)}
    return dict(zip(names, outputs, strict=True)) | found


def _named(leaves: dict[str, Tensor]) -> list[tuple[str, Tensor]]:
    return [(f"the gradient of {name}", leaf) for name, leaf in leaves.items()]


def best_span(student: Student, inputs: dict) -> dict:
    """{"starts": (B,), "ends": (B,)}."""
    arguments = [inputs[name] for name in ("start_logits", "end_logits", "allowed", "max_length")]
    starts, ends = several(student.best_span(*arguments), "best_span", ("starts", "ends"))
    return {"starts": starts, "ends": ends}


def squad_scores(student: Student, inputs: dict) -> dict:
    """{"exact_match": [...], "f1": [...]}, one of each for every prediction."""
    names = ("exact_match", "f1")
    pairs = [
        several(student.squad_scores(prediction, list(answers)), "squad_scores", names)
        for prediction, answers in zip(inputs["predictions"], inputs["answers"], strict=True)
    ]
    return {name: [pair[i] for pair in pairs] for i, name in enumerate(names)}


def measure_squad_scores(inputs: dict, outputs: dict) -> dict:
    """The scores of all predictions as one tensor, which is compared faster; whatever is no number stays as it is."""

    def joined(scores: Any) -> Any:
        plain = all(isinstance(score, int | float) for score in scores)
        return torch.tensor(scores, dtype=torch.float64) if plain else scores

    return {name: joined(scores) for name, scores in outputs.items()}


class _Reader(nn.Module):
    """Something that reads as BERT does, made of a few weights: rows in, (hidden, pooled) out."""

    def __init__(self, vocab_size: int, d_model: int):
        super().__init__()
        self.words = nn.Embedding(vocab_size, d_model)
        self.types = nn.Embedding(2, d_model)
        self.pooler = nn.Linear(d_model, d_model)

    def forward(self, tokens: Tensor, segments: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        if tokens.ndim != 2:
            raise ValueError(f"the network reads rows of tokens, (B, T); it was given {tuple(tokens.shape)}")
        order = torch.linspace(1.0, 2.0, tokens.size(1), dtype=self.words.weight.dtype).unsqueeze(-1)
        hidden = torch.tanh((self.words(tokens) + self.types(segments)) * order)
        mean = (hidden * mask.unsqueeze(-1)).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        return hidden, torch.tanh(self.pooler(hidden[:, 0] + mean))


def multiplechoice_forward(student: Student, inputs: dict) -> dict:
    """{"logits": (B, C)} at evaluation, the same in training where dropout leaves nothing, and the gradients."""
    weights = inputs["weights"]
    reader = _Reader(*weights["bert.words.weight"].shape)
    module = set_weights(student.MultipleChoice(reader, weights["score.weight"].size(1), 1.0), weights).eval()
    batch = [inputs[name] for name in ("tokens", "segments", "mask")]
    logits = module(*batch)
    found = gradients_of([logits], [inputs["upstream"]], dict(module.named_parameters()))
    with torch.no_grad():
        dropped = module.train()(*batch)
    return {"logits": logits, "logits with everything dropped": dropped} | found


# ---------------------------------------------------------------------------------------------- trained models


def pretraining(student: Student, inputs: dict) -> dict:
    """{"logits": (M, V)}: what the trained network says of the hidden pieces, row after row.

    `tokens` and `segments` (B, T) int64, nothing is padding; `asked` (B, T) boolean. What stood there is not among the inputs.
    """
    weights, tokens, asked = inputs["weights"], inputs["tokens"], inputs["asked"]
    vocab_size, d_model = weights["bert.embeddings.word_embeddings.weight"].shape
    num_positions = len(weights["bert.embeddings.position_embeddings.weight"])
    num_layers = sum(name.endswith(".linear1.bias") for name in weights)
    d_ff = len(weights["bert.layers.0.linear1.bias"])
    sizes = (vocab_size, num_positions, d_model, inputs["figures"]["num_heads"], num_layers, d_ff, 0.0)
    model = set_weights(student.Bert(*sizes), weights).eval()
    with torch.no_grad():
        labels = torch.where(asked, 0, -100)  # says where, and not what
        _, logits, _ = model(tokens, inputs["segments"], torch.ones_like(asked), labels, None)
    return {"logits": logits}


ASKED_ROWS, ROW, PIECES, SPECIAL = 160, 64, 4000, 5
SEPARATOR, HIDDEN = 3, 4


def hidden_pieces(messages: Sequence[str], novels: Sequence[str]) -> tuple[dict, dict]:
    """(inputs, key) of texts: rows of 61 pieces in a row, in two parts, 120 from the messages and 40 from the novels.

    15 % of the pieces are hidden, always by [MASK]; key: the `pieces` (M,) that stood there. Raises ValueError for too little
    text.
    """
    tokenizer = piece_tokenizer(bert_vocab())
    rows, room = [], ROW - 3
    for texts, share in ((messages, ASKED_ROWS * 3 // 4), (novels, ASKED_ROWS // 4)):
        pieces = [token for encoded in tokenizer.encode_batch(list(texts)) for token in encoded.ids]
        whole = len(pieces) // room
        if whole < share:
            raise ValueError(f"{len(pieces)} pieces are too few for {share} rows")
        starts = [i * whole // share * room for i in range(share)]
        rows += [[2, *pieces[i : i + 30], SEPARATOR, *pieces[i + 30 : i + room], SEPARATOR] for i in starts]
    tokens = torch.tensor(rows)
    segments = (torch.arange(ROW) > 31).long().expand_as(tokens).contiguous()
    draws = torch.rand(tokens.shape, generator=torch.Generator().manual_seed(5))
    asked = (draws < 0.15) & (tokens >= SPECIAL)
    inputs = {"tokens": tokens.masked_fill(asked, HIDDEN), "segments": segments, "asked": asked}
    return inputs, {"pieces": tokens[asked]}


def pretraining_public() -> tuple[dict, dict]:
    """(inputs, key) of the validation split: five presidents and volume one of `Persuasion`."""
    return hidden_pieces(sotu()["validation"]["text"], austen()["validation"]["text"])


def score_pretraining(inputs: dict, outputs: dict, key: dict) -> float:
    """Bits for each hidden piece; the logits are normalised here.

    Raises ValueError where the logits are not finite or not of shape (M, 4000), one row for each hidden piece.
    """
    logits, shape = outputs["logits"], (len(key["pieces"]), PIECES)
    if logits.shape != shape or not bool(logits.isfinite().all()):
        raise ValueError(f"logits of shape {tuple(logits.shape)} where {shape} is expected, or not finite")
    nats = nn.functional.cross_entropy(logits.double(), key["pieces"])
    return float(nats) / math.log(2)
