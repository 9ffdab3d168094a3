"""Week 1: how the recurrent network's exercises are exercised.

Every function calls the student's code on one case and returns raw outputs. Gradients are taken under a random upstream
gradient that comes with the case, except for the exercises that are to be solved without autograd: there the drive takes
none either.
"""

import math

import torch
from torch import Tensor, nn

from course.data import austen, encode_novels, encode_surnames, surnames
from course.drives import Student, gradients_of, set_weights, several, tracked
from course.train import accuracy

WEIGHTS = ("w_ih", "w_hh", "b_ih", "b_hh")


def rnn_step(student: Student, inputs: dict) -> dict:
    """{"h_next": (B, H)} and the gradients of x, h and the four parameters."""
    names = ("x", "h", *WEIGHTS)
    arguments = tracked(*(inputs[name] for name in names))
    h_next = student.rnn_step(*arguments)
    return {"h_next": h_next} | gradients_of([h_next], [inputs["upstream"]], dict(zip(names, arguments, strict=True)))


def rnn_forward(student: Student, inputs: dict) -> dict:
    """{"outputs": (B, T, H), "h_n": (B, H)} and the gradients of x, h0 and the four parameters."""
    names = ("x", "h0", *WEIGHTS)
    x, h0, *weights = arguments = tracked(*(inputs[name] for name in names))
    result = student.rnn_forward(x, inputs["lengths"], h0, *weights)
    outputs, h_n = several(result, "rnn_forward", ("outputs", "h_n"))
    upstream = [inputs["upstream_outputs"], inputs["upstream_h_n"]]
    return {"outputs": outputs, "h_n": h_n} | gradients_of(
        [outputs, h_n], upstream, dict(zip(names, arguments, strict=True))
    )


def rnn_step_backward(student: Student, inputs: dict) -> dict:
    """The six gradients by name. No gradient is recorded here: the exercise forbids autograd."""
    names = ("grad_x", "grad_h", "grad_w_ih", "grad_w_hh", "grad_b_ih", "grad_b_hh")
    arguments = [inputs[name] for name in ("grad_h_next", "x", "h", "h_next", "w_ih", "w_hh")]
    result = student.rnn_step_backward(*arguments)
    return dict(zip(names, several(result, "rnn_step_backward", names), strict=True))


def rnn_backward(student: Student, inputs: dict) -> dict:
    """The six gradients by name. No gradient is recorded here: the exercise forbids autograd."""
    names = ("grad_x", "grad_h0", "grad_w_ih", "grad_w_hh", "grad_b_ih", "grad_b_hh")
    arguments = [inputs[name] for name in ("grad_outputs", "x", "h0", "outputs", "w_ih", "w_hh")]
    result = student.rnn_backward(*arguments)
    return dict(zip(names, several(result, "rnn_backward", names), strict=True))


def clip_by_global_norm(student: Student, inputs: dict) -> dict:
    """{"clipped": list, "norm": scalar, "the gradients given": list}; the last as they are after the call."""
    grads = list(inputs["grads"])
    result = student.clip_by_global_norm(list(grads), inputs["max_norm"])
    clipped, norm = several(result, "clip_by_global_norm", ("clipped", "norm"))
    return {"clipped": list(clipped), "norm": norm, "the gradients given": grads}


def nameclassifier_forward(student: Student, inputs: dict) -> dict:
    """{"logits": (B, C)} and the gradient of every parameter."""
    weights = inputs["weights"]
    model = set_weights(_name_classifier(student, weights), weights)
    logits = model(inputs["tokens"], inputs["lengths"])
    return {"logits": logits} | gradients_of([logits], [inputs["upstream"]], dict(model.named_parameters()))


def char_lm_loss(student: Student, inputs: dict) -> dict:
    """{"loss": scalar} and the gradient of the logits."""
    (logits,) = tracked(inputs["logits"])
    loss = student.char_lm_loss(logits, inputs["tokens"], inputs["lengths"])
    return {"loss": loss} | gradients_of([loss], [inputs["upstream"]], {"logits": logits})


def next_char_probs(student: Student, inputs: dict) -> dict:
    """{"probs": (B, V)}."""
    return {"probs": student.next_char_probs(inputs["logits"], inputs["temperature"], inputs["top_k"])}


class CaseModel(nn.Module):
    """A recurrent language model with a case's weights, for `generate` to be tried on whatever else is solved.

    Called as `model(tokens, h0=None)` with tokens (B, T); returns logits (B, T, V) and the last state (B, H).
    `weights` has embedding (V, H), w_hh (H, H) and output (V, H).
    """

    def __init__(self, weights: dict[str, Tensor]):
        super().__init__()
        for name, value in weights.items():
            self.register_buffer(name, value)

    def forward(self, tokens: Tensor, h0: Tensor | None = None) -> tuple[Tensor, Tensor]:
        h = self.embedding.new_zeros(tokens.size(0), self.w_hh.size(0)) if h0 is None else h0
        states = []
        for t in range(tokens.size(1)):
            h = torch.tanh(self.embedding[tokens[:, t]] + h @ self.w_hh.T)
            states.append(h)
        return torch.stack(states, dim=1) @ self.output.T, h


def generate(student: Student, inputs: dict) -> dict:
    """{"tokens": (B, T0 + N)}."""
    model = CaseModel(inputs["weights"])
    with torch.no_grad():
        tokens = student.generate(model, inputs["prompt"], inputs["draws"], inputs["temperature"], inputs["top_k"])
    return {"tokens": tokens}


def memory_horizon(student: Student, inputs: dict) -> dict:
    """{"norms": (T,)}."""
    arguments = [inputs[name] for name in ("x", "h0", "v", *WEIGHTS)]
    return {"norms": student.memory_horizon(*arguments)}


# ------------------------------------------------------------------------------------------------ trained models


def _name_classifier(student: Student, weights: dict[str, Tensor]) -> nn.Module:
    vocab_size, d_embed = weights["embedding.weight"].shape
    num_classes, hidden_size = weights["output.weight"].shape
    return student.NameClassifier(vocab_size, num_classes, d_embed, hidden_size)


def names(student: Student, inputs: dict) -> dict:
    """The trained classifier's {"logits": (N, C)} on the given names: tokens (N, T) int64, lengths (N,)."""
    weights = inputs["weights"]
    model = set_weights(_name_classifier(student, weights), weights).eval()
    with torch.no_grad():
        return {"logits": model(inputs["tokens"], inputs["lengths"])}


def chars(student: Student, inputs: dict) -> dict:
    """The trained language model's logits on windows of text, and on some of these windows with other endings.

    `tokens` (N, T) and `changed` (N/5, T) are int64; each row of the second agrees with every fifth of the first up to some
    position. What comes before the change must not depend on it: whoever scores these outputs judges that from
    {"logits": (N, T/2 + 1, V), "logits on changed": (N/5, T/2 + 1, V)}, the logits from the last position of the first half on.
    """
    weights = inputs["weights"]
    vocab_size, d_embed = weights["embedding.weight"].shape
    model = set_weights(student.CharRNN(vocab_size, d_embed, weights["weight_hh"].size(0)), weights).eval()
    with torch.no_grad():
        logits, changed = (model(inputs[name])[0] for name in ("tokens", "changed"))
    return {"logits": scored_part(logits), "logits on changed": scored_part(changed)}


# What the check of a trained model does with public data in the notebook, and the grade with data that it has kept.

LABELS, CHARACTERS = 18, 82  # of the course's surnames and novels
SCORED_WINDOWS, CONTEXT = 75, 256
EVERY = 5  # one in so many windows is asked for a second time, with another ending


def names_public() -> tuple[dict, Tensor]:
    """(inputs, labels (N,)) of the validation names."""
    tokens, lengths, labels = encode_surnames(surnames()["validation"])
    return {"tokens": tokens, "lengths": lengths}, labels


def score_names(inputs: dict, outputs: dict, key: Tensor) -> float:
    """Accuracy. Raises ValueError where the logits are not finite or not of shape (N, 18)."""
    logits = outputs["logits"]
    if logits.shape != (len(key), LABELS) or not bool(logits.isfinite().all()):
        raise ValueError(f"logits of shape {tuple(logits.shape)}, or not finite")
    return accuracy(logits, key)


def chars_windows(text: Tensor) -> tuple[dict, Tensor]:
    """(inputs, where each window was changed (N/5,)) of a text (M,): 75 windows of 256 characters, evenly spaced and apart.

    The second half of each window is scored, which is what `bits_per_character` does with a window. In `changed` every
    fifth window goes on from some position of its second half with what stands there in another window. Windows do not
    overlap, so that no row of the batch holds what another is asked for. Raises ValueError for a text that is too short.
    """
    if len(text) < 2 * SCORED_WINDOWS * CONTEXT:
        raise ValueError(f"{len(text)} characters are too few for {SCORED_WINDOWS} windows that lie apart")
    starts = torch.linspace(0, len(text) - CONTEXT, SCORED_WINDOWS, dtype=torch.float64).long()
    positions = torch.arange(CONTEXT)
    tokens = text[starts.unsqueeze(1) + positions]  # (N, T)
    half = CONTEXT // 2
    asked = tokens[::EVERY]
    cuts = torch.randint(half + 1, CONTEXT - 8, (len(asked),), generator=torch.Generator().manual_seed(1986))
    changed = torch.where(positions < cuts.unsqueeze(1), asked, tokens.roll(1, dims=0)[::EVERY])
    return {"tokens": tokens, "changed": changed}, cuts


def scored_part(logits: Tensor) -> Tensor:
    """Of logits (N, T, V), those that predict the second half of each window, and the one after it: (N, T/2 + 1, V)."""
    return logits[:, logits.size(1) // 2 - 1 :]


def chars_public() -> tuple[dict, Tensor]:
    """(inputs, where each window was changed) of volume one of Persuasion."""
    return chars_windows(encode_novels(austen()["validation"]))


def score_chars(inputs: dict, outputs: dict, key: Tensor) -> float:
    """Bits per character over the second halves of the windows; the logits are normalised here.

    Raises ValueError where the logits are not finite or of another shape than (N, T/2 + 1, 82) and (N/5, T/2 + 1, 82), where a
    prediction changes with characters that come after it, and where nothing changes with the characters before it.
    """
    tokens, logits, changed = inputs["tokens"], outputs["logits"], outputs["logits on changed"]
    half = tokens.size(1) // 2
    for given, rows in ((logits, len(tokens)), (changed, len(key))):
        shape = (rows, half + 1, CHARACTERS)
        if given.shape != shape or not bool(given.isfinite().all()):
            raise ValueError(f"logits of shape {tuple(given.shape)} where {shape} is expected, or not finite")
    log_probs, others = torch.log_softmax(logits.float(), dim=-1), torch.log_softmax(changed.float(), dim=-1)
    moved = (log_probs[::EVERY] - others).abs().amax(dim=-1)  # (N/5, T/2 + 1)
    before = torch.arange(half - 1, tokens.size(1)) < key.unsqueeze(1)
    if float(moved[before].max()) > 1e-3:
        raise ValueError("predictions change with characters that come after them: the model looks ahead")
    if float(moved[~before].max()) <= 1e-3:
        raise ValueError("predictions do not depend on the characters before them")
    scored = log_probs[:, :-1].gather(2, tokens[:, half:].unsqueeze(2))
    return float(-scored.double().mean()) / math.log(2)
