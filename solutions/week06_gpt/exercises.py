"""Week 6: points, cases and mistakes of the exercises on GPT.

B batch, T new positions, S all positions, H heads, K head width, D model width, V vocabulary. Cases are small, float32, with
random weights that are not square where they need not be; every random number comes from the generator handed in.
"""

import math
from pathlib import Path

import torch
from torch import Tensor

from autograder import Exercise, Mistake
from autograder.draws import integers, normal, uniform
from autograder.novel import chars_artifact

Cases = list[tuple[str, dict]]
RESULTS = Path(__file__).with_name("results.json")


def number(rng: torch.Generator, low: int, high: int) -> int:
    """A whole number from low to high."""
    return low + int(torch.randint(high - low + 1, (), generator=rng))


def shuffled(rng: torch.Generator, items: list) -> list:
    return [items[i] for i in torch.randperm(len(items), generator=rng).tolist()]


# ------------------------------------------------------------------------------------------------ pairs of bytes


def word(rng: torch.Generator, letters: str, length: int) -> list[int]:
    return [ord(letters[i]) for i in integers(rng, len(letters), length).tolist()]


def train_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, counts: list[tuple[list[int], int]], num_merges: int) -> tuple[str, dict]:
        counts = list({tuple(piece): (piece, count) for piece, count in counts}.values())
        pieces, numbers = [piece for piece, _ in counts], [count for _, count in counts]
        return kind, {"pieces": pieces, "counts": numbers, "num_merges": num_merges}

    words = [([32, *word(rng, "aehst", number(rng, 2, 6))], number(rng, 1, 9)) for _ in range(12)]
    rare = [([ord("e"), ord("z")], 40), ([ord("q"), ord("z"), ord("q"), ord("z")], 1), *words]
    # In four pieces a pair occurs twice, in five another one once: counted once a piece, the other one would come first.
    often = [
        (list(b"xyxyx"), 2),
        (list(b"xyxyw"), 2),
        (list(b"aaaaaaa"), 1),
        *(([117, 118, 65 + i], 1) for i in range(5)),
    ]
    alike = [[b, c] for b in (98, 100, 104) for c in (97, 99, 103)]
    alike = sorted(shuffled(rng, alike), key=lambda pair: pair == [98, 97])  # the smallest is not the first
    bytes_ = [([*"é".encode(), 128 + number(rng, 0, 60)], number(rng, 1, 4)) for _ in range(3)] + words[:4]
    return [
        case("words, some of them frequent", rare, 10),
        case("pairs that are all equally frequent", [(pair, 1) for pair in alike], 4),
        case("the same pair again and again", often, 6),
        case("fewer pairs than merges", [(list(b"ab"), 2), (list(b"cab"), 1), (list(b"d"), 5)], 9),
        case("bytes of characters that are not English", bytes_, 7),
    ]


def random_merges(rng: torch.Generator, letters: str, size: int) -> list[tuple[int, int]]:
    """Different pairs, each of letters or of what was merged before."""
    tokens, merges = [ord(letter) for letter in letters], []
    while len(merges) < size:
        recent = tokens[-len(letters) :] if number(rng, 0, 1) else tokens
        pair = tuple(recent[i] for i in integers(rng, len(recent), 2).tolist())
        if pair not in merges:
            merges.append(pair)
            tokens.append(255 + len(merges))
    return merges


def encode_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, pieces: list, merges: list[tuple[int, int]]) -> tuple[str, dict]:
        return kind, {"pieces": [list(piece) for piece in pieces], "merges": [list(pair) for pair in merges]}

    a, b, c, d = b"abcd"
    pieces = [word(rng, "abc", number(rng, 6, 14)) for _ in range(8)]
    return [
        case("random merges", pieces, random_merges(rng, "abc", 12)),
        case("a lower rank further to the right", [b"abc", b"cabcab"], [(b, c), (a, b)]),
        case("a long token that no merge leads to", [b"abc", b"abcd"], [(a, b), (b, c), (a, 257), (258, d)]),
        case("a pair that is frequent in the piece", [b"abcbcbc"], [(a, b), (b, c)]),
        case("runs of one byte", [b"aaa", b"aaaaaaa", b"baaab"], [(a, a), (256, 256), (b, a)]),
        case("no bytes, a single one, and any", [b"", b"q", bytes([0, 255, 195, 169, 195])], [(195, 169), (255, 256)]),
    ]


def decode_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, tokens: list[int], merges: list[tuple[int, int]]) -> tuple[str, dict]:
        return kind, {"tokens": tokens, "merges": [list(pair) for pair in merges]}

    merges = random_merges(rng, "abc", 8)
    french = [*"é".encode()]
    return [
        case("random tokens", [97, *(256 + integers(rng, 8, 6)).tolist(), 98, 258], merges),
        case("a character in two tokens", [110, 97, french[0], french[1], 118, 256], [(32, french[0])]),
        case("bytes that are no text", [255, 128, 254, *integers(rng, 128, 3).tolist()], merges[:2]),
        case("words that have no space between them", [256, 257, 256], [(97, 98), (256, 99)]),
        case("no tokens", [], merges[:1]),
    ]


# ----------------------------------------------------------------------------------------------------- the model


def linear(rng: torch.Generator, prefix: str, rows: int, columns: int, scale: float = 1.2) -> dict[str, Tensor]:
    return {
        f"{prefix}.weight": normal(rng, rows, columns, scale=scale * columns**-0.5),
        f"{prefix}.bias": normal(rng, rows, scale=0.5),
    }


def norm(rng: torch.Generator, prefix: str, width: int) -> dict[str, Tensor]:
    return {
        f"{prefix}.weight": normal(rng, width, mean=1.0, scale=0.4),
        f"{prefix}.bias": normal(rng, width, scale=0.4),
    }


def kept(rng: torch.Generator, batch: int, heads: int, before: int, width: int) -> dict[str, Tensor] | None:
    """A cache of so many positions; None where there are none."""
    shape = (batch, heads, before, width // heads)
    return {"k": normal(rng, *shape), "v": normal(rng, *shape)} if before else None


def attention_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, batch: int, steps: int, before: int, sizes: tuple[int, int]) -> tuple[str, dict]:
        width, heads = sizes
        inputs = {
            "weights": linear(rng, "c_attn", 3 * width, width, 1.6) | linear(rng, "c_proj", width, width),
            "num_heads": heads,
            "x": normal(rng, batch, steps, width),
            "cache": kept(rng, batch, heads, before, width),
            "upstream": normal(rng, batch, steps, width),
        }
        return kind, inputs

    return [
        case("no cache, two heads", 2, 4, 0, (6, 2)),
        case("a cache and one new position", 2, 1, 3, (6, 3)),
        case("a cache and several new positions", 2, 3, 4, (8, 2)),
        case("more new positions than in the cache", 1, 4, 2, (6, 2)),
        case("a single position, nothing before it", 1, 1, 0, (4, 2)),
    ]


def block_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, batch: int, steps: int, before: int, sizes: tuple[int, int]) -> tuple[str, dict]:
        width, heads = sizes
        weights = norm(rng, "ln_1", width) | norm(rng, "ln_2", width) | linear(rng, "attn.layer", width, width)
        weights |= linear(rng, "mlp.c_fc", 4 * width, width, 1.5) | linear(rng, "mlp.c_proj", width, 4 * width, 2.0)
        inputs = {
            "weights": weights,
            "num_heads": heads,
            "x": normal(rng, batch, steps, width, scale=1.5),
            "cache": kept(rng, batch, heads, before, width),
            "upstream": normal(rng, batch, steps, width),
        }
        return kind, inputs

    return [
        case("no cache", 2, 3, 0, (6, 2)),
        case("a cache and one new position", 2, 1, 3, (6, 3)),
        case("a cache and several new positions", 1, 3, 2, (8, 2)),
    ]


def gpt_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, batch: int, steps: int, before: int, sizes: tuple[int, ...]) -> tuple[str, dict]:
        vocab, context, width, heads, layers = sizes
        weights = {"wte.weight": normal(rng, vocab, width), "wpe.weight": normal(rng, context, width)}
        for i in range(layers):
            weights |= linear(rng, f"h.{i}.attn.layer", width, width)
        caches = [kept(rng, batch, heads, before, width) for _ in range(layers)]
        inputs = {
            "weights": weights | norm(rng, "ln_f", width),
            "num_heads": heads,
            "num_layers": layers,
            "tokens": integers(rng, vocab, batch, steps),
            "cache": [(cache["k"], cache["v"]) for cache in caches if cache] or None,
            "upstream": normal(rng, batch, steps, vocab),
        }
        return kind, inputs

    return [
        case("no cache, two layers", 2, 4, 0, (7, 9, 6, 2, 2)),
        case("a cache and one new token, three layers", 2, 1, 5, (7, 9, 6, 2, 3)),
        case("a cache and several new tokens", 2, 3, 4, (5, 9, 8, 4, 2)),
        case("a single token, a context that is full", 1, 1, 0, (6, 1, 4, 2, 1)),
    ]


def init_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, sizes: tuple[int, ...]) -> tuple[str, dict]:
        vocab, context, D, _, layers = sizes
        shapes = {"wte.weight": (vocab, D), "wpe.weight": (context, D), "ln_f.weight": (D,), "ln_f.bias": (D,)}
        for i in range(layers):
            for part, shape in {
                "ln_1": (D,),
                "ln_2": (D,),
                "attn.c_attn": (3 * D, D),
                "attn.c_proj": (D, D),
                "mlp.c_fc": (4 * D, D),
                "mlp.c_proj": (D, 4 * D),
            }.items():
                shapes[f"h.{i}.{part}.weight"], shapes[f"h.{i}.{part}.bias"] = shape, shape[:1]
        return kind, {"sizes": list(sizes), "draws": {name: normal(rng, *shape) for name, shape in shapes.items()}}

    return [
        case("two layers", (7, 5, 4, 2, 2)),
        case("three layers, a width like the context", (6, 4, 4, 1, 3)),
        case("a single layer", (5, 3, 6, 3, 1)),
    ]


# -------------------------------------------------------------------------------------------------------- text


def loss_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, batch: int, steps: int, vocab: int, scale: float = 1.0) -> tuple[str, dict]:
        inputs = {
            "logits": normal(rng, batch, steps, vocab, scale=scale),
            "tokens": integers(rng, vocab, batch, steps),
            "upstream": normal(rng, 1, mean=2.0)[0],
        }
        return kind, inputs

    return [
        case("a batch of sequences", 3, 5, 6),
        case("two positions, one prediction", 2, 2, 4),
        case("a single sequence, large logits", 1, 6, 5, scale=4.0),
    ]


def clear_cut(
    rng: torch.Generator, shape: tuple[int, int], temperature: float, k: int | None, p: float | None
) -> Tensor:
    """Logits of which no two are nearly equal, and whose sums stay away from p."""
    while True:
        logits = normal(rng, *shape, scale=1.5)
        ordered = (logits / temperature).sort(dim=-1, descending=True).values
        left = ordered[:, :k].softmax(dim=-1)
        clear = p is None or float((left.cumsum(dim=-1) - p).abs().min()) > 0.01
        if float((ordered[:, 1:] - ordered[:, :-1]).abs().min()) > 0.01 and clear:
            return logits


def cut_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, shape: tuple[int, int], temperature: float, k: int | None, p: float | None) -> tuple[str, dict]:
        logits = clear_cut(rng, shape, temperature, k, p)
        return kind, {"logits": logits, "temperature": temperature, "k": k, "p": p}

    order = torch.randperm(6, generator=rng)
    ties = torch.stack(
        [torch.tensor([1.0, 2.0, 2.0, 2.0, 0.0, 2.0])[order], torch.tensor([1.0, 1.0, 3.0, 1.0, 1.0, 1.0])]
    )
    return [
        case("a temperature alone", (2, 6), 0.6, None, None),
        case("the k likeliest, warm", (3, 8), 1.7, 3, None),
        case("a nucleus, warm", (4, 8), 1.6, None, 0.8),
        case("a nucleus, cold", (4, 8), 0.6, None, 0.7),
        case("k and p and a temperature", (6, 9), 1.5, 5, 0.75),
        case("p so small that one token is left", (2, 7), 1.0, None, 0.02),
        case("k larger than the vocabulary", (2, 4), 0.8, 9, None),
        ("equal logits, k among them", {"logits": ties, "temperature": 1.0, "k": 3, "p": None}),
    ]


def generate_cases(rng: torch.Generator) -> Cases:
    def case(
        kind: str,
        batch: int,
        steps: int,
        new: int,
        temperature: float = 1.0,
        k: int | None = None,
        p: float | None = None,
    ) -> tuple[str, dict]:
        vocab, width = 9, 5
        inputs = {
            "embedding": normal(rng, vocab, width),
            "output": normal(rng, vocab, width, scale=0.6),
            "tokens": integers(rng, vocab, batch, steps),
            "uniforms": uniform(rng, batch, new),
            "temperature": temperature,
            "k": k,
            "p": p,
        }
        return kind, inputs

    return [
        case("two rows, nothing cut", 2, 3, 8),
        case("a temperature", 3, 2, 10, temperature=2.5),
        case("the three likeliest", 3, 4, 10, k=3),
        case("a nucleus", 3, 3, 10, p=0.6),
        case("one row, a beginning of one token", 1, 1, 12),
        case("nothing to write", 2, 3, 0),
    ]


# ------------------------------------------------------------------------------------------- arithmetic of size


def count_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, output: str, context: bool = True, frozen: bool = False, layers: int = 2) -> tuple[str, dict]:
        vocab, positions, width = number(rng, 11, 19), number(rng, 5, 9) if context else 0, number(rng, 3, 7)
        return kind, {"sizes": [vocab, positions, width, layers], "output": output, "frozen": frozen}

    return [
        case("a tied output", "tied"),
        case("an output of its own", "untied"),
        case("no positions, a layer that is frozen", "tied", context=False, frozen=True),
        case("no output, three layers", "none", layers=3),
    ]


def flops_cases(rng: torch.Generator) -> Cases:
    tokens = [number(rng, 1000, 9999), 10**9 * number(rng, 2, 900), 10**6 * number(rng, 2, 900)]
    kinds = zip(count_cases(rng), tokens, strict=False)
    return [(kind, {**inputs, "num_tokens": many}) for (kind, inputs), many in kinds]


def law_cases(rng: torch.Generator) -> Cases:
    def case(
        kind: str, points: int, low: float, high: float, a: float, alpha: float, scatter: float
    ) -> tuple[str, dict]:
        exponents = low + (high - low) * (torch.arange(points) + 0.5 * uniform(rng, points)) / points
        compute = 10.0**exponents
        loss = a * compute**-alpha * torch.exp(normal(rng, points, scale=scatter))
        order = torch.randperm(points, generator=rng)
        return kind, {"compute": compute[order], "loss": loss[order]}

    return [
        case("seven sizes, in operations", 7, 12.0, 16.0, 40.0, 0.07, 0.03),
        case("five sizes, less than a petaflop/s-day", 5, -5.0, 0.0, 2.6, 0.05, 0.02),
        case("two points", 2, 1.0, 3.0, 8.0, 0.2, 0.05),
        case("a loss that grows", 6, 0.5, 3.0, 1.5, -0.15, 0.05),
    ]


# ------------------------------------------------------------------------------------------------------ further


def accumulate_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, rows: int, size: int) -> tuple[str, dict]:
        vocab = 5
        inputs = {
            "weight": normal(rng, vocab, vocab),
            "scale": normal(rng, vocab, mean=1.0, scale=0.3),
            "weight_before": normal(rng, vocab, vocab, scale=0.3),
            "scale_before": normal(rng, vocab, scale=0.3),
            "tokens": integers(rng, vocab, rows, 4),
            "size": size,
        }
        return kind, inputs

    return [
        case("parts of equal size", 6, 2),
        case("a smaller last part", 7, 3),
        case("a part of all rows", 3, 3),
        case("fewer rows than a part has", 2, 5),
        case("one row at a time", 4, 1),
    ]


def induction_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, tokens: Tensor, *leading: int) -> tuple[str, dict]:
        T = len(tokens)
        scores = normal(rng, *leading, T, T, scale=1.5)
        future = torch.ones(T, T, dtype=torch.bool).triu(1)
        return kind, {"weights": scores.masked_fill(future, -math.inf).softmax(dim=-1), "tokens": tokens}

    once = torch.randperm(5, generator=rng)
    few = torch.cat([torch.tensor([2, 0, 2, 1, 2]), integers(rng, 3, 4)])
    return [
        case("random tokens, said twice", torch.cat([once, once]), 2),
        case("few different tokens, one head", few),
        case("two layers of three heads, new tokens at the end", torch.tensor([4, 1, 4, 1, 0, 2]), 2, 3),
        case("a token that follows itself", torch.tensor([3, 3, 1, 1, 3]), 2),
    ]


def rouge_cases(rng: torch.Generator) -> Cases:
    words = ["the", "house", "of", "mr", "bennet", "is", "small", "and", "old"]

    def case(kind: str, candidate: list[str], reference: list[str]) -> tuple[str, dict]:
        return kind, {"candidate": candidate, "reference": reference}

    some = [words[i] for i in integers(rng, len(words), number(rng, 6, 8)).tolist()]
    other = [words[i] for i in integers(rng, len(words), 10).tolist()]
    return [
        case("words left out here and there", words[:2] + words[4:6] + words[8:], words),
        case("random words", [*some, "and", "the", "old"], ["the", "old", *other]),
        case(
            "the same words in another order", [*shuffled(rng, words[:4]), "is", "very", "the"], [*words[3::-1], "is"]
        ),
        case("a word that comes twice in one of them", ["old", "old", "house"], ["old", "house", "on", "hill"]),
        case("nothing in common", ["nobody"], words[:3]),
        case("nothing written", [], words[:2]),
    ]


# --------------------------------------------------------------------------------------------------- exercises

EXERCISES = [
    Exercise(
        "bpe_train",
        points=7,
        cases=train_cases,
        mistakes=[
            Mistake(
                "counts-ignored",
                "Every piece counts once. A piece that occurs n times in the text counts n times.",
                "+= counts[piece]",
                "+= 1",
            ),
            Mistake(
                "once-a-piece",
                "A pair that occurs twice within a piece is counted once for it.",
                "in pairwise(tokens)",
                "in set(pairwise(tokens))",
            ),
            Mistake(
                "ties-to-the-largest",
                "Of equally frequent pairs the largest is taken; it should be the smallest.",
                "(-pairs[pair], pair)",
                "(-pairs[pair], -pair[0], -pair[1])",
            ),
            Mistake(
                "ties-to-the-first-seen",
                "Of equally frequent pairs the one that was counted first is taken; it should be the smallest.",
                "(-pairs[pair], pair)",
                "-pairs[pair]",
            ),
            Mistake(
                "ties-by-the-right-token",
                "Equally frequent pairs are compared by their right tokens first; the left ones come first.",
                "(-pairs[pair], pair)",
                "(-pairs[pair], pair[::-1])",
            ),
            Mistake(
                "rarest",
                "The pair with the lowest count is merged; it should be the one with the highest.",
                "(-pairs[pair], pair)",
                "(pairs[pair], pair)",
            ),
            Mistake(
                "not-merged",
                "The pair is noted but never merged in the pieces, so that the next round finds it again.",
                "merge_pair(tokens, best, new)",
                "tokens",
            ),
            Mistake(
                "numbered-from-257",
                "The first merged token gets the number 257; the bytes are 0 to 255, so it is 256.",
                "range(256, 256 + num_merges)",
                "range(257, 257 + num_merges)",
            ),
            Mistake(
                "size-of-the-vocabulary",
                "num_merges is read as the size of the vocabulary; it is the number of merges, beside the 256 bytes.",
                "range(256, 256 + num_merges)",
                "range(256, num_merges)",
            ),
            Mistake(
                "stops-at-one",
                "It stops where no pair occurs twice; pairs that occur once are merged too, as long as merges are asked.",
                "if not pairs:",
                "if not pairs or max(pairs.values()) < 2:",
            ),
        ],
    ),
    Exercise(
        "bpe_encode",
        points=6,
        cases=encode_cases,
        mistakes=[
            Mistake(
                "leftmost-first",
                "The first pair from the left that has a merge is merged; it should be the one with the lowest rank.",
                "min(pairwise(tokens), key=lambda pair: ranks.get(pair, math.inf))",
                "next((pair for pair in pairwise(tokens) if pair in ranks), None)",
            ),
            Mistake(
                "by-count",
                "Pairs are merged by how often they occur in the piece; it is the order in which they were learned that counts.",
                "key=lambda pair: ranks.get(pair, math.inf)",
                "key=lambda pair: (pair not in ranks, -list(pairwise(tokens)).count(pair), ranks.get(pair, 0))",
            ),
            Mistake(
                "latest-first",
                "The pair that was learned last is merged first; it should be the one that was learned first.",
                "ranks.get(pair, math.inf)",
                "-ranks.get(pair, -1)",
            ),
            Mistake(
                "longest-token-first",
                "From the left, the longest token that fits is taken, as WordPiece does; here merges have an order.",
                source="""def bpe_encode(piece: bytes, merges: Sequence[tuple[int, int]]) -> list[int]:
    known = [bytes([byte]) for byte in range(256)]
    for one, two in merges:
        known.append(known[one] + known[two])
    tokens, at = [], 0
    while at < len(piece):
        fits = [token for token, text in enumerate(known) if piece.startswith(text, at)]
        tokens.append(max(fits, key=lambda token: len(known[token])))
        at += len(known[tokens[-1]])
    return tokens
""",
            ),
            Mistake(
                "numbered-from-257",
                "Merge 0 is taken to make token 257; it makes 256, the first number that is no byte.",
                "256 + ranks[best]",
                "257 + ranks[best]",
            ),
            Mistake(
                "rank-as-token",
                "The rank itself is used as the token, which is the number of a byte already; 256 has to be added.",
                "256 + ranks[best]",
                "ranks[best]",
            ),
            Mistake(
                "stops-after-one",
                "It stops after the first merge; it goes on until no pair of neighbours has one.",
                "tokens = merge_pair(tokens, best, 256 + ranks[best])",
                "return merge_pair(tokens, best, 256 + ranks[best])",
            ),
            Mistake(
                "bytes-only",
                "Only pairs of bytes are merged; what was merged before can be part of a pair again.",
                "if best not in ranks:",
                "if best not in ranks or max(best) > 255:",
            ),
        ],
    ),
    Exercise(
        "bpe_decode",
        points=3,
        cases=decode_cases,
        mistakes=[
            Mistake(
                "parts-exchanged",
                "The right part of a merged token is put before the left one.",
                "vocabulary[left] + vocabulary[right]",
                "vocabulary[right] + vocabulary[left]",
            ),
            Mistake(
                "token-by-token",
                "Each token is turned into text by itself, so that a character in two tokens becomes two question marks.",
                'b"".join(vocabulary[token] for token in tokens)',
                '"".join(vocabulary[token].decode("utf-8", "replace") for token in tokens).encode()',
            ),
            Mistake(
                "no-text-dropped",
                "Bytes that are no valid UTF-8 are dropped; any bytes have to come back.",
                "for token in tokens)",
                'for token in tokens).decode("utf-8", "ignore").encode()',
            ),
            Mistake(
                "text-returned",
                "A text is returned; asked are bytes, which need not be a text.",
                "for token in tokens)",
                'for token in tokens).decode("utf-8", "replace")',
            ),
            Mistake(
                "bytes-as-characters",
                "Bytes from 128 on are taken for characters with that number, which have two bytes each in UTF-8.",
                "bytes([byte])",
                "chr(byte).encode()",
            ),
            Mistake(
                "one-token-too-early",
                "A merged token is looked up one place too early: token 256 is what merge 0 made.",
                "vocabulary[token]",
                "vocabulary[token - (token > 255)]",
            ),
            Mistake(
                "joined-by-spaces",
                "Spaces are put between the tokens; those that a text has are in its tokens already.",
                'b""',
                'b" "',
            ),
        ],
    ),
    Exercise(
        "CausalSelfAttention.forward",
        points=10,
        cases=attention_cases,
        mistakes=[
            Mistake(
                "cache-ignored",
                "The cache is not read: new positions do not see what came before them.",
                "cache is not None",
                "cache is not None and len(cache) != 2",
            ),
            Mistake(
                "hides-the-present",
                "With a cache the mask is off by one: a new position does not see itself.",
                ".tril(S - T)",
                ".tril(S - T - 1)",
            ),
            Mistake(
                "shows-the-next",
                "With a cache the mask is off by one: a new position sees the next one.",
                ".tril(S - T)",
                ".tril(S - T + 1)",
            ),
            Mistake(
                "counted-from-the-start",
                "With a cache, several new positions are taken for the first ones, as `is_causal` does; they are the last ones.",
                ".tril(S - T)",
                ".tril()",
            ),
            Mistake(
                "new-positions-see-all",
                "With a cache there is no mask: several new positions see each other's future.",
                ".tril(S - T)",
                "",
            ),
            Mistake(
                "not-causal",
                "Without a cache there is no mask: each position sees the future.",
                "is_causal=T == S",
                "is_causal=False",
            ),
            Mistake(
                "cache-behind",
                "The cache is put behind the new keys and values; it comes before them.",
                "torch.cat([cache[0], k], dim=2), torch.cat([cache[1], v], dim=2)",
                "torch.cat([k, cache[0]], dim=2), torch.cat([v, cache[1]], dim=2)",
            ),
            Mistake(
                "cached-keys-as-values",
                "The cached keys are taken for the cached values too; the second entry of the cache has the values.",
                "torch.cat([cache[1], v]",
                "torch.cat([cache[0], v]",
            ),
            Mistake(
                "only-the-new-are-kept",
                "The new cache has the new positions only; the next step needs all of them.",
                "(k, v)\n",
                "(k[:, :, -T:], v[:, :, -T:])\n",
            ),
            Mistake(
                "cache-not-extended",
                "The old cache is returned as it came; the new positions have to be in it.",
                "(k, v)\n",
                "((k, v) if cache is None else cache)\n",
            ),
            Mistake(
                "another-order",
                "The projection is read as key, query, value; it holds query, key, value.",
                "q, k, v = (",
                "k, q, v = (",
            ),
            Mistake(
                "split-without-transpose",
                "The heads are split by a reshape alone: (B, T, D) to (B, H, T, K) needs a transpose, or positions mix.",
                "part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)",
                "part.reshape(x.size(0), self.num_heads, x.size(1), -1)",
            ),
            Mistake(
                "split-interleaved",
                "Each head takes every H-th feature; it should take K neighbours.",
                "part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)",
                "part.unflatten(-1, (-1, self.num_heads)).permute(0, 3, 1, 2)",
            ),
            Mistake(
                "merged-without-transpose",
                "The heads are merged by a reshape alone: the position has to come before the head again.",
                "heads.transpose(1, 2).flatten(-2)",
                "heads.reshape(x.shape)",
            ),
            Mistake(
                "no-output-projection",
                "The merged heads are returned as they are; they go through c_proj.",
                "self.c_proj(heads.transpose(1, 2).flatten(-2))",
                "heads.transpose(1, 2).flatten(-2)",
            ),
            Mistake(
                "unscaled",
                "The scores are not divided by the square root of a head's width.",
                "is_causal=T == S",
                "is_causal=T == S, scale=1.0",
            ),
            Mistake(
                "scaled-by-the-model-width",
                "The scores are divided by the root of the model's width; a head has only K features.",
                "is_causal=T == S",
                "is_causal=T == S, scale=x.size(-1) ** -0.5",
            ),
        ],
    ),
    Exercise(
        "Block.forward",
        points=5,
        cases=block_cases,
        mistakes=[
            Mistake(
                "post-norm",
                "The norms come after the residual sums, as in 2017; here each comes before its half and the sum is not normed.",
                find="attended, cache = self.attn(self.ln_1(x), cache)\n        x = x + attended",
                replace="attended, cache = self.attn(x, cache)\n        x = self.ln_1(x + attended)",
                also=[
                    ("self.mlp.c_fc(self.ln_2(x))", "self.mlp.c_fc(x)"),
                    ("return x + self.mlp.c_proj(hidden)", "return self.ln_2(x + self.mlp.c_proj(hidden))"),
                ],
            ),
            Mistake(
                "exact-gelu",
                "The GELU is the exact one; GPT-2's is the one with the tanh.",
                ', approximate="tanh"',
                "",
            ),
            Mistake(
                "relu",
                "Between the halves of the network stands a ReLU; GPT-2 has a GELU.",
                'F.gelu(self.mlp.c_fc(self.ln_2(x)), approximate="tanh")',
                "F.relu(self.mlp.c_fc(self.ln_2(x)))",
            ),
            Mistake(
                "gelu-by-a-sigmoid",
                "The GELU is x times a sigmoid of 1.702 x, another approximation than the one with the tanh.",
                'F.gelu(self.mlp.c_fc(self.ln_2(x)), approximate="tanh")',
                "(lambda z: z * torch.sigmoid(1.702 * z))(self.mlp.c_fc(self.ln_2(x)))",
            ),
            Mistake(
                "no-residual-around-the-attention",
                "The attention's output replaces x; it is added to it.",
                "x = x + attended",
                "x = attended",
            ),
            Mistake(
                "no-residual-around-the-network",
                "The network's output is returned alone; it is added to x.",
                "return x + self.mlp",
                "return self.mlp",
            ),
            Mistake(
                "normed-residual",
                "What is added to the attention's output is the normed x; the residual connection carries x itself.",
                "x = x + attended",
                "x = self.ln_1(x) + attended",
            ),
            Mistake(
                "norms-exchanged",
                "The two norms are exchanged: ln_1 belongs to the attention.",
                "self.attn(self.ln_1(x), cache)",
                "self.attn(self.ln_2(x), cache)",
                also=[("self.mlp.c_fc(self.ln_2(x))", "self.mlp.c_fc(self.ln_1(x))")],
            ),
            Mistake(
                "attention-without-norm",
                "The attention gets x as it is; ln_1 comes before it.",
                "self.attn(self.ln_1(x), cache)",
                "self.attn(x, cache)",
            ),
            Mistake(
                "network-without-norm",
                "The network gets x as it is; ln_2 comes before it.",
                "self.ln_2(x)",
                "x",
            ),
            Mistake(
                "cache-not-handed-on",
                "The attention is called without the cache.",
                "self.attn(self.ln_1(x), cache)",
                "self.attn(self.ln_1(x))",
            ),
        ],
    ),
    Exercise(
        "GPT.forward",
        points=9,
        cases=gpt_cases,
        mistakes=[
            Mistake(
                "positions-restart",
                "With a cache the positions begin at 0 again; they go on where the cache ends.",
                "0 if cache is None else cache[0][0].size(2)",
                "0",
            ),
            Mistake(
                "positions-behind",
                "With a cache the first new position is that of the last one in the cache.",
                "cache[0][0].size(2)",
                "cache[0][0].size(2) - 1",
            ),
            Mistake(
                "heads-counted",
                "The number of heads is taken for the number of cached positions: a cached key is (B, H, S, K).",
                "cache[0][0].size(2)",
                "cache[0][0].size(1)",
            ),
            Mistake(
                "layers-counted",
                "The length of the list of caches is taken for the number of cached positions; it is that of the layers.",
                "cache[0][0].size(2)",
                "len(cache)",
            ),
            Mistake(
                "no-positions",
                "The positions are not added: without a mask's help the model would not know the order.",
                " + self.wpe(positions)",
                "",
            ),
            Mistake(
                "embedding-scaled",
                "The embedding is multiplied by the root of the width, as in 2017; GPT-2 does not do this.",
                "self.wte(tokens) +",
                "self.wte(tokens) * self.wte.weight.size(1) ** 0.5 +",
            ),
            Mistake(
                "no-last-norm",
                "The last norm is missing: x goes to the output without ln_f.",
                "self.ln_f(x)",
                "x",
            ),
            Mistake(
                "first-layers-cache-for-all",
                "Every block gets the cache of the first one; each has its own.",
                "else cache[i]",
                "else cache[0]",
            ),
            Mistake(
                "cache-not-handed-on",
                "The blocks are called without their caches.",
                "None if cache is None else cache[i]",
                "None",
            ),
            Mistake(
                "old-cache-returned",
                "The cache that came in is returned; the blocks return new ones.",
                "self.wte.weight), new",
                "self.wte.weight), cache if cache else new",
            ),
            Mistake(
                "last-position-only",
                "Only the last position gets logits; training needs those of all.",
                "self.ln_f(x)",
                "self.ln_f(x[:, -1:])",
            ),
            Mistake(
                "probabilities",
                "The logits went through a softmax; they are returned as they are.",
                "F.linear(self.ln_f(x), self.wte.weight)",
                "F.linear(self.ln_f(x), self.wte.weight).softmax(dim=-1)",
            ),
        ],
    ),
    Exercise(
        "init_weights_",
        points=5,
        cases=init_cases,
        mistakes=[
            Mistake(
                "not-scaled",
                "The residual projections are drawn like all others: with each layer the sum of all blocks would grow.",
                "residual if",
                "std if",
            ),
            Mistake(
                "root-of-the-layers",
                "The residual projections are divided by the root of L; each of L layers has two of them, so it is 2 L.",
                "math.sqrt(2 * len(model.h))",
                "math.sqrt(len(model.h))",
            ),
            Mistake(
                "no-root",
                "The residual projections are divided by 2 L, and not by its square root.",
                "math.sqrt(2 * len(model.h))",
                "(2 * len(model.h))",
            ),
            Mistake(
                "attention-only",
                "Only the attention's residual projection is scaled; the network's is one too.",
                '"c_proj.weight"',
                '"attn.c_proj.weight"',
            ),
            Mistake(
                "network-only",
                "Only the network's residual projection is scaled; the attention's is one too.",
                '"c_proj.weight"',
                '"mlp.c_proj.weight"',
            ),
            Mistake(
                "all-scaled",
                "All matrices of a block are scaled by the root of 2 L; only those that write into the sum are.",
                'name.endswith("c_proj.weight")',
                '"c_" in name',
            ),
            Mistake(
                "norms-drawn",
                "The weights of the norms are drawn; they begin as 1.",
                'elif "ln_" in name:',
                'elif "no norm" in name:',
            ),
            Mistake(
                "last-norm-drawn",
                "The weight of the last norm, ln_f, is drawn like a matrix; it begins as 1.",
                'elif "ln_" in name:',
                'elif ".ln_" in name:',
            ),
            Mistake(
                "biases-drawn",
                "Biases are drawn; they begin as 0.",
                "parameter.zero_()",
                "parameter.copy_(draws[name] * std)",
            ),
            Mistake(
                "variance",
                "0.02 is taken for the variance; it is the standard deviation.",
                "std, residual = 0.02, 0.02 /",
                "std, residual = 0.02**0.5, 0.02**0.5 /",
            ),
            Mistake(
                "positions-left-out",
                "The embedding of the positions stays as it was; it is drawn like the others.",
                'if name.endswith("bias"):',
                'if name == "wpe.weight":\n                continue\n            if name.endswith("bias"):',
            ),
        ],
    ),
    Exercise(
        "lm_loss",
        points=4,
        cases=loss_cases,
        mistakes=[
            Mistake(
                "no-shift",
                "There is no shift: each position is asked for the token that it has just read.",
                "logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()",
                "logits.flatten(0, 1), tokens.flatten()",
            ),
            Mistake(
                "shifted-back",
                "The shift goes the other way: each position is asked for the token before it.",
                "logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()",
                "logits[:, 1:].flatten(0, 1), tokens[:, :-1].flatten()",
            ),
            Mistake(
                "rolled",
                "The tokens are rolled: the last position is asked for the first token of its row.",
                "logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()",
                "logits.flatten(0, 1), tokens.roll(-1, dims=1).flatten()",
            ),
            Mistake(
                "summed",
                "The losses are added up; asked is their mean.",
                "tokens[:, 1:].flatten())",
                'tokens[:, 1:].flatten(), reduction="sum")',
            ),
            Mistake(
                "summed-over-time",
                "The losses of a row are added up and only the rows averaged; the mean is over all predictions.",
                "tokens[:, 1:].flatten())",
                'tokens[:, 1:].flatten(), reduction="sum") / len(tokens)',
            ),
            Mistake(
                "divided-by-all-positions",
                "The sum is divided by all B T positions; there are B (T - 1) predictions.",
                "tokens[:, 1:].flatten())",
                'tokens[:, 1:].flatten(), reduction="sum") / tokens.numel()',
            ),
            Mistake(
                "bits",
                "The loss is in bits; asked are nats.",
                "tokens[:, 1:].flatten())",
                "tokens[:, 1:].flatten()) / math.log(2)",
            ),
            Mistake(
                "two-softmaxes",
                "The logits go through a softmax before F.cross_entropy, which takes one by itself.",
                "logits[:, :-1].flatten(0, 1)",
                "logits[:, :-1].flatten(0, 1).softmax(dim=-1)",
            ),
            Mistake(
                "last-prediction-only",
                "Only the last prediction of a row counts; all of them do.",
                "logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()",
                "logits[:, -2:-1].flatten(0, 1), tokens[:, -1:].flatten()",
            ),
        ],
    ),
    Exercise(
        "top_k_top_p",
        points=8,
        cases=cut_cases,
        mistakes=[
            Mistake(
                "crossing-token-cut",
                "The token that crosses p is cut; it is kept, so that what is left has at least p.",
                "before >= p",
                "probs.cumsum(dim=-1) > p",
            ),
            Mistake(
                "crossing-token-cut-but-one-kept",
                "The token that crosses p is cut, unless nothing else is left; it is always kept.",
                "before >= p",
                "(probs.cumsum(dim=-1) > p) & (before > 0)",
            ),
            Mistake(
                "temperature-after-the-cuts",
                "The temperature comes after the cuts: the nucleus is that of the logits as they were. It comes first.",
                "logits / temperature",
                "logits",
                also=[
                    (
                        "probs = probs / probs.sum(dim=-1, keepdim=True)",
                        "probs = (probs.log() / temperature).softmax(dim=-1)",
                    )
                ],
            ),
            Mistake(
                "temperature-multiplied",
                "The logits are multiplied by the temperature; they are divided by it.",
                "logits / temperature",
                "logits * temperature",
            ),
            Mistake(
                "temperature-ignored",
                "The temperature does not enter.",
                "logits / temperature",
                "logits",
            ),
            Mistake(
                "p-before-k",
                "The nucleus is taken of all tokens, before the cut to k; it is taken of the k that are left.",
                "scores[:, k:] = -math.inf\n    probs = torch.softmax(scores, dim=-1)",
                "pass\n    probs = torch.softmax(scores, dim=-1)",
                also=[
                    (
                        "probs = probs / probs.sum(dim=-1, keepdim=True)",
                        "probs = probs * (torch.arange(probs.size(-1)) < (k or probs.size(-1)))\n"
                        "    probs = probs / probs.sum(dim=-1, keepdim=True)",
                    )
                ],
            ),
            Mistake(
                "not-renormalised",
                "After the nucleus the probabilities do not sum to 1; they are divided by their sum.",
                "probs = probs / probs.sum(dim=-1, keepdim=True)",
                "pass",
            ),
            Mistake(
                "k-less-one",
                "One token too few is kept: the k likeliest stay.",
                "scores[:, k:]",
                "scores[:, max(k - 1, 1) :]",
            ),
            Mistake(
                "k-ignored",
                "k does not enter.",
                "if k is not None:",
                "if k is not None and k < 1:",
            ),
            Mistake(
                "k-least-likely",
                "The k least likely tokens are kept; it should be the likeliest.",
                "scores[:, k:] = -math.inf",
                "scores[:, : -min(k, scores.size(-1))] = -math.inf",
            ),
            Mistake(
                "ties-kept",
                "All tokens as likely as the k-th are kept, more than k; of equal logits the smaller numbers stay.",
                "scores[:, k:] = -math.inf",
                "scores = scores.masked_fill(scores < scores[:, min(k, scores.size(-1)) - 1].unsqueeze(1), -math.inf)",
            ),
            Mistake(
                "left-in-sorted-order",
                "The probabilities are returned from the likeliest on; they belong at their tokens' places.",
                "torch.zeros_like(probs).scatter(-1, order, probs)",
                "probs",
            ),
            Mistake(
                "gathered-back",
                "The probabilities are gathered with the order where they have to be scattered: entry j belongs at order[j].",
                "torch.zeros_like(probs).scatter(-1, order, probs)",
                "probs.gather(-1, order)",
            ),
            Mistake(
                "sums-unsorted",
                "The probabilities are added up in the order of the vocabulary; the nucleus starts from the likeliest.",
                "before = probs.cumsum(dim=-1) - probs",
                "before = torch.zeros_like(probs).scatter(-1, order, probs)\n"
                "        before = (before.cumsum(dim=-1) - before).gather(-1, order)",
            ),
        ],
    ),
    Exercise(
        "generate",
        points=8,
        cases=generate_cases,
        uses=["top_k_top_p"],
        mistakes=[
            Mistake(
                "without-the-cache",
                "The whole text is read anew for every token: right, but the cache is not used.",
                "model(new, cache)",
                "model(tokens, None)",
            ),
            Mistake(
                "cache-forgotten",
                "Only the new token is read, without the cache: the model does not know what came before.",
                "model(new, cache)",
                "model(new, None)",
            ),
            Mistake(
                "read-twice",
                "The whole text is read on top of the cache, so that everything in it is there several times.",
                "model(new, cache)",
                "model(tokens, cache)",
            ),
            Mistake(
                "first-position",
                "The logits of the first position that was read are used; the next token follows the last one.",
                "logits[:, -1]",
                "logits[:, 0]",
            ),
            Mistake(
                "greedy",
                "The likeliest token is taken, whatever was drawn.",
                "(sums <= u.unsqueeze(1) * sums[:, -1:]).sum(dim=-1, keepdim=True)",
                "probs.argmax(dim=-1, keepdim=True)",
            ),
            Mistake(
                "temperature-not-handed-on",
                "The temperature does not reach top_k_top_p.",
                "temperature, k, p)",
                "1.0, k, p)",
            ),
            Mistake(
                "k-not-handed-on",
                "k does not reach top_k_top_p.",
                "temperature, k, p)",
                "temperature, None, p)",
            ),
            Mistake(
                "p-not-handed-on",
                "p does not reach top_k_top_p.",
                "temperature, k, p)",
                "temperature, k, None)",
            ),
            Mistake(
                "from-the-likeliest",
                "The probabilities are added up from the likeliest on; the sums are in the order of the vocabulary.",
                "sums = probs.cumsum(dim=-1)",
                "probs, order = probs.sort(dim=-1, descending=True, stable=True)\n        sums = probs.cumsum(dim=-1)",
                also=[
                    (
                        "(sums <= u.unsqueeze(1) * sums[:, -1:]).sum(dim=-1, keepdim=True)",
                        "order.gather(1, (sums <= u.unsqueeze(1) * sums[:, -1:]).sum(dim=-1, keepdim=True))",
                    )
                ],
            ),
            Mistake(
                "from-the-end",
                "The sums are compared with 1 - u: the vocabulary is gone through from its end.",
                "u.unsqueeze(1)",
                "(1 - u.unsqueeze(1))",
            ),
            Mistake(
                "one-draw-for-all-rows",
                "The first row's number decides for every row; each row has its own.",
                "u.unsqueeze(1)",
                "u[0]",
            ),
            Mistake(
                "one-too-early",
                "The token before the right one is taken: the last whose sum is not larger, instead of the first whose sum is.",
                ".sum(dim=-1, keepdim=True)",
                ".sum(dim=-1, keepdim=True).sub(1).clamp(min=0)",
            ),
            Mistake(
                "beginning-left-out",
                "Only what was written is returned; the beginning belongs to it.",
                "return tokens",
                "return tokens[:, tokens.size(1) - uniforms.size(1) :]",
            ),
        ],
    ),
    Exercise(
        "count_parameters",
        points=3,
        cases=count_cases,
        mistakes=[
            Mistake(
                "tied-counted-twice",
                "A tied output is counted twice: it is one parameter in two places.",
                "for parameter in model.parameters() if",
                "for _, parameter in model.named_parameters(remove_duplicate=False) if",
            ),
            Mistake(
                "embeddings-always-in",
                "The flag does not enter: the embeddings are always counted.",
                "if not embeddings:",
                "if False:",
            ),
            Mistake(
                "embeddings-always-out",
                "The flag does not enter: the embeddings are never counted.",
                "if not embeddings:",
                "if True:",
            ),
            Mistake(
                "flag-inverted",
                "The flag is read the other way round: `embeddings=True` counts them.",
                "if not embeddings:",
                "if embeddings:",
            ),
            Mistake(
                "positions-left-in",
                "Only the first embedding is left out; those of the positions are one too.",
                "for module in model.modules() if isinstance(module, nn.Embedding)",
                "for module in [one for one in model.modules() if isinstance(one, nn.Embedding)][:1]",
            ),
            Mistake(
                "trained-only",
                "Frozen parameters are not counted; they are parameters all the same.",
                "if id(parameter) not in left_out",
                "if id(parameter) not in left_out and parameter.requires_grad",
            ),
            Mistake(
                "tensors-counted",
                "The parameters are counted as tensors; asked is how many numbers they have.",
                "parameter.numel()",
                "1",
            ),
            Mistake(
                "matrices-only",
                "Only matrices are counted; biases and norms are parameters too.",
                "if id(parameter) not in left_out",
                "if id(parameter) not in left_out and parameter.ndim > 1",
            ),
            Mistake(
                "buffers-counted",
                "Buffers are counted too, such as the running means of a norm; they are no parameters.",
                "for parameter in model.parameters() if",
                "for parameter in [*model.parameters(), *model.buffers()] if",
            ),
            Mistake(
                "embeddings-taken-off-twice",
                "Without embeddings, a tied output is taken off once more, though it was counted once.",
                "return sum(",
                "return (0 if embeddings else -sum(one.weight.numel() for one in model.modules() if isinstance(one, nn.Linear)"
                " and id(one.weight) in left_out)) + sum(",
            ),
        ],
    ),
    Exercise(
        "training_flops",
        points=3,
        cases=flops_cases,
        uses=["count_parameters"],
        mistakes=[
            Mistake(
                "forward-only",
                "The backward pass is missing: 2 operations for the forward pass, 4 more for the two gradients.",
                "6.0",
                "2.0",
            ),
            Mistake(
                "backward-as-the-forward",
                "The backward pass is counted like a forward pass; it has two products for each of its one.",
                "6.0",
                "4.0",
            ),
            Mistake(
                "a-product-is-one",
                "A product and its addition are counted as one operation; they are two.",
                "6.0",
                "3.0",
            ),
            Mistake(
                "forward-again",
                "The forward pass is counted twice, as if it were computed again for the backward pass.",
                "6.0",
                "8.0",
            ),
            Mistake(
                "embeddings-left-out",
                "The embeddings are left out of N; they are in it here.",
                "count_parameters(model)",
                "count_parameters(model, embeddings=False)",
            ),
            Mistake(
                "petaflop-days",
                "The result is in petaflop/s-days; asked is the number of operations.",
                "* num_tokens",
                "* num_tokens / 8.64e19",
            ),
            Mistake(
                "for-one-token",
                "These are the operations for one token; all tokens are to be counted.",
                " * num_tokens",
                "",
            ),
        ],
    ),
    Exercise(
        "fit_scaling_law",
        points=4,
        cases=law_cases,
        floor=1e-3,  # a is the end of a lever: far from the points, the slope's last bits count
        mistakes=[
            Mistake(
                "slope-inverted",
                "The exponent has the wrong sign: alpha is the slope negated, positive where the loss falls.",
                "-slope.item()",
                "slope.item()",
            ),
            Mistake(
                "axes-exchanged",
                "The line is fitted to ln C over ln L: the exponent is about 1 / alpha. The loss is the one that is explained.",
                "x, y = compute.double().log(), loss.double().log()",
                "y, x = compute.double().log(), loss.double().log()",
            ),
            Mistake(
                "logarithm-of-a",
                "The logarithm of a is returned instead of a.",
                "intercept.exp().item()",
                "intercept.item()",
            ),
            Mistake(
                "no-logarithms",
                "The line is fitted to the numbers themselves; it is one in their logarithms.",
                "compute.double().log(), loss.double().log()",
                "compute.double(), loss.double()",
                also=[("intercept.exp()", "intercept")],
            ),
            Mistake(
                "only-compute-logarithmic",
                "Only the computing is taken by its logarithm; the loss has to be as well.",
                "loss.double().log()",
                "loss.double()",
                also=[("intercept.exp()", "intercept")],
            ),
            Mistake(
                "logarithms-of-two-bases",
                "The logarithms are to base 10, and a is e to the intercept: it should be 10 to it.",
                "compute.double().log(), loss.double().log()",
                "compute.double().log10(), loss.double().log10()",
            ),
            Mistake(
                "two-points",
                "The line goes through the points with the least and the most computing; it is fitted to all.",
                "(from_mean * y).sum() / from_mean.square().sum()",
                "(y[x.argmax()] - y[x.argmin()]) / (x.max() - x.min())",
            ),
            Mistake(
                "through-the-origin",
                "The line is forced through the origin, so that a is 1; it has an intercept of its own.",
                "from_mean = x - x.mean()",
                "from_mean = x",
                also=[("y.mean() - slope * x.mean()", "torch.zeros(())")],
            ),
            Mistake(
                "an-offset",
                "A constant is taken off the losses before the fit; this law has no offset.",
                "loss.double().log()",
                "(loss.double() - 0.5 * loss.double().min()).log()",
            ),
        ],
    ),
    Exercise(
        "accumulate_gradients",
        points=4,
        cases=accumulate_cases,
        stretch=True,
        mistakes=[
            Mistake(
                "not-divided",
                "The gradients of the parts are added up but not divided: they are larger by the number of parts.",
                "loss_of(rows) * len(rows) / len(tokens)",
                "loss_of(rows)",
            ),
            Mistake(
                "parts-alike",
                "Each part counts the same, so that the rows of a smaller last part count more.",
                "* len(rows) / len(tokens)",
                "/ -(-len(tokens) // size)",
            ),
            Mistake(
                "rows-over-size",
                "The parts are weighted by their rows over `size`; it is the number of all rows that they are a share of.",
                "/ len(tokens)",
                "/ size",
            ),
            Mistake(
                "last-part-dropped",
                "A smaller last part is dropped.",
                "in tokens.split(size):",
                "in tokens[: max(len(tokens) // size, 1) * size].split(size):",
            ),
            Mistake(
                "all-at-once",
                "All rows are read at once, which is what was to be avoided.",
                "in tokens.split(size):",
                "in [tokens]:",
            ),
            Mistake(
                "backward-at-the-end",
                "The losses are added up and go backward once at the end: until then the graphs of all parts stay in memory.",
                "        loss.backward()\n        total = total + loss.detach()\n    return total",
                "        total = total + loss\n    total.backward()\n    return total.detach()",
            ),
            Mistake(
                "graph-kept",
                "The loss that is returned still has a graph; detach what is added up.",
                "loss.detach()",
                "loss",
            ),
            Mistake(
                "last-loss-returned",
                "The loss of the last part is returned; asked is that of all rows.",
                "total + loss.detach()",
                "loss.detach() * len(tokens) / len(rows)",
            ),
            Mistake(
                "losses-not-weighted",
                "The gradients are right, but the parts' losses are added up without their weights.",
                "loss.detach()",
                "loss.detach() * len(tokens) / len(rows)",
            ),
        ],
    ),
    Exercise(
        "induction_score",
        points=3,
        cases=induction_cases,
        stretch=True,
        mistakes=[
            Mistake(
                "earlier-occurrence",
                "Counted is the weight on earlier occurrences of the token itself; it is on what came after them.",
                "follows[:, 1:] = tokens.unsqueeze(1) == tokens[:-1]",
                "follows[:] = (tokens.unsqueeze(1) == tokens).tril(-1)",
            ),
            Mistake(
                "what-came-before",
                "Counted is the weight on what came before earlier occurrences; it is on what came after them.",
                "follows[:, 1:] = tokens.unsqueeze(1) == tokens[:-1]",
                "follows[:, :-1] = (tokens.unsqueeze(1) == tokens[1:]).tril(-2)",
            ),
            Mistake(
                "all-positions",
                "The mean is over all positions; those whose token has not occurred before do not count.",
                "[..., asked]",
                "",
            ),
            Mistake(
                "future-repeats",
                "Positions whose token is repeated later are counted as well; only j up to t are meant.",
                "follows = follows.tril()",
                "follows = follows.clone()",
            ),
            Mistake(
                "not-oneself",
                "The position itself is left out; where a token follows itself, it is one of the positions j <= t.",
                "follows.tril()",
                "follows.tril(-1)",
            ),
            Mistake(
                "largest-weight",
                "The largest of the weights is taken; they are added.",
                "(weights * follows).sum(dim=-1)",
                "(weights * follows).amax(dim=-1)",
            ),
            Mistake(
                "transposed",
                "The weights are read the other way round: row t of the weights belongs to the query at t.",
                "(weights * follows)",
                "(weights.mT * follows)",
            ),
            Mistake(
                "last-occurrence-only",
                "Only what follows the last earlier occurrence counts; the weights on all of them are added.",
                "(weights * follows).sum(dim=-1)",
                "(weights * (follows & (follows.flip(-1).cumsum(dim=-1).flip(-1) == 1))).sum(dim=-1)",
            ),
            Mistake(
                "summed",
                "The weights are added up over the positions; asked is the mean.",
                ".mean(dim=-1)",
                ".sum(dim=-1)",
            ),
        ],
    ),
    Exercise(
        "rouge_l",
        points=3,
        cases=rouge_cases,
        stretch=True,
        mistakes=[
            Mistake(
                "substring",
                "The words have to stand side by side here: this is the longest common substring. Others may lie between them.",
                "max(table[i][j + 1], table[i + 1][j])",
                "0",
                also=[("table[-1][-1]", "max(max(row) for row in table)")],
            ),
            Mistake(
                "any-order",
                "Words in common are counted in any order; they have to come in the same order in both.",
                "longest = table[-1][-1]",
                "longest = sum((Counter(candidate) & Counter(reference)).values())",
            ),
            Mistake(
                "recall",
                "This is the recall; asked is the harmonic mean of precision and recall.",
                "2.0 * longest / (len(candidate) + len(reference))",
                "longest / len(reference)",
            ),
            Mistake(
                "precision",
                "This is the precision; asked is its harmonic mean with the recall.",
                "2.0 * longest / (len(candidate) + len(reference))",
                "longest / len(candidate)",
            ),
            Mistake(
                "arithmetic-mean",
                "The arithmetic mean of precision and recall is taken; asked is the harmonic one.",
                "2.0 * longest / (len(candidate) + len(reference))",
                "(longest / len(candidate) + longest / len(reference)) / 2",
            ),
            Mistake(
                "not-doubled",
                "The length is divided by the sum of both lengths, but not doubled: two equal texts would get one half.",
                "2.0 * longest",
                "1.0 * longest",
            ),
            Mistake(
                "words-used-twice",
                "A word may match several times here: where two words are equal, go on from the table's diagonal.",
                "table[i][j] + 1 if",
                "skipped + 1 if",
            ),
            Mistake(
                "nothing-by-nothing",
                "Where nothing is in common, or a text is empty, there is a division by 0; the score is 0 then.",
                "2.0 * longest / (len(candidate) + len(reference)) if longest else 0.0",
                "2.0 / (len(candidate) / longest + len(reference) / longest)",
            ),
            Mistake(
                "the-length-itself",
                "The length of the subsequence is returned; asked is a score from 0 to 1.",
                "2.0 * longest / (len(candidate) + len(reference))",
                "float(longest)",
            ),
        ],
    ),
    # ---------------------------------------------------------------------------------------------- trained models
    chars_artifact(RESULTS, points=15),
]
