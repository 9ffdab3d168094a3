"""Week 3: points, cases and mistakes of the exercises on attention.

B batch, T queries, S keys (source time), H heads, K head width, D width of values or of the model. Cases are small, float32,
with random weights that are not square where they need not be; every random number comes from the generator handed in.
"""

from pathlib import Path

import torch
from torch import Tensor

from autograder import Artifact, Exercise, Mistake, thresholds
from autograder.draws import normal
from course.drives.week03_attention import scenes_asked, score_pictures

Cases = list[tuple[str, dict]]


def some(rng: torch.Generator, *shape: int) -> Tensor:
    """A random boolean mask: in each row along the last axis at least one True, and one False where there is room."""
    size = shape[-1]
    ranks = torch.rand(*shape, generator=rng).argsort(dim=-1).argsort(dim=-1)
    allowed = torch.randint(1, max(size, 2), (*shape[:-1], 1), generator=rng)
    return ranks < allowed


def real(lengths: list[int], size: int) -> Tensor:
    """(B, S): True where a row has something, that is before its length."""
    return torch.arange(size) < torch.tensor(lengths).unsqueeze(1)


# ---------------------------------------------------------------------------------------------- trained models

RESULTS = Path(__file__).with_name("results.json")
SCENES_OF_THE_GRADER = 6_062_017


def heldout_scenes(heldout: Path) -> tuple[dict, Tensor]:
    """(inputs of the drive, answers) of scenes from a seed that only the grader has."""
    return scenes_asked(SCENES_OF_THE_GRADER)


# ------------------------------------------------------------------------------------------------------- cases


def lookup_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, entries: int, width: int, value: int, temperature: float) -> tuple[str, dict]:
        inputs = {
            "query": normal(rng, width),
            "keys": normal(rng, entries, width),
            "values": normal(rng, entries, value),
            "temperature": temperature,
            "upstream_answer": normal(rng, value),
            "upstream_weights": normal(rng, entries),
        }
        return kind, inputs

    kind, large = case("scores so large that exp overflows", 4, 5, 2, 1.0)
    query = large["query"]
    large["keys"] = 0.5 * large["keys"] + 100 * query / (query @ query)  # every score is 100 higher
    return [
        case("five entries", 5, 4, 3, 0.7),
        case("values as wide as the keys, warm", 6, 3, 3, 1.8),
        case("a single entry", 1, 3, 4, 1.3),
        (kind, large),
    ]


def softmax_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, scores: Tensor, mask: Tensor) -> tuple[str, dict]:
        return kind, {"scores": scores, "mask": mask, "upstream": normal(rng, *scores.shape)}

    empty = some(rng, 2, 4, 5)
    empty[0, 2] = False
    return [
        case("a mask entry for every score", normal(rng, 3, 6, scale=1.5), some(rng, 3, 6)),
        case("a row with nothing to attend", normal(rng, 2, 4, 5), empty),
        case("one mask for all rows", normal(rng, 2, 3, 4), some(rng, 4)),
        case("scores so large that exp overflows", normal(rng, 3, 5, scale=2.0) + 150, some(rng, 3, 5)),
        case("rows of a single position", normal(rng, 2, 1), torch.tensor([[True], [False]])),
    ]


def additive_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, mask: Tensor, sizes: tuple[int, int, int, int]) -> tuple[str, dict]:
        (batch, steps), (width, key, value, attn) = mask.shape, sizes
        inputs = {
            "query": normal(rng, batch, width),
            "keys": normal(rng, batch, steps, key),
            "values": normal(rng, batch, steps, value),
            "mask": mask,
            "w_q": normal(rng, attn, width, scale=width**-0.5),
            "w_k": normal(rng, attn, key, scale=key**-0.5),
            "v": normal(rng, attn),
            "upstream_context": normal(rng, batch, value),
            "upstream_weights": normal(rng, batch, steps),
        }
        return kind, inputs

    return [
        case("sentences of unequal length", real([4, 2, 3], 4), (3, 2, 4, 5)),
        case("one sentence of one word", real([1], 1), (4, 3, 2, 3)),
        case("values as wide as the keys", real([5, 4], 5), (2, 3, 3, 4)),
        case("a sentence with nothing to attend", real([0, 3], 3), (3, 4, 2, 6)),
    ]


def attention_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, q: tuple[int, ...], keys: int, value: int, mask: Tensor | None = None) -> tuple[str, dict]:
        *batch, steps, width = q
        inputs = {
            "q": normal(rng, *q, scale=1.5),
            "k": normal(rng, *batch, keys, width),
            "v": normal(rng, *batch, keys, value),
            "mask": mask,
            "upstream_output": normal(rng, *batch, steps, value),
            "upstream_weights": normal(rng, *batch, steps, keys),
        }
        return kind, inputs

    each = some(rng, 2, 4, 4)
    each[1, 2] = False
    return [
        case("no mask", (2, 3, 4), 5, 2),
        case("two heads, one key mask for all queries", (2, 2, 4, 3), 4, 3, real([2, 3], 4)[:, None, None]),
        case("a mask for each query, one with nothing to attend", (2, 4, 5), 4, 5, each),
        case("a single query and a single key", (1, 1, 6), 1, 3),
    ]


def causal_cases(rng: torch.Generator) -> Cases:
    some_steps = int(torch.randint(4, 7, (), generator=rng))
    return [
        ("as many queries as keys", {"T": some_steps, "S": some_steps}),
        ("a single position", {"T": 1, "S": 1}),
        ("the last two queries of several", {"T": 2, "S": some_steps + 1}),
        ("the newest query alone", {"T": 1, "S": some_steps}),
    ]


def padding_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, lengths: list[int], steps: int) -> tuple[str, dict]:
        return kind, {"lengths": torch.tensor(lengths)[torch.randperm(len(lengths), generator=rng)], "S": steps}

    return [
        case("lengths unequal", [2, 4, 1], 4),
        case("padding beyond the longest", [3, 2], 5),
        case("a sequence with nothing in it", [0, 3, 2], 3),
        case("a single sequence", [1], 2),
    ]


def decoder_mask_cases(rng: torch.Generator) -> Cases:
    return [(kind, {"lengths": inputs["lengths"], "T": inputs["S"]}) for kind, inputs in padding_cases(rng)]


def heads_cases(rng: torch.Generator) -> Cases:
    def case(
        kind: str, batch: int, queries: int, keys: int, sizes: tuple[int, int], mask: Tensor | None = None
    ) -> tuple[str, dict]:
        width, heads = sizes
        inputs = {
            "weights": {
                "in_proj_weight": normal(rng, 3 * width, width, scale=1.2 * width**-0.5),
                "in_proj_bias": normal(rng, 3 * width, scale=0.5),
                "out_proj.weight": normal(rng, width, width, scale=width**-0.5),
                "out_proj.bias": normal(rng, width, scale=0.5),
            },
            "num_heads": heads,
            "query": normal(rng, batch, queries, width),
            "key": normal(rng, batch, keys, width),
            "value": normal(rng, batch, keys, width),
            "mask": mask,
            "upstream_output": normal(rng, batch, queries, width),
            "upstream_weights": normal(rng, batch, heads, queries, keys),
        }
        return kind, inputs

    return [
        case("two heads, no mask", 2, 4, 4, (6, 2)),
        case("three heads, padded keys", 2, 2, 5, (6, 3), real([5, 3], 5).unsqueeze(1)),
        case("one mask for the whole batch", 3, 4, 4, (4, 2), torch.ones(4, 4, dtype=torch.bool).tril()),
        case("a mask for each query, one with nothing to attend", 2, 3, 3, (8, 2), _with_empty_row(some(rng, 2, 3, 3))),
        case("a single query and a single key", 1, 1, 1, (4, 2)),
    ]


def _with_empty_row(mask: Tensor) -> Tensor:
    mask[0, 1] = False
    return mask


def decoder_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, mask: Tensor, sizes: tuple[int, int, int, int, int]) -> tuple[str, dict]:
        (batch, steps), (vocab, embed, hidden, memory, attn) = mask.shape, sizes
        inputs = {
            "weights": {
                "embedding.weight": normal(rng, vocab, embed),
                "w_q": normal(rng, attn, hidden, scale=1.5 * hidden**-0.5),
                "w_k": normal(rng, attn, memory, scale=1.5 * memory**-0.5),
                "v": normal(rng, attn),
                "cell.weight_ih": normal(rng, 3 * hidden, embed + memory, scale=(embed + memory) ** -0.5),
                "cell.weight_hh": normal(rng, 3 * hidden, hidden, scale=hidden**-0.5),
                "cell.bias_ih": normal(rng, 3 * hidden, scale=0.3),
                "cell.bias_hh": normal(rng, 3 * hidden, scale=0.3),
                "output.weight": normal(rng, vocab, hidden + memory, scale=(hidden + memory) ** -0.5),
                "output.bias": normal(rng, vocab, scale=0.3),
            },
            "tokens": torch.randint(vocab, (batch,), generator=rng),
            "state": torch.tanh(normal(rng, batch, hidden)),
            "memory": normal(rng, batch, steps, memory),
            "mask": mask,
            "upstream_logits": normal(rng, batch, vocab),
            "upstream_state": normal(rng, batch, hidden),
            "upstream_weights": normal(rng, batch, steps),
        }
        return kind, inputs

    return [
        case("sentences of unequal length", real([4, 2, 3], 4), (7, 3, 4, 2, 5)),
        case("one sentence of one word", real([1], 1), (5, 2, 3, 4, 3)),
        case("a state as wide as the memory", real([3, 5], 5), (6, 3, 3, 3, 4)),
    ]


def picture_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, *shape: int, size: int) -> tuple[str, dict]:
        return kind, {"images": normal(rng, *shape), "P": size}

    return [
        case("three channels, wider than high", 2, 3, 4, 6, size=2),
        case("one channel, higher than wide", 1, 1, 9, 6, size=3),
        case("a single patch", 2, 2, 3, 3, size=3),
        case("patches of one pixel", 1, 3, 2, 4, size=1),
    ]


def rollout_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, *shape: int) -> tuple[str, dict]:
        return kind, {"weights": torch.softmax(normal(rng, *shape, scale=1.5), dim=-1)}

    return [
        case("three layers of two heads", 3, 2, 2, 4, 4),
        case("a single layer", 1, 1, 3, 5, 5),
        case("four layers of one head", 4, 2, 1, 3, 3),
    ]


# --------------------------------------------------------------------------------------------------- exercises

NO_BUILT_IN = [
    "aten::scaled_dot_product_attention",
    "aten::_scaled_dot_product_attention_math",
    "aten::_scaled_dot_product_flash_attention_for_cpu",
    "aten::_native_multi_head_attention",
]

EXERCISES = [
    Exercise(
        "soft_lookup",
        points=5,
        cases=lookup_cases,
        floor=2e-4,  # a score of 100 is off by some 1e-5 in float32, and so is the logarithm of a weight
        mistakes=[
            Mistake("temperature-ignored", "The temperature does not enter.", " / temperature", ""),
            Mistake(
                "temperature-multiplied",
                "The scores are multiplied by the temperature; they are divided by it.",
                "/ temperature",
                "* temperature",
            ),
            Mistake(
                "temperature-after",
                "The temperature divides the weights after the softmax, so that they do not sum to 1; it divides the scores.",
                " / temperature",
                "",
                also=[("torch.softmax(scores, dim=0)", "torch.softmax(scores, dim=0) / temperature")],
            ),
            Mistake(
                "hard",
                "The best entry gets weight 1 and the others 0: this is a lookup in a dictionary, not a soft one.",
                "torch.softmax(scores, dim=0)",
                "F.one_hot(scores.argmax(), scores.size(0)).to(scores.dtype)",
            ),
            Mistake(
                "no-softmax",
                "The scores themselves are the weights; they have to go through a softmax.",
                "torch.softmax(scores, dim=0)",
                "scores",
            ),
            Mistake(
                "divided-by-sum",
                "The scores are divided by their sum but not put through exp first: weights may be negative.",
                "torch.softmax(scores, dim=0)",
                "scores / scores.sum()",
            ),
            Mistake(
                "answer-from-keys",
                "The answer is a weighted sum of the keys; keys are for finding, values are what is returned.",
                "weights @ values",
                "weights @ keys",
            ),
            Mistake(
                "scores-from-values",
                "The query is compared with the values; it is compared with the keys.",
                "keys @ query",
                "values @ query",
            ),
            Mistake(
                "plain-mean",
                "The answer is the plain mean of the values: the weights do not enter.",
                "weights @ values",
                "values.mean(dim=0)",
            ),
            Mistake(
                "overflow",
                "exp of a large score overflows: subtract the largest score first, as torch.softmax does.",
                "torch.softmax(scores, dim=0)",
                "scores.exp() / scores.exp().sum()",
            ),
        ],
    ),
    Exercise(
        "masked_softmax",
        points=10,
        cases=softmax_cases,
        mistakes=[
            Mistake(
                "inverted",
                "The mask is inverted: True means that a position may be attended, not that it is hidden.",
                "~mask",
                "mask",
                also=[("weights * mask", "weights * ~mask")],
            ),
            Mistake(
                "after-the-softmax",
                "The mask comes after the softmax only: hidden positions took their share and the rest does not sum to 1.",
                "scores.masked_fill(~mask, lowest)",
                "scores",
            ),
            Mistake(
                "zero-score",
                "Hidden positions get score 0, and exp(0) is 1: they keep a share of the weight.",
                "lowest)",
                "0.0)",
                also=[("weights * mask", "weights")],
            ),
            Mistake(
                "nan-rows",
                "A row with nothing to attend is NaN: minus infinity everywhere makes 0 / 0 of the softmax. It should be zeros.",
                "lowest)",
                "-math.inf)",
                also=[("weights * mask", "weights")],
            ),
            Mistake(
                "uniform-rows",
                "A row with nothing to attend gets equal weights; it should get zeros.",
                "weights * mask",
                "weights",
            ),
            Mistake(
                "nan-gradient",
                "The weights are right, but the gradient of a row with nothing to attend is NaN: hiding the NaN afterwards "
                "does not keep it out of the backward pass.",
                "scores.masked_fill(~mask, lowest)",
                "scores + torch.zeros_like(scores).masked_fill(~mask, -math.inf)",
                also=[("weights * mask", "torch.nan_to_num(weights)")],
            ),
            Mistake(
                "other-axis",
                "The softmax runs over the rows of a column; it runs over the last axis, the positions that are attended to.",
                "dim=-1",
                "dim=-2",
            ),
            Mistake(
                "ignored",
                "The mask does not enter: this is the plain softmax.",
                "scores.masked_fill(~mask, lowest)",
                "scores",
                also=[("weights * mask", "weights")],
            ),
            Mistake(
                "overflow",
                "exp of a large score overflows: subtract the row's largest score first, or let torch.softmax do it.",
                "torch.softmax(scores.masked_fill(~mask, lowest), dim=-1)",
                "scores.exp() * mask / (scores.exp() * mask).sum(dim=-1, keepdim=True).clamp(min=1e-30)",
            ),
        ],
    ),
    Exercise(
        "additive_attention",
        points=8,
        cases=additive_cases,
        uses=["masked_softmax"],
        mistakes=[
            Mistake(
                "no-tanh",
                "The tanh is missing. Without it the query adds the same number to every score and decides nothing.",
                "torch.tanh",
                "",
            ),
            Mistake(
                "sigmoid",
                "The hidden layer has a sigmoid; Bahdanau's has a tanh.",
                "torch.tanh",
                "torch.sigmoid",
            ),
            Mistake(
                "two-tanhs",
                "The tanh is taken of the query's and the key's part separately; it goes around their sum.",
                "(query @ w_q.T).unsqueeze(1) + keys",
                "query @ w_q.T).unsqueeze(1) + torch.tanh(keys",
            ),
            Mistake(
                "multiplied",
                "The projected query and keys are multiplied; in additive attention they are added.",
                " + keys @ w_k.T",
                " * (keys @ w_k.T)",
            ),
            Mistake(
                "padding-attended",
                "The mask does not enter: padding beyond the source's length gets weight too.",
                "@ v, mask)",
                "@ v, torch.ones_like(mask))",
            ),
            Mistake(
                "inverted",
                "The mask is inverted: all weight lies on the padding. True marks the positions that may be attended.",
                "@ v, mask)",
                "@ v, ~mask)",
            ),
            Mistake(
                "context-from-keys",
                "The context is made of the keys; it is the weighted sum of the values.",
                "@ values",
                "@ keys",
            ),
            Mistake(
                "no-query",
                "The query does not enter the scores: every step of the decoder would look at the same place.",
                "(query @ w_q.T).unsqueeze(1) + ",
                "",
            ),
            Mistake(
                "no-v",
                "The hidden layer is added up; the vector v weighs its units.",
                "hidden @ v",
                "hidden.sum(dim=-1)",
            ),
            Mistake(
                "scores-as-weights",
                "The scores are used as weights: the softmax is missing.",
                "masked_softmax(hidden @ v, mask)",
                "(hidden @ v) * mask",
            ),
        ],
    ),
    Exercise(
        "scaled_dot_product_attention",
        points=10,
        cases=attention_cases,
        uses=["masked_softmax"],
        forbid=NO_BUILT_IN,
        mistakes=[
            Mistake(
                "unscaled",
                "The scores are not divided by the square root of the key width.",
                " / math.sqrt(q.size(-1))",
                "",
            ),
            Mistake(
                "scaled-by-d",
                "The scores are divided by the key width itself; it should be its square root.",
                "math.sqrt(q.size(-1))",
                "q.size(-1)",
            ),
            Mistake(
                "scaled-by-keys",
                "The scores are divided by the square root of the number of keys; it is the width of a key that counts.",
                "math.sqrt(q.size(-1))",
                "math.sqrt(k.size(-2))",
            ),
            Mistake(
                "multiplied-by-root",
                "The scores are multiplied by the square root of the key width instead of divided.",
                " / math.sqrt",
                " * math.sqrt",
            ),
            Mistake(
                "over-queries",
                "The softmax runs over the queries: each key's column sums to 1. Each query's row should.",
                "masked_softmax(scores, mask)",
                "masked_softmax(scores.mT, mask.expand_as(scores).mT).mT",
            ),
            Mistake(
                "mask-after",
                "The mask is applied after the softmax: what is hidden has taken its share of the weight.",
                "masked_softmax(scores, mask)",
                "torch.softmax(scores, dim=-1) * mask",
            ),
            Mistake(
                "mask-inverted",
                "The mask is read the other way round, as torch.nn.MultiheadAttention does; here True means attend.",
                "mask = torch.ones_like",
                "mask = torch.zeros_like",
                also=[("masked_softmax(scores, mask)", "masked_softmax(scores, ~mask)")],
            ),
            Mistake(
                "hides-queries",
                "The mask is transposed: it hides queries where it should hide keys.",
                "masked_softmax(scores, mask)",
                "masked_softmax(scores, mask.expand_as(scores).mT)",
            ),
            Mistake(
                "mask-ignored",
                "The mask does not enter; every key is attended to.",
                "masked_softmax(scores, mask)",
                "torch.softmax(scores, dim=-1)",
            ),
            Mistake(
                "nan-rows",
                "A query with nothing to attend gives NaN; its output and weights should be zeros.",
                "masked_softmax(scores, mask)",
                "torch.softmax(scores.masked_fill(~mask, -math.inf), dim=-1)",
            ),
            Mistake(
                "output-from-keys",
                "The output is made of the keys instead of the values.",
                "weights @ v",
                "weights @ k",
            ),
            Mistake(
                "returns-scores",
                "The second result is the scores; asked are the weights after the softmax.",
                "@ v, weights",
                "@ v, scores",
            ),
        ],
    ),
    Exercise(
        "causal_mask",
        points=4,
        cases=causal_cases,
        mistakes=[
            Mistake(
                "hides-the-present",
                "The mask hides the present: a position may attend to itself.",
                "keys <= queries",
                "keys < queries",
            ),
            Mistake(
                "shows-the-next",
                "The mask shows the next token, which is the one to be predicted.",
                "keys <= queries",
                "keys <= queries + 1",
            ),
            Mistake(
                "inverted",
                "The mask is True where attention is forbidden; in this course True means allowed.",
                "keys <= queries",
                "keys > queries",
            ),
            Mistake(
                "future",
                "Each position sees itself and the future instead of the past: the triangle is the other one.",
                "keys <= queries",
                "keys >= queries",
            ),
            Mistake(
                "counted-from-the-start",
                "With fewer queries than keys, the queries are taken for the first positions; they are the last ones.",
                "torch.arange(S - T, S, device=device)",
                "torch.arange(T, device=device)",
            ),
            Mistake(
                "additive",
                "These are numbers to add to the scores (0 and minus infinity); asked is a boolean mask.",
                "return keys <= queries",
                "return torch.zeros(T, S, device=device).masked_fill(keys > queries, -math.inf)",
            ),
            Mistake(
                "ones-and-zeros",
                "The mask is made of the numbers 1 and 0; asked is a boolean tensor.",
                "return keys <= queries",
                "return (keys <= queries).float()",
            ),
        ],
    ),
    Exercise(
        "padding_mask",
        points=3,
        cases=padding_cases,
        mistakes=[
            Mistake(
                "inverted",
                "The mask is True at the padding; True should mark the real tokens.",
                "positions < lengths",
                "positions >= lengths",
            ),
            Mistake(
                "one-too-many",
                "One position of padding is let through: the last real token stands at length - 1.",
                "positions < lengths",
                "positions <= lengths",
            ),
            Mistake(
                "one-too-few",
                "The last real token is hidden: positions count from zero, so it stands at length - 1.",
                "lengths.unsqueeze(1))",
                "lengths.unsqueeze(1) - 1)",
            ),
            Mistake(
                "hides-queries",
                "The mask lies along the queries, (B, S, 1); it should lie along the keys, (B, 1, S).",
                ")).unsqueeze(1)",
                ")).unsqueeze(2)",
            ),
            Mistake(
                "no-query-axis",
                "The axis for the queries is missing: the mask is (B, S) where (B, 1, S) is asked.",
                "(positions < lengths.unsqueeze(1)).unsqueeze(1)",
                "positions < lengths.unsqueeze(1)",
            ),
            Mistake(
                "longest-only",
                "The mask ends at the longest sequence; it should be S wide.",
                "torch.arange(S,",
                "torch.arange(int(lengths.max()),",
            ),
            Mistake(
                "padded-on-the-left",
                "The real tokens are taken for the last ones of a row; the padding is on the right.",
                "positions < lengths.unsqueeze(1)",
                "positions >= S - lengths.unsqueeze(1)",
            ),
        ],
    ),
    Exercise(
        "decoder_mask",
        points=3,
        cases=decoder_mask_cases,
        uses=["causal_mask", "padding_mask"],
        mistakes=[
            Mistake(
                "or",
                "The two masks are joined by `or`: a key needs only one of the two permissions. It needs both.",
                " & ",
                " | ",
            ),
            Mistake(
                "causal-only",
                "Only the causal mask is there; the padding can be seen.",
                " & padding_mask(lengths, T)",
                " & torch.ones_like(padding_mask(lengths, T))",
            ),
            Mistake(
                "padding-only",
                "Only the padding is hidden; the future can be seen.",
                "causal_mask(T, T, device=lengths.device)",
                "torch.ones_like(causal_mask(T, T, device=lengths.device))",
            ),
            Mistake(
                "padded-queries-hidden",
                "The padding is hidden as queries, so that their rows have nothing to attend; it should be hidden as keys.",
                "padding_mask(lengths, T)",
                "padding_mask(lengths, T).mT",
            ),
            Mistake(
                "future",
                "The causal mask is transposed: a query sees what comes after it.",
                "device=lengths.device)",
                "device=lengths.device).mT",
            ),
            Mistake(
                "inverted",
                "The joined mask is negated: it is True exactly where nothing should be attended.",
                "return causal_mask(T, T, device=lengths.device) & padding_mask(lengths, T)",
                "return ~(causal_mask(T, T, device=lengths.device) & padding_mask(lengths, T))",
            ),
        ],
    ),
    Exercise(
        "MultiHeadAttention.forward",
        points=15,
        cases=heads_cases,
        uses=["scaled_dot_product_attention"],
        forbid=NO_BUILT_IN,
        mistakes=[
            Mistake(
                "split-without-transpose",
                "The heads are split by a reshape alone: (B, T, D) to (B, H, T, K) needs a transpose, or positions mix.",
                "x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)",
                "x.reshape(x.size(0), self.num_heads, x.size(1), -1)",
            ),
            Mistake(
                "split-interleaved",
                "Each head takes every H-th feature; it should take K neighbours.",
                "(self.num_heads, -1)).transpose(1, 2)",
                "(-1, self.num_heads)).permute(0, 3, 1, 2)",
            ),
            Mistake(
                "merged-without-transpose",
                "The heads are merged by a reshape alone: the position has to come before the head again, by a transpose.",
                "heads.transpose(1, 2).flatten(-2)",
                "heads.reshape(query.shape)",
            ),
            Mistake(
                "merged-interleaved",
                "The heads are merged feature by feature; each head's K features should stay side by side.",
                "heads.transpose(1, 2).flatten(-2)",
                "heads.permute(0, 2, 3, 1).flatten(-2)",
            ),
            Mistake(
                "keys-by-the-query-projection",
                "One projection is used twice: keys are made with the weights of the queries.",
                "F.linear(key, w_k, b_k)",
                "F.linear(key, w_q, b_q)",
            ),
            Mistake(
                "values-by-the-key-projection",
                "One projection is used twice: values are made with the weights of the keys.",
                "F.linear(value, w_v, b_v)",
                "F.linear(value, w_k, b_k)",
            ),
            Mistake(
                "values-from-the-key",
                "The values are projected from `key`; they come from `value`.",
                "F.linear(value,",
                "F.linear(key,",
            ),
            Mistake(
                "projections-in-another-order",
                "The packed weights are read as key, query, value; they hold query, key, value.",
                "w_q, w_k, w_v =",
                "w_k, w_q, w_v =",
                also=[("b_q, b_k, b_v =", "b_k, b_q, b_v =")],
            ),
            Mistake(
                "no-output-projection",
                "The merged heads are returned as they are; they go through out_proj.",
                "self.out_proj(heads.transpose(1, 2).flatten(-2))",
                "heads.transpose(1, 2).flatten(-2)",
            ),
            Mistake(
                "mask-inverted",
                "The mask is negated, as torch.nn.MultiheadAttention wants it; in this course True means attend.",
                "mask.unsqueeze(-3)",
                "~mask.unsqueeze(-3)",
            ),
            Mistake(
                "mask-ignored",
                "The mask is not handed on to the attention.",
                "(q, k, v, mask)",
                "(q, k, v)",
            ),
            Mistake(
                "scaled-by-the-model-width",
                "The scores are divided by the root of the model's width; each head has only K features.",
                "(q, k, v, mask)",
                "(q / math.sqrt(self.num_heads), k, v, mask)",
            ),
            Mistake(
                "weights-averaged",
                "The weights are averaged over the heads; asked are those of each head.",
                ", weights\n",
                ", weights.mean(dim=1)\n",
            ),
        ],
    ),
    Exercise(
        "AttentionDecoder.step",
        points=13,
        cases=decoder_cases,
        uses=["additive_attention"],
        mistakes=[
            Mistake(
                "context-of-the-new-state",
                "The context is looked up again with the new state for the output; one context serves the cell and the output.",
                "torch.cat([state, context]",
                "torch.cat([state, additive_attention(state, memory, memory, mask, self.w_q, self.w_k, self.v)[0]]",
            ),
            Mistake(
                "old-state-in-output",
                "The logits are made from the old state; they come from the new one.",
                "state = self.cell(",
                "new = self.cell(",
                also=[("return logits, state,", "return logits, new,")],
            ),
            Mistake(
                "old-state-returned",
                "The old state is returned, so that the decoder never moves on.",
                "state = self.cell(",
                "new = self.cell(",
                also=[("torch.cat([state, context]", "torch.cat([new, context]")],
            ),
            Mistake(
                "context-first-in-the-cell",
                "The cell reads the context before the embedding; the embedding comes first.",
                "[self.embedding(tokens), context]",
                "[context, self.embedding(tokens)]",
            ),
            Mistake(
                "context-first-in-the-output",
                "The output layer reads the context before the state; the state comes first.",
                "[state, context]",
                "[context, state]",
            ),
            Mistake(
                "no-context-in-the-cell",
                "The cell does not see the context: zeros stand in its place.",
                "(tokens), context]",
                "(tokens), torch.zeros_like(context)]",
            ),
            Mistake(
                "no-context-in-the-output",
                "The output layer does not see the context: zeros stand in its place.",
                "[state, context]",
                "[state, torch.zeros_like(context)]",
            ),
            Mistake(
                "mask-ignored",
                "The mask is not handed to the attention: the decoder looks at the source's padding.",
                "memory, mask,",
                "memory, torch.ones_like(mask),",
            ),
            Mistake(
                "cell-without-state",
                "The cell starts from zeros at each step: the old state is not handed to it.",
                "dim=-1), state)",
                "dim=-1))",
            ),
            Mistake(
                "last-of-the-memory",
                "The context is the memory's last vector: this is the decoder without attention.",
                "self.w_k, self.v)\n",
                "self.w_k, self.v); context = memory[:, -1]\n",
            ),
        ],
    ),
    Exercise(
        "patchify",
        points=5,
        cases=picture_cases,
        mistakes=[
            Mistake(
                "column-order",
                "The patches come column by column; they should come row by row, as one reads.",
                "(0, 2, 4, 1, 3, 5)",
                "(0, 4, 2, 1, 3, 5)",
            ),
            Mistake(
                "channel-last",
                "Within a patch the channel comes last; it should come first: all of red, then green, then blue.",
                "(0, 2, 4, 1, 3, 5)",
                "(0, 2, 4, 3, 5, 1)",
            ),
            Mistake(
                "transposed-inside",
                "Within a patch the pixels are read column by column; they should be read row by row.",
                "(0, 2, 4, 1, 3, 5)",
                "(0, 2, 4, 1, 5, 3)",
            ),
            Mistake(
                "reshape-alone",
                "The picture is reshaped without moving an axis: a `patch` holds pixels in the order of memory, not neighbours.",
                "x.permute(0, 2, 4, 1, 3, 5)",
                "x.reshape(B, height // P, width // P, C, P, P)",
            ),
            Mistake(
                "pixels-apart",
                "A patch takes pixels that lie apart instead of P x P neighbours: the reshape exchanges grid and offset.",
                "height // P, P, width // P, P",
                "P, height // P, P, width // P",
                also=[("(0, 2, 4, 1, 3, 5)", "(0, 3, 5, 1, 2, 4)")],
            ),
            Mistake(
                "grid-kept",
                "The rows and columns of the grid are two axes still; asked is one axis of patches.",
                ".flatten(1, 2)",
                "",
            ),
            Mistake(
                "channels-apart",
                "Each channel makes patches of its own; a patch holds all channels of its place.",
                "(0, 2, 4, 1, 3, 5)",
                "(0, 1, 2, 4, 3, 5)",
                also=[("x.flatten(3).flatten(1, 2)", "x.flatten(4).flatten(1, 3)")],
            ),
        ],
    ),
    Exercise(
        "attention_rollout",
        points=7,
        cases=rollout_cases,
        mistakes=[
            Mistake(
                "no-residual",
                "The identity is missing: half of what a position passes on is its own, by the residual connection.",
                "(0.5 * layer.mean(dim=1) + 0.5 * identity)",
                "layer.mean(dim=1)",
            ),
            Mistake(
                "other-order",
                "The layers are multiplied in the other order: the later layer stands on the left.",
                "(0.5 * layer.mean(dim=1) + 0.5 * identity) @ rollout",
                "rollout @ (0.5 * layer.mean(dim=1) + 0.5 * identity)",
            ),
            Mistake(
                "largest-head",
                "The largest weight of the heads is taken; they are averaged.",
                "layer.mean(dim=1)",
                "layer.amax(dim=1)",
            ),
            Mistake(
                "heads-summed",
                "The heads are added up but not divided by their number.",
                "layer.mean(dim=1)",
                "layer.sum(dim=1)",
            ),
            Mistake(
                "not-halved",
                "The identity is added to the weights, but the sum is not halved: rows no longer sum to 1.",
                "0.5 * layer.mean(dim=1) + 0.5 * identity",
                "layer.mean(dim=1) + identity",
            ),
            Mistake(
                "last-layer-only",
                "Only the last layer is looked at; what it reads has been mixed by the layers before.",
                "in weights:",
                "in weights[-1:]:",
            ),
            Mistake(
                "layers-averaged",
                "The layers are averaged; what one passes on, the next mixes again: their matrices are multiplied.",
                "in weights:",
                "in weights.mean(dim=0, keepdim=True):",
            ),
            Mistake(
                "transposed",
                "The result is transposed: row i tells where position i took its content from.",
                "return rollout",
                "return rollout.mT",
            ),
        ],
    ),
    # ---------------------------------------------------------------------------------------------- trained models
    Artifact(
        name="pictures",
        file="pictures.safetensors",
        figure="accuracy",
        thresholds=thresholds(RESULTS, "pictures", points=7, early=0.5),  # earlier they had learned next to nothing
        inputs=heldout_scenes,
        score=score_pictures,
        where="new scenes",
    ),
]
