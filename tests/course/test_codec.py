"""What crosses the border: everything that should, unchanged, and nothing else."""

import json
import os
import pickle
from collections import OrderedDict, namedtuple
from enum import IntEnum
from pathlib import Path

import numpy
import pytest
import torch
from torch import nn

from course import codec
from course.codec import Failure, Opaque, TooLarge


def through_files(value, folder: Path):
    codec.save(value, folder / "value")
    return codec.load(folder / "value")


@pytest.fixture(params=["memory", "files"])
def cross(request: pytest.FixtureRequest, tmp_path: Path):
    """Both ways over the border: the notebook's and the grader's."""
    return codec.normalise if request.param == "memory" else lambda value: through_files(value, tmp_path)


def test_plain_values_come_back_with_their_types(cross):
    tree = {"b": [1, (2.5, "x", None)], "a": {"": True, "leer": [], "tupel": (), "dict": {}}, "big": -(2**63)}
    assert cross(tree) == tree
    assert type(cross(True)) is bool and type(cross(1)) is int and type(cross(1.0)) is float
    assert str(cross(float("nan"))) == "nan" and cross(float("-inf")) == float("-inf")
    assert cross(0.1 + 0.2) == 0.1 + 0.2


@pytest.mark.parametrize("dtype", sorted(codec.DTYPES, key=str), ids=str)
def test_tensors_come_back_with_dtype_and_shape(cross, dtype: torch.dtype):
    for shape in ((), (0,), (2, 0, 3), (2, 3)):
        tensor = torch.ones(shape).to(dtype)
        back = cross(tensor)
        assert back.dtype == dtype and back.shape == tensor.shape and back.equal(tensor)


def test_not_finite_values_come_back(cross):
    tensor = torch.tensor([torch.nan, torch.inf, -torch.inf, -0.0])
    assert str(cross(tensor).tolist()) == "[nan, inf, -inf, -0.0]"


def test_views_and_parameters_arrive_as_plain_tensors_of_their_own(cross):
    base = torch.arange(6.0).view(2, 3)
    parameter = nn.Parameter(base.clone())

    class Special(torch.Tensor):
        pass

    for given, values in (
        (base.T, base.T),
        (base[0].expand(4, 3), base[0].repeat(4, 1)),
        (parameter * 2, base * 2),
        (parameter, base),
        (base.as_subclass(Special), base),
        (torch.tensor([1 + 2j]).conj(), torch.tensor([1 - 2j])),
        (torch.tensor([1 + 2j]).conj().imag, torch.tensor([-2.0])),
    ):
        back = cross(given)
        assert type(back) is torch.Tensor and not back.requires_grad and back.is_contiguous()
        assert not back.is_conj() and not back.is_neg()
        assert back.data_ptr() != given.data_ptr()
        assert torch.equal(back, values)
    twice = cross([base, base])
    twice[0].zero_()
    assert twice[1].equal(base)


def test_subclasses_are_reduced_to_their_base(cross):
    Pair = namedtuple("Pair", "x y")
    assert type(cross(Pair(1, 2))) is tuple
    assert type(cross(OrderedDict(a=1))) is dict
    assert type(cross(IntEnum("Number", "one").one)) is int
    assert type(cross(numpy.float64(0.5))) is float


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (numpy.zeros(2), "numpy.ndarray"),
        (numpy.float32(1), "numpy.float32"),
        ({1, 2}, "set"),
        ({1: "key is no string"}, "dict"),
        (len, "builtin_function_or_method"),
        (b"bytes", "bytes"),
        (torch.float32, "torch.dtype"),
        (torch.zeros(2, device="meta"), "torch.Tensor (torch.strided)"),
        (torch.zeros(2).to_sparse(), "torch.Tensor (torch.sparse_coo)"),
        (torch.zeros(2, dtype=torch.complex128), "torch.Tensor (torch.complex128)"),
        (2**63, "int of more than 64 bits"),
        (10**5000, "int of more than 64 bits"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_has_no_place_arrives_as_the_name_of_its_type(cross, value, name: str):
    assert cross({"out": [value]}) == {"out": [Opaque(name)]}


def test_failures_and_opaques_come_back(cross):
    values = [Failure("ValueError", "a <message>", "line 3: x"), Opaque("some.Type")]
    assert cross(values) == values


def nested(levels: int) -> list:
    value: list = []
    for _ in range(levels):
        value = [value]
    return value


def test_depth_is_limited_both_ways():
    assert codec.normalise(nested(codec.MAX_DEPTH)) == nested(codec.MAX_DEPTH)
    with pytest.raises(TooLarge):
        codec.pack(nested(codec.MAX_DEPTH + 1))
    skeleton = None
    for _ in range(codec.MAX_DEPTH + 2):
        skeleton = {"list": [skeleton]}
    with pytest.raises(TooLarge):
        codec.unpack({}, skeleton)


def test_a_list_that_holds_itself_is_too_large():
    loop: list = []
    loop.append(loop)
    with pytest.raises(TooLarge):
        codec.pack(loop)


def test_parts_are_limited():
    assert len(codec.normalise([0] * (codec.MAX_NODES - 1))) == codec.MAX_NODES - 1
    with pytest.raises(TooLarge):
        codec.pack([0] * codec.MAX_NODES)


def test_bytes_are_limited_whether_in_memory_or_not():
    """A tensor that repeats one number takes no memory until it is written."""
    endless = torch.zeros(1).expand(codec.MAX_BYTES // 4 + 1)
    with pytest.raises(TooLarge):
        codec.pack([endless])
    half = torch.zeros(1).expand(codec.MAX_BYTES // 8 + 1)
    with pytest.raises(TooLarge):
        codec.pack([half, half])


def test_larger_contents_are_refused_before_they_are_parsed():
    tensors, skeleton = codec.to_bytes({"x": torch.zeros(3)})
    with pytest.raises(TooLarge, match="larger than 65 MB"):
        codec.from_bytes(bytes(codec.MAX_BYTES + 2**20 + 1), skeleton)
    with pytest.raises(TooLarge, match="larger than 16 MB"):
        codec.from_bytes(tensors, b" " * (codec.MAX_JSON + 1))


def test_text_is_limited_so_that_its_json_fits():
    most = codec.MAX_JSON // 8
    assert codec.normalise("\N{GRINNING FACE}" * (most // 2)) and len(codec.to_bytes("é" * most)[1]) < codec.MAX_JSON
    with pytest.raises(TooLarge):
        codec.pack(["x" * most, "y"])


def test_parts_are_limited_on_the_way_back_too():
    with pytest.raises(TooLarge):
        codec.from_bytes(codec.to_bytes(0)[0], b'{"list": [' + b"0, " * codec.MAX_NODES + b"0]}")


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
def test_missing_and_corrupted_files_are_value_errors(tmp_path: Path, suffix: str):
    stem = tmp_path / "value"
    with pytest.raises(ValueError, match="missing"):
        codec.load(stem)
    codec.save([torch.arange(5), {"a": 1}], stem)
    whole = stem.with_suffix(suffix).read_bytes()
    for broken in (b"", whole[: len(whole) // 2], b"\xff" * 40, b"[" * 100_000, pickle.dumps([1, 2])):
        stem.with_suffix(suffix).write_bytes(broken)
        with pytest.raises(ValueError, match="cannot be read"):
            codec.load(stem)


@pytest.mark.parametrize(
    "skeleton",
    [
        [1, 2],
        {},
        {"list": [], "tuple": []},
        {"tensor": "7"},
        {"tensor": ["0"]},
        {"list": {"0": 1}},
        {"dict": [1]},
        {"opaque": 3},
        {"failure": "text"},
        {"failure": ["a", "b"]},
        {"failure": ["a", "b", "c", "d"]},
        {"failure": ["a", "b", 3]},
        {"object": "os.system"},
    ],
    ids=json.dumps,
)
def test_a_skeleton_that_pack_never_made_is_a_value_error(skeleton):
    with pytest.raises(ValueError, match="packed value"):
        codec.unpack({"0": torch.zeros(1)}, skeleton)


def test_nothing_is_ever_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    assert through_files([Bomb()], tmp_path)[0].type.endswith("Bomb")
    for load in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, load, lambda *args, **kwargs: pytest.fail("pickle was used"))
    (tmp_path / "value.safetensors").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError):
        codec.load(tmp_path / "value")
    assert not (tmp_path / "exploded").exists()


def test_the_same_value_gives_the_same_bytes_and_no_part_file_stays(tmp_path: Path):
    tree = {"b": torch.arange(3), "a": [1.5, "x"]}
    codec.save(tree, tmp_path / "one")
    codec.save(dict(reversed(tree.items())), tmp_path / "two")
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "one.json",
        "one.safetensors",
        "two.json",
        "two.safetensors",
    ]
