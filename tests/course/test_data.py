"""The splits are what their docstrings say, nothing leaks between them, and no network is used."""

import importlib.util
import socket
from collections import Counter
from pathlib import Path

import pytest
import torch

from course import data

HELDOUT = Path(__file__).parents[2] / "solutions" / "heldout"


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the data sets must not use the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="module")
def splits():
    spec = importlib.util.spec_from_file_location("make_splits", HELDOUT / "make_splits.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def surnames_by_split():
    return {**data.surnames(), "test": data.read(HELDOUT / "surnames.parquet").remove_columns("split")}


def test_surnames_no_name_is_in_two_splits():
    names = {split: {name.casefold() for name in rows["name"]} for split, rows in surnames_by_split().items()}
    assert sorted(names) == ["test", "train", "validation"]
    assert not names["train"] & names["validation"]
    assert not names["train"] & names["test"]
    assert not names["validation"] & names["test"]


def test_surnames_sizes_for_every_label():
    counts = {split: Counter(rows["label"]) for split, rows in surnames_by_split().items()}
    assert {split: sum(count.values()) for split, count in counts.items()} == {
        "train": 14190,
        "validation": 1778,
        "test": 1781,
    }
    assert len(counts["train"]) == 18
    for label in counts["train"]:
        total = sum(count[label] for count in counts.values())
        assert total <= 1500
        for split, share in (("train", 0.8), ("validation", 0.1), ("test", 0.1)):
            assert abs(counts[split][label] - share * total) <= 3, (label, split)


def test_the_files_are_what_the_script_makes(splits):
    by_split = surnames_by_split()
    rows = [{"name": row["name"], "label": row["label"]} for part in by_split.values() for row in part]
    made = splits.split_names(rows)
    for split, part in by_split.items():
        assert all(made[name.casefold()] == split for name in part["name"])


def test_a_name_with_several_labels_goes_to_one_split(splits):
    rows = [{"name": f"n{i}", "label": "B"} for i in range(50)]
    rows += [{"name": "N7", "label": "A"}, {"name": "other", "label": "A"}]
    made = splits.split_names(rows)
    assert len(made) == 51
    assert set(made.values()) == {"train", "validation", "test"}


def test_austen_holds_persuasion_out(splits):
    novels = data.austen()
    assert novels["train"]["novel"] == [
        "Emma",
        "Mansfield Park",
        "Northanger Abbey",
        "Pride and Prejudice",
        "Sense and Sensibility",
    ]
    [volume_one] = novels["validation"]["text"]
    [volume_two] = data.read(HELDOUT / "persuasion.parquet")["text"]
    assert (len(volume_one), len(volume_two)) == (215529, 251325)
    assert volume_one.rstrip().endswith("(End of volume one.)")
    assert volume_two.startswith("Chapter 13")
    assert splits.split_persuasion(volume_one + volume_two) == (volume_one, volume_two)
    public = "\n".join(text for rows in novels.values() for text in rows["text"])
    passages = [volume_two[i : i + 60] for i in range(0, len(volume_two) - 60, 997)]
    assert not [passage for passage in passages if passage in public]


def test_alphabet_knows_only_what_it_was_made_of():
    alphabet = data.Alphabet(["ab\n", "ba!"])
    assert alphabet.symbols == ["<unk>", "\n", "!", "a", "b"]
    assert alphabet.encode("abc").tolist() == [3, 4, 0]
    assert alphabet.decode(alphabet.encode("ba?")) == "ba<unk>"
    tokens, lengths = alphabet.encode_batch(["a", "!ab"])
    assert tokens.tolist() == [[3, 0, 0], [2, 3, 4]]
    assert lengths.tolist() == [1, 3]
    assert tokens.dtype == lengths.dtype == torch.int64


def test_the_alphabet_of_the_novels():
    alphabet = data.Alphabet(data.austen()["train"]["text"])
    assert len(alphabet) == 82
    assert alphabet.encode("é€").tolist() == [0, 0]  # in no training novel


def test_importing_the_module_does_not_import_datasets():
    import subprocess
    import sys

    code = "import sys, course.data; print('datasets' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_loading_is_silent(capfd):
    data.surnames()
    data.austen()
    assert capfd.readouterr() == ("", "")
