"""Week 8: how the exercises on long sequences are exercised.

Every function calls the student's code on one case and returns raw outputs. Gradients are taken under random upstream
gradients that come with the case. A case that has `repeats` measures memory: the function runs on the case's tensors, each of
them so many times in a row, and the most bytes that it held are noted; `measure` concludes whether they grow with the length.
Where they do, a case that has `reach` runs once more, on so many repeats that a matrix of all pairs would not fit into the
memory that the grader's sandbox allows: whoever misleads the measure is stopped there.
"""

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from course import puzzles
from course.drives import Student, gradients_of, peak_bytes, set_weights, tracked
from course.train import accuracy

MOST_GROWTH = 2.2  # of the memory, where the length doubles; a matrix of all pairs grows 4 times
GROWTH = f"twice the length takes at most {MOST_GROWTH} times the memory"


def _attend(inputs: dict, names: tuple[str, ...], call: Callable[..., Tensor]) -> dict:
    """{"output": ...} and the gradients of the named tensors; where the case measures memory, {"peaks": [bytes, bytes]}.

    With `reach`, and where the peaks are right: also "far away", some rows of the last repeat's output.
    """
    if "repeats" in inputs:

        def longer(times: int) -> list[Tensor]:
            return [torch.cat([inputs[name]] * times, dim=-2) for name in names]

        peaks = []
        for times in inputs["repeats"]:
            arguments = longer(times)
            peaks.append(peak_bytes(lambda arguments=arguments, times=times: call(*arguments, times=times)))
        if "reach" not in inputs or not _grows_slowly(peaks):
            return {"peaks": peaks}
        with torch.no_grad():
            output = call(*longer(inputs["reach"]), times=inputs["reach"])
        return {"peaks": peaks, "far away": output[..., -inputs["q"].size(-2) :: 64, :].clone()}
    arguments = tracked(*(inputs[name] for name in names))
    output = call(*arguments)
    return {"output": output} | gradients_of([output], [inputs["upstream"]], dict(zip(names, arguments, strict=True)))


def _measure(inputs: dict, outputs: Any) -> Any:
    """The outputs; in place of two peaks whether the second, of twice the length, is small enough."""
    if "repeats" not in inputs:
        return outputs
    peaks = outputs["peaks"]
    return {GROWTH: _grows_slowly(peaks)} | {name: value for name, value in outputs.items() if name != "peaks"}


def _grows_slowly(peaks: list[int]) -> bool:
    """Whether the second peak, of twice the length, is small enough."""
    short, long = peaks
    return 0 < long <= MOST_GROWTH * short


# --------------------------------------------------------------------------------------- everything with everything


def attention_cost(student: Student, inputs: dict) -> dict:
    """{"flops": a whole number, "bytes": a whole number}."""
    sizes = () if inputs["size"] is None else (inputs["size"],)
    flops, size = student.attention_cost(inputs["kind"], inputs["T"], inputs["K"], *sizes)
    return {"flops": flops, "bytes": size}


def online_softmax_attention(student: Student, inputs: dict) -> dict:
    """{"output": (..., T, F)} and the gradients of q, k and v; as `_attend` where memory is measured."""
    causal = (True,) if inputs["is_causal"] else ()

    def call(q: Tensor, k: Tensor, v: Tensor, times: int = 1) -> Tensor:
        return student.online_softmax_attention(q, k, v, inputs["block_size"], *causal)

    return _attend(inputs, ("q", "k", "v"), call)


measure_online_softmax_attention = _measure


# -------------------------------------------------------------------------------------------- holes in the matrix


def window_mask(student: Student, inputs: dict) -> dict:
    """{"mask": (N, N)}."""
    return {"mask": student.window_mask(inputs["N"], inputs["window"])}


def global_mask(student: Student, inputs: dict) -> dict:
    """{"mask": (N, N)}."""
    return {"mask": student.global_mask(inputs["N"], inputs["positions"])}


def random_mask(student: Student, inputs: dict) -> dict:
    """{"mask": (N, N)}."""
    return {"mask": student.random_mask(inputs["draws"], inputs["taken"], inputs["r"])}


def bigbird_attention(student: Student, inputs: dict) -> dict:
    """{"output": (..., T, F)} and the gradients of q, k and v; as `_attend` where memory is measured.

    A repeated case has the case's pattern along the diagonal, once for each repeat.
    """
    pattern = inputs["pattern"]
    lengths = [*inputs.get("repeats", []), *([inputs["reach"]] if "reach" in inputs else [])]
    repeated = {times: torch.block_diag(*[pattern.float()] * times).bool() for times in lengths}

    def call(q: Tensor, k: Tensor, v: Tensor, times: int = 1) -> Tensor:
        return student.bigbird_attention(q, k, v, repeated.get(times, pattern), inputs["block_size"])

    return _attend(inputs, ("q", "k", "v"), call)


measure_bigbird_attention = _measure


# ---------------------------------------------------------------------------------------------- a shorter memory


def linformer_attention(student: Student, inputs: dict) -> dict:
    """{"output": (..., T, F)} and the gradients of everything."""
    return _attend(inputs, ("q", "k", "v", "e", "f"), student.linformer_attention)


# ------------------------------------------------------------------------------------------------ random features


def orthogonal_projections(student: Student, inputs: dict) -> dict:
    """{"projection": (M, K)}."""
    return {"projection": student.orthogonal_projections(inputs["draws"])}


def performer_features(student: Student, inputs: dict) -> dict:
    """{"output": the features (..., T, M)} and the gradient of x."""
    return _attend(
        inputs, ("x",), lambda x: student.performer_features(x, inputs["projection"], is_query=inputs["is_query"])
    )


def performer_attention(student: Student, inputs: dict) -> dict:
    """{"output": (..., T, F)} and the gradients of q, k and v; as `_attend` where memory is measured."""

    def call(q: Tensor, k: Tensor, v: Tensor, times: int = 1) -> Tensor:
        return student.performer_attention(q, k, v, inputs["projection"])

    return _attend(inputs, ("q", "k", "v"), call)


measure_performer_attention = _measure


# -------------------------------------------------------------------------------------------------------- further


def causal_performer_attention(student: Student, inputs: dict) -> dict:
    """{"output": (..., T, F)} and the gradients of q, k and v; as `_attend` where memory is measured."""

    def call(q: Tensor, k: Tensor, v: Tensor, times: int = 1) -> Tensor:
        return student.causal_performer_attention(q, k, v, inputs["projection"])

    return _attend(inputs, ("q", "k", "v"), call)


measure_causal_performer_attention = _measure

GUARD = -7.0  # what the memory behind the output holds; nobody may write there
NO_TRITON = (
    "Triton is not installed: this exercise needs Linux and `pip install triton`. It is a bonus and costs nothing."
)
TOO_LATE = "Triton was imported without its interpreter. Restart the kernel and run the notebook from its first cell."


def flash_kernel(student: Student, inputs: dict) -> dict:
    """{"output": (H, T, K), "behind it": what stands in memory behind the output}.

    By Triton's interpreter on the CPU; compiled, on the GPU, where the notebook has asked for that.
    """
    function = student.flash_kernel
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when Triton is imported
    try:
        import triton
        import triton.language as tl
    except ImportError:
        raise RuntimeError(NO_TRITON) from None
    interpreted = type(tl.sum).__name__ == "InterpretedFunction"
    if not interpreted and not torch.cuda.is_available():
        raise RuntimeError(TOO_LATE)
    kernel = triton.jit(getattr(function, "fn", function))
    return _launched(kernel, inputs, "cpu" if interpreted else "cuda")


def _launched(kernel: Any, inputs: dict, device: str) -> dict:
    """A program for each block of queries and each head. What lies behind each tensor's end is no part of it."""
    H, T, K = inputs["q"].shape
    S = inputs["k"].size(1)
    room = inputs["BLOCK_T"] * K, inputs["BLOCK_S"] * K
    q, k, v = (
        torch.cat([inputs[name].flatten(), inputs[name].new_full((max(room),), 3.0)]).to(device)
        for name in ("q", "k", "v")
    )
    out = torch.cat([torch.zeros_like(inputs["q"]).flatten(), inputs["q"].new_full((room[0],), GUARD)]).to(device)
    grid = (-(-T // inputs["BLOCK_T"]), H)
    try:
        kernel[grid](q, k, v, out, T, S, K, inputs["BLOCK_T"], inputs["BLOCK_S"])
    except Exception as error:  # the interpreter wraps what the kernel raised
        raise (error.__cause__ or error) from None
    return {"output": out[: H * T * K].view(H, T, K), "behind it": out[H * T * K :]}


def flex_mask(student: Student, inputs: dict) -> dict:
    """{"mask": (T, T), by broadcasting; "by vmap": the same, index by index, as FlexAttention asks; or what that raised}."""
    mask_mod = student.flex_mask(inputs["document"], inputs["window"])
    T = len(inputs["document"])
    b, h, position = torch.tensor(1), torch.tensor(2), torch.arange(T)
    mask = mask_mod(b, h, position.unsqueeze(1), position)
    rows = torch.vmap(mask_mod, in_dims=(None, None, None, 0))
    return {"mask": mask, "by vmap": torch.vmap(rows, in_dims=(None, None, 0, None))(b, h, position, position)}


def rotary(student: Student, inputs: dict) -> dict:
    """{"output": (..., T, K)} and the gradient of x. `base` and `factor` are None where they are left out."""
    settings = {name: inputs[name] for name in ("base", "factor") if inputs[name] is not None}
    return _attend(inputs, ("x",), lambda x: student.rotary(x, inputs["positions"], **settings))


# ------------------------------------------------------------------------------------------------ trained models


def retrieval(student: Student, inputs: dict) -> dict:
    """The trained reader's {"logits": (B, 8)} on sequences with a planted fact, tokens (B, T), and on the same without it."""
    weights = inputs["weights"]
    vocab_size, d_model = weights["embedding.weight"].shape
    layers = len({name.split(".")[1] for name in weights if name.startswith("layers.")})
    sizes = vocab_size, len(weights["output.bias"]), inputs["tokens"].size(1), d_model
    model = student.Reader(student.FINDER, *sizes, layers=layers)
    model = set_weights(model, weights).eval()
    with torch.no_grad():
        logits, without = (
            torch.cat([model(rows) for rows in inputs[name].split(32)]) for name in ("tokens", "without the fact")
        )
    return {"logits": logits, "logits without the fact": without}


PUBLIC_FACTS, SEQUENCES, LENGTH = 2020, 400, 1024


def facts_asked(seed: int) -> tuple[dict, Tensor]:
    """(inputs of the drive, facts (B,)) of 400 sequences of 1,024 tokens, some of them also with a filler for the fact."""
    tokens, facts, where = puzzles.planted(SEQUENCES, LENGTH, torch.Generator().manual_seed(seed))
    without = tokens[::8].clone()
    without[torch.arange(len(without)), where[::8]] = puzzles.FILLER
    return {"tokens": tokens, "without the fact": without}, facts


def retrieval_public() -> tuple[dict, Tensor]:
    """(inputs, facts (B,)) of the sequences that the check in the notebook draws."""
    return facts_asked(PUBLIC_FACTS)


def score_retrieval(inputs: dict, outputs: dict, key: Tensor) -> float:
    """The share of facts that are found.

    Raises ValueError where the logits are not finite or not of shape (B, 8), and where they stay as they are when the facts
    are taken out.
    """
    logits, without = outputs["logits"], outputs["logits without the fact"]
    for given, tokens in ((logits, inputs["tokens"]), (without, inputs["without the fact"])):
        if given.shape != (len(tokens), puzzles.FACTS) or not bool(given.isfinite().all()):
            raise ValueError(f"logits of shape {tuple(given.shape)}, or not finite")
    if float((logits[::8] - without).abs().max()) <= 1e-3:
        raise ValueError("the logits do not depend on the fact that was planted")
    return accuracy(logits, key)
