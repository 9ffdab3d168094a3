"""Makes the data files that students get and those that only the grader has, from the original data sets.

    python solutions/heldout/make_splits.py ORIGINALS

ORIGINALS is a folder with the Parquet files named in course/data/SOURCES.md, under the same names, as their sources have
them: whole and without the column `split`. Nothing is drawn at random: the same originals give the same rows in the same
order.
"""

import hashlib
import math
import sys
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

HELDOUT = Path(__file__).parent
PUBLIC = HELDOUT.parents[1] / "course" / "data"
SPLITS = ("train", "validation", "test")
VOLUME_TWO = "Chapter 13\n"  # where the second volume of Persuasion begins

# Books of the Bible by number. Those that tell the same events in the same words (Samuel, Kings, Chronicles and Isaiah; the
# first three gospels; Jude and 2 Peter) all stay in train; both parts have a story, verse, a prophet, a history or gospel
# and a letter.
BOOKS = {
    "validation": (17, 18, 28, 32, 43, 45, 58),  # Esther, Job, Hosea, Jonah, John, Romans, Hebrews
    "test": (7, 20, 27, 44, 59),  # Judges, Proverbs, Daniel, Acts, James
}
# Entries of the Factbook that have a fifth or more of their runs of twelve words in common count as one.
SHARED_ENTRIES = {"Dhekelia": "Akrotiri", "Jersey": "Guernsey", "West Bank": "Gaza Strip", "Slovakia": "Czech Republic"}
REVIEW = 20  # rows left out between blocks of sentiment: longer than most reviews


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
        splits |= tenths(name for name in home if home[name] == label)
    return splits


def tenths(units: Iterable[str]) -> dict[str, str]:
    """The split of each unit: in the order of a hash, the first tenth is "test", the second "validation", the rest "train"."""
    ordered = sorted(set(units), key=_hash)
    tenth = math.ceil(len(ordered) / 10)
    return {unit: ("test", "validation", "train")[min(i // tenth, 2)] for i, unit in enumerate(ordered)}


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def split_persuasion(text: str) -> tuple[str, str]:
    """Volume one (chapters 1 to 12) and volume two (chapters 13 to 24). Raises ValueError where Chapter 13 is not found."""
    at = text.index("\n" + VOLUME_TWO) + 1
    return text[:at], text[at:]


def split_presidents(rows: list[dict]) -> dict[str, str]:
    """The split of every president, so that each split has both large parties and several periods.

    In each of the two parties, presidents in the order of their first message are counted off by six: the third is "test",
    the fifth "validation". The others, and every president of another party, are "train".
    """
    party: dict[str, str] = {}
    for row in sorted(rows, key=lambda row: row["year"]):
        party.setdefault(row["president"], row["party"])
    splits = dict.fromkeys(party, "train")
    for large in ("Democratic", "Republican"):
        for i, name in enumerate(name for name in party if party[name] == large):
            splits[name] = {2: "test", 4: "validation"}.get(i % 6, "train")
    return splits


def split_documents(docs: Iterable[str]) -> dict[str, str]:
    """The split of every document of Brown. Its first two letters are its genre: each split has some of every genre."""
    docs = set(docs)
    splits = {}
    for genre in {doc[:2] for doc in docs}:
        splits |= tenths(doc for doc in docs if doc[:2] == genre)
    return splits


def split_entries(titles: Iterable[str]) -> dict[str, str]:
    """The split of every entry of the Factbook, the same for entries that share much of their text."""
    home = {title: SHARED_ENTRIES.get(title, title) for title in titles}
    splits = tenths(home.values())
    return {title: splits[home[title]] for title in home}


def blocks(size: int, rounds: int, gap: int = 0) -> list[str | None]:
    """The splits of `size` rows in order: `rounds` times eight tenths "train", one tenth "validation", one tenth "test".

    The last `gap` rows before each change of split get None: they are left out, so that a text that runs over several rows
    is not in two splits.
    """
    places = [i * rounds * 10 // size % 10 for i in range(size)]
    splits = [{8: "validation", 9: "test"}.get(place, "train") for place in places]
    return [split if splits[min(i + gap, size - 1)] == split else None for i, split in enumerate(splits)]


def split_reviews(rows: list[dict]) -> list[str | None]:
    """The split of each row of sentiment: by blocks, in rounds of about a thousand rows within each domain.

    One block a split would not do: the movie rows have almost all praise first and all blame after it.
    """
    splits: list[str | None] = []
    for domain in dict.fromkeys(row["domain"] for row in rows):
        size = sum(row["domain"] == domain for row in rows)
        splits += blocks(size, rounds=round(size / 1000), gap=REVIEW)
    return splits


def split_manual(sentences: list[dict], summaries: dict[str, str]) -> list[str]:
    """The split of each sentence of GNOME's manual, given the splits of the summaries that begin its pages.

    Sentences come page after page; those of a page without a summary go with the page before. Nothing trains on GNOME's
    sentences, so pages whose summaries are in "train" are in "validation" here.
    """
    known = {fold(summary): split for summary, split in summaries.items()}
    splits, split = [], "validation"
    for row in sentences:
        split = known.get(fold(row["en"]), split)
        splits.append("test" if split == "test" else "validation")
    return splits


def fold(text: str) -> str:
    """A text as it is compared with others: stripped, letters folded to one case."""
    return text.strip().casefold()


def without_repeats(rows: list[dict], column: str, others: Iterable[str] = ()) -> list[dict]:
    """The rows less those of "train" whose text stands in "validation" or "test", and those of "validation" in "test".

    Rows whose text is in `others` go, whatever their split. Repeats within one split stay.
    """
    taken = {fold(text) for text in others}
    kept: list[dict] = []
    for split in reversed(SPLITS):
        part = [row for row in rows if row["split"] == split]
        left = [row for row in part if fold(row[column]) not in taken]
        print(f"dropped for their {column!r}: {len(part) - len(left)} of {len(part)} rows of {split}")
        taken |= {fold(row[column]) for row in left}
        kept = left + kept
    return kept


def with_splits(rows: list[dict], splits: Iterable[str | None]) -> list[dict]:
    """Each row with its split as the first column. Rows whose split is None go."""
    return [{"split": split, **row} for row, split in zip(rows, splits, strict=True) if split]


def write(path: Path, rows: list[dict]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path, compression="zstd", compression_level=19)
    print(f"{path}: {len(rows)} rows, {path.stat().st_size:,} bytes")


def publish(name: str, rows: list[dict]) -> None:
    """Write what students get of a data set, "train" before "validation", and what the grader keeps, "test"."""
    rows = sorted(rows, key=lambda row: SPLITS.index(row["split"]))
    write(PUBLIC / name, [row for row in rows if row["split"] != "test"])
    write(HELDOUT / name, [row for row in rows if row["split"] == "test"])


def main(originals: Path) -> None:
    def original(name: str) -> list[dict]:
        return pq.read_table(originals / name).to_pylist()

    surnames = original("surnames.parquet")
    surnames.sort(key=lambda row: (row["label"], _hash(row["name"])))
    splits = split_names(surnames)
    rows = [{"split": splits[row["name"].casefold()], "name": row["name"], "label": row["label"]} for row in surnames]
    write(PUBLIC / "surnames.parquet", [row for row in rows if row["split"] != "test"])
    write(HELDOUT / "surnames.parquet", [row for row in rows if row["split"] == "test"])

    novels = {row["novel"]: row["text"] for row in original("austen.parquet")}
    volume_one, volume_two = split_persuasion(novels.pop("Persuasion"))
    rows = [{"split": "train", "novel": novel, "text": novels[novel]} for novel in sorted(novels)]
    rows.append({"split": "validation", "novel": "Persuasion, volume one", "text": volume_one})
    write(PUBLIC / "austen.parquet", rows)
    write(HELDOUT / "persuasion.parquet", [{"split": "test", "novel": "Persuasion, volume two", "text": volume_two}])

    messages = original("sotu.parquet")
    presidents = split_presidents(messages)
    publish("sotu.parquet", with_splits(messages, (presidents[row["president"]] for row in messages)))

    help_texts = original("libreoffice_en_fr.parquet")
    pages = tenths(row["page"] for row in help_texts)
    libreoffice = without_repeats(with_splits(help_texts, (pages[row["page"]] for row in help_texts)), "en")
    publish("libreoffice_en_fr.parquet", libreoffice)

    verses = original("bible_en_fr.parquet")
    books = {book: split for split, numbers in BOOKS.items() for book in numbers}
    bible = without_repeats(with_splits(verses, (books.get(row["book"], "train") for row in verses)), "en")
    publish("bible_en_fr.parquet", bible)

    summaries = original("gnome_summaries.parquet")  # in the order of the manual, where pages that share text are near
    summaries = with_splits(summaries, blocks(len(summaries), rounds=5))
    publish("gnome_summaries.parquet", summaries)

    manual = original("gnome_en_fr.parquet")
    manual = with_splits(manual, split_manual(manual, {row["summary"]: row["split"] for row in summaries}))
    publish("gnome_en_fr.parquet", without_repeats(manual, "en", others=[row["en"] for row in libreoffice + bible]))

    sentences = original("brown_pos.parquet")
    documents = split_documents(row["doc"] for row in sentences)
    publish("brown_pos.parquet", with_splits(sentences, (documents[row["doc"]] for row in sentences)))

    reviews = original("sentiment.parquet")
    publish("sentiment.parquet", without_repeats(with_splits(reviews, split_reviews(reviews)), "text"))

    questions = original("factbook_qa.parquet")
    entries = split_entries(row["title"] for row in questions)
    publish("factbook_qa.parquet", with_splits(questions, (entries[row["title"]] for row in questions)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
