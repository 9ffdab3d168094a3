"""The splits are what their docstrings say, nothing leaks between them, and no network is used."""

import importlib.util
import socket
from collections import Counter
from functools import cache
from itertools import combinations
from pathlib import Path

import pytest
import torch

from course import data

HELDOUT = Path(__file__).parents[2] / "solutions" / "heldout"


# Of each data set: the function, the file, the rows of each split, the column of its unit and the column of its text.
SETS = {
    "sotu": ("sotu", (196, 25, 28), "president", "text"),
    "libreoffice": ("libreoffice_en_fr", (25973, 3295, 3393), "page", "en"),
    "bible": ("bible_en_fr", (24997, 3097, 3005), "book", "en"),
    "gnome": ("gnome_en_fr", (0, 2103, 178), None, "en"),
    "gnome_summaries": ("gnome_summaries", (161, 20, 20), "summary", "doc"),
    "brown": ("brown_pos", (45063, 6088, 6189), "doc", None),
    "sentiment": ("sentiment", (11149, 1133, 1168), None, "text"),
    "factbook": ("factbook_qa", (2015, 282, 264), "title", "context"),
}
SPLITS = ("train", "validation", "test")


@cache
def table(name):
    """The three splits of a data set, each as a dict of columns, read once."""
    public = getattr(data, name)()
    assert "test" not in public
    kept = data.read(HELDOUT / f"{SETS[name][0]}.parquet")
    assert set(kept["split"]) == {"test"}
    parts = {**public, "test": kept.remove_columns("split")}
    assert len({tuple(rows.column_names) for rows in parts.values()}) == 1
    return {split: rows.to_dict() for split, rows in parts.items()}


def in_two_splits(name, column):
    """The values of a column, case-folded, that more than one split has."""
    values = {split: {str(value).strip().casefold() for value in rows[column]} for split, rows in table(name).items()}
    return set().union(*(values[a] & values[b] for a, b in combinations(values, 2)))


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
    pairs = [pair for part in by_split.values() for pair in zip(part["name"], part["label"], strict=True)]
    rows = [{"name": name, "label": label} for name, label in pairs]
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


@pytest.mark.parametrize("name", SETS)
def test_sizes(name):
    _, sizes, _, _ = SETS[name]
    found = {split: len(next(iter(rows.values()))) for split, rows in table(name).items()}
    assert found == {split: size for split, size in zip(SPLITS, sizes, strict=True) if size}


@pytest.mark.parametrize("name", [name for name, (_, _, unit, _) in SETS.items() if unit])
def test_no_unit_is_in_two_splits(name):
    assert not in_two_splits(name, SETS[name][2])


@pytest.mark.parametrize("name", [name for name, (_, _, _, text) in SETS.items() if text])
def test_no_text_is_in_two_splits(name):
    assert not in_two_splits(name, SETS[name][3])


def test_every_file_of_the_grader_has_a_public_one_and_a_test():
    kept = {path.stem for path in HELDOUT.glob("*.parquet")}
    public = {path.stem for path in data.DATA.glob("*.parquet")}
    assert kept == {"surnames", "persuasion"} | {file for file, *_ in SETS.values()}
    assert public == kept - {"persuasion"} | {"austen"}


def test_sotu_keeps_parties_and_periods_in_train():
    for rows in table("sotu").values():
        parties = Counter(rows["party"])
        assert min(parties["Democratic"], parties["Republican"]) >= 10
    train = table("sotu")["train"]
    assert {year // 25 * 25 for year in train["year"]} == set(range(1775, 2050, 25))
    assert len(set(train["party"])) == 7


def test_presidents_are_counted_off_within_the_large_parties(splits):
    rows = [
        {"president": name, "year": table("sotu")[split]["year"][i], "party": table("sotu")[split]["party"][i]}
        for split in table("sotu")
        for i, name in enumerate(table("sotu")[split]["president"])
    ]
    made = splits.split_presidents(rows)
    for split, part in table("sotu").items():
        assert {made[name] for name in part["president"]} == {split}
    rows = [{"president": str(i), "year": 2000 - i, "party": "Whig" if i > 6 else "Democratic"} for i in range(10)]
    assert splits.split_presidents(rows) == {str(i): {4: "test", 2: "validation"}.get(i, "train") for i in range(10)}


def test_bible_is_split_by_the_books_named(splits):
    books = {split: set(rows["book"]) for split, rows in table("bible").items()}
    assert books["validation"] == set(splits.BOOKS["validation"])
    assert books["test"] == set(splits.BOOKS["test"])
    assert len(books["train"]) == 66 - 7 - 5


def test_gnome_has_no_sentence_of_the_other_parallel_texts(splits):
    others = {
        splits.fold(en) for name in ("libreoffice", "bible") for rows in table(name).values() for en in rows["en"]
    }
    assert not [en for rows in table("gnome").values() for en in rows["en"] if splits.fold(en) in others]


def test_gnome_is_split_where_its_summaries_are(splits):
    pages = {split: {splits.fold(text) for text in rows["summary"]} for split, rows in table("gnome_summaries").items()}
    sentences = {split: {splits.fold(text) for text in rows["en"]} for split, rows in table("gnome").items()}
    assert not pages["test"] & sentences["validation"]
    assert not (pages["train"] | pages["validation"]) & sentences["test"]
    assert len(pages["test"] & sentences["test"]) >= 19


def test_sentences_without_a_summary_go_with_the_page_before(splits):
    rows = [{"en": text} for text in ("before", "One.", "a", " two.", "b", "Three.", "c")]
    made = splits.split_manual(rows, {"One.": "train", "Two.": "test", "Three.": "validation"})
    assert made == ["validation"] * 3 + ["test"] * 2 + ["validation"] * 2


def test_brown_has_every_genre_in_every_split():
    documents = {split: set(rows["doc"]) for split, rows in table("brown").items()}
    assert [len(documents[split]) for split in SPLITS] == [392, 54, 54]
    for docs in documents.values():
        assert {doc[:2] for doc in docs} == {"c" + letter for letter in "abcdefghjklmnpr"}
    for rows in table("brown").values():
        assert all(len(tokens) == len(tags) > 0 for tokens, tags in zip(rows["tokens"], rows["tags"], strict=True))


def test_every_tag_of_brown_has_a_coarse_one():
    tags = {tag for rows in table("brown").values() for row in rows["tags"] for tag in row}
    assert len(tags) == 472
    assert {data.coarse_tag(tag) for tag in tags} == set(data.COARSE_TAGS)
    assert len(data.COARSE_TAGS) == 12


@pytest.mark.parametrize(
    ("tag", "coarse"),
    [
        ("nn-tl-hl", "NOUN"),
        ("np$", "NOUN"),
        ("bez*", "VERB"),
        ("pp$$", "PRON"),
        ("pps+bez-nc", "PRON"),
        ("*", "ADV"),
        ("*-hl", "ADV"),
        ("---hl", "."),
        ("fw-in+at-t", "X"),
        ("nil", "X"),
    ],
)
def test_coarse_tag(tag, coarse):
    assert data.coarse_tag(tag) == coarse


@pytest.mark.parametrize("tag", ["", "zz", "NN", "-tl"])
def test_coarse_tag_refuses_what_brown_does_not_have(tag):
    with pytest.raises(KeyError):
        data.coarse_tag(tag)


def test_sentiment_has_praise_and_blame_of_both_domains_in_every_split():
    for rows in table("sentiment").values():
        for domain in ("movie", "amazon"):
            scores = [score for score, other in zip(rows["score"], rows["domain"], strict=True) if other == domain]
            assert len(scores) > 250
            assert 0.4 < sum(score > 0 for score in scores) / len(scores) < 0.65
        assert all(-4 <= score <= 4 for score in rows["score"])


def test_blocks_leave_a_gap_between_splits(splits):
    made = splits.blocks(1000, rounds=2, gap=20)
    assert [made.count(split) for split in (*SPLITS, None)] == [760, 60, 80, 100]
    assert made[379:401] == ["train"] + [None] * 20 + ["validation"]
    assert made[429:451] == ["validation"] + [None] * 20 + ["test"]
    assert made[479:501] == ["test"] + [None] * 20 + ["train"]
    assert made[-1] == "test"
    assert None not in splits.blocks(201, rounds=5)


def test_clear_opinions_are_those_far_from_zero():
    rows = data.sentiment()["validation"]
    clear = data.clear_opinions(rows)
    assert clear["score"] == [score for score in rows["score"] if score >= 0.5 or score <= -0.5]
    assert len(clear) == 1020
    assert len(data.clear_opinions(rows, least=0)) == len(rows)


def test_factbook_spans_are_exact():
    for rows in table("factbook").values():
        for context, answers in zip(rows["context"], rows["answers"], strict=True):
            [text], [start] = answers["text"], answers["answer_start"]
            assert text and context[start : start + len(text)] == text


def test_factbook_entries_that_share_text_go_together(splits):
    home = {title: split for split, rows in table("factbook").items() for title in rows["title"]}
    assert all(home[a] == home[b] for a, b in splits.SHARED_ENTRIES.items())
    assert splits.split_entries(home) == home


def test_repeats_leave_train_first(splits):
    rows = [{"split": split, "en": en} for split in SPLITS for en in (split, f" {split.upper()} ", "All", "None")]
    rows.append({"split": "train", "en": "Validation"})
    kept = splits.without_repeats(rows, "en", others=["none"])
    assert [(row["split"], row["en"]) for row in kept] == [
        ("train", "train"),
        ("train", " TRAIN "),
        ("validation", "validation"),
        ("validation", " VALIDATION "),
        ("test", "test"),
        ("test", " TEST "),
        ("test", "All"),
    ]


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


def test_words_can_be_numbered_too():
    words = data.frequent(["a", "b", "a", "c", "b", "a"], least=2)
    assert words.symbols == ["<unk>", "a", "b"]
    assert words.encode(["b", "c", "a"]).tolist() == [2, 0, 1]
    assert data.words_of("Don't go; it's 5 o'clock!") == ["don't", "go", ";", "it's", "5", "o'clock", "!"]


def test_brown_as_numbers():
    rows = data.brown()["validation"].select(range(20))
    tokens, lengths, tags = data.encode_brown(rows, longest=12)
    assert tokens.shape == tags.shape == (20, 12) and int(lengths.max()) == 12
    for words, marks, row, length, numbers in zip(rows["tokens"], rows["tags"], tokens, lengths, tags, strict=True):
        assert int(length) == min(len(words), 12)
        assert torch.equal(row[:length], data.brown_words().encode([word.lower() for word in words[:12]]))
        assert [data.COARSE_TAGS[i] for i in numbers[:length]] == [data.coarse_tag(mark) for mark in marks[:12]]
        assert not row[length:].any() and not numbers[length:].any()
    assert data.brown_words().encode(["the", "The"]).ne(0).tolist() == [True, False]  # lower case only


def test_reviews_as_numbers():
    rows = data.clear_opinions(data.sentiment()["validation"])
    tokens, lengths, labels = data.encode_reviews(rows, longest=40)
    assert tokens.shape == (1020, 40) and int(lengths.min()) >= 1
    assert labels.tolist() == [int(score >= 0.5) for score in rows["score"]]
    real = torch.arange(40) < lengths.unsqueeze(1)
    assert (tokens[real] == 0).double().mean() < 0.1  # most words of other reviews are known
    assert not tokens[~real].any()


def test_importing_the_module_does_not_import_datasets():
    import subprocess
    import sys

    code = "import sys, course.data; print('datasets' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_loading_is_silent(capfd):
    for load in (data.surnames, data.austen, data.gnome, data.factbook):
        load()
    data.clear_opinions(data.sentiment()["validation"])
    assert capfd.readouterr() == ("", "")


# -------------------------------------------------------------------------------------- word pieces and a translator


def test_pieces_are_those_that_the_training_pages_give():
    rows = data.libreoffice()["train"]
    learned = data.learn_pieces([*rows["en"], *rows["fr"]], vocab_size=4000)
    assert learned.get_vocab() == data.pieces().get_vocab()
    assert learned.get_vocab_size() == 4000
    assert [data.pieces().id_to_token(i) for i in range(4)] == ["<pad>", "<unk>", "<s>", "</s>"]


def test_pieces_give_back_the_text():
    texts = data.libreoffice()["validation"]["fr"][:300]
    encoded = data.pieces().encode_batch(list(texts))
    assert data.pieces().decode_batch([found.ids for found in encoded]) == list(texts)


def test_pairs_begin_and_end_and_none_is_too_long():
    rows = data.libreoffice()["validation"].select(range(200))
    sources, targets = data.encode_pairs(rows)
    assert len(sources) == len(targets) == 200
    assert all(row[-1] == 3 and 3 not in row[:-1] and 2 not in row for row in sources)
    assert all(row[0] == 2 and row[-1] == 3 and not {2, 3} & set(row[1:-1]) for row in targets)
    some, others = data.encode_pairs(rows, longest=20)
    fits = [i for i in range(200) if len(sources[i]) <= 21 and len(targets[i]) <= 22]
    assert some == [sources[i] for i in fits] and others == [targets[i] for i in fits] and 0 < len(fits) < 200


def test_a_saved_translator_comes_back(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "TRANSLATOR", tmp_path / "translator.safetensors")
    model = torch.nn.Linear(3, 4)
    data.save_trained(data.TRANSLATOR, model, {"d_model": 3}, {"seconds": 1, "points": [[1, 2, 0.5]]})
    sizes, weights, training = data.translator()
    assert (sizes, training) == ({"d_model": 3}, {"seconds": 1, "points": [[1, 2, 0.5]]})
    assert weights.keys() == {"weight", "bias"} and weights["weight"].dtype == torch.float32
    torch.testing.assert_close(weights["weight"], model.weight.detach(), rtol=1e-3, atol=1e-4)
