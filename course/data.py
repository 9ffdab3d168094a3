"""The course's data sets, from Parquet files in this package: no network, no cache. `data/SOURCES.md` says where each is from.

Splits are fixed and free of leaks; a last part of each is kept by the grader and is not in this package. `datasets` is
imported when a data set is first asked for.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict
    from tokenizers import Tokenizer

DATA = Path(__file__).parent / "data"
UNKNOWN = "<unk>"


def read(path: Path) -> Dataset:
    """A Parquet file as a `datasets.Dataset` in memory. Raises FileNotFoundError where there is none."""
    import pyarrow.parquet
    from datasets import Dataset

    return Dataset(pyarrow.parquet.read_table(path))


def _splits(path: Path) -> DatasetDict:
    """A file's rows by their column `split`, in the order of the file."""
    import pyarrow.compute
    import pyarrow.parquet
    from datasets import Dataset, DatasetDict

    rows = pyarrow.parquet.read_table(path)
    members = {name: pyarrow.compute.equal(rows["split"], name) for name in sorted(rows["split"].unique().to_pylist())}
    return DatasetDict({name: Dataset(rows.filter(mask).drop_columns("split")) for name, mask in members.items()})


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


def sotu() -> DatasetDict:
    """The presidents' messages to Congress on the state of the Union, 1790 to 2026, each whole: "train" and "validation".

    196 and 25 rows of `fileid`, `year`, `president`, `party`, `kind` ("written" or "spoken"), `text`. Split by president:
    "validation" has Buchanan, Benjamin Harrison, Hoover, Lyndon B. Johnson and George W. Bush. The grader has six others,
    28 messages. Every split has Democrats and Republicans; "train" has every quarter of a century.
    """
    return _splits(DATA / "sotu.parquet")


def libreoffice() -> DatasetDict:
    """LibreOffice's help in English and French: "train" (25,973 rows) and "validation" (3,295) of `page`, `en`, `fr`.

    Split by page: a tenth of the pages is in "validation", and the grader has another (3,393 rows). No `en` of one split,
    stripped and letters folded to one case, stands in another.
    """
    return _splits(DATA / "libreoffice_en_fr.parquet")


def bible() -> DatasetDict:
    """The Bible in English and French: "train" (24,997 rows) and "validation" (3,097) of `book`, `chapter`, `verse`, `en`, `fr`.

    Split by book, 1 to 66: "validation" is Esther, Job, Hosea, Jonah, John, Romans and Hebrews; the grader has Judges,
    Proverbs, Daniel, Acts and James (3,005 rows). No `en` of one split stands in another, compared as in `libreoffice`.
    """
    return _splits(DATA / "bible_en_fr.parquet")


def gnome() -> DatasetDict:
    """GNOME's manual in English and French, another domain to test on: "validation" only, 2,103 rows of `en`, `fr`.

    Split by page as in `gnome_summaries`, "train" counted as "validation" here; the grader has 178 rows. No `en` stands in
    any split of `libreoffice` or `bible`, compared as there.
    """
    return _splits(DATA / "gnome_en_fr.parquet")


def gnome_summaries() -> DatasetDict:
    """Pages of GNOME's manual and the one sentence that sums each up: "train" (161 rows), "validation" (20); `doc`, `summary`.

    Split by page, in runs of neighbours, which share most text. The grader has 20 more.
    """
    return _splits(DATA / "gnome_summaries.parquet")


def brown() -> DatasetDict:
    """Sentences of the Brown corpus: "train" (45,063 rows) and "validation" (6,088) of `doc`, `tokens`, `tags`.

    `tokens` and `tags` are lists of equal length; tags are the corpus's own (see `coarse_tag`). Split by document, a tenth
    of each of the 15 genres (the first two letters of `doc`) in "validation"; the grader has another (6,189 rows).
    """
    return _splits(DATA / "brown_pos.parquet")


def sentiment() -> DatasetDict:
    """Sentences of reviews: "train" (11,149 rows) and "validation" (1,133) of `domain`, `score`, `text`.

    `domain` is "movie" or "amazon", `score` the mean of people's ratings from -4 to 4; see `clear_opinions`. Split within
    each domain by blocks of consecutive rows, 20 rows left out between blocks, since a review's sentences follow each
    other. No text of one split stands in another. The grader has 1,168 rows.
    """
    return _splits(DATA / "sentiment.parquet")


def clear_opinions(rows: Dataset, least: float = 0.5) -> Dataset:
    """The rows of `sentiment` whose `score` is at least `least` away from 0, in their order."""
    return rows.select([i for i, score in enumerate(rows["score"]) if abs(score) >= least])


def factbook() -> DatasetDict:
    """Questions on entries of the World Factbook: "train" (2,015 rows) and "validation" (282), in SQuAD's layout.

    Rows of `title`, `context`, `question`, `answers` {`text`: [one], `answer_start`: [where it stands in `context`]}. Split
    by title: 195 entries, 27, and 25 (264 rows) that the grader has.
    """
    return _splits(DATA / "factbook_qa.parquet")


# The twelve tags of Petrov, Das and McDonald (2012, "A universal part-of-speech tagset"), each with its tags of Brown.
_BROWN = {
    "NOUN": "nn nns np nps nr nrs",
    "VERB": "vb vbd vbg vbn vbz be bed bedz beg bem ben ber bez do dod doz hv hvd hvg hvn hvz md",
    "ADJ": "jj jjr jjs jjt ap od",
    "ADV": "rb rbr rbt rn ql qlp wql wrb *",
    "PRON": "pn pp ppl ppls ppo pps ppss wp wpo wps ex",
    "DET": "abl abn abx at dt dti dts dtx wdt",
    "ADP": "in",
    "NUM": "cd",
    "CONJ": "cc cs",
    "PRT": "rp to uh",
    ".": ". , : ( ) -- ' '' ``",
    "X": "nil",
}
_COARSE = {tag: coarse for coarse, tags in _BROWN.items() for tag in tags.split()}
COARSE_TAGS = tuple(_BROWN)


def coarse_tag(tag: str) -> str:
    """One of the twelve COARSE_TAGS for a tag of the Brown corpus. Raises KeyError for a tag that the corpus does not have.

    Of a contraction the first part counts ("pps+bez", he's: PRON); marks of titles (-tl), headlines (-hl), cited words
    (-nc), negation (*) and possession ($) are stripped; a foreign word (fw-) is X. `*` by itself, "not", is ADV.
    """
    if tag.startswith("fw-"):
        return "X"
    return _COARSE[re.sub(r"(?<=.)(-tl|-hl|-nc|\*|\$)+$", "", tag.split("+")[0])]


class Alphabet:
    """The characters of some texts, numbered: 0 is `<unk>`, for every character not among them; the others are sorted.

    A text may also be a list of words; then the words are what is numbered.
    """

    def __init__(self, texts: Iterable[Iterable[str]]):
        self.symbols = [UNKNOWN, *sorted(set().union(*texts))]
        self._number = {symbol: i for i, symbol in enumerate(self.symbols)}

    def __len__(self) -> int:
        return len(self.symbols)

    def encode(self, text: Sequence[str]) -> Tensor:
        """(T,) int64, one number for each character, or for each word of a list."""
        return torch.tensor([self._number.get(char, 0) for char in text], dtype=torch.int64)

    def decode(self, tokens: Tensor | Sequence[int]) -> str:
        """The text of (T,) numbers. Unknown characters appear as `<unk>`."""
        return "".join(self.symbols[int(token)] for token in tokens)

    def encode_batch(self, texts: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor]:
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


# ------------------------------------------------------------------------------------------------ words and tags


def frequent(words: Iterable[str], least: int) -> Alphabet:
    """An Alphabet whose symbols are the words that occur at least so often."""
    return Alphabet([[word for word, count in Counter(words).items() if count >= least]])


@cache
def brown_words() -> Alphabet:
    """The words, letters folded to lower case, that occur at least five times in Brown's training documents."""
    return frequent((token.lower() for tokens in brown()["train"]["tokens"] for token in tokens), least=5)


def encode_brown(rows: Dataset, longest: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of `tokens`, `tags` as tokens (N, T), lengths (N,) and tags (N, T), all int64; no row has more than `longest` words.

    Words are numbered by `brown_words`, tags by COARSE_TAGS. Padding is 0 in both.
    """
    number = {tag: i for i, tag in enumerate(COARSE_TAGS)}
    numbered = cache(lambda tag: number[coarse_tag(tag)])
    tokens, lengths = brown_words().encode_batch([[word.lower() for word in row[:longest]] for row in rows["tokens"]])
    tags = [torch.tensor([numbered(tag) for tag in row[:longest]]) for row in rows["tags"]]
    return tokens, lengths, torch.nn.utils.rnn.pad_sequence(tags, batch_first=True)


def words_of(text: str) -> list[str]:
    """A text's words in lower case, with inner apostrophes, and every other mark by itself."""
    return re.findall(r"\w+(?:'\w+)*|[^\w\s]", text.lower())


@cache
def review_words() -> Alphabet:
    """The words that occur at least twice in the training reviews."""
    return frequent((word for text in sentiment()["train"]["text"] for word in words_of(text)), least=2)


def encode_reviews(rows: Dataset, longest: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of `text`, `score` as tokens (N, T), lengths (N,) and labels (N,), 1 for praise (a score above 0), all int64.

    A text without a word counts as one unknown word. No row has more than `longest` words.
    """
    texts = [words_of(text)[:longest] or [UNKNOWN] for text in rows["text"]]
    return *review_words().encode_batch(texts), torch.tensor([int(score > 0) for score in rows["score"]])


# -------------------------------------------------------------------------------------- word pieces and a translator


def learn_pieces(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A byte-pair vocabulary (Sennrich et al. 2016) of texts; the same texts always give the same.

    0 to 3 are padding, unknown, begin and end. Pieces do not go beyond a word, a digit or a mark; `▁` stands for the space
    before a word. `decode` gives back a text whose characters are all known as it was, but for repeated spaces.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    units = pre_tokenizers.Split(Regex(r" ?\p{L}+| ?\d| ?[^\s\p{L}\d]|\s+"), "isolated")
    spaces = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([units, spaces])
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    special = ["<pad>", "<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


@cache
def pieces() -> Tokenizer:
    """4,000 word pieces, learned by `learn_pieces` from the English and French of LibreOffice's training pages together."""
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(DATA / "pieces.json"))


def encode_pairs(rows: Dataset, longest: int | None = None) -> tuple[list[list[int]], list[list[int]]]:
    """Rows of `en`, `fr` in `pieces`: sources, each with an end, and targets, each from begin (2) to end (3).

    Pairs of which a side has more than `longest` pieces are left out.
    """
    english, french = ([found.ids for found in pieces().encode_batch(list(rows[side]))] for side in ("en", "fr"))
    pairs = zip(english, french, strict=True)
    kept = [(en, fr) for en, fr in pairs if longest is None or max(len(en), len(fr)) <= longest]
    return [[*en, 3] for en, _ in kept], [[2, *fr, 3] for _, fr in kept]


TRANSLATOR = DATA / "translator.safetensors"


def translator() -> tuple[dict[str, int], dict[str, Tensor], dict[str, Any]]:
    """A translator from English to French that was trained longer than a notebook can, for `pieces`.

    Returns the sizes by which a `Transformer` is built, its parameters by name, float32, and how it was trained: the
    processor's `seconds`, `updates`, and `points` (update, seconds, bits per character of held-out French).
    """
    return trained(TRANSLATOR)


def save_trained(path: Path, model: torch.nn.Module, sizes: dict[str, int], training: dict[str, Any]) -> None:
    """Writes a model's parameters in half precision, with what it is built from and how it was trained."""
    from safetensors.torch import save_file

    weights = {name: value.detach().half().cpu().contiguous() for name, value in model.named_parameters()}
    save_file(weights, path, {"sizes": json.dumps(sizes), "training": json.dumps(training)})


def trained(path: Path) -> tuple[dict[str, int], dict[str, Tensor], dict[str, Any]]:
    """(sizes, parameters in float32, training) of what `save_trained` wrote."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        told = file.metadata()
    return json.loads(told["sizes"]), weights, json.loads(told["training"])


def novelist(kind: str) -> tuple[dict[str, int], dict[str, Tensor], dict[str, Any]]:
    """A language model of Austen's five novels, trained longer than in week 6's notebook: "chars" or "lstm".

    Returns the sizes by which a `GPT` or a `CharLSTM` is built, its parameters, and how it was trained: the processor's
    `seconds`, `updates`, and `points` (update, seconds, characters seen, bits per character at the beginning of
    *Persuasion*).
    """
    return trained(DATA / f"novelist_{kind}.safetensors")


BERT, BERT_VOCAB = DATA / "bert.safetensors", DATA / "bert_vocab.txt"


def bert() -> tuple[dict[str, int], dict[str, Tensor], dict[str, Any]]:
    """A BERT that was pretrained on the presidents' messages and five novels for longer than a notebook can.

    Returns the sizes by which a `Bert` is built, its parameters, and how it was trained: the processor's `seconds`, `updates`,
    and `points`, which are figures of text that it has not seen, by update.
    """
    return trained(BERT)


def bert_vocab() -> dict[str, int]:
    """The word pieces of `bert`, each with its number: a file in BERT's own form, one piece a line."""
    return {piece: number for number, piece in enumerate(BERT_VOCAB.read_text("utf-8").split("\n")[:-1])}
