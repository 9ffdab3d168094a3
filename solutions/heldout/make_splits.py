"""Makes the data files that students get and those that only the grader has, from the original data sets.

    python solutions/heldout/make_splits.py ORIGINALS

ORIGINALS is a folder with surnames.parquet (name, label) and austen.parquet (novel, text), whose sources are named in
course/data/SOURCES.md. Nothing is drawn at random: the same originals give the same rows in the same order.
"""

import hashlib
import math
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

HELDOUT = Path(__file__).parent
PUBLIC = HELDOUT.parents[1] / "course" / "data"
VOLUME_TWO = "Chapter 13\n"  # where the second volume of Persuasion begins


def split_names(rows: list[dict]) -> dict[str, str]:
    """The split of every name, case-folded: "test" for a tenth of each label's names, "validation" for another.

    A name that has several labels, or is written in two ways, counts with the first of its labels in the alphabet, and all
    of its rows go with it. Within a label, names are ordered by a hash of their letters.
    """
    home: dict[str, str] = {}
    for row in rows:
        name = row["name"].casefold()
        home[name] = min(home.get(name, row["label"]), row["label"])
    splits = {}
    for label in sorted(set(home.values())):
        names = sorted((name for name in home if home[name] == label), key=_hash)
        tenth = math.ceil(len(names) / 10)
        for i, name in enumerate(names):
            splits[name] = ("test", "validation", "train")[min(i // tenth, 2)]
    return splits


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def split_persuasion(text: str) -> tuple[str, str]:
    """Volume one (chapters 1 to 12) and volume two (chapters 13 to 24). Raises ValueError where Chapter 13 is not found."""
    at = text.index("\n" + VOLUME_TWO) + 1
    return text[:at], text[at:]


def write(path: Path, rows: list[dict]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path, compression="zstd", compression_level=19)
    print(f"{path}: {len(rows)} rows, {path.stat().st_size:,} bytes")


def main(originals: Path) -> None:
    surnames = pq.read_table(originals / "surnames.parquet").to_pylist()
    surnames.sort(key=lambda row: (row["label"], _hash(row["name"])))
    splits = split_names(surnames)
    rows = [{"split": splits[row["name"].casefold()], "name": row["name"], "label": row["label"]} for row in surnames]
    write(PUBLIC / "surnames.parquet", [row for row in rows if row["split"] != "test"])
    write(HELDOUT / "surnames.parquet", [row for row in rows if row["split"] == "test"])

    novels = {row["novel"]: row["text"] for row in pq.read_table(originals / "austen.parquet").to_pylist()}
    volume_one, volume_two = split_persuasion(novels.pop("Persuasion"))
    rows = [{"split": "train", "novel": novel, "text": novels[novel]} for novel in sorted(novels)]
    rows.append({"split": "validation", "novel": "Persuasion, volume one", "text": volume_one})
    write(PUBLIC / "austen.parquet", rows)
    write(HELDOUT / "persuasion.parquet", [{"split": "test", "novel": "Persuasion, volume two", "text": volume_two}])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
