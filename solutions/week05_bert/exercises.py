"""Week 5: points, cases and mistakes of the exercises on BERT.

B batch, T time, D model width, V vocabulary, C choices. Cases are small, float32, with random weights that are not square
where they need not be; every random number comes from the generator handed in.
"""

from pathlib import Path

import torch
from torch import Tensor

from autograder import Artifact, Exercise, Mistake, thresholds
from autograder.draws import integers, normal, uniform
from course.data import read
from course.drives.week05_bert import hidden_pieces, score_pretraining

Cases = list[tuple[str, dict]]

PAD, UNKNOWN, CLS, SEP, MASK = range(5)
NUM_SPECIAL = 5
IGNORE = -100


def real(lengths: list[int], size: int) -> Tensor:
    """(B, size): True where a row has something, that is before its length."""
    return torch.arange(size) < torch.tensor(lengths).unsqueeze(1)


def shuffled(rng: torch.Generator, items: list) -> list:
    return [items[i] for i in torch.randperm(len(items), generator=rng).tolist()]


# ------------------------------------------------------------------------------------------- text to tokens: cases

# With the letters a to h: "abcf" has a dead end (abc, then f), "g" only continues a word, "h" is in no piece at all, "bcde" is
# cut in another way from the right.
BEGINNING = ["a", "b", "c", "d", "e", "ab", "abc", "da"]
CONTINUING = ["##a", "##b", "##c", "##d", "##e", "##g", "##cd", "##de", "##bc", "##cf"]


def wordpiece_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, words: list[str], letters: str, longest: int) -> tuple[str, dict]:
        """The words and pieces above, written in eight other letters."""
        letters = "".join(shuffled(rng, list(letters))[:8])
        table = str.maketrans("abcdefgh", letters)
        pieces = [piece.translate(table) for piece in shuffled(rng, BEGINNING + CONTINUING)]
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        inputs = {
            "words": [word.translate(table) for word in shuffled(rng, words)],
            "vocab": {piece: number for number, piece in enumerate([*special, *pieces])},
            "max_input_chars": longest,
        }
        return kind, inputs

    def drawn(number: int, least: int = 1, most: int = 7) -> list[str]:
        lengths = (least + integers(rng, most - least + 1, number)).tolist()
        return ["".join("abcde"[i] for i in integers(rng, 5, length).tolist()) for length in lengths]

    latin, greek = "abcdefghijklmnopqrstuvwxyz", "αβγδεζηθικλμνξοπρστυφχψω"
    fitting = ["abcde", "cab", "dabc", "bcde", "a", "abc"]
    return [
        case("words of one piece and of several", fitting + drawn(4), latin, 100),
        case(
            "words with a part that no piece fits", ["abcf", "ga", "abhb", "hab", "cag", "abh", "h", "ec"], latin, 100
        ),
        case("words as long as allowed, and longer", ["abcde", "abcdee", "bcded", "e", *drawn(3, 6, 9)], latin, 5),
        case("letters of two bytes", ["abcde", "dabc", "bcde", "cabcd", *drawn(3, 4, 5)], greek, 6),
    ]


def pack_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, a: int, b: int | None, length: int) -> tuple[str, dict]:
        def part(size: int) -> list[int]:
            return (NUM_SPECIAL + integers(rng, 90, size)).tolist()

        return kind, {"a": part(a), "b": None if b is None else part(b), "max_length": length}

    return [
        case("two parts with room to spare", 5, 3, 12),
        case("a first part that is too long", 9, 4, 11),
        case("a second part that is too long", 3, 9, 12),
        case("two parts that are both too long", 8, 7, 10),
        case("one part alone, with room to spare", 4, None, 9),
        case("one part alone that is too long", 9, None, 8),
        case("a second part with nothing in it", 3, 0, 7),
    ]


# ------------------------------------------------------------------------------------------------ two games: cases


def masking_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, lengths: list[int], size: int, share: float) -> tuple[str, dict]:
        """Rows [CLS] ... [SEP] and padding. Two fifths of the words are chosen, in all three ways; draws keep off thresholds."""
        tokens = NUM_SPECIAL + integers(rng, 7, len(lengths), size)
        tokens[:, 0] = CLS
        for row, length in zip(tokens, lengths, strict=True):
            row[length - 1 :] = PAD
            row[length - 1] = SEP
            row[length // 2] = UNKNOWN
        could = (tokens >= NUM_SPECIAL).flatten().nonzero().squeeze(1)
        could = could[torch.randperm(len(could), generator=rng)]
        tokens.view(-1)[could[:3]] = NUM_SPECIAL  # the first word of all, once hidden, once exchanged and once kept
        choose = 0.05 + 0.9 * uniform(rng, tokens.numel())  # of those that are special some would be chosen
        choose = torch.where((choose - share).abs() < 0.02, share - 0.02, choose)
        most = max(len(could) * 2 // 5, 9)
        choose[could[:most]] = share * (0.1 + 0.8 * uniform(rng, most))
        choose[could[most:]] = share + (1 - share) * (0.1 + 0.8 * uniform(rng, len(could) - most))
        choose[(tokens < NUM_SPECIAL).flatten().nonzero().squeeze(1)[::2]] = 0.5 * share
        choose[tokens.flatten() == UNKNOWN] = 0.3 * share
        action = 0.1 + 0.65 * uniform(rng, tokens.numel())
        exchanged, kept = could[1:most:3], could[2:most:3]
        action[exchanged] = 0.83 + 0.05 * uniform(rng, len(exchanged))
        action[exchanged[:1]] = 0.81  # also a tenth of what 80 % leave over
        action[kept] = 0.92 + 0.06 * uniform(rng, len(kept))
        inputs = {
            "tokens": tokens,
            "choose": choose.view(tokens.shape),
            "action": action.view(tokens.shape),
            "replacement": 20 + integers(rng, 30, *tokens.shape),
            "share": share,
        }
        return kind, inputs

    return [
        case("full rows", [14, 14], 14, 0.15),
        case("rows with padding", [16, 9, 12], 16, 0.15),
        case("another share", [12, 15], 15, 0.4),
    ]


def pair_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, sizes: list[int], pairs: int) -> tuple[str, dict]:
        """Draws that keep off the borders between two numbers; false pairs just before, at and behind the own document."""
        documents = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
        followed = [i for i in range(len(documents) - 1) if documents[i] == documents[i + 1]]
        first, coin, other = [], [], []
        for number in range(pairs):
            which = int(integers(rng, len(followed)))
            own = documents == documents[followed[which]]
            start, others = int(own.nonzero()[0]), int((~own).sum())
            k = [start - 1, start, int(integers(rng, others)), others - 1][number // 2 % 4]
            k = min(max(k, 0), others - 1)
            within = 0.2 + 0.6 * uniform(rng, 3)
            first.append((which + float(within[0])) / len(followed))
            other.append((k + float(within[1])) / others)
            coin.append(0.5 * (number % 2) + 0.1 + 0.5 * float(within[2]) * 0.8)
        draws = {"first": torch.tensor(first), "coin": torch.tensor(coin), "other": torch.tensor(other)}
        return kind, {"documents": documents} | draws

    some = (2 + integers(rng, 4, 4)).tolist()
    return [
        case("documents of several sentences", some, 16),
        case("documents of one sentence among them", shuffled(rng, [4, 1, 3, 1, 6]), 16),
        case("two documents", [3, 4], 16),
    ]


# ------------------------------------------------------------------------------------------------ the model: cases


def norm_weights(rng: torch.Generator, width: int) -> dict[str, Tensor]:
    return {"weight": normal(rng, width, mean=1.0, scale=0.4), "bias": normal(rng, width, scale=0.4)}


def linear_weights(rng: torch.Generator, out: int, width: int, scale: float = 1.5) -> dict[str, Tensor]:
    return {"weight": normal(rng, out, width, scale=scale * width**-0.5), "bias": normal(rng, out, scale=0.5)}


def under(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": value for name, value in weights.items()}


def halves(rng: torch.Generator, rows: int, size: int) -> Tensor:
    """(rows, size): segments, 0 and then 1, each at least once where there is room."""
    borders = 1 + integers(rng, max(size - 1, 1), rows, 1)
    return (torch.arange(size) >= borders).long()


def embedding_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, rows: int, size: int, sizes: tuple[int, int, int]) -> tuple[str, dict]:
        vocab, positions, width = sizes
        weights = {
            "word_embeddings.weight": normal(rng, vocab, width),
            "position_embeddings.weight": normal(rng, positions, width),
            "token_type_embeddings.weight": normal(rng, 2, width),
        } | under("LayerNorm", norm_weights(rng, width))
        inputs = {
            "weights": weights,
            "tokens": NUM_SPECIAL + integers(rng, vocab - NUM_SPECIAL, rows, size),
            "segments": halves(rng, rows, size),
            "upstream": normal(rng, rows, size, width),
        }
        return kind, inputs

    return [
        case("two rows", 2, 4, (11, 7, 6)),
        case("as many rows as tokens in each", 3, 3, (12, 5, 4)),
        case("a single token", 1, 1, (9, 3, 5)),
    ]


def model_cases(rng: torch.Generator) -> Cases:
    def case(
        kind: str, lengths: list[int], size: int, layers: int, sizes: tuple[int, int, int, int]
    ) -> tuple[str, dict]:
        vocab, width, heads, inner = sizes
        weights = {
            "embeddings.word_embeddings.weight": normal(rng, vocab, width),
            "embeddings.token_type_embeddings.weight": normal(rng, 2, width),
        } | under("pooler", linear_weights(rng, width, width, 0.7))
        for i in range(layers):
            for name in ("query", "key", "value", "output"):
                weights |= under(f"layers.{i}.attention.{name}", linear_weights(rng, width, width))
            weights |= under(f"layers.{i}.linear1", linear_weights(rng, inner, width, 1.8))
            weights |= under(f"layers.{i}.linear2", linear_weights(rng, width, inner, 2.5))
            weights |= under(f"layers.{i}.norm1", norm_weights(rng, width))
            weights |= under(f"layers.{i}.norm2", norm_weights(rng, width))
        rows = len(lengths)
        inputs = {
            "weights": weights,
            "num_heads": heads,
            "tokens": NUM_SPECIAL + integers(rng, vocab - NUM_SPECIAL, rows, size),
            "segments": halves(rng, rows, size),
            "mask": real(lengths, size),
            "upstream_hidden": normal(rng, rows, size, width),
            "upstream_pooled": normal(rng, rows, width),
        }
        return kind, inputs

    return [
        case("two layers, rows of unequal length", [5, 3], 5, 2, (12, 6, 2, 9)),
        case("one layer, padding beyond the longest", [2, 4, 3], 5, 1, (10, 4, 1, 7)),
        case("two layers, as many rows as tokens in each", [3, 2, 1], 3, 2, (11, 6, 3, 5)),
    ]


# ------------------------------------------------------------------------------------------------- the loss: cases


def loss_cases(rng: torch.Generator) -> Cases:
    def case(
        kind: str, asked: list[list[int]], next_labels: list[int] | None, sizes: tuple[int, int, int]
    ) -> tuple[str, dict]:
        """`asked` has the positions of each row at which a word is to be guessed."""
        (size, width, vocab), rows = sizes, len(asked)
        labels = torch.full((rows, size), IGNORE)
        for row, places in zip(labels, asked, strict=True):
            for place in places:
                row[place] = int(integers(rng, vocab))
        if asked[0]:
            labels[0, asked[0][0]] = 0  # a label like any other
        weights = under("dense", linear_weights(rng, width, width)) | under("norm", norm_weights(rng, width))
        weights |= {"bias": normal(rng, vocab, scale=0.7)}
        weights |= under("next_sentence", linear_weights(rng, 2, width))
        inputs = {
            "weights": weights,
            "word_embeddings": normal(rng, vocab, width),
            "hidden": normal(rng, rows, size, width),
            "pooled": torch.tanh(normal(rng, rows, width)),
            "labels": labels,
            "next_labels": None if next_labels is None else torch.tensor(next_labels),
        }
        return kind, inputs

    return [
        case("words and pairs", [[1, 3], [0, 2, 4]], [0, 1], (5, 4, 9)),
        case("more of both", [[2], [1, 5], [3]], [1, 0, 0], (6, 5, 8)),
        case("a row with no word to guess", [[1, 2], []], [1, 0], (4, 6, 7)),
        case("no word to guess at all", [[], []], [0, 1], (3, 4, 6)),
        case("words without pairs", [[0], [1, 2]], None, (3, 5, 7)),
    ]


# ---------------------------------------------------------------------------------------------------- spans: cases


def span_cases(rng: torch.Generator) -> Cases:
    def case(
        kind: str, rows: int, size: int, longest: int, whole: bool = False, shift: float = 0.0
    ) -> tuple[str, dict]:
        begin = 1 + integers(rng, 3, rows, 1)
        end = size - 1 - integers(rng, 2, rows, 1)
        place = torch.arange(size)
        everywhere = torch.ones(rows, size, dtype=torch.bool)
        start_logits, end_logits = (2 * normal(rng, rows, size) + shift for _ in range(2))
        if not whole:  # the best start of one row and the best end of another lie just outside
            start_logits[0, begin[0] - 1] = 12.0
            end_logits[1, end[1]] = 12.0
        inputs = {
            "start_logits": start_logits,
            "end_logits": end_logits,
            "allowed": everywhere if whole else (place >= begin) & (place < end),
            "max_length": longest,
        }
        return kind, inputs

    kind, ties = case("small whole numbers, so that several are equally good", 12, 9, 3)
    ties["start_logits"], ties["end_logits"] = integers(rng, 2, 2, 12, 9).float()
    return [
        case("answers in the second part alone", 12, 10, 3),
        case("everything allowed, all logits negative", 12, 7, 4, whole=True, shift=-8.0),
        case("answers of one token", 8, 8, 1),
        case("a length that hardly limits", 8, 9, 8),
        (kind, ties),
    ]


WORDS = [
    "harbour",
    "river",
    "copper",
    "treaty",
    "senate",
    "winter",
    "railway",
    "cotton",
    "island",
    "mining",
    "coffee",
    "council",
    "border",
    "timber",
    "canal",
    "desert",
    "sugar",
    "export",
    "planet",
    "fishing",
    "market",
    "lowland",
    "rubber",
    "bridge",
]


def score_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, *pairs: tuple[str, list[str]]) -> tuple[str, dict]:
        """Texts with $1 to $6 for words, the same in one case."""
        words = shuffled(rng, WORDS)[:6]

        def written(text: str) -> str:
            for i, word in enumerate(words, start=1):
                text = text.replace(f"${i}", word).replace(f"^{i}", word.title())
            return text

        inputs = {
            "predictions": [written(prediction) for prediction, _ in pairs],
            "answers": [[written(answer) for answer in answers] for _, answers in pairs],
        }
        return kind, inputs

    return [
        case(
            "capital letters, punctuation and articles",
            ("^1 $2", ["$1 $2"]),
            ("$1, $2 ($3)!", ["$1 $2 $3"]),
            ("the $1 of an $2", ["$1 of a $2"]),
            ("The $3", ["$3"]),
            ("$1-$2", ["$1$2"]),
            ("$1-$2", ["$1 $2"]),
            ("U.S.A. $4", ["usa $4"]),
            ("theatre $5", ["atre $5"]),
            ("a $6", ["$6"]),
        ),
        case(
            "some of the words",
            ("$1 $2 $3 $4", ["$1"]),
            ("$1 $2", ["$3 $2 $1 $4 $5"]),
            ("$1 $1 $2", ["$1 $2 $3"]),
            ("$1 $1 $2", ["$1 $1 $3 $4"]),
            ("$1", ["$2 $3"]),
            ("$2 $1", ["$1 $2"]),
            ("$3 $4", ["$3 $4 $5"]),
        ),
        case(
            "several right answers",
            ("$1 $2", ["$3", "$1 $2 $4", "$1"]),
            ("$5", ["$5", "$6 $5"]),
            ("$3 $4 $6", ["$1 $2", "the $3 $4 $6", "$3 $4 $6 $1 $2"]),
        ),
        case("white space", (" $1\n$2\t $3 ", ["$1  $2 $3"]), ("$4 $5", [" $4", "$5 \n"])),
        case("nothing left", ("the", ["An"]), ("the", ["$1"]), ("$2", ["!?"]), ("", ["$3 $4", "a."]), ("$5", ["$5."])),
    ]


def choice_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, rows: int, choices: int, size: int, sizes: tuple[int, int]) -> tuple[str, dict]:
        vocab, width = sizes
        weights = {"bert.words.weight": normal(rng, vocab, width), "bert.types.weight": normal(rng, 2, width)}
        weights |= under("bert.pooler", linear_weights(rng, width, width)) | under(
            "score", linear_weights(rng, 1, width)
        )
        lengths = (1 + integers(rng, size - 1, rows * choices)).tolist()
        shape = (rows, choices, size)
        inputs = {
            "weights": weights,
            "tokens": NUM_SPECIAL + integers(rng, vocab - NUM_SPECIAL, *shape),
            "segments": halves(rng, rows * choices, size).view(shape),
            "mask": real(lengths, size).view(shape),
            "upstream": normal(rng, rows, choices),
        }
        return kind, inputs

    return [
        case("four choices", 2, 4, 5, (11, 4)),
        case("three choices", 4, 3, 4, (10, 6)),
        case("a single example of two choices", 1, 2, 3, (9, 5)),
    ]


# --------------------------------------------------------------------------------------------------- exercises

BACKTRACKING = """
def wordpiece_encode(words, vocab, max_input_chars=100):
    def cut(word, start):
        if start == len(word):
            return []
        for end in range(len(word), start, -1):
            piece = ("##" if start else "") + word[start:end]
            rest = cut(word, end) if piece in vocab else None
            if rest is not None:
                return [vocab[piece], *rest]
        return None

    tokens = []
    for word in words:
        pieces = cut(word, 0) if len(word) <= max_input_chars else None
        tokens += [vocab["[UNK]"]] if pieces is None else pieces
    return tokens
"""

FROM_THE_RIGHT = """
def wordpiece_encode(words, vocab, max_input_chars=100):
    tokens = []
    for word in words:
        pieces, end = [], len(word)
        while end > 0:
            starts = [s for s in range(end) if ("##" if s else "") + word[s:end] in vocab]
            if not starts:
                break
            pieces.insert(0, vocab[("##" if starts[0] else "") + word[starts[0] : end]])
            end = starts[0]
        known = end == 0 and len(word) <= max_input_chars
        tokens += pieces if known else [vocab["[UNK]"]]
    return tokens
"""

RESULTS = Path(__file__).with_name("results.json")


def heldout_text(heldout: Path) -> tuple[dict, dict]:
    """(inputs of the drive, key) of the grader's messages and of volume two of Persuasion."""
    return hidden_pieces(*(list(read(heldout / name)["text"]) for name in ("sotu.parquet", "persuasion.parquet")))


EXERCISES = [
    # ------------------------------------------------------------------------------------------- text to tokens
    Exercise(
        "wordpiece_encode",
        points=9,
        cases=wordpiece_cases,
        mistakes=[
            Mistake(
                "shortest-piece",
                "The shortest piece that fits is taken; it should be the longest.",
                "range(len(word), start, -1)",
                "range(start + 1, len(word) + 1)",
            ),
            Mistake(
                "no-mark",
                "Pieces inside a word are looked up without their ##.",
                '"##" if start > 0 else ""',
                '""',
            ),
            Mistake(
                "mark-at-the-start",
                "The first piece of a word is looked up with ## too; only pieces that continue a word have it.",
                '"##" if start > 0 else ""',
                '"##"',
            ),
            Mistake(
                "beginning-kept",
                "Of an unknown word the pieces that were found before stay in front of [UNK]; the whole word is one [UNK].",
                'pieces if known else [vocab["[UNK]"]]',
                'pieces if known else [*pieces, vocab["[UNK]"]]',
            ),
            Mistake(
                "unknown-dropped",
                "A word that no pieces make up leaves nothing behind; it should leave one [UNK].",
                'else [vocab["[UNK]"]]',
                "else []",
            ),
            Mistake(
                "unknown-by-character",
                "A character without a piece becomes an [UNK] and the rest of the word goes on; the whole word is one [UNK].",
                "break",
                'pieces.append(vocab["[UNK]"]); start += 1; continue',
            ),
            Mistake(
                "character-skipped",
                "A character without a piece is skipped and the rest of the word goes on; the whole word is one [UNK].",
                "break",
                "start += 1; continue",
            ),
            Mistake(
                "end-cut-off",
                "Where the rest of a word has no piece, the word is cut off there; the whole word is one [UNK].",
                "known = start == len(word)",
                "known = len(pieces) > 0",
            ),
            Mistake(
                "length-ignored",
                "Words of more than max_input_chars characters are cut into pieces; they are [UNK].",
                " and len(word) <= max_input_chars",
                "",
            ),
            Mistake(
                "length-one-off",
                "A word of exactly max_input_chars characters is called too long; only longer ones are.",
                "<= max_input_chars",
                "< max_input_chars",
            ),
            Mistake(
                "length-in-bytes",
                "The length of a word is counted in bytes; it is counted in characters.",
                "len(word) <= max_input_chars",
                "len(word.encode()) <= max_input_chars",
            ),
            Mistake(
                "long-words-cut",
                "A word that is too long is cut to max_input_chars characters; it is [UNK] as a whole.",
                "for word in words:",
                "for word in [word[:max_input_chars] for word in words]:",
            ),
            Mistake(
                "whole-words-only",
                "Words are looked up as a whole and never cut.",
                "range(len(word), start, -1)",
                "[len(word)]",
            ),
            Mistake(
                "a-list-for-each-word",
                "Each word's pieces are in a list of their own; asked is one list of numbers.",
                'tokens += pieces if known else [vocab["[UNK]"]]',
                'tokens.append(pieces if known else [vocab["[UNK]"]])',
            ),
            Mistake(
                "pieces-as-text",
                "The pieces themselves are returned; asked are their numbers in the vocabulary.",
                "vocab[mark + word[start:end]]",
                "mark + word[start:end]",
                also=[('else [vocab["[UNK]"]]', 'else ["[UNK]"]')],
            ),
            Mistake(
                "backtracks",
                "After a dead end the word is cut in another way; the greedy search never goes back, and the word is [UNK].",
                source=BACKTRACKING,
            ),
            Mistake(
                "from-the-right",
                "The word is cut from its end to its beginning; it is cut from left to right.",
                source=FROM_THE_RIGHT,
            ),
        ],
    ),
    Exercise(
        "pack_pair",
        points=7,
        cases=pack_cases,
        mistakes=[
            Mistake(
                "segments-all-zero",
                "All segments are 0; B and its [SEP] belong to segment 1.",
                "[1] * len(second)",
                "[0] * len(second)",
            ),
            Mistake(
                "first-sep-in-segment-1",
                "The [SEP] behind A counts to segment 1; it belongs to A.",
                "[0] * len(first) + [1] * len(second)",
                "[0] * (len(first) - 1) + [1] * (len(second) + 1)",
            ),
            Mistake(
                "last-sep-in-segment-0",
                "The [SEP] behind B counts to segment 0; it belongs to B.",
                "[1] * len(second) + [0] * padding",
                "[1] * max(len(second) - 1, 0) + [0] * (padding + min(len(second), 1))",
            ),
            Mistake(
                "padding-in-segment-1",
                "The padding has segment 1; it has 0.",
                "+ [0] * padding)",
                "+ [1] * padding)",
            ),
            Mistake("no-cls", "[CLS] is missing.", "[CLS, *first, SEP]", "[*first, SEP]"),
            Mistake("no-sep-between", "The [SEP] behind A is missing.", "[CLS, *first, SEP]", "[CLS, *first]"),
            Mistake("no-sep-at-the-end", "The [SEP] behind B is missing.", "[*second, SEP]", "second"),
            Mistake(
                "two-cls",
                "B has a [CLS] of its own; there is one, at the very beginning.",
                "[*second, SEP]",
                "[CLS, *second, SEP]",
            ),
            Mistake(
                "cut-in-front",
                "What is too much is taken from the front of a part; it is taken from its end.",
                "longer.pop()",
                "longer.pop(0)",
            ),
            Mistake(
                "special-tokens-not-counted",
                "The special tokens are not counted when the parts are shortened: the row becomes longer than max_length.",
                "max_length - (2 if b is None else 3)",
                "max_length",
            ),
            Mistake(
                "end-cut-off",
                "The packed row is cut off at its end, with its last [SEP]; the longer part is to be shortened before packing.",
                "max_length - (2 if b is None else 3)",
                "10**9",
                also=[
                    ("first + second + [PAD] * padding", "(first + second + [PAD] * padding)[:max_length]"),
                    (
                        "[0] * len(first) + [1] * len(second) + [0] * padding",
                        "([0] * len(first) + [1] * len(second) + [0] * padding)[:max_length]",
                    ),
                ],
            ),
            Mistake(
                "only-a-shortened",
                "A is shortened although B is longer.",
                "first if len(first) > len(second) else second",
                "first if first else second",
            ),
            Mistake(
                "only-b-shortened",
                "B is shortened although A is longer.",
                "first if len(first) > len(second) else second",
                "second if second else first",
            ),
            Mistake(
                "ties-from-a",
                "Of two parts of equal length A loses a token; it should be B.",
                "len(first) > len(second)",
                "len(first) >= len(second)",
            ),
            Mistake(
                "mask-inverted",
                "The mask is True at the padding; it is True at tokens.",
                "< len(first) + len(second)",
                ">= len(first) + len(second)",
            ),
            Mistake(
                "special-tokens-hidden",
                "The mask is False at the special tokens too; only the padding may not be attended to.",
                "torch.arange(max_length) < len(first) + len(second)",
                "tokens >= NUM_SPECIAL",
            ),
            Mistake(
                "mask-of-numbers",
                "The mask has zeros and ones; in this course it is boolean.",
                "torch.arange(max_length) < len(first) + len(second)",
                "(torch.arange(max_length) < len(first) + len(second)).long()",
            ),
            Mistake(
                "not-padded",
                "Rows that are shorter than max_length are not filled up with [PAD].",
                "max_length - len(first) - len(second)",
                "0",
                also=[("torch.arange(max_length)", "torch.arange(len(first) + len(second))")],
            ),
            Mistake(
                "parts-changed",
                "The lists that were handed in are shortened themselves; work with copies.",
                "list(a), list(b or [])",
                "a, b or []",
            ),
            Mistake(
                "sep-after-nothing",
                "One part alone gets a second [SEP]; where b is None there is only one.",
                "[] if b is None else [*second, SEP]",
                "[*second, SEP]",
            ),
            Mistake(
                "empty-as-none",
                "An empty second part is treated as none; it still has its [SEP].",
                "(2 if b is None else 3)",
                "(3 if b else 2)",
                also=[("[] if b is None else", "[] if not b else")],
            ),
        ],
    ),
    # ------------------------------------------------------------------------------------------------ two games
    Exercise(
        "mask_tokens",
        points=10,
        cases=masking_cases,
        mistakes=[
            Mistake(
                "special-tokens-chosen",
                "Special tokens are chosen too, [CLS], [SEP] and the padding among them.",
                "(choose < share) & (tokens >= NUM_SPECIAL)",
                "choose < share",
            ),
            Mistake(
                "only-padding-spared",
                "Only the padding is left alone; [CLS], [SEP] and [UNK] are special as well.",
                "tokens >= NUM_SPECIAL",
                "tokens != PAD",
            ),
            Mistake(
                "unknown-chosen",
                "[UNK] is chosen like a word; it is special: there is nothing to learn from guessing it.",
                "tokens >= NUM_SPECIAL",
                "(tokens >= NUM_SPECIAL) | (tokens == UNKNOWN)",
            ),
            Mistake(
                "first-word-spared",
                "The first word of the vocabulary is never chosen; special are those below NUM_SPECIAL alone.",
                "tokens >= NUM_SPECIAL",
                "tokens > NUM_SPECIAL",
            ),
            Mistake(
                "share-inverted",
                "Tokens are chosen where `choose` is above the share, which is 85 of 100; it should be below.",
                "choose < share",
                "choose > share",
            ),
            Mistake("share-fixed", "The share is always 0.15; it is an argument.", "choose < share", "choose < 0.15"),
            Mistake(
                "all-hidden",
                "All that is chosen becomes [MASK]; only 80 of 100 do.",
                "chosen & (action < 0.8)",
                "chosen",
            ),
            Mistake(
                "none-exchanged",
                "Nothing is exchanged: one in ten of the chosen becomes another token.",
                "torch.where(exchanged, replacement, tokens)",
                "tokens",
            ),
            Mistake(
                "none-unchanged",
                "All that is not hidden is exchanged; one in ten of the chosen stays as it is.",
                " & (action < 0.9)",
                "",
            ),
            Mistake(
                "tenths-swapped",
                "The two tenths change places: exchanged is what lies from 0.8 to 0.9, unchanged what lies above.",
                "(action >= 0.8) & (action < 0.9)",
                "(action >= 0.9)",
            ),
            Mistake(
                "tenth-of-the-rest",
                "The tenth to be exchanged is taken of what 80 % have left over; it is a tenth of all that is chosen.",
                "(action < 0.9)",
                "(action < 0.82)",
            ),
            Mistake(
                "of-all-tokens",
                "80 % and 10 % are taken of all tokens; they are taken of the chosen ones.",
                "chosen & (action < 0.8)",
                "(tokens >= NUM_SPECIAL) & (action < 0.8)",
                also=[("chosen & (action >= 0.8)", "(tokens >= NUM_SPECIAL) & (action >= 0.8)")],
            ),
            Mistake(
                "decided-by-choose",
                "What is done with a chosen token is decided by `choose` over again; it is decided by `action`.",
                "chosen & (action < 0.8)",
                "chosen & (choose < 0.8 * share)",
                also=[("(action >= 0.8) & (action < 0.9)", "(choose >= 0.8 * share) & (choose < 0.9 * share)")],
            ),
            Mistake(
                "roles-swapped",
                "Hidden tokens get the replacement and exchanged ones get [MASK]; it is the other way round.",
                "torch.where(hidden, MASK, torch.where(exchanged, replacement, tokens))",
                "torch.where(hidden, replacement, torch.where(exchanged, MASK, tokens))",
            ),
            Mistake(
                "labels-of-hidden-only",
                "Only hidden tokens have a label; the exchanged and the unchanged ones are to be guessed as well.",
                "torch.where(chosen, tokens, IGNORE)",
                "torch.where(hidden, tokens, IGNORE)",
            ),
            Mistake(
                "no-label-of-unchanged",
                "Tokens that stay as they are have no label; they were chosen, so they are to be guessed as well.",
                "torch.where(chosen, tokens, IGNORE)",
                "torch.where(hidden | exchanged, tokens, IGNORE)",
            ),
            Mistake(
                "no-label-of-exchanged",
                "Exchanged tokens have no label; they were chosen, so they are to be guessed as well.",
                "torch.where(chosen, tokens, IGNORE)",
                "torch.where(chosen & ~exchanged, tokens, IGNORE)",
            ),
            Mistake(
                "labels-everywhere",
                "Every position has a label; only chosen ones are to be guessed.",
                "torch.where(chosen, tokens, IGNORE)",
                "tokens.clone()",
            ),
            Mistake(
                "labels-zero",
                "Where nothing is to be guessed the label is 0, which is a token of its own; it should be IGNORE.",
                "torch.where(chosen, tokens, IGNORE)",
                "torch.where(chosen, tokens, 0)",
            ),
            Mistake(
                "labels-after-hiding",
                "The labels are taken after the hiding, so that the answer to most questions is [MASK].",
                "torch.where(chosen, tokens, IGNORE)",
                "torch.where(chosen, masked, IGNORE)",
            ),
            Mistake(
                "labels-inverted",
                "The labels stand where nothing was chosen, and are missing where something was.",
                "torch.where(chosen, tokens, IGNORE)",
                "torch.where(chosen, IGNORE, tokens)",
            ),
            Mistake(
                "in-place",
                "The tokens that were handed in are overwritten; they should stay as they are.",
                "return masked, labels",
                "return tokens.copy_(masked), labels",
            ),
        ],
    ),
    Exercise(
        "next_sentence_pairs",
        points=7,
        cases=pair_cases,
        mistakes=[
            Mistake(
                "across-documents",
                "The last sentence of a document is taken to be followed by the first of the next one.",
                "(documents[:-1] == documents[1:]).nonzero().squeeze(1)",
                "torch.arange(len(documents) - 1)",
            ),
            Mistake(
                "labels-inverted",
                "The labels are inverted: 0 means that b follows, 1 that it does not.",
                "(~follows).long()",
                "follows.long()",
            ),
            Mistake(
                "coin-inverted",
                "A pair is a true one where `coin` is 0.5 or more; it should be where it is below.",
                "coin < 0.5",
                "coin >= 0.5",
            ),
            Mistake(
                "from-anywhere",
                "The false second sentence may come from anywhere, from the same document and even right behind the first.",
                "(other * (len(documents) - size))",
                "(other * len(documents))",
                also=[("torch.where(k < start, k, k + size)", "k")],
            ),
            Mistake(
                "no-step-over",
                "The numbers of other sentences do not step over the document of a.",
                "torch.where(k < start, k, k + size)",
                "k",
            ),
            Mistake(
                "always-stepped",
                "The size of a's document is added always; it is added only from that document on.",
                "torch.where(k < start, k, k + size)",
                "k + size",
            ),
            Mistake(
                "step-one-late",
                "The first sentence of a's own document can be drawn: numbers from its start on step over it, the start too.",
                "k < start",
                "k <= start",
            ),
            Mistake(
                "only-the-next-left-out",
                "Of a's own document only the true next sentence is left out; b is to come from another document.",
                "start = torch.searchsorted(documents, documents[a])",
                "start = a + 1",
                also=[("torch.searchsorted(documents, documents[a], right=True) - start", "1")],
            ),
            Mistake(
                "counted-from-behind",
                "The other documents are counted from behind a's and around the end; they are counted from the beginning.",
                "torch.where(k < start, k, k + size)",
                "(start + size + k) % len(documents)",
            ),
            Mistake(
                "the-one-before",
                "The true second sentence is the one before a; it should be the one behind.",
                "a + 1, elsewhere",
                "a - 1, elsewhere",
            ),
            Mistake(
                "itself",
                "The true second sentence is a itself.",
                "a + 1, elsewhere",
                "a, elsewhere",
            ),
            Mistake(
                "rounded",
                "The draw for a is rounded to the nearest number; rounded down, all are equally likely.",
                "(first * len(followed)).long()",
                "(first * (len(followed) - 1)).round().long()",
            ),
            Mistake(
                "place-as-sentence",
                "a is the place in the list of sentences with a next one, not the sentence that stands there.",
                "followed[(first * len(followed)).long()]",
                "(first * len(followed)).long()",
            ),
            Mistake(
                "all-true",
                "All pairs are true ones, whatever their label says.",
                "torch.where(follows, a + 1, elsewhere)",
                "a + 1",
            ),
            Mistake(
                "labels-boolean",
                "The labels are True and False; asked are the whole numbers 0 and 1 (int64).",
                "(~follows).long()",
                "~follows",
            ),
        ],
    ),
    # ------------------------------------------------------------------------------------------------ the model
    Exercise(
        "BertEmbeddings.forward",
        points=5,
        cases=embedding_cases,
        mistakes=[
            Mistake(
                "position-from-one",
                "The positions are counted from 1; the first one is 0.",
                "torch.arange(tokens.size(1), device",
                "torch.arange(1, tokens.size(1) + 1, device",
            ),
            Mistake("no-position", "The positions are missing.", " + self.position_embeddings(positions)", ""),
            Mistake("no-segment", "The segments are missing.", " + self.token_type_embeddings(segments)", ""),
            Mistake(
                "segments-all-zero",
                "Every token gets the vector of segment 0.",
                "self.token_type_embeddings(segments)",
                "self.token_type_embeddings(torch.zeros_like(segments))",
            ),
            Mistake(
                "segments-as-words",
                "The segments are looked up in the table of words; they have one of their own.",
                "self.token_type_embeddings(segments)",
                "self.word_embeddings(segments)",
            ),
            Mistake(
                "position-of-the-row",
                "The position is the number of the row; it is the token's place within the row.",
                "torch.arange(tokens.size(1), device=tokens.device)",
                "torch.arange(tokens.size(0), device=tokens.device).unsqueeze(1)",
            ),
            Mistake("no-norm", "The sum does not go through LayerNorm.", "self.LayerNorm(x)", "x"),
            Mistake(
                "norm-before-the-sum",
                "Only the words go through LayerNorm; it is taken of the sum.",
                "self.word_embeddings(tokens) +",
                "self.LayerNorm(self.word_embeddings(tokens)) +",
                also=[("self.dropout(self.LayerNorm(x))", "self.dropout(x)")],
            ),
            Mistake("no-dropout", "Dropout is missing.", "self.dropout(self.LayerNorm(x))", "self.LayerNorm(x)"),
            Mistake(
                "dropout-before-the-norm",
                "Dropout comes before LayerNorm; it comes after it.",
                "self.dropout(self.LayerNorm(x))",
                "self.LayerNorm(self.dropout(x))",
            ),
            Mistake(
                "dropout-at-evaluation",
                "Dropout drops at evaluation too: F.dropout does unless it is told self.training; self.dropout knows.",
                "self.dropout(self.LayerNorm(x))",
                "F.dropout(self.LayerNorm(x), self.dropout.p)",
            ),
            Mistake(
                "scaled-words",
                "The words' vectors are multiplied by the root of the width, as in the transformer of 2017; not so in BERT.",
                "self.word_embeddings(tokens) +",
                "self.word_embeddings(tokens) * math.sqrt(self.LayerNorm.bias.numel()) +",
            ),
        ],
    ),
    Exercise(
        "BertModel.forward",
        points=14,
        cases=model_cases,
        mistakes=[
            Mistake(
                "mask-inverted",
                "The mask is inverted: attention goes to the padding, and to it alone.",
                "mask.unsqueeze(1)",
                "~mask.unsqueeze(1)",
            ),
            Mistake(
                "mask-missing",
                "The mask is not handed to the attention: real tokens attend to padding.",
                "mask.unsqueeze(1)",
                "torch.ones_like(mask).unsqueeze(1)",
            ),
            Mistake(
                "mask-on-queries",
                "The mask lies along the queries, (B, T, 1); it should lie along the keys, (B, 1, T).",
                "mask.unsqueeze(1)",
                "mask.unsqueeze(2)",
            ),
            Mistake(
                "segments-all-zero",
                "The embeddings are given zeros for segments.",
                "self.embeddings(tokens, segments)",
                "self.embeddings(tokens, torch.zeros_like(segments))",
            ),
            Mistake(
                "gelu-by-tanh",
                "This is the GELU that is approximated with a tanh; asked is the exact one, by erf.",
                "F.gelu(layer.linear1(x))",
                'F.gelu(layer.linear1(x), approximate="tanh")',
            ),
            Mistake(
                "gelu-by-sigmoid",
                "This is the GELU that is approximated with a sigmoid of 1.702 x; asked is the exact one, by erf.",
                "F.gelu(layer.linear1(x))",
                "layer.linear1(x) * torch.sigmoid(1.702 * layer.linear1(x))",
            ),
            Mistake("relu", "The activation is a ReLU; BERT has GELU.", "F.gelu(", "torch.relu("),
            Mistake(
                "no-activation",
                "There is no activation between the two linear layers.",
                "F.gelu(layer.linear1(x))",
                "layer.linear1(x)",
            ),
            Mistake(
                "activation-at-the-end",
                "The activation comes after the second linear layer; it stands between the two.",
                "F.gelu(layer.linear1(x))",
                "layer.linear1(x)",
                also=[("layer.linear2(inner)", "F.gelu(layer.linear2(inner))")],
            ),
            Mistake(
                "norm-first",
                "The norms stand before the two halves of a layer; in BERT each stands behind, after the sum.",
                "layer.norm1(x + self.dropout(layer.attention(x, allowed)))",
                "x + self.dropout(layer.attention(layer.norm1(x), allowed))",
                also=[
                    ("F.gelu(layer.linear1(x))", "F.gelu(layer.linear1(layer.norm2(x)))"),
                    ("layer.norm2(x + self.dropout(layer.linear2(inner)))", "x + self.dropout(layer.linear2(inner))"),
                ],
            ),
            Mistake(
                "norm-beside-the-residual",
                "Each norm is taken of what is added, before the sum; it is taken of the sum.",
                "layer.norm1(x + self.dropout(layer.attention(x, allowed)))",
                "x + layer.norm1(self.dropout(layer.attention(x, allowed)))",
                also=[
                    (
                        "layer.norm2(x + self.dropout(layer.linear2(inner)))",
                        "x + layer.norm2(self.dropout(layer.linear2(inner)))",
                    )
                ],
            ),
            Mistake(
                "no-first-norm",
                "norm1 is missing.",
                "layer.norm1(x + self.dropout(layer.attention(x, allowed)))",
                "x + self.dropout(layer.attention(x, allowed))",
            ),
            Mistake(
                "no-second-norm",
                "norm2 is missing.",
                "layer.norm2(x + self.dropout(layer.linear2(inner)))",
                "x + self.dropout(layer.linear2(inner))",
            ),
            Mistake(
                "norms-swapped",
                "norm1 and norm2 have changed places.",
                "layer.norm1(",
                "layer.norm2(",
                also=[("layer.norm2(x + self.dropout(layer.linear2", "layer.norm1(x + self.dropout(layer.linear2")],
            ),
            Mistake(
                "no-first-residual",
                "What the attention gives replaces x; it is added to x.",
                "layer.norm1(x + ",
                "layer.norm1(",
            ),
            Mistake(
                "no-second-residual",
                "What the two linear layers give replaces x; it is added to x.",
                "layer.norm2(x + ",
                "layer.norm2(",
            ),
            Mistake(
                "residual-from-the-input",
                "The second half adds to what the layer was given; it adds to what the first half gave.",
                "x = layer.norm1(",
                "given, x = x, layer.norm1(",
                also=[("layer.norm2(x + ", "layer.norm2(given + ")],
            ),
            Mistake(
                "one-layer-again",
                "The first layer is used again and again; each has weights of its own.",
                "for layer in self.layers:",
                "for layer in [self.layers[0]] * len(self.layers):",
            ),
            Mistake(
                "last-layer-only",
                "Only the last layer is used.",
                "for layer in self.layers:",
                "for layer in self.layers[-1:]:",
            ),
            Mistake(
                "no-tanh",
                "The tanh of the pooled vector is missing.",
                "torch.tanh(self.pooler(x[:, 0]))",
                "self.pooler(x[:, 0])",
            ),
            Mistake(
                "no-pooler", "The pooled vector does not go through self.pooler.", "self.pooler(x[:, 0])", "x[:, 0]"
            ),
            Mistake(
                "pooled-from-the-last",
                "The last position is pooled; [CLS] is the first one.",
                "x[:, 0]",
                "x[:, -1]",
            ),
            Mistake(
                "pooled-from-the-mean",
                "The mean of all positions is pooled; it should be the first position alone.",
                "x[:, 0]",
                "x.mean(dim=1)",
            ),
            Mistake(
                "pooled-everywhere",
                "All positions are pooled, (B, T, D); asked is the first alone, (B, D).",
                "x[:, 0]",
                "x",
            ),
            Mistake(
                "no-dropout-on-attention",
                "What the attention gives is added without dropout.",
                "self.dropout(layer.attention(x, allowed))",
                "layer.attention(x, allowed)",
            ),
            Mistake(
                "no-dropout-on-linear",
                "What the two linear layers give is added without dropout.",
                "self.dropout(layer.linear2(inner))",
                "layer.linear2(inner)",
            ),
            Mistake(
                "dropout-on-the-sum",
                "Dropout is applied to the sum with x; it is applied to what is added alone.",
                "x + self.dropout(layer.attention(x, allowed))",
                "self.dropout(x + layer.attention(x, allowed))",
                also=[("x + self.dropout(layer.linear2(inner))", "self.dropout(x + layer.linear2(inner))")],
            ),
            Mistake(
                "dropout-on-pooled",
                "The pooled vector goes through dropout; whoever uses it does that.",
                "torch.tanh(self.pooler(x[:, 0]))",
                "self.dropout(torch.tanh(self.pooler(x[:, 0])))",
            ),
            Mistake(
                "dropout-at-evaluation",
                "F.dropout drops at evaluation too unless it is told self.training; self.dropout knows by itself.",
                "self.dropout(layer.attention(x, allowed))",
                "F.dropout(layer.attention(x, allowed), self.dropout.p)",
                also=[("self.dropout(layer.linear2(inner))", "F.dropout(layer.linear2(inner), self.dropout.p)")],
            ),
        ],
    ),
    # ------------------------------------------------------------------------------------------------- the loss
    Exercise(
        "pretraining_loss",
        points=12,
        cases=loss_cases,
        mistakes=[
            Mistake(
                "mask-on-a-mean",
                "A mean over all positions, already a single number, is multiplied by the mask and averaged once more.",
                'F.cross_entropy(word_logits, labels[chosen], reduction="sum") / asked',
                "(F.cross_entropy(F.linear(heads.norm(F.gelu(heads.dense(hidden))), word_embeddings, heads.bias)"
                ".flatten(0, 1), labels.clamp(min=0).flatten()) * chosen).mean()",
            ),
            Mistake(
                "over-all-tokens",
                "The loss runs over all positions, also those at which nothing is to be guessed.",
                'F.cross_entropy(word_logits, labels[chosen], reduction="sum") / asked',
                "F.cross_entropy(F.linear(heads.norm(F.gelu(heads.dense(hidden))), word_embeddings, heads.bias)"
                ".flatten(0, 1), labels.clamp(min=0).flatten())",
            ),
            Mistake(
                "divided-by-all",
                "The loss of the words is divided by the number of all positions; it is a mean over the words to be guessed.",
                "/ asked",
                "/ labels.numel()",
            ),
            Mistake(
                "words-summed",
                "The losses of the words are added up and not divided by their number.",
                "/ asked",
                "",
            ),
            Mistake(
                "next-label-0-ignored",
                "Pairs with label 0 do not count: that is half of them, those that follow.",
                "F.cross_entropy(next_logits, next_labels)",
                "F.cross_entropy(next_logits, next_labels, ignore_index=0)",
            ),
            Mistake(
                "word-label-0-ignored",
                "Words with label 0 do not count; only IGNORE means that nothing is asked.",
                "labels != IGNORE",
                "labels > 0",
            ),
            Mistake(
                "next-labels-inverted",
                "The labels of the pairs are turned round; 0 means that the second part follows, as they are given.",
                "F.cross_entropy(next_logits, next_labels)",
                "F.cross_entropy(next_logits, 1 - next_labels)",
            ),
            Mistake(
                "untied",
                "The words' logits come from a new layer with weights of its own; their weight is the table of word embeddings.",
                "F.linear(x, word_embeddings, heads.bias)",
                "nn.Linear(x.size(-1), heads.bias.numel()).to(x)(x)",
            ),
            Mistake(
                "table-detached",
                "The table of words gets no gradient from the guesses: it is detached, or copied; tied means the same tensor.",
                "F.linear(x, word_embeddings, heads.bias)",
                "F.linear(x, word_embeddings.detach(), heads.bias)",
            ),
            Mistake("no-bias", "heads.bias is missing.", "word_embeddings, heads.bias", "word_embeddings"),
            Mistake(
                "no-norm",
                "heads.norm is missing.",
                "heads.norm(F.gelu(heads.dense(hidden[chosen])))",
                "F.gelu(heads.dense(hidden[chosen]))",
            ),
            Mistake("no-dense", "heads.dense is missing.", "heads.dense(hidden[chosen])", "hidden[chosen]"),
            Mistake(
                "no-transform",
                "The hidden vectors go straight to the words' table; heads.dense, GELU and heads.norm come first.",
                "heads.norm(F.gelu(heads.dense(hidden[chosen])))",
                "hidden[chosen]",
            ),
            Mistake(
                "no-activation",
                "GELU is missing.",
                "F.gelu(heads.dense(hidden[chosen]))",
                "heads.dense(hidden[chosen])",
            ),
            Mistake(
                "gelu-by-tanh",
                "This is the GELU that is approximated with a tanh; asked is the exact one.",
                "heads.dense(hidden[chosen])",
                'heads.dense(hidden[chosen]), approximate="tanh"',
            ),
            Mistake("relu", "The activation is a ReLU; it should be GELU.", "F.gelu(", "torch.relu("),
            Mistake(
                "norm-before-gelu",
                "The norm comes before GELU; it comes after it.",
                "heads.norm(F.gelu(heads.dense(hidden[chosen])))",
                "F.gelu(heads.norm(heads.dense(hidden[chosen])))",
            ),
            Mistake(
                "no-next-loss",
                "The loss of the pairs is missing.",
                "loss + F.cross_entropy(next_logits, next_labels)",
                "loss",
            ),
            Mistake(
                "pairs-alone",
                "The loss of the words is missing where there are pairs.",
                "loss + F.cross_entropy(next_logits, next_labels)",
                "F.cross_entropy(next_logits, next_labels)",
            ),
            Mistake(
                "halved",
                "The mean of the two losses is taken; asked is their sum.",
                "loss + F.cross_entropy(next_logits, next_labels)",
                "(loss + F.cross_entropy(next_logits, next_labels)) / 2",
            ),
            Mistake(
                "pairs-summed",
                "The losses of the pairs are added up; asked is their mean.",
                "F.cross_entropy(next_logits, next_labels)",
                'F.cross_entropy(next_logits, next_labels, reduction="sum")',
            ),
            Mistake(
                "nan-without-words",
                "Where no word is to be guessed the loss is NaN: the mean over nothing is 0 / 0. It should count as 0.",
                ".clamp(min=1)",
                "",
            ),
            Mistake(
                "softmax-twice",
                "The logits go through a softmax before the cross-entropy, which does one itself.",
                "F.cross_entropy(word_logits,",
                "F.cross_entropy(word_logits.softmax(dim=-1),",
            ),
            Mistake(
                "pairs-from-hidden",
                "The pairs are judged by the first hidden vector; they are judged by the pooled one.",
                "heads.next_sentence(pooled)",
                "heads.next_sentence(hidden[:, 0])",
            ),
            Mistake(
                "second-tanh",
                "The pooled vector goes through a tanh once more; it has had its own.",
                "heads.next_sentence(pooled)",
                "heads.next_sentence(torch.tanh(pooled))",
            ),
            Mistake(
                "in-bits",
                "The loss is in bits; asked are nats, as F.cross_entropy gives them.",
                "return loss,",
                "return loss / math.log(2),",
            ),
            Mistake(
                "pairs-demanded",
                "It stops with an error where next_labels is None; then the loss of the pairs is left out.",
                "if next_labels is not None:",
                "if True:",
            ),
        ],
    ),
    # ---------------------------------------------------------------------------------------------------- spans
    Exercise(
        "best_span",
        points=7,
        cases=span_cases,
        mistakes=[
            Mistake(
                "each-by-itself",
                "The best start and the best end are taken, each by itself, so that the end may come before the start.",
                "return best // T, best % T",
                "return tuple(x.masked_fill(~allowed, -math.inf).argmax(dim=1) for x in (start_logits, end_logits))",
            ),
            Mistake(
                "start-first",
                "The best start is taken first and then the best end for it; the sum of both is what counts.",
                "return best // T, best % T",
                "best = start_logits.masked_fill(~(allowed & legal.any(dim=2)), -math.inf).argmax(dim=1)\n"
                "    ends = scores.masked_fill(~legal, -math.inf)[torch.arange(len(best)), best]\n"
                "    return best, ends.argmax(dim=1)",
            ),
            Mistake(
                "end-first",
                "The best end is taken first and then the best start for it; the sum of both is what counts.",
                "return best // T, best % T",
                "best = end_logits.masked_fill(~(allowed & legal.any(dim=1)), -math.inf).argmax(dim=1)\n"
                "    starts = scores.masked_fill(~legal, -math.inf)[torch.arange(len(best)), :, best]\n"
                "    return starts.argmax(dim=1), best",
            ),
            Mistake(
                "any-length",
                "Spans of any length are taken; they may have at most max_length tokens.",
                "everything.triu() & everything.tril(max_length - 1)",
                "everything.triu()",
            ),
            Mistake(
                "one-token-more",
                "A span of max_length + 1 tokens is let through: both ends count, so the last token is start + max_length - 1.",
                "max_length - 1)",
                "max_length)",
            ),
            Mistake(
                "one-token-less",
                "A span of max_length tokens is refused; only longer ones are illegal.",
                "max_length - 1)",
                "max_length - 2)",
            ),
            Mistake(
                "end-before-start",
                "The end may come before the start.",
                "everything.triu() & everything.tril(max_length - 1)",
                "everything.tril(max_length - 1)",
            ),
            Mistake(
                "no-single-token",
                "A span of a single token is refused; start and end may be the same.",
                "everything.triu()",
                "everything.triu(1)",
            ),
            Mistake(
                "allowed-ignored",
                "`allowed` is ignored: answers may lie in the question.",
                "legal & allowed.unsqueeze(2) & allowed.unsqueeze(1)",
                "legal.expand_as(scores)",
            ),
            Mistake(
                "allowed-for-starts-only",
                "Only the start has to be allowed; the end has to be too.",
                " & allowed.unsqueeze(1)",
                "",
            ),
            Mistake(
                "allowed-for-ends-only",
                "Only the end has to be allowed; the start has to be too.",
                " & allowed.unsqueeze(2)",
                "",
            ),
            Mistake(
                "illegal-is-zero",
                "Illegal spans have score 0, which is better than a negative one; they should never win.",
                "-math.inf",
                "0.0",
            ),
            Mistake(
                "product",
                "The two logits are multiplied; they are added.",
                "start_logits.unsqueeze(2) + end_logits.unsqueeze(1)",
                "start_logits.unsqueeze(2) * end_logits.unsqueeze(1)",
            ),
            Mistake(
                "end-exclusive",
                "The end is the token behind the answer; asked is its last token.",
                "best % T",
                "best % T + 1",
            ),
            Mistake(
                "last-of-equals",
                "Of several equally good spans the last is taken; it should be the one that starts first.",
                "flatten(1).argmax(dim=1)",
                "flatten(1).flip(1).argmax(dim=1)",
                also=[("return best // T, best % T", "best = T * T - 1 - best\n    return best // T, best % T")],
            ),
            Mistake(
                "longest-of-equals",
                "Of equally good spans with the same start the longest is taken; it should be the one that ends first.",
                "flatten(1).argmax(dim=1)",
                "flip(2).flatten(1).argmax(dim=1)",
                also=[("return best // T, best % T", "return best // T, T - 1 - best % T")],
            ),
            Mistake(
                "start-and-end-swapped",
                "Start and end have changed places in what is returned.",
                "return best // T, best % T",
                "return best % T, best // T",
            ),
        ],
    ),
    Exercise(
        "squad_scores",
        points=6,
        cases=score_cases,
        mistakes=[
            Mistake(
                "capitals-kept", "Capital letters count as other letters.", "text = text.lower()", "text = str(text)"
            ),
            Mistake(
                "punctuation-kept",
                "Punctuation is not taken out.",
                '"".join(char for char in text if char not in string.punctuation)',
                "str(text)",
            ),
            Mistake(
                "punctuation-to-space",
                "A blank comes in the place of punctuation, so that one word becomes two; nothing should come there.",
                '"".join(char for char in text if char not in string.punctuation)',
                '"".join(" " if char in string.punctuation else char for char in text)',
            ),
            Mistake(
                "articles-kept",
                "Articles are not taken out.",
                r're.sub(r"\b(a|an|the)\b", " ", text)',
                "str(text)",
            ),
            Mistake(
                "articles-inside-words",
                "Articles are taken out inside of words too; only whole words are articles.",
                r"\b(a|an|the)\b",
                "(an|a|the)",
            ),
            Mistake(
                "only-the",
                "Only `the` is taken out; `a` and `an` are articles as well.",
                "(a|an|the)",
                "(the)",
            ),
            Mistake(
                "articles-before-punctuation",
                "Articles are taken out before punctuation, so that U.S.A. loses its A; punctuation goes first.",
                "text = text.lower()",
                r'text = re.sub(r"\b(a|an|the)\b", " ", text.lower())',
                also=[(r're.sub(r"\b(a|an|the)\b", " ", text)', "text")],
            ),
            Mistake(
                "split-at-blanks",
                "Words are cut at each single blank, so that other white space stays and empty words appear; split() knows all.",
                "text.split()",
                'text.split(" ")',
            ),
            Mistake(
                "characters",
                "F1 is counted over characters; it is counted over words.",
                "max(f1(guess, truth) for",
                'max(f1(list("".join(guess)), list("".join(truth))) for',
            ),
            Mistake(
                "common-counted-once",
                "A common word counts once however often it stands in both.",
                "(Counter(guess) & Counter(truth)).total()",
                "len(set(guess) & set(truth))",
            ),
            Mistake(
                "common-counted-too-often",
                "A word of the prediction counts as common each time, even if the answer has it once.",
                "(Counter(guess) & Counter(truth)).total()",
                "sum(word in truth for word in guess)",
            ),
            Mistake(
                "sets-of-words",
                "Words are taken as sets, so that repeated ones count once in lengths and in common.",
                "(Counter(guess) & Counter(truth)).total()",
                "len(set(guess) & set(truth))",
                also=[
                    ("common / len(guess), common / len(truth)", "common / len(set(guess)), common / len(set(truth))")
                ],
            ),
            Mistake(
                "precision-alone",
                "This is the precision; F1 joins precision and recall.",
                "2 * precision * recall / (precision + recall)",
                "precision",
            ),
            Mistake(
                "recall-alone",
                "This is the recall; F1 joins precision and recall.",
                "2 * precision * recall / (precision + recall)",
                "recall",
            ),
            Mistake(
                "plain-mean",
                "Precision and recall are averaged plainly; F1 is their harmonic mean, 2 p r / (p + r).",
                "2 * precision * recall / (precision + recall)",
                "(precision + recall) / 2",
            ),
            Mistake(
                "not-doubled",
                "The 2 of 2 p r / (p + r) is missing: even a perfect answer gets one half.",
                "2 * precision * recall",
                "precision * recall",
            ),
            Mistake(
                "jaccard",
                "Common words are divided by all words of the two; that is Jaccard's index, not F1.",
                "2 * precision * recall / (precision + recall)",
                "common / (len(guess) + len(truth) - common)",
            ),
            Mistake(
                "first-answer-only",
                "Only the first answer is compared; each score is the best over all.",
                "[normalised(answer) for answer in answers]",
                "[normalised(answer) for answer in answers[:1]]",
            ),
            Mistake(
                "mean-over-answers",
                "The scores are averaged over the answers; each is the best of them.",
                "return max(float(guess == truth) for truth in truths), max(f1(guess, truth) for truth in truths)",
                "return (sum(float(guess == truth) for truth in truths) / len(truths), "
                "sum(f1(guess, truth) for truth in truths) / len(truths))",
            ),
            Mistake(
                "contained",
                "An answer that is contained in the right one counts as an exact match; it has to be the same words.",
                "max(float(guess == truth) for",
                'max(float(" ".join(guess) in " ".join(truth)) for',
            ),
            Mistake(
                "order-ignored",
                "The same words in another order count as an exact match.",
                "max(float(guess == truth) for",
                "max(float(sorted(guess) == sorted(truth)) for",
            ),
            Mistake(
                "raw-match",
                "Exact match compares the texts as they are; both are to be normalised first.",
                "max(float(guess == truth) for truth in truths)",
                "float(prediction in answers)",
            ),
            Mistake(
                "nothing-is-zero",
                "Where neither text has a word left F1 is 0; they agree, so it is 1.",
                "return float(guess == truth)",
                "return 0.0",
            ),
            Mistake(
                "percent",
                "The scores go from 0 to 100; asked is 0 to 1.",
                "return max(float(guess == truth) for truth in truths), max(f1(guess, truth) for truth in truths)",
                "return 100 * max(float(guess == truth) for truth in truths), 100 * max(f1(guess, truth) for truth in truths)",
            ),
        ],
    ),
    # -------------------------------------------------------------------------------------------------- choices
    Exercise(
        "MultipleChoice.forward",
        points=5,
        cases=choice_cases,
        stretch=True,
        mistakes=[
            Mistake(
                "softmax",
                "The scores have gone through a softmax; that is left to the loss.",
                "scores.unflatten(0, tokens.shape[:2])",
                "scores.unflatten(0, tokens.shape[:2]).softmax(dim=-1)",
            ),
            Mistake(
                "scores-transposed",
                "The scores are taken apart as (C, B) and transposed: rows of several examples mix.",
                "scores.unflatten(0, tokens.shape[:2])",
                "scores.view(tokens.size(1), tokens.size(0)).T",
            ),
            Mistake(
                "choices-before-examples",
                "The rows are put in order of choices before examples, and the scores are read the other way round.",
                "tokens.flatten(0, 1), segments.flatten(0, 1), mask.flatten(0, 1)",
                "*(x.transpose(0, 1).flatten(0, 1) for x in (tokens, segments, mask))",
            ),
            Mistake(
                "flat",
                "The scores are in one row, (B C,); asked is (B, C).",
                "scores.unflatten(0, tokens.shape[:2])",
                "scores",
            ),
            Mistake(
                "axis-left",
                "An axis of size 1 is left, (B, C, 1); asked is (B, C).",
                ".squeeze(-1)",
                "",
            ),
            Mistake(
                "hidden-instead-of-pooled",
                "The first hidden vector is scored; it should be the pooled one.",
                "_, pooled = self.bert(tokens.flatten(0, 1), segments.flatten(0, 1), mask.flatten(0, 1))",
                "pooled = self.bert(tokens.flatten(0, 1), segments.flatten(0, 1), mask.flatten(0, 1))[0][:, 0]",
            ),
            Mistake(
                "mean-instead-of-pooled",
                "The mean of the hidden vectors is scored; it should be the pooled one.",
                "_, pooled = self.bert(tokens.flatten(0, 1), segments.flatten(0, 1), mask.flatten(0, 1))",
                "pooled = self.bert(tokens.flatten(0, 1), segments.flatten(0, 1), mask.flatten(0, 1))[0].mean(dim=1)",
            ),
            Mistake("no-dropout", "The pooled vector goes without dropout.", "self.dropout(pooled)", "pooled"),
            Mistake(
                "dropout-at-evaluation",
                "F.dropout drops at evaluation as well unless it is told self.training; self.dropout knows.",
                "self.dropout(pooled)",
                "F.dropout(pooled, self.dropout.p)",
            ),
            Mistake(
                "dropout-on-scores",
                "Dropout is applied to the scores; it is applied to the pooled vector.",
                "self.score(self.dropout(pooled)).squeeze(-1)",
                "self.dropout(self.score(pooled)).squeeze(-1)",
            ),
            Mistake(
                "segments-all-zero",
                "The network is given zeros for segments: it cannot tell the text from the choice.",
                "segments.flatten(0, 1)",
                "torch.zeros_like(segments).flatten(0, 1)",
            ),
            Mistake(
                "mask-missing",
                "The mask is True everywhere: the padding is read too.",
                "mask.flatten(0, 1)",
                "torch.ones_like(mask).flatten(0, 1)",
            ),
        ],
    ),
    # --------------------------------------------------------------------------------------------- trained models
    Artifact(
        name="pretraining",
        file="pretraining.safetensors",
        figure="bits for a hidden piece",
        lower_is_better=True,
        thresholds=thresholds(RESULTS, "pretraining", points=15, lower_is_better=True, early=0.5),
        inputs=heldout_text,
        score=score_pretraining,
        where="hidden pieces of held-out messages and chapters",
    ),
]
