"""The course's data sets, from Parquet files in this package: no network, no cache. `data/SOURCES.md` says where each is from.

Splits are fixed and free of leaks; a last part of each is kept by the grader and is not in this package. `datasets` is
imported when a data set is first asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

DATA = Path(__file__).parent / "data"
UNKNOWN = "<unk>"


def read(path: Path) -> Dataset:
    """A Parquet file as a `datasets.Dataset` in memory. Raises FileNotFoundError where there is none."""
    import pyarrow.parquet
    from datasets import Dataset

    return Dataset(pyarrow.parquet.read_table(path))


def _splits(path: Path) -> DatasetDict:
    """A file's rows by their column `split`, in the order of the file."""
    from datasets import DatasetDict

    rows = read(path)
    names = rows["split"]
    members = {name: [i for i, other in enumerate(names) if other == name] for name in dict.fromkeys(names)}
    return DatasetDict({name: rows.select(at).remove_columns("split") for name, at in sorted(members.items())})


def surnames() -> DatasetDict:
    """Surnames and where their bearers come from: "train" (14,190 rows) and "validation" (1,778) of `name`, `label`.

    18 labels, at most 1,500 names each. Split by name: no name, letters folded to one case, is in two splits, not even
    under different labels; within each label about 80 % are in "train" and 10 % in "validation". The grader has the rest.
    """
    return _splits(DATA / "surnames.parquet")


def austen() -> DatasetDict:
    """Jane Austen's novels: "train" has five of them, "validation" volume one of `Persuasion`; rows of `novel`, `text`.

    No week trains on `Persuasion`. Its volume one (chapters 1 to 12, 215,529 characters) is for your own scores and the
    course's common curve; the grader has volume two.
    """
    return _splits(DATA / "austen.parquet")


class Alphabet:
    """The characters of some texts, numbered: 0 is `<unk>`, for every character not among them; the others are sorted."""

    def __init__(self, texts: Iterable[str]):
        self.symbols = [UNKNOWN, *sorted(set().union(*texts))]
        self._number = {symbol: i for i, symbol in enumerate(self.symbols)}

    def __len__(self) -> int:
        return len(self.symbols)

    def encode(self, text: str) -> Tensor:
        """(T,) int64, one number for each character."""
        return torch.tensor([self._number.get(char, 0) for char in text], dtype=torch.int64)

    def decode(self, tokens: Tensor | Sequence[int]) -> str:
        """The text of (T,) numbers. Unknown characters appear as `<unk>`."""
        return "".join(self.symbols[int(token)] for token in tokens)

    def encode_batch(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Several texts at once: tokens (B, T) int64, padded with 0 on the right, and their lengths (B,) int64."""
        lengths = torch.tensor([len(text) for text in texts], dtype=torch.int64)
        rows = [self.encode(text) for text in texts]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), lengths


@cache
def surname_alphabet() -> Alphabet:
    """The characters of the training names."""
    return Alphabet(surnames()["train"]["name"])


@cache
def surname_labels() -> tuple[str, ...]:
    """The 18 labels in the order of their numbers: alphabetical."""
    return tuple(sorted(set(surnames()["train"]["label"])))


def encode_surnames(rows: Dataset) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of `name`, `label` as tokens (N, T), lengths (N,) and labels (N,), all int64, numbered as above."""
    tokens, lengths = surname_alphabet().encode_batch(rows["name"])
    number = {label: i for i, label in enumerate(surname_labels())}
    return tokens, lengths, torch.tensor([number[label] for label in rows["label"]], dtype=torch.int64)


@cache
def novel_alphabet() -> Alphabet:
    """The 81 characters of the five training novels, and `<unk>`."""
    return Alphabet(austen()["train"]["text"])


def encode_novels(rows: Dataset) -> Tensor:
    """The texts of rows, one after the other, as (N,) int64."""
    return torch.cat([novel_alphabet().encode(text) for text in rows["text"]])
