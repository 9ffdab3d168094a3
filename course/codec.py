"""Nested values to bytes and back: what a student's code answers, and nothing else, crosses a border this way.

A value is a tree of dicts with string keys, lists, tuples, tensors, numbers, strings, booleans and None. Its tensors go
into one safetensors file, everything else into sorted JSON. Nothing is ever pickled. Whatever has no place in such a tree
arrives as an `Opaque` that bears the name of its type, so that a check can say "you returned a numpy.ndarray".
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

MAX_DEPTH = 16
MAX_NODES = 20_000
MAX_BYTES = 64 * 2**20  # of tensors
MAX_JSON = 16 * 2**20  # bytes of everything else
DTYPES = {torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64} | {
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.complex64,
}  # what every version of safetensors can write


@dataclass(frozen=True)
class Opaque:
    """A value that cannot cross the border; only the name of its type does."""

    type: str


@dataclass(frozen=True)
class Failure:
    """An exception that student code raised: type, message and, where known, the line of code that raised it."""

    type: str
    message: str = ""
    line: str = ""


class TooLarge(ValueError):
    """A value is deeper, longer or larger than the limits above."""


def pack(value: Any) -> tuple[dict[str, Tensor], Any]:
    """Splits a tree into its tensors, by number, and a JSON-able skeleton.

    Tensors are detached, moved to the CPU and cloned, so that nothing of the caller's memory is shared.
    Raises TooLarge beyond MAX_DEPTH, MAX_NODES or MAX_BYTES.
    """
    tensors: dict[str, Tensor] = {}
    nodes = size = text = 0

    def walk(node: Any, depth: int) -> Any:
        nonlocal nodes, size, text
        nodes += 1
        if depth > MAX_DEPTH or nodes > MAX_NODES:
            raise TooLarge(f"the result is nested deeper than {MAX_DEPTH} levels or has more than {MAX_NODES} parts")
        if isinstance(node, Tensor):
            if node.layout != torch.strided or node.device.type == "meta" or node.is_quantized:
                return {"opaque": f"torch.Tensor ({node.layout})"}
            if node.dtype not in DTYPES:
                return {"opaque": f"torch.Tensor ({node.dtype})"}
            size += node.numel() * node.element_size()
            if size > MAX_BYTES:
                raise TooLarge(f"the result holds more than {MAX_BYTES // 2**20} MB of tensors")
            key = str(len(tensors))
            plain = node.detach().as_subclass(Tensor).resolve_conj().resolve_neg()
            tensors[key] = plain.to("cpu", copy=True).contiguous()
            return {"tensor": key}
        if node is None or isinstance(node, bool | str):
            text += len(node) if isinstance(node, str) else 0
            if text > MAX_JSON // 8:
                raise TooLarge(f"the result holds more than {MAX_JSON // 2**23} MB of text")
            return node
        if isinstance(node, int):
            return int(node) if -(2**63) <= node < 2**63 else {"opaque": "int of more than 64 bits"}
        if isinstance(node, float):
            return float(node)
        if isinstance(node, Failure):
            return {"failure": [node.type, node.message, node.line]}
        if isinstance(node, Opaque):
            return {"opaque": node.type}
        if isinstance(node, list):
            return {"list": [walk(item, depth + 1) for item in node]}
        if isinstance(node, tuple):
            return {"tuple": [walk(item, depth + 1) for item in node]}
        if isinstance(node, dict) and all(isinstance(key, str) for key in node):
            return {"dict": {key: walk(item, depth + 1) for key, item in node.items()}}
        return {"opaque": f"{type(node).__module__}.{type(node).__qualname__}".removeprefix("builtins.")}

    return tensors, walk(value, 0)


def unpack(tensors: dict[str, Tensor], skeleton: Any) -> Any:
    """The tree that `pack` took apart. Raises ValueError for a skeleton that `pack` cannot have made."""
    nodes = 0

    def walk(node: Any, depth: int) -> Any:
        nonlocal nodes
        nodes += 1
        if depth > MAX_DEPTH or nodes > MAX_NODES:
            raise TooLarge(f"the result is nested deeper than {MAX_DEPTH} levels or has more than {MAX_NODES} parts")
        if node is None or isinstance(node, bool | str | int | float):
            return node
        if not isinstance(node, dict) or len(node) != 1:
            raise ValueError("not a packed value")
        [(kind, body)] = node.items()
        if kind == "tensor" and isinstance(body, str) and body in tensors:
            return tensors[body]
        if kind == "opaque" and isinstance(body, str):
            return Opaque(body)
        if kind == "failure" and isinstance(body, list) and [type(part) for part in body] == [str] * 3:
            return Failure(*body)
        if kind in ("list", "tuple") and isinstance(body, list):
            items = [walk(item, depth + 1) for item in body]
            return items if kind == "list" else tuple(items)
        if kind == "dict" and isinstance(body, dict):
            return {key: walk(item, depth + 1) for key, item in body.items()}
        raise ValueError(f"not a packed value: {kind!r}")

    return walk(skeleton, 0)


def normalise(value: Any) -> Any:
    """A value as it looks on the other side of the border."""
    return unpack(*pack(value))


def to_bytes(value: Any, indent: int | None = None) -> tuple[bytes, bytes]:
    """A value as the contents of a safetensors file and of a JSON file. Raises TooLarge as `pack` does."""
    tensors, skeleton = pack(value)
    return tensors_to_bytes(tensors), (json.dumps(skeleton, sort_keys=True, indent=indent) + "\n").encode()


def from_bytes(tensors: bytes, skeleton: bytes) -> Any:
    """The value of `to_bytes`. Raises TooLarge beyond the limits, ValueError for other contents."""
    for size, limit in ((len(tensors), MAX_BYTES + 2**20), (len(skeleton), MAX_JSON)):
        if size > limit:
            raise TooLarge(f"the result is larger than {limit // 2**20} MB")
    try:
        return unpack(tensors_from_bytes(tensors), json.loads(skeleton))
    except TooLarge:
        raise
    except Exception as error:  # safetensors and json raise types of their own
        raise ValueError(f"cannot be read: {error}") from None


def save(value: Any, stem: Path, indent: int | None = 1) -> None:
    """Writes `stem.safetensors` and `stem.json`; the JSON comes last and by rename, so a reader never sees half.

    Files that nobody reads or compares are written faster with `indent=None`.
    """
    tensors, skeleton = to_bytes(value, indent)
    stem.with_suffix(".safetensors").write_bytes(tensors)
    part = stem.with_suffix(".json.part")
    part.write_bytes(skeleton)
    part.replace(stem.with_suffix(".json"))


def load(stem: Path) -> Any:
    """Reads what `save` wrote, for files that nobody else writes. Raises TooLarge or ValueError as `from_bytes` does."""
    paths = [stem.with_suffix(suffix) for suffix in (".safetensors", ".json")]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise ValueError(f"{missing[0]} is missing")
    try:
        return from_bytes(*(path.read_bytes() for path in paths))
    except TooLarge:
        raise
    except ValueError as error:
        raise ValueError(f"{stem.name} {error}") from None
