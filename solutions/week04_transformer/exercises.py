"""Week 4: points, cases and mistakes of the exercises on the transformer.

B batch, T target time, S source time, D model width, V vocabulary. Cases are small, float32, with random weights that are
not square where they need not be; every random number comes from the generator handed in.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from autograder import Artifact, Exercise, Mistake, thresholds
from autograder.draws import integers, normal, uniform
from course.data import read
from course.drives.week04_transformer import CaseTranslator, pairs_asked, score_translation

Cases = list[tuple[str, dict]]

PAD, UNKNOWN, BEGIN, END = range(4)

RESULTS = Path(__file__).with_name("results.json")

# ---------------------------------------------------------------------------------------------- trained models


def heldout_pairs(heldout: Path) -> tuple[dict, dict]:
    """(inputs of the drive, key) of the grader's pages of LibreOffice's help."""
    return pairs_asked(read(heldout / "libreoffice_en_fr.parquet"))


# -------------------------------------------------------------------------------------------- the model: cases


def some(rng: torch.Generator, *shape: int) -> Tensor:
    """A random boolean mask: in each row along the last axis at least one True, and one False where there is room."""
    ranks = torch.rand(*shape, generator=rng).argsort(dim=-1).argsort(dim=-1)
    return ranks < torch.randint(1, max(shape[-1], 2), (*shape[:-1], 1), generator=rng)


def real(lengths: list[int], size: int) -> Tensor:
    """(B, 1, size): True where a row has something, that is before its length."""
    return (torch.arange(size) < torch.tensor(lengths).unsqueeze(1)).unsqueeze(1)


def causal(size: int) -> Tensor:
    return torch.ones(size, size, dtype=torch.bool).tril()


def norm_weights(rng: torch.Generator, width: int) -> dict[str, Tensor]:
    return {"weight": normal(rng, width, mean=1.0, scale=0.4), "bias": normal(rng, width, scale=0.4)}


def feed_forward_weights(rng: torch.Generator, width: int, inner: int) -> dict[str, Tensor]:
    return {
        "linear1.weight": normal(rng, inner, width, scale=1.5 * width**-0.5),
        "linear1.bias": normal(rng, inner, scale=0.5),
        "linear2.weight": normal(rng, width, inner, scale=1.5 * inner**-0.5),
        "linear2.bias": normal(rng, width, scale=0.5),
    }


def attention_weights(rng: torch.Generator, width: int) -> dict[str, Tensor]:
    return {
        "in_proj_weight": normal(rng, 3 * width, width, scale=1.2 * width**-0.5),
        "in_proj_bias": normal(rng, 3 * width, scale=0.5),
        "out_proj.weight": normal(rng, width, width, scale=1.5 * width**-0.5),
        "out_proj.bias": normal(rng, width, scale=0.5),
    }


def under(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": value for name, value in weights.items()}


def layer_weights(rng: torch.Generator, width: int, inner: int, attentions: list[str]) -> dict[str, Tensor]:
    """Of a layer with these attentions: as many norms as attentions, and one for its feed-forward network."""
    weights = under("feed_forward", feed_forward_weights(rng, width, inner))
    for i, attention in enumerate(attentions):
        weights |= under(attention, attention_weights(rng, width)) | under(f"norm{i + 1}", norm_weights(rng, width))
    return weights | under(f"norm{len(attentions) + 1}", norm_weights(rng, width))


def position_cases(rng: torch.Generator) -> Cases:
    some_length = int(torch.randint(5, 9, (), generator=rng))
    return [
        ("a length and a width like any", {"length": some_length, "d_model": 8}),
        ("longer than any sentence", {"length": 400 + some_length, "d_model": 6}),
        ("a single position", {"length": 1, "d_model": 4}),
        ("a single pair", {"length": some_length, "d_model": 2}),
        ("an odd width", {"length": some_length, "d_model": 7}),
    ]


def norm_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, x: Tensor, eps: float = 1e-5) -> tuple[str, dict]:
        weights = norm_weights(rng, x.size(-1))
        return kind, {"weights": weights, "eps": eps, "x": x, "upstream": normal(rng, *x.shape)}

    alike = normal(rng, 3, 4, scale=2.0)
    alike[1] = alike[1, 0]
    return [
        case("a batch of sequences", normal(rng, 2, 3, 5, mean=1.0, scale=1.5)),
        case("features that hardly differ", normal(rng, 4, 6, mean=0.5, scale=3e-3)),
        case("a single vector, and a large epsilon", normal(rng, 5, mean=-1.0), eps=0.3),
        case("a row whose features are all the same", alike),
    ]


def feed_forward_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, *shape: int, inner: int) -> tuple[str, dict]:
        weights = feed_forward_weights(rng, shape[-1], inner)
        return kind, {"weights": weights, "x": normal(rng, *shape, scale=1.5), "upstream": normal(rng, *shape)}

    return [
        case("a batch of sequences", 2, 3, 4, inner=7),
        case("a single vector", 5, inner=8),
        case("narrower inside than outside", 3, 2, 6, inner=5),
    ]


def encoder_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, norm_first: bool, batch: int, mask: Tensor, sizes: tuple[int, int, int]) -> tuple[str, dict]:
        (width, heads, inner), steps = sizes, mask.size(-1)
        inputs = {
            "weights": layer_weights(rng, width, inner, ["self_attn"]),
            "num_heads": heads,
            "norm_first": norm_first,
            "x": normal(rng, batch, steps, width, scale=1.5),
            "mask": mask,
            "upstream": normal(rng, batch, steps, width),
        }
        return kind, inputs

    each = some(rng, 2, 3, 3)
    each[0, 1] = False
    return [
        case("pre-norm, padded sentences", True, 2, real([4, 2], 4), (6, 2, 5)),
        case("post-norm, padded sentences", False, 2, real([2, 3], 3), (4, 2, 7)),
        case("pre-norm, a mask for each query, one with nothing to attend", True, 2, each, (6, 3, 8)),
        case("post-norm, one mask for the whole batch", False, 2, causal(4), (4, 1, 6)),
    ]


def decoder_cases(rng: torch.Generator) -> Cases:
    def case(
        kind: str, norm_first: bool, mask: Tensor, memory_mask: Tensor, sizes: tuple[int, int, int]
    ) -> tuple[str, dict]:
        (width, heads, inner), batch = sizes, len(memory_mask)
        inputs = {
            "weights": layer_weights(rng, width, inner, ["self_attn", "cross_attn"]),
            "num_heads": heads,
            "norm_first": norm_first,
            "x": normal(rng, batch, mask.size(-1), width, scale=1.5),
            "memory": normal(rng, batch, memory_mask.size(-1), width),
            "mask": mask,
            "memory_mask": memory_mask,
            "upstream": normal(rng, batch, mask.size(-1), width),
        }
        return kind, inputs

    return [
        case("pre-norm, source and target padded", True, causal(3) & real([3, 2], 3), real([2, 4], 4), (6, 2, 5)),
        case("post-norm, source and target padded", False, causal(4) & real([2, 4], 4), real([3, 1], 3), (4, 2, 7)),
        case("pre-norm, source and target equally long", True, causal(3), real([3, 2], 3), (4, 1, 6)),
        case("post-norm, source and target equally long", False, causal(3), real([2, 3], 3), (6, 3, 4)),
    ]


def transformer_cases(rng: torch.Generator) -> Cases:
    def padded(lengths: list[int], vocab: int, begin: bool) -> Tensor:
        """(B, longest): words and END, and BEGIN before them; PAD behind. `lengths` counts these marks too."""
        rows = torch.full((len(lengths), max(lengths)), PAD)
        for row, length in zip(rows, lengths, strict=True):
            row[:length] = torch.randint(END + 1, vocab, (length,), generator=rng)
            if length:
                row[length - 1] = END
            if begin:
                row[0] = BEGIN
        return rows

    def case(
        kind: str, norm_first: bool, source: list[int], target: list[int], sizes: tuple[int, ...]
    ) -> tuple[str, dict]:
        vocab, width, heads, encoders, decoders = sizes
        weights = {"embedding.weight": normal(rng, vocab, width, scale=width**-0.5)}
        for i in range(encoders):
            weights |= under(f"encoder.{i}.self_attn", attention_weights(rng, width))
        for i in range(decoders):
            for attention in ("self_attn", "cross_attn"):
                weights |= under(f"decoder.{i}.{attention}", attention_weights(rng, width))
        if norm_first:
            for side in ("encoder", "decoder"):
                weights |= under(f"{side}_norm", norm_weights(rng, width))
        inputs = {
            "weights": weights,
            "num_heads": heads,
            "num_encoder_layers": encoders,
            "num_decoder_layers": decoders,
            "norm_first": norm_first,
            "source": padded(source, vocab, begin=False),
            "target": padded(target, vocab, begin=True),
            "memory": normal(rng, len(source), max(source), width),
            "memory_mask": real(source, max(source)),
            "upstream": normal(rng, len(target), max(target) - 1, vocab),
        }
        return kind, inputs

    return [
        case("pre-norm, sentences of unequal length", True, [4, 2], [3, 5], (9, 6, 2, 2, 1)),
        case("post-norm, sentences of unequal length", False, [2, 3], [5, 4], (8, 4, 2, 1, 2)),
        case("pre-norm, one sentence with no word to read", True, [0, 3], [4, 2], (7, 4, 1, 1, 2)),
    ]


# ------------------------------------------------------------------------------ cases: loss, BLEU, search, batches


def smoothing_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, lengths: list[int], vocab: int, eps: float, scale: float = 1.5) -> tuple[str, dict]:
        batch, steps = len(lengths), max(lengths) + 1
        real = torch.arange(steps) < torch.tensor(lengths).unsqueeze(1)
        inputs = {
            "logits": normal(rng, batch, steps, vocab, scale=scale),
            "target": torch.where(real, 1 + integers(rng, vocab - 1, batch, steps), PAD),
            "eps": eps,
            "upstream": torch.randn((), generator=rng),
        }
        return kind, inputs

    kind, large = case("logits so large that exp overflows", [2, 4], 6, 0.15)
    large["logits"] = large["logits"] + 120
    return [
        case("sentences of unequal length", [4, 1, 6], 7, 0.1),
        case("no smoothing: eps is 0", [3, 5], 8, 0.0),
        case("a vocabulary of three", [2, 5, 3], 3, 0.3),
        case("nothing is padding but the last position", [4, 4], 9, 0.2),
        (kind, large),
    ]


TEXT = (
    "the a window file is was page of to in colour text opened closed not you can new menu selected between two "
    "documents only when every table without saving it right"
)
WORDS = TEXT.split()


def bleu_cases(rng: torch.Generator) -> Cases:
    def words(count: int) -> list[str]:
        """So many different words."""
        return [WORDS[i] for i in torch.randperm(len(WORDS), generator=rng)[:count].tolist()]

    def spoilt(sentence: list[str], *places: int) -> list[str]:
        """With other words at these places."""
        other = [word for word in WORDS if word not in sentence]
        return [other[i] if i in places else word for i, word in enumerate(sentence)]

    def case(kind: str, *pairs: tuple[list[str], list[str]]) -> tuple[str, dict]:
        order = torch.randperm(len(pairs), generator=rng).tolist()
        return kind, {"hypotheses": [pairs[i][0] for i in order], "references": [pairs[i][1] for i in order]}

    one, two, three, four, phrase = words(9), words(7), words(12), words(11), words(8)
    twice = [*phrase[:3], phrase[0], phrase[1], *phrase[3:]]  # two words of the reference stand in it twice
    return [
        case("some words wrong", (spoilt(one, 0, 6), one), (spoilt(two, 5), two), (spoilt(three, 3, 4), three)),
        case(
            "words and phrases said again",
            (four[:5] + four[:5] + four[5:8], four),
            (spoilt([*twice[:5], *twice[:2], *twice[5:]], 9), twice),
        ),
        case("too short in all, one sentence too long", (three[:6], three), (four[2:9], four), ([*two, *one[:2]], two)),
        case(
            "too long in all, one sentence too short",
            ([*one, *two[:6]], one),
            (three[:8], three),
            (spoilt(two, 6), two),
        ),
        case("nowhere four words in a row right", (spoilt(one, 3, 7), one), (spoilt(four, 2, 5, 8), four)),
        case(
            "very short and empty sentences among others",
            (spoilt(three, 1), three),
            (two[:1], two[:2]),
            ([], one[:3]),
            (one[:2], one[:2]),
        ),
        case("no sentence of four words", (one[:3], one[:3]), (two[:2], two[:3])),
        case("word for word", (list(three), three), (list(one), one)),
    ]


def translator(rng: torch.Generator, vocab: int, sharp: float = 0.8, ends: float = 0.2, one_way: float = 0.0) -> dict:
    """A `CaseTranslator`'s moves and table, and its states in random order. `sharp` is how much the words differ.

    In a share `ends` of the states END is likely, in the others it is not; with 0 it never is. PAD, UNKNOWN and BEGIN are
    much less probable than all else. With `one_way` they are impossible, and in such a share of the states so is everything
    but one word.
    """
    logits = normal(rng, STATES, vocab, scale=sharp)
    logits[:, [PAD, UNKNOWN, BEGIN]] -= 12
    logits[:, END] += torch.where(uniform(rng, STATES) < ends, 1.5, -2.5 if ends else -12.0)
    if one_way:
        words = F.one_hot(END + 1 + integers(rng, vocab - END - 1, STATES), vocab).bool()
        words[uniform(rng, STATES) >= one_way] = True
        words[:, [PAD, UNKNOWN, BEGIN]] = False
        logits = logits.masked_fill(~words, -math.inf)
    return {
        "moves": integers(rng, STATES, STATES, vocab),
        "table": torch.log_softmax(logits, dim=-1),
        "starts": torch.randperm(STATES, generator=rng),
    }


STATES = 120
CLOSE = 1e-3  # between two log-probabilities or scores of which one is chosen there is at least so much


def greedy_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, rows: int, unended: int, longest: int, vocab: int, **options: float) -> tuple[str, dict]:
        """Of so many rows that end before the last token but one, and so many that do not end; none with a near tie."""
        while True:
            inputs = translator(rng, vocab, **options)
            paths = [(start, _greedy(inputs, start, longest)) for start in inputs["starts"].split(1)]
            ended = [start for start, path in paths if path and END in path[: longest - 1]]
            others = [start for start, path in paths if path and END not in path]
            if len(ended) >= rows and len(others) >= unended:
                starts = torch.cat(ended[:rows] + others[:unended])
                return kind, inputs | {"starts": starts[torch.randperm(len(starts), generator=rng)], "longest": longest}

    return [
        case("rows that end at different times", 7, 0, 9, 7),
        case("no row ends in time", 0, 3, 5, 8, ends=0.0),
        case("room for a single token", 0, 6, 1, 6),
        case("a model that forbids tokens", 4, 2, 8, 9, one_way=0.3),
    ]


def _greedy(inputs: dict, start: Tensor, longest: int) -> list[int]:
    """The likeliest tokens up to END or `longest`; nothing where two are nearly as likely."""
    model, path = CaseTranslator(inputs["moves"], inputs["table"], start), [BEGIN]
    while len(path) <= longest and path[-1] != END:
        (best, second), (token, _) = (one.tolist() for one in model(torch.tensor([path]))[0].topk(2))
        if best - second < CLOSE:
            return []
        path.append(token)
    return path[1:]


@dataclass(frozen=True)
class Found:
    """What a beam search finds: the best hypothesis, and all (score, tokens) that were finished, in their order.

    `room` is the least difference between what was taken and what was passed over, exact ties apart.
    """

    tokens: list[int]
    finished: list[tuple[float, list[int]]]
    room: float


def search(
    inputs: dict,
    start: Tensor,
    *,
    ties: int = 1,
    slots_given_back: bool = False,
    until: int = 10**9,
    impossible: bool = False,
) -> Found:
    """A beam search in plain Python, or one that breaks a rule: ties go to the higher index (-1), a finished hypothesis gives
    its slot back, it stops when so many are finished, or what is impossible is kept.
    """
    model = CaseTranslator(inputs["moves"], inputs["table"].double(), start)
    width, longest, alpha = inputs["width"], inputs["longest"], 0.6 if inputs["alpha"] is None else inputs["alpha"]
    live: list[tuple[float, list[int]]] = [(0.0, [BEGIN])]
    finished: list[tuple[float, list[int]]] = []
    room = math.inf
    for n in range(1, longest + 1):
        rows = model(torch.tensor([tokens for _, tokens in live])).tolist()
        longer = [(p + q, [*tokens, v]) for (p, tokens), row in zip(live, rows, strict=True) for v, q in enumerate(row)]
        longer = sorted(longer[::ties], key=lambda one: -one[0])
        if not impossible:
            longer = [one for one in longer if one[0] > -math.inf]
        slots = width if slots_given_back else width - len(finished)
        if len(longer) > slots and longer[slots - 1][0] > longer[slots][0]:
            room = min(room, longer[slots - 1][0] - longer[slots][0])
        live = []
        for p, tokens in longer[:slots]:
            if tokens[-1] == END or n == longest:
                finished.append((p / ((5 + n) / 6) ** alpha, tokens[1:]))
            else:
                live.append((p, tokens))
        if not live or len(finished) >= until:
            break
    score, tokens = max(finished, key=lambda one: one[0])
    others = [other for other, _ in finished if other < score]
    return Found(tokens, finished, min(room, score - max(others, default=-math.inf)))


def beam_cases(rng: torch.Generator) -> Cases:
    Wish = Callable[[dict, Tensor, Found], bool]

    def case(
        kind: str, make: Callable[[], dict], width: int, longest: int, alpha: float | None, *wishes: Wish
    ) -> tuple[str, dict]:
        """For each wish a sentence of which it is true, without near ties; from another translator if one has not enough."""
        while True:
            inputs = make() | {"width": width, "longest": longest, "alpha": alpha}
            left, starts = list(wishes), []
            for start in inputs["starts"].split(1):
                found = search(inputs, start)
                wish = next((one for one in left if found.room >= CLOSE and one(inputs, start, found)), None)
                if wish:
                    left.remove(wish)
                    starts.append(start)
                if not left:
                    return kind, inputs | {"starts": torch.cat(starts)}

    def differs(**rule: bool | int) -> Wish:
        return lambda inputs, start, found: search(inputs, start, **rule).tokens != found.tokens

    def until(inputs: dict, start: Tensor, found: Found) -> bool:
        """Where a slot is given back, whether it matters when the search then stops."""
        on, stopped = (
            search(inputs, start, slots_given_back=True, until=most).tokens for most in (10**9, inputs["width"])
        )
        return on != stopped

    def drawn(inputs: dict, start: Tensor, found: Found) -> bool:
        scores = [score for score, _ in found.finished]
        return scores.count(max(scores)) > 1

    def alive(inputs: dict, start: Tensor, found: Found) -> bool:
        return found.tokens[-1] != END and any(tokens[-1] == END for _, tokens in found.finished)

    def long(inputs: dict, start: Tensor, found: Found) -> bool:
        return len(found.tokens) > 3

    def plain(vocab: int, **options: float) -> Callable[[], dict]:
        return lambda: translator(rng, vocab, **options)

    def equal() -> dict:
        made = translator(rng, 7)
        return made | {"table": (2 * made["table"]).round() / 2}  # numbers so round that sums of them are exact

    slots, ties = differs(slots_given_back=True), differs(ties=-1)
    return [
        case("three slots", plain(7, sharp=2.0), 3, 9, None, slots, long, long, long),
        case("five slots, a long penalty", plain(6, sharp=1.5), 5, 9, 1.4, slots, slots, until, until, long),
        case("no penalty: alpha is 0", plain(8, sharp=2.0, ends=0.1), 3, 7, 0.0, slots, long, long),
        case("a single slot", plain(7), 1, 6, 0.6, long, long),
        case("few hypotheses end in time", plain(9, sharp=1.2, ends=0.1), 4, 4, 0.8, alive, alive, long),
        case("equal hypotheses: the lower flat index goes first", equal, 3, 7, 0.7, ties, ties, drawn, drawn, long),
        case(
            "a model that forbids tokens",
            plain(8, ends=0.1, one_way=0.3),
            *(6, 8, 1.0),
            *(differs(impossible=True), slots, alive, long),
        ),
    ]


def batching_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, lengths: list[int], max_tokens: int) -> tuple[str, dict]:
        shuffled = [lengths[i] for i in torch.randperm(len(lengths), generator=rng).tolist()]
        return kind, {"lengths": shuffled, "max_tokens": max_tokens, "fewest": _fewest(shuffled, max_tokens)}

    return [
        case("lengths from 5 to 40", (5 + integers(rng, 36, 220)).tolist(), 240),
        case("batches that can be full to the last token", [4] * 9 + [6] * 4 + [12] * 3, 12),
        case("one sentence of max_tokens", [*(3 + integers(rng, 6, 60)).tolist(), 50], 50),
        case("a single sentence", [int(3 + integers(rng, 8))], 20),
    ]


def _fewest(lengths: list[int], max_tokens: int) -> int:
    """The least number of batches: from the longest down, each batch as full as it can be."""
    left, count = sorted(lengths, reverse=True), 0
    while left:
        left, count = left[max_tokens // left[0] :], count + 1
    return count


# --------------------------------------------------------------------------------------------------- exercises

VARIANCE = "torch.linalg.vecdot(centred, centred).unsqueeze(-1) / x.size(-1)"  # in the solution's LayerNorm.forward
SCALED = "torch.addcmul(self.bias, normal, self.weight)"
READY_MADE_NORMS = ["aten::layer_norm", "aten::native_layer_norm", "aten::group_norm", "aten::batch_norm"]
# What torch.nn's transformer layers and its attention run at evaluation, where no gradient is asked for.
READY_MADE_LAYERS = ["aten::_transformer_encoder_layer_fwd", "aten::_native_multi_head_attention"]

ALWAYS_DROPS = "self.dropout.train()("

EXERCISES = [
    # ------------------------------------------------------------------------------------------------ the model
    Exercise(
        "positional_encoding",
        points=5,
        cases=position_cases,
        raises=["ValueError"],
        floor=3e-4,  # an angle of 400 is off by some 1e-5 in float32
        mistakes=[
            Mistake(
                "halves",
                "All sines come first and all cosines after them; they take turns: sine in even columns, cosine in odd ones.",
                "torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)",
                "torch.cat([angle.sin(), angle.cos()], dim=-1)",
            ),
            Mistake(
                "cosine-first",
                "The cosine stands in the even columns and the sine in the odd ones; the sine comes first.",
                "[angle.sin(), angle.cos()]",
                "[angle.cos(), angle.sin()]",
            ),
            Mistake(
                "exponent-doubled",
                "The exponent is twice too large, 4i / D: `torch.arange(0, d_model, 2)` is 2i already.",
                "torch.arange(0, d_model, 2) *",
                "2 * torch.arange(0, d_model, 2) *",
            ),
            Mistake(
                "exponent-halved",
                "The exponent is twice too small, i / D instead of 2i / D: the waves end up much too short.",
                "torch.arange(0, d_model, 2)",
                "torch.arange(d_model // 2)",
            ),
            Mistake(
                "cosine-of-another-angle",
                "The cosine has a frequency of its own, with 2i + 1 in the exponent; a pair shares one angle.",
                "angle.cos()",
                "(angle * 10000.0 ** (-1 / d_model)).cos()",
            ),
            Mistake(
                "one-pair-too-few",
                "The exponents run from 0 to 1 with both ends, i / (D/2 - 1); asked is 2i / D, which never reaches 1.",
                "/ d_model)",
                "/ (d_model - 2))",
            ),
            Mistake(
                "position-from-one",
                "The positions are counted from 1; the first one is 0, so that its sines are 0 and its cosines 1.",
                "torch.arange(length)",
                "torch.arange(1, length + 1)",
            ),
            Mistake(
                "all-sines",
                "Both columns of a pair have the sine; the second has the cosine.",
                "angle.cos()",
                "angle.sin()",
            ),
            Mistake(
                "odd-width-widened",
                "An odd width gives one column more than was asked for; it should raise ValueError.",
                "if d_model % 2:",
                "if False:",
            ),
            Mistake(
                "odd-width-cut",
                "An odd width gives a sine without its cosine; it should raise ValueError.",
                "if d_model % 2:",
                "if False:",
                also=[(".flatten(-2)", ".flatten(-2)[:, :d_model]")],
            ),
            Mistake(
                "batch-axis",
                "The result has an axis for the batch, (1, T, D); asked is (T, D), which broadcasts as well.",
                ".flatten(-2)",
                ".flatten(-2).unsqueeze(0)",
            ),
        ],
    ),
    Exercise(
        "LayerNorm.forward",
        points=6,
        cases=norm_cases,
        forbid=READY_MADE_NORMS,
        mistakes=[
            Mistake(
                "eps-outside-the-root",
                "Epsilon is added to the standard deviation, after the root; it is added to the variance, under the root.",
                " * torch.rsqrt(variance + self.eps)",
                " / (torch.sqrt(variance) + self.eps)",
            ),
            Mistake(
                "unbiased",
                "The variance is divided by D - 1, as torch.var does if nothing is said; here it is the mean of squares, over D.",
                VARIANCE,
                "x.var(dim=-1, keepdim=True)",
            ),
            Mistake(
                "std-plus-eps",
                "x.std() + eps differs twice: torch.std divides by D - 1, and epsilon belongs under the root.",
                " * torch.rsqrt(variance + self.eps)",
                " / (x.std(dim=-1, keepdim=True) + self.eps)",
            ),
            Mistake(
                "no-eps",
                "Epsilon is missing: features that are all the same give 0 / 0.",
                "variance + self.eps",
                "variance",
            ),
            Mistake(
                "eps-fixed",
                "Epsilon is always 1e-5; it is self.eps.",
                "self.eps)",
                "1e-5)",
            ),
            Mistake(
                "over-time",
                "Mean and variance are taken over the positions of a feature; they are taken over the features of a position.",
                "x.mean(dim=-1,",
                "x.mean(dim=-2,",
                also=[(VARIANCE, "centred.square().mean(dim=-2, keepdim=True)")],
            ),
            Mistake(
                "over-everything",
                "One mean and one variance serve the whole tensor; each position has its own.",
                "x.mean(dim=-1, keepdim=True)",
                "x.mean()",
                also=[(VARIANCE, "centred.square().mean()")],
            ),
            Mistake(
                "no-mean",
                "The mean is not subtracted: features are divided by their root mean square alone.",
                "x - x.mean(dim=-1, keepdim=True)",
                "x",
            ),
            Mistake(
                "not-centred",
                "The features themselves are divided by the root; their mean has to be subtracted first, as in the variance.",
                "centred * torch",
                "x * torch",
            ),
            Mistake(
                "no-root",
                "The features are divided by their variance; it should be its root.",
                " * torch.rsqrt(variance + self.eps)",
                " / (variance + self.eps)",
            ),
            Mistake("no-weight", "The weight is missing.", SCALED, "normal + self.bias"),
            Mistake("no-bias", "The bias is missing.", SCALED, "normal * self.weight"),
            Mistake(
                "bias-first",
                "The bias is added before the weight multiplies; the weight comes first.",
                SCALED,
                "(normal + self.bias) * self.weight",
            ),
            Mistake(
                "statistics-cut-off",
                "The output is right, but no gradient goes through mean and variance: detach or no_grad cuts it off.",
                "x.mean(dim=-1, keepdim=True)",
                "x.mean(dim=-1, keepdim=True).detach()",
                also=[(VARIANCE, "centred.detach().square().mean(-1, True)")],
            ),
        ],
    ),
    Exercise(
        "FeedForward.forward",
        points=3,
        cases=feed_forward_cases,
        mistakes=[
            Mistake(
                "no-activation",
                "There is no activation between the two layers: together they are then one linear layer.",
                "torch.relu(self.linear1(x))",
                "self.linear1(x)",
            ),
            Mistake(
                "gelu",
                "The activation is GELU, as in BERT and GPT; the transformer of 2017 has a ReLU.",
                "torch.relu",
                "F.gelu",
            ),
            Mistake(
                "sigmoid",
                "The activation is a sigmoid; it should be a ReLU.",
                "torch.relu",
                "torch.sigmoid",
            ),
            Mistake(
                "activation-at-the-end",
                "The activation comes after the second layer; it stands between the two.",
                "self.linear2(torch.relu(self.linear1(x)))",
                "torch.relu(self.linear2(self.linear1(x)))",
            ),
            Mistake(
                "activation-twice",
                "A second activation follows the second layer: it cuts off all that is negative.",
                "self.linear2(torch.relu(self.linear1(x)))",
                "torch.relu(self.linear2(torch.relu(self.linear1(x))))",
            ),
            Mistake(
                "activation-first",
                "The activation comes before the first layer; it stands between the two.",
                "torch.relu(self.linear1(x))",
                "self.linear1(torch.relu(x))",
            ),
            Mistake(
                "residual-inside",
                "The input is added to the output; the layer around this network does that.",
                "self.linear2(",
                "x + self.linear2(",
            ),
        ],
    ),
    Exercise(
        "EncoderLayer.forward",
        points=8,
        cases=encoder_cases,
        forbid=READY_MADE_LAYERS,
        mistakes=[
            Mistake(
                "no-residual-around-the-attention",
                "The residual around the attention is missing: x is replaced by what the attention returns, not added to it.",
                "x = x + self.dropout(",
                "x = self.dropout(",
                also=[("self.norm1(x + ", "self.norm1(")],
            ),
            Mistake(
                "no-residual-around-the-network",
                "The residual around the feed-forward network is missing.",
                "return x + self.dropout(",
                "return self.dropout(",
                also=[("self.norm2(x + ", "self.norm2(")],
            ),
            Mistake(
                "residual-from-the-normed",
                "With pre-norm the attention is added to the normed input; it is added to x as it came in.",
                "x = x + self.dropout(",
                "x = normed + self.dropout(",
            ),
            Mistake(
                "always-post-norm",
                "The flag is ignored: the norms always come after the additions.",
                "if self.norm_first:",
                "if False:",
            ),
            Mistake(
                "always-pre-norm",
                "The flag is ignored: the norms always come before the sub-layers.",
                "if self.norm_first:",
                "if True:",
            ),
            Mistake(
                "flag-inverted",
                "The flag is read the other way round: norm_first=True means that the norm comes before the sub-layer.",
                "if self.norm_first:",
                "if not self.norm_first:",
            ),
            Mistake(
                "norm-on-the-branch",
                "With post-norm only what the sub-layer returns is normed and then added; it is added first, and the sum normed.",
                "self.norm1(x + self.dropout(",
                "x + self.norm1(self.dropout(",
                also=[("self.norm2(x + self.dropout(", "x + self.norm2(self.dropout(")],
            ),
            Mistake(
                "norm-behind-the-sublayer",
                "With pre-norm the norm is taken of what the sub-layer returns; it is taken of what the sub-layer gets.",
                "self.self_attn(normed, normed, mask)",
                "self.norm1(self.self_attn(x, x, mask))",
                also=[("self.feed_forward(self.norm2(x))", "self.norm2(self.feed_forward(x))")],
            ),
            Mistake(
                "first-norm-twice",
                "norm1 does the work of both norms; the second sub-layer has norm2.",
                "self.feed_forward(self.norm2(x))",
                "self.feed_forward(self.norm1(x))",
                also=[("return self.norm2(x", "return self.norm1(x")],
            ),
            Mistake(
                "second-norm-missing",
                "norm2 is missing: the feed-forward network goes without a norm.",
                "self.feed_forward(self.norm2(x))",
                "self.feed_forward(x)",
                also=[("return self.norm2(x", "return (x")],
            ),
            Mistake(
                "keys-not-normed",
                "With pre-norm only the query is normed; keys and values are made of the normed input as well.",
                "(normed, normed, mask)",
                "(normed, x, mask)",
            ),
            Mistake(
                "mask-ignored",
                "The mask does not reach the attention.",
                "(normed, normed, mask)",
                "(normed, normed, torch.ones_like(mask))",
                also=[("(x, x, mask)", "(x, x, torch.ones_like(mask))")],
            ),
            Mistake(
                "mask-inverted",
                "The mask is negated, as torch.nn.TransformerEncoderLayer wants it; in this course True means attend.",
                "(normed, normed, mask)",
                "(normed, normed, ~mask)",
                also=[("(x, x, mask)", "(x, x, ~mask)")],
            ),
            Mistake(
                "side-by-side",
                "The feed-forward network reads what the attention read; it reads the sum that the attention left.",
                "x = x + self.dropout(",
                "start, x = x, x + self.dropout(",
                also=[
                    ("(self.norm2(x)))", "(self.norm2(start)))"),
                    ("x = self.norm1(x +", "start, x = x, self.norm1(x +"),
                    ("self.feed_forward(x)", "self.feed_forward(start)"),
                ],
            ),
            Mistake(
                "no-dropout-on-the-attention",
                "What the attention returns is added without dropout.",
                "x = x + self.dropout(",
                "x = x + (",
                also=[("self.norm1(x + self.dropout(", "self.norm1(x + (")],
            ),
            Mistake(
                "no-dropout-on-the-network",
                "What the feed-forward network returns is added without dropout.",
                "return x + self.dropout(",
                "return x + (",
                also=[("self.norm2(x + self.dropout(", "self.norm2(x + (")],
            ),
            Mistake(
                "dropout-on-the-sum",
                "Dropout falls on the sum, the residual included; only what the sub-layer returns goes through it.",
                "x = x + self.dropout(self.self_attn(normed, normed, mask))",
                "x = self.dropout(x + self.self_attn(normed, normed, mask))",
                also=[
                    (
                        "x + self.dropout(self.feed_forward(self.norm2(x)))",
                        "self.dropout(x + self.feed_forward(self.norm2(x)))",
                    ),
                    ("x + self.dropout(self.self_attn(x, x, mask))", "self.dropout(x + self.self_attn(x, x, mask))"),
                    ("x + self.dropout(self.feed_forward(x))", "self.dropout(x + self.feed_forward(x))"),
                ],
            ),
            Mistake(
                "drops-at-evaluation",
                "Dropout goes on at evaluation: F.dropout has to be told, self.dropout knows.",
                "x = x + self.dropout(",
                f"x = x + {ALWAYS_DROPS}",
                also=[
                    ("return x + self.dropout(", f"return x + {ALWAYS_DROPS}"),
                    ("self.norm1(x + self.dropout(", f"self.norm1(x + {ALWAYS_DROPS}"),
                    ("self.norm2(x + self.dropout(", f"self.norm2(x + {ALWAYS_DROPS}"),
                ],
            ),
        ],
    ),
    Exercise(
        "DecoderLayer.forward",
        points=9,
        cases=decoder_cases,
        forbid=READY_MADE_LAYERS,
        mistakes=[
            Mistake(
                "crosses-to-itself",
                "The second attention looks at the target again; its keys and values are the memory.",
                "(self.norm2(x), memory, memory_mask)",
                "(self.norm2(x), self.norm2(x), mask)",
                also=[("(x, memory, memory_mask)", "(x, x, mask)")],
            ),
            Mistake(
                "crosses-with-the-targets-mask",
                "The attention to the memory has the target's mask; it has memory_mask.",
                "(self.norm2(x), memory, memory_mask)",
                "(self.norm2(x), memory, mask)",
                also=[("(x, memory, memory_mask)", "(x, memory, mask)")],
            ),
            Mistake(
                "self-attention-to-the-memory",
                "The first attention looks at the memory already; it looks at the target itself.",
                "(normed, normed, mask)",
                "(normed, memory, memory_mask)",
                also=[("(x, x, mask)", "(x, memory, memory_mask)")],
            ),
            Mistake(
                "memory-asks",
                "In the attention to the memory the roles are exchanged: the memory asks; the target should.",
                "(self.norm2(x), memory, memory_mask)",
                "(memory, self.norm2(x), mask)",
                also=[("(x, memory, memory_mask)", "(memory, x, mask)")],
            ),
            Mistake(
                "memory-normed",
                "With pre-norm the memory goes through norm2 too; it is taken as it comes, the encoder has normed it.",
                "(self.norm2(x), memory, memory_mask)",
                "(self.norm2(x), self.norm2(memory), memory_mask)",
            ),
            Mistake(
                "memory-mask-ignored",
                "memory_mask does not enter: the decoder looks at the source's padding.",
                "(self.norm2(x), memory, memory_mask)",
                "(self.norm2(x), memory, torch.ones_like(memory_mask))",
                also=[("(x, memory, memory_mask)", "(x, memory, torch.ones_like(memory_mask))")],
            ),
            Mistake(
                "mask-ignored",
                "The target's mask does not enter: the decoder sees the words that it is to predict.",
                "(normed, normed, mask)",
                "(normed, normed, torch.ones_like(mask))",
                also=[("(x, x, mask)", "(x, x, torch.ones_like(mask))")],
            ),
            Mistake(
                "self-attention-twice",
                "self_attn does both attentions; the one to the memory has weights of its own, cross_attn.",
                "self.cross_attn(self.norm2(x)",
                "self.self_attn(self.norm2(x)",
                also=[("self.cross_attn(x,", "self.self_attn(x,")],
            ),
            Mistake(
                "memory-first",
                "The attention to the memory comes before that to the target; it comes after.",
                "            x = x + self.dropout(self.cross_attn(self.norm2(x), memory, memory_mask))\n",
                "",
                also=[
                    (
                        "normed = self.norm1(x)",
                        "x = x + self.dropout(self.cross_attn(self.norm2(x), memory, memory_mask)); normed = self.norm1(x)",
                    ),
                    ("        x = self.norm2(x + self.dropout(self.cross_attn(x, memory, memory_mask)))\n", ""),
                    (
                        "x = self.norm1(x +",
                        "x = self.norm2(x + self.dropout(self.cross_attn(x, memory, memory_mask))); x = self.norm1(x +",
                    ),
                ],
            ),
            Mistake(
                "no-memory",
                "The attention to the memory is missing: this is an encoder's layer with a causal mask.",
                "            x = x + self.dropout(self.cross_attn(self.norm2(x), memory, memory_mask))\n",
                "",
                also=[("        x = self.norm2(x + self.dropout(self.cross_attn(x, memory, memory_mask)))\n", "")],
            ),
            Mistake(
                "no-residual-around-self-attention",
                "The residual around the self-attention is missing.",
                "x = x + self.dropout(self.self_attn(",
                "x = self.dropout(self.self_attn(",
                also=[("self.norm1(x + ", "self.norm1(")],
            ),
            Mistake(
                "no-residual-around-cross-attention",
                "The residual around the attention to the memory is missing: each target word keeps nothing of itself.",
                "x = x + self.dropout(self.cross_attn(",
                "x = self.dropout(self.cross_attn(",
                also=[("self.norm2(x + ", "self.norm2(")],
            ),
            Mistake(
                "no-residual-around-the-network",
                "What the feed-forward network returns is not added to its input: the third residual is missing.",
                "return x + self.dropout(",
                "return self.dropout(",
                also=[("self.norm3(x + ", "self.norm3(")],
            ),
            Mistake(
                "residual-from-the-normed",
                "With pre-norm the self-attention is added to the normed target; it is added to x as it came in.",
                "x = x + self.dropout(self.self_attn(",
                "x = normed + self.dropout(self.self_attn(",
            ),
            Mistake(
                "always-post-norm",
                "norm_first does not matter in your layer: each norm comes after its addition.",
                "if self.norm_first:",
                "if False:",
            ),
            Mistake(
                "always-pre-norm",
                "norm_first does not matter in your layer: each norm comes before its sub-layer.",
                "if self.norm_first:",
                "if True:",
            ),
            Mistake(
                "flag-inverted",
                "norm_first is read the other way round: True is pre-norm, False is post-norm.",
                "if self.norm_first:",
                "if not self.norm_first:",
            ),
            Mistake(
                "first-norm-always",
                "norm1 stands in all three places; there are norm1, norm2 and norm3.",
                "(self.norm2(x), memory",
                "(self.norm1(x), memory",
                also=[
                    ("self.feed_forward(self.norm3(x))", "self.feed_forward(self.norm1(x))"),
                    ("x = self.norm2(x", "x = self.norm1(x"),
                    ("return self.norm3(x", "return self.norm1(x"),
                ],
            ),
            Mistake(
                "norms-exchanged",
                "norm2 and norm3 have changed places: norm2 belongs to the attention to the memory, norm3 to the network.",
                "(self.norm2(x), memory",
                "(self.norm3(x), memory",
                also=[
                    ("self.feed_forward(self.norm3(x))", "self.feed_forward(self.norm2(x))"),
                    ("x = self.norm2(x", "x = self.norm3(x"),
                    ("return self.norm3(x", "return self.norm2(x"),
                ],
            ),
            Mistake(
                "no-dropout-on-cross-attention",
                "What the attention to the memory returns is added without dropout.",
                "x = x + self.dropout(self.cross_attn(",
                "x = x + (self.cross_attn(",
                also=[("self.norm2(x + self.dropout(", "self.norm2(x + (")],
            ),
            Mistake(
                "no-dropout-at-all",
                "There is no dropout: each of the three sub-layers' results goes through self.dropout before it is added.",
                "x = x + self.dropout(self.self_attn(",
                "x = x + (self.self_attn(",
                also=[
                    ("x = x + self.dropout(self.cross_attn(", "x = x + (self.cross_attn("),
                    ("return x + self.dropout(", "return x + ("),
                    ("self.norm1(x + self.dropout(", "self.norm1(x + ("),
                    ("self.norm2(x + self.dropout(", "self.norm2(x + ("),
                    ("self.norm3(x + self.dropout(", "self.norm3(x + ("),
                ],
            ),
        ],
    ),
    Exercise(
        "Transformer.forward",
        points=13,
        cases=transformer_cases,
        uses=["positional_encoding"],
        mistakes=[
            Mistake(
                "target-not-shifted",
                "The decoder reads the whole target, END too, and gives T rows; it reads target[:, :-1] and gives T - 1.",
                "target[:, :-1]",
                "target",
            ),
            Mistake(
                "target-shifted-the-other-way",
                "The decoder reads target[:, 1:]: each row has just read the word that it is to predict.",
                "target[:, :-1]",
                "target[:, 1:]",
            ),
            Mistake(
                "embeddings-not-scaled",
                "The embeddings are not multiplied by sqrt(D).",
                " * math.sqrt(self.d_model)",
                "",
            ),
            Mistake(
                "embeddings-divided",
                "The embeddings are divided by sqrt(D); they are multiplied by it.",
                "* math.sqrt(self.d_model)",
                "/ math.sqrt(self.d_model)",
            ),
            Mistake(
                "positions-scaled-too",
                "The positions are multiplied by sqrt(D) too; only the embeddings are, before the positions are added.",
                "self.embedding(tokens) * math.sqrt(self.d_model) + positions",
                "(self.embedding(tokens) + positions) * math.sqrt(self.d_model)",
            ),
            Mistake(
                "no-positions",
                "The positions are not added: the model does not know the order of words.",
                " + positions)",
                ")",
            ),
            Mistake(
                "no-positions-in-the-source",
                "The source is embedded without positions: encode has to call embed, which adds them.",
                "x = self.embed(source)",
                "x = self.dropout(self.embedding(source) * math.sqrt(self.d_model))",
            ),
            Mistake(
                "no-positions-in-the-target",
                "The target is embedded without positions; source and target go through the same embed.",
                "x = self.embed(target)",
                "x = self.dropout(self.embedding(target) * math.sqrt(self.d_model))",
            ),
            Mistake(
                "no-dropout-on-the-embeddings",
                "There is no dropout on the sum of embeddings and positions.",
                "self.dropout(self.embedding(tokens) * math.sqrt(self.d_model) + positions)",
                "self.embedding(tokens) * math.sqrt(self.d_model) + positions",
            ),
            Mistake(
                "no-causal-mask",
                "The causal mask is missing: a target word sees those after it.",
                "causal & (target",
                "(target",
            ),
            Mistake(
                "present-hidden",
                "The causal mask hides the present: a position sees itself and what came before.",
                ".tril()",
                ".tril(-1)",
            ),
            Mistake(
                "future-shown",
                "The causal mask is transposed: a target word sees the future and not the past.",
                ".tril()",
                ".triu()",
            ),
            Mistake(
                "target-padding-seen",
                "The padding of the target is not hidden; the mask is causal and hides PAD.",
                "causal & (target != PAD).unsqueeze(1)",
                "causal.expand(target.size(0), T, T)",
            ),
            Mistake(
                "padding-or-causal",
                "The two masks of the target are joined by `or`; a key has to be real and not in the future.",
                "causal & ",
                "causal | ",
            ),
            Mistake(
                "source-padding-seen-by-the-encoder",
                "The encoder's layers look at the padding: encode makes the mask but does not hand it to them.",
                "x = layer(x, mask)",
                "x = layer(x, torch.ones_like(mask))",
            ),
            Mistake(
                "source-padding-seen-by-the-decoder",
                "The decoder's layers look at the source's padding: memory_mask does not reach them.",
                "x = layer(x, memory, mask, memory_mask)",
                "x = layer(x, memory, mask, torch.ones_like(memory_mask))",
            ),
            Mistake(
                "source-mask-inverted",
                "The source's mask is True at the padding; True marks the real tokens.",
                "source != PAD",
                "source == PAD",
            ),
            Mistake(
                "no-encoder-norm",
                "encoder_norm is missing: with pre-norm nothing else norms what the last layer leaves.",
                "self.encoder_norm(x), mask",
                "x, mask",
            ),
            Mistake(
                "no-decoder-norm",
                "decoder_norm is missing before the output.",
                "F.linear(self.decoder_norm(x),",
                "F.linear(x,",
            ),
            Mistake(
                "layers-not-chained",
                "Each encoder layer reads the embeddings, so that only the last one counts; each reads what the one before left.",
                "x = layer(x, mask)",
                "x = layer(self.embed(source), mask)",
            ),
            Mistake(
                "decoder-layers-not-chained",
                "Each decoder layer reads the embedded target, so that only the last one counts.",
                "x = layer(x, memory,",
                "x = layer(self.embed(target), memory,",
            ),
            Mistake(
                "probabilities",
                "The output is log-probabilities; asked are logits, the loss takes the softmax.",
                "return F.linear(self.decoder_norm(x), self.embedding.weight)",
                "return F.linear(self.decoder_norm(x), self.embedding.weight).log_softmax(dim=-1)",
            ),
            Mistake(
                "output-scaled",
                "The output's weights are multiplied by sqrt(D); only the embeddings at the entrance are.",
                "(x), self.embedding.weight)",
                "(x), self.embedding.weight * math.sqrt(self.d_model))",
            ),
            Mistake(
                "output-half-tied",
                "The output uses the embedding's numbers, but its gradient does not reach them: .data or .detach() cuts it off.",
                "(x), self.embedding.weight)",
                "(x), self.embedding.weight.detach())",
            ),
            Mistake(
                "no-output-layer",
                "The decoder's states are returned; logits are their products with every row of the embedding.",
                "F.linear(self.decoder_norm(x), self.embedding.weight)",
                "self.decoder_norm(x)",
            ),
        ],
    ),
    # ----------------------------------------------------------------------------------- loss, score and search
    Exercise(
        "label_smoothing_loss",
        points=8,
        cases=smoothing_cases,
        floor=1e-4,  # logits of 120 are off by some 1e-5 in float32
        mistakes=[
            Mistake(
                "padding-counted",
                "Padding is counted as if it were words: positions where the target is PAD are in the mean.",
                "losses[target != PAD].mean()",
                "losses.mean()",
            ),
            Mistake(
                "divided-by-all-positions",
                "The sum leaves padding out, but is divided by the number of all positions, padding included.",
                "losses[target != PAD].mean()",
                "losses[target != PAD].sum() / target.numel()",
            ),
            Mistake(
                "sum",
                "The losses are added up; asked is their mean over the real positions.",
                ".mean()",
                ".sum()",
            ),
            Mistake(
                "divided-by-sentences",
                "The sum is divided by the number of sentences; divide it by the number of real positions.",
                "[target != PAD].mean()",
                "[target != PAD].sum() / target.size(0)",
            ),
            Mistake(
                "mean-of-means",
                "Each sentence is averaged by itself and then the sentences: a word in a short one counts for more. The mean "
                "is over all real positions at once.",
                "losses[target != PAD].mean()",
                "torch.stack([row[real].mean() for row, real in zip(losses, target != PAD)]).mean()",
            ),
            Mistake(
                "divided-by-the-vocabulary",
                "The loss is divided by V as well, as a mean over the vocabulary does; it is a sum over the vocabulary.",
                ".mean()",
                ".mean() / logits.size(-1)",
            ),
            Mistake(
                "padding-gets-a-share",
                "PAD gets a share of eps like any other token: eps / (V - 1) each. Nobody is ever to predict PAD.",
                " - log_probs[..., PAD]",
                "",
                also=[("logits.size(-1) - 2", "logits.size(-1) - 1")],
            ),
            Mistake(
                "padding-gets-a-share-on-top",
                "PAD gets eps / (V - 2) like the others, so that the wanted distribution sums to more than 1.",
                " - log_probs[..., PAD]",
                "",
            ),
            Mistake(
                "over-v-less-one",
                "The other tokens get eps / (V - 1) each; without the true one and PAD there are V - 2 of them.",
                "logits.size(-1) - 2",
                "logits.size(-1) - 1",
            ),
            Mistake(
                "over-v",
                "The other tokens get eps / V each; without the true one and PAD there are V - 2 of them.",
                "(logits.size(-1) - 2)",
                "logits.size(-1)",
            ),
            Mistake(
                "uniform",
                "eps is shared out over the whole vocabulary, the true token and PAD included, as label_smoothing in "
                "F.cross_entropy does.",
                "log_probs.sum(dim=-1) - log_probs[..., PAD] - true",
                "log_probs.sum(dim=-1)",
                also=[("(logits.size(-1) - 2)", "logits.size(-1)")],
            ),
            Mistake(
                "true-token-gets-a-share-too",
                "The true token gets a share of eps on top of its 1 - eps.",
                " - true\n",
                "\n",
            ),
            Mistake(
                "true-token-gets-too-little",
                "The true token gets 1 - eps - eps / (V - 2): its share of eps is taken off although it has none.",
                "-(1 - eps) * true",
                "-(1 - eps - eps / (logits.size(-1) - 2)) * true",
            ),
            Mistake(
                "shares-exchanged",
                "The two weights are exchanged: the true token gets eps, and the others 1 - eps together.",
                "-(1 - eps) * true - eps",
                "-eps * true - (1 - eps)",
            ),
            Mistake(
                "no-smoothing",
                "eps does not enter: this is plain cross-entropy.",
                "-(1 - eps) * true - eps",
                "-true - 0",
            ),
            Mistake(
                "each-gets-all-of-eps",
                "Every other token gets all of eps; it is shared out among the V - 2 of them.",
                "eps / (logits.size(-1) - 2)",
                "eps",
            ),
            Mistake(
                "padding-left-out-of-the-softmax",
                "PAD is left out of the softmax as well; the model's distribution runs over all V tokens.",
                "torch.log_softmax(logits, dim=-1)",
                "logits - torch.logsumexp(logits[..., 1:], dim=-1, keepdim=True)",
            ),
            Mistake(
                "softmax-twice",
                "The logits go through a softmax before log_softmax, which does one itself.",
                "torch.log_softmax(logits, dim=-1)",
                "torch.log_softmax(torch.softmax(logits, dim=-1), dim=-1)",
            ),
            Mistake(
                "softmax-over-time",
                "The softmax runs over the positions; it runs over the vocabulary, the last axis.",
                "torch.log_softmax(logits, dim=-1)",
                "torch.log_softmax(logits, dim=1)",
            ),
            Mistake(
                "overflow",
                "exp of a large logit overflows: use log_softmax, which takes care of it.",
                "torch.log_softmax(logits, dim=-1)",
                "(logits.exp() / logits.exp().sum(dim=-1, keepdim=True)).log()",
            ),
            Mistake(
                "bits",
                "The loss is in bits, with logarithms to base 2; asked are nats.",
                ".mean()",
                ".mean() / math.log(2)",
            ),
            Mistake(
                "sign",
                "The sign is missing: a log-probability is negative, a loss is not.",
                "return losses",
                "return -losses",
            ),
            Mistake(
                "divergence",
                "The entropy of the wanted distribution is subtracted: this is its KL divergence, which has the same gradient. "
                "Asked is the cross-entropy.",
                ".mean()",
                ".mean() + (eps * math.log(eps / (logits.size(-1) - 2)) + (1 - eps) * math.log(1 - eps) if eps else 0.0)",
            ),
        ],
    ),
    Exercise(
        "corpus_bleu",
        points=10,
        cases=bleu_cases,
        mistakes=[
            Mistake(
                "not-clipped",
                "The counts are not clipped: a word said five times matches five times a reference that has it once.",
                "sum((found & there).values())",
                "sum(count for gram, count in found.items() if gram in there)",
            ),
            Mistake(
                "each-counted-once",
                "Each n-gram is matched at most once, however often hypothesis and reference both have it; clip to the count in "
                "the reference.",
                "sum((found & there).values())",
                "len(found & there)",
            ),
            Mistake(
                "sets-of-n-grams",
                "Sets of n-grams are compared, so that what is said twice counts once, matched or not.",
                "sum((found & there).values())",
                "len(found & there)",
                also=[("sum(found.values())", "len(found)")],
            ),
            Mistake(
                "recall",
                "The matches are divided by the n-grams of the references: this is recall. Precision divides by those of the "
                "hypotheses.",
                "sum(found.values())",
                "sum(there.values())",
            ),
            Mistake(
                "exchanged",
                "Hypotheses and references are exchanged: precision is taken of the references, and long translations pay.",
                "for words in (hypothesis, reference)",
                "for words in (reference, hypothesis)",
                also=[("for some in (hypotheses, references)", "for some in (references, hypotheses)")],
            ),
            Mistake(
                "brevity-the-other-way",
                "The brevity penalty works the other way: translations that are too long pay, not those that are too short.",
                "1 - wanted / length",
                "1 - length / wanted",
            ),
            Mistake("no-brevity", "The brevity penalty is missing.", "math.exp(brevity + ", "math.exp("),
            Mistake(
                "brevity-rewards-length",
                "The brevity penalty may exceed 1, so that long translations gain by it; it is at most 1.",
                "min(0.0, 1 - wanted / length)",
                "1 - wanted / length",
            ),
            Mistake(
                "brevity-is-the-ratio",
                "The brevity penalty is the ratio c / r itself; it is exp(1 - r / c).",
                "min(0.0, 1 - wanted / length)",
                "min(0.0, math.log(length / wanted))",
            ),
            Mistake(
                "brevity-of-each-sentence",
                "Each sentence pays for its own shortness; the penalty compares the lengths of the whole corpus.",
                "1 - wanted / length)",
                "1 - sum(max(len(h), len(r)) for h, r in zip(hypotheses, references)) / length)",
            ),
            Mistake(
                "mean-over-sentences",
                "The BLEU scores of the sentences are averaged; add up the counts over the corpus first.",
                "matches, totals = [0] * 4, [0] * 4",
                "if len(hypotheses) > 1: "
                "return sum(corpus_bleu([h], [r]) for h, r in zip(hypotheses, references)) / len(hypotheses)\n"
                "    matches, totals = [0] * 4, [0] * 4",
            ),
            Mistake(
                "precisions-of-sentences",
                "Precisions are taken sentence by sentence and averaged; add up both counts over the corpus and divide once.",
                "sum((found & there).values())",
                "sum((found & there).values()) / max(sum(found.values()), 1)",
                also=[("sum(found.values())\n", "(1 if found else 0)\n")],
            ),
            Mistake(
                "against-all-references",
                "An n-gram is looked for in all references; it has to be in the reference of the same sentence.",
                "for words in (hypothesis, reference)",
                "for words in (hypothesis, [word for each in references for word in each])",
            ),
            Mistake(
                "arithmetic-mean",
                "The arithmetic mean of the precisions is taken; BLEU has the geometric one.",
                "math.exp(brevity + sum(math.log(p) for p in precisions) / 4)",
                "math.exp(brevity) * sum(precisions) / 4",
            ),
            Mistake(
                "product",
                "The precisions are multiplied, but the fourth root is missing.",
                "for p in precisions) / 4)",
                "for p in precisions))",
            ),
            Mistake(
                "up-to-three",
                "The n-grams go up to 3; BLEU counts up to 4.",
                "matches, totals = [0] * 4, [0] * 4",
                "matches, totals = [0] * 3, [0] * 3",
                also=[("range(1, 5)", "range(1, 4)"), ("for p in precisions) / 4)", "for p in precisions) / 3)")],
            ),
            Mistake(
                "four-only",
                "Only 4-grams are counted; the mean is over the precisions of 1, 2, 3 and 4.",
                "sum(math.log(p) for p in precisions) / 4",
                "math.log(precisions[3])",
            ),
            Mistake(
                "words-only",
                "Only single words are counted, so that their order does not matter.",
                "sum(math.log(p) for p in precisions) / 4",
                "math.log(precisions[0])",
                also=[("if min(matches) == 0", "if matches[0] == 0")],
            ),
            Mistake(
                "last-n-gram",
                "The last n-gram of each sentence is missed: the last one begins at len(words) - n.",
                "len(words) - n + 1",
                "len(words) - n",
                also=[("if min(matches) == 0", "if min(matches + totals) == 0")],
            ),
            Mistake(
                "negative-counts",
                "A sentence shorter than n is given len(words) - n + 1 n-grams, which is negative; it has none.",
                "sum(found.values())",
                "len(hypothesis) - n + 1",
            ),
            Mistake(
                "logarithm-of-zero",
                "Where a precision is 0 or 0 / 0 the code stops with an error; the score is 0 then.",
                "if min(matches) == 0:\n        return 0.0\n",
                "",
            ),
            Mistake(
                "zeros-left-out",
                "A precision of 0 is left out of the mean; it makes the score 0.",
                "if min(matches) == 0:\n        return 0.0\n",
                "",
                also=[
                    (
                        "m / t for m, t in zip(matches, totals, strict=True)",
                        "m / t for m, t in zip(matches, totals) if m",
                    ),
                    ("for p in precisions) / 4)", "for p in precisions) / len(precisions))"),
                ],
            ),
            Mistake(
                "smoothed",
                "1 is added to every count: this is a smoothed BLEU. Asked is the one without.",
                "if min(matches) == 0:\n        return 0.0\n",
                "",
                also=[("m / t for", "(m + 1) / (t + 1) for")],
            ),
            Mistake(
                "characters",
                "N-grams of characters are counted; the sentences are lists of words.",
                "for words in (hypothesis, reference)",
                'for words in (" ".join(hypothesis), " ".join(reference))',
            ),
            Mistake(
                "lengths-in-characters",
                "The lengths in the brevity penalty are counted in characters; count words.",
                "sum(len(words) for words in some)",
                "sum(len(word) for words in some for word in words)",
            ),
            Mistake("not-percent", "The score goes from 0 to 1; asked is 0 to 100.", "100 * math.exp", "math.exp"),
        ],
    ),
    Exercise(
        "greedy_decode",
        points=5,
        cases=greedy_cases,
        mistakes=[
            Mistake(
                "writes-on",
                "A row goes on writing after its END; from there on it has PAD.",
                "torch.where(ended, PAD, likeliest)",
                "likeliest",
            ),
            Mistake(
                "end-repeated",
                "A row that has ended is filled with END; it is filled with PAD.",
                "torch.where(ended, PAD, likeliest)",
                "torch.where(ended, END, likeliest)",
            ),
            Mistake(
                "forgets-who-has-ended",
                "Only rows that end in this very step count as ended: in the next they start writing again.",
                "ended | (chosen == END)",
                "chosen == END",
            ),
            Mistake(
                "end-overwritten",
                "END is overwritten by PAD: a row keeps its END, and PAD comes after it.",
                "chosen.unsqueeze(1)],",
                "torch.where(chosen == END, PAD, chosen).unsqueeze(1)],",
            ),
            Mistake(
                "stops-at-the-first-end",
                "It stops as soon as any row has ended; it stops when all have.",
                "ended.all()",
                "ended.any()",
            ),
            Mistake(
                "never-stops-early",
                "It always goes on to `longest`; it stops when every row has ended.",
                " and not ended.all()",
                "",
            ),
            Mistake(
                "one-too-few",
                "It stops one token early: `longest` tokens come after BEGIN, which does not count.",
                "tokens.size(1) <= longest",
                "tokens.size(1) < longest",
            ),
            Mistake(
                "one-too-many",
                "It writes one token more than `longest`.",
                "tokens.size(1) <= longest",
                "tokens.size(1) <= longest + 1",
            ),
            Mistake(
                "last-token-only",
                "The model is given only the last token; it takes whole prefixes, from BEGIN on.",
                "next_log_probs(tokens)",
                "next_log_probs(tokens[:, -1:])",
            ),
            Mistake(
                "without-begin",
                "The result lacks BEGIN, with which every row begins.",
                "return tokens",
                "return tokens[:, 1:]",
            ),
            Mistake(
                "begins-with-pad",
                "The rows begin with PAD; they begin with BEGIN.",
                "torch.full((batch_size, 1), BEGIN)",
                "torch.full((batch_size, 1), PAD)",
            ),
            Mistake(
                "drawn",
                "The next token is drawn at random; greedy search takes the most probable one.",
                "next_log_probs(tokens).argmax(dim=-1)",
                "torch.multinomial(next_log_probs(tokens).exp(), 1).squeeze(1)",
            ),
            Mistake(
                "end-forced",
                "The last token of a row that has not ended is made END; such a row stays as it is.",
                "return tokens",
                "tokens[~ended, -1] = END; return tokens",
            ),
        ],
    ),
    Exercise(
        "beam_search",
        points=12,
        cases=beam_cases,
        timeout=30.0,
        mistakes=[
            Mistake(
                "drops-finished",
                "A hypothesis that has ended is dropped with its END; it should be kept as finished and compared at the end.",
                "finished.append((value / ((5 + n) / 6) ** alpha, row[1:]))",
                "finished.append((value / ((5 + n) / 6) ** alpha if n == longest else -math.inf, row[1:]))",
            ),
            Mistake(
                "extends-finished",
                "Hypotheses go on being extended after END; one that ends with END is finished.",
                "(prefixes[:, -1] == END) | (n == longest)",
                "torch.full((len(prefixes),), n == longest)",
            ),
            Mistake(
                "slot-given-back",
                "A finished hypothesis gives its slot back: the beam of the live ones stays at full width. It uses its slot up.",
                "[: width - len(finished)]",
                "[:width]",
            ),
            Mistake(
                "until-width-are-finished",
                "The beam stays at full width until `width` hypotheses are finished; each finished one should make it narrower.",
                "[: width - len(finished)]",
                "[:width]",
                also=[("len(prefixes) == 0", "len(prefixes) == 0 or len(finished) >= width")],
            ),
            Mistake(
                "no-penalty",
                "The length penalty is never applied: the score is the log-probability itself.",
                "value / ((5 + n) / 6) ** alpha",
                "value",
            ),
            Mistake("alpha-fixed", "alpha is ignored, and 0.6 used instead.", "** alpha", "** 0.6"),
            Mistake(
                "no-exponent",
                "The exponent alpha is missing from the length penalty.",
                "((5 + n) / 6) ** alpha",
                "((5 + n) / 6)",
            ),
            Mistake(
                "power-of-the-length",
                "The score is divided by n ** alpha; the penalty is ((5 + n) / 6) ** alpha.",
                "((5 + n) / 6)",
                "n",
            ),
            Mistake(
                "mean",
                "The log-probability is averaged over the tokens; it is divided by ((5 + n) / 6) ** alpha.",
                "((5 + n) / 6) ** alpha",
                "n",
            ),
            Mistake(
                "multiplied",
                "The log-probability is multiplied by the length penalty; it is divided by it.",
                "value / ((5",
                "value * ((5",
            ),
            Mistake(
                "not-divided-by-six", "The length penalty lacks the 6 under the 5 + n.", "((5 + n) / 6)", "(5 + n)"
            ),
            Mistake(
                "end-not-counted",
                "END is not counted in the length of a hypothesis.",
                "((5 + n) / 6)",
                "((5 + n - (row[-1] == END)) / 6)",
            ),
            Mistake(
                "end-counted-twice",
                "END is counted twice in the length of a hypothesis.",
                "((5 + n) / 6)",
                "((5 + n + (row[-1] == END)) / 6)",
            ),
            Mistake(
                "begin-counted",
                "BEGIN is counted in the length; n is the number of tokens after it.",
                "((5 + n) / 6)",
                "((6 + n) / 6)",
            ),
            Mistake(
                "end-scored-twice",
                "The log-probability of END enters the score twice.",
                "log_p[over].tolist()",
                "(log_p + torch.where(best % V == END, log_probs[best // V, best % V], 0.0))[over].tolist()",
            ),
            Mistake(
                "end-not-scored",
                "The log-probability of END is left out of the score.",
                "log_p[over].tolist()",
                "(log_p - torch.where(best % V == END, log_probs[best // V, best % V], 0.0))[over].tolist()",
            ),
            Mistake(
                "histories-mixed-up",
                "The histories are mixed up: a token is appended to the prefix in its row, not to the one that it extends.",
                "prefixes[best // V]",
                "prefixes[torch.arange(len(best)) % len(prefixes)]",
            ),
            Mistake(
                "last-token-only",
                "Only the last token's log-probability counts; a hypothesis has the sum of all its own.",
                "(log_p.unsqueeze(1) + log_probs)",
                "log_probs",
            ),
            Mistake(
                "no-competition",
                "Each hypothesis is extended by its own best token; the extensions of all should compete for the slots.",
                "best = best[flat[best] > -math.inf]",
                "best = (log_probs.argmax(dim=1) + torch.arange(len(log_probs)) * V) if n > 1 else best",
            ),
            Mistake(
                "all-stop-at-the-first-end",
                "Everything stops in the step in which a first hypothesis ends, and the live ones count as they stand; they "
                "should be extended further.",
                "(prefixes[:, -1] == END) | (n == longest)",
                "torch.full((len(prefixes),), n == longest or bool((prefixes[:, -1] == END).any()))",
            ),
            Mistake(
                "first-finished",
                "The hypothesis that is finished first is returned; asked is the one with the best score.",
                "max(finished, key=lambda one: one[0])",
                "finished[0]",
            ),
            Mistake(
                "most-probable",
                "The most probable of the finished hypotheses is returned; the best by score is asked.",
                "key=lambda one: one[0]",
                "key=lambda one: one[0] * ((5 + len(one[1])) / 6) ** alpha",
            ),
            Mistake(
                "live-ones-forgotten",
                "Hypotheses that reach `longest` without END are left out wherever another has ended; they count as they stand.",
                "max(finished,",
                "max([one for one in finished if one[1][-1] == END] or finished,",
            ),
            Mistake(
                "one-too-few",
                "It stops one token early: a hypothesis may have `longest` tokens after BEGIN.",
                "n in range(1, longest + 1)",
                "n in range(1, (longest := longest - 1) + 1)",
            ),
            Mistake(
                "one-too-many",
                "A hypothesis gets one token more than `longest`.",
                "n in range(1, longest + 1)",
                "n in range(1, (longest := longest + 1) + 1)",
            ),
            Mistake(
                "ties-to-the-higher",
                "Of equally probable extensions the one with the higher flat index is kept; the lower goes first.",
                "flat.sort(descending=True, stable=True).indices",
                "flat.sort(stable=True).indices.flip(0)",
            ),
            Mistake(
                "ties-to-the-later",
                "Of equally good hypotheses the one that was finished last is returned; the first is asked.",
                "max(finished, key",
                "max(reversed(finished), key",
            ),
            Mistake(
                "impossible-kept",
                "Extensions of probability 0 are kept where nothing else is left, and an impossible END takes a slot for good.",
                "best = best[flat[best] > -math.inf]",
                "pass",
            ),
            Mistake(
                "prefix-without-begin",
                "The model is given prefixes without BEGIN.",
                "next_log_probs(prefixes)",
                "next_log_probs(prefixes[:, 1:])",
            ),
            Mistake(
                "with-begin",
                "The tokens that are returned begin with BEGIN; asked are those after it.",
                "row[1:]",
                "row",
            ),
            Mistake(
                "end-cut-off",
                "The END is cut off the tokens that are returned.",
                "return tokens, score",
                "return [token for token in tokens if token != END], score",
            ),
        ],
    ),
    Exercise(
        "token_batches",
        points=4,
        cases=batching_cases,
        stretch=True,
        mistakes=[
            Mistake(
                "not-sorted",
                "The sentences are taken in the order in which they come: long and short ones share a batch.",
                "sorted(range(len(lengths)), key=lambda i: lengths[i])",
                "range(len(lengths))",
                also=[
                    ("lengths[index] > max_tokens", "max(lengths[i] for i in [*batches[-1], index]) > max_tokens"),
                ],
            ),
            Mistake(
                "padding-not-counted",
                "The lengths in a batch are added up; every row costs as much as the longest, padding included.",
                "(len(batches[-1]) + 1) * lengths[index] > max_tokens",
                "sum(lengths[i] for i in batches[-1]) + lengths[index] > max_tokens",
            ),
            Mistake(
                "longest-before",
                "The new sentence's length is not asked for: rows are multiplied by the longest length before it came.",
                "lengths[index] > max_tokens",
                "lengths[batches[-1][-1]] > max_tokens",
            ),
            Mistake(
                "new-row-not-counted",
                "The new sentence is not counted among the rows when it is asked whether it fits in.",
                "(len(batches[-1]) + 1)",
                "len(batches[-1])",
            ),
            Mistake(
                "never-full",
                "A batch of exactly max_tokens is refused; it is allowed.",
                "> max_tokens",
                ">= max_tokens",
            ),
            Mistake(
                "last-batch-lost",
                "The last batch is lost: nothing closes it.",
                "return batches",
                "return batches[:-1]",
            ),
            Mistake(
                "opener-lost",
                "The sentence that does not fit in any more is lost; it opens the next batch.",
                "batches.append([])",
                "batches.append([]); continue",
            ),
            Mistake(
                "lengths-returned",
                "The batches hold lengths; they hold indices.",
                "batches[-1].append(index)",
                "batches[-1].append(index)\n    batches = [[lengths[i] for i in batch] for batch in batches]",
            ),
            Mistake(
                "places-in-the-sorted-list",
                "The indices are places in the sorted list; they are to be indices into `lengths`.",
                "return batches",
                "places = iter(range(len(lengths))); return [[next(places) for _ in batch] for batch in batches]",
            ),
            Mistake(
                "as-many-as-of-the-longest",
                "Every batch has as many sentences as fit of the longest of all; short ones leave room for more.",
                "(len(batches[-1]) + 1) * lengths[index] > max_tokens",
                "(len(batches[-1]) + 1) * max(lengths) > max_tokens",
            ),
        ],
    ),
    # --------------------------------------------------------------------------------------------- trained models
    Artifact(
        name="translation",
        file="translation.safetensors",
        figure="bits per character",
        lower_is_better=True,
        thresholds=thresholds(RESULTS, "translation", points=8, lower_is_better=True),
        inputs=heldout_pairs,
        score=score_translation,
        where="held-out pages of LibreOffice's help",
    ),
]
