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
MAX_BYTES = 64 * 2**20  # of tensors and of JSON, each
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
    nodes = 0
    size = 0

    def walk(node: Any, depth: int) -> Any:
        nonlocal nodes, size
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
            size += len(node) if isinstance(node, str) else 0
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

    def walk(node: Any, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise TooLarge(f"nested deeper than {MAX_DEPTH} levels")
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


def save(value: Any, stem: Path) -> None:
    """Writes `stem.safetensors` and `stem.json`; the JSON comes last and by rename, so a reader never sees half."""
    tensors, skeleton = pack(value)
    stem.with_suffix(".safetensors").write_bytes(tensors_to_bytes(tensors))
    text = json.dumps(skeleton, sort_keys=True, indent=1) + "\n"
    part = stem.with_suffix(".json.part")
    part.write_text(text, encoding="utf-8")
    part.replace(stem.with_suffix(".json"))


def load(stem: Path, max_bytes: int = MAX_BYTES) -> Any:
    """Reads what `save` wrote. Raises TooLarge before parsing anything larger than max_bytes, ValueError for other contents."""
    blobs = []
    for suffix in (".safetensors", ".json"):
        path = stem.with_suffix(suffix)
        if path.is_symlink() or not path.is_file():
            raise ValueError(f"{path.name} is missing")
        if path.stat().st_size > max_bytes + 2**20:
            raise TooLarge(f"{path.name} is larger than {max_bytes // 2**20} MB")
        blobs.append(path.read_bytes())
    try:
        return unpack(tensors_from_bytes(blobs[0]), json.loads(blobs[1]))
    except TooLarge:
        raise
    except Exception as error:  # safetensors and json raise types of their own
        raise ValueError(f"{stem.name} cannot be read: {error}") from None
