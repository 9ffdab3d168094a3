"""Week 8: points, cases and mistakes of the exercises on long sequences.

T queries, S keys, K head width, F width of values, M features, N blocks, P mixtures. Cases are small, float32 and not square
where they need not be; every random number comes from the generator handed in. A case with `repeats` measures memory.
"""

import math
from pathlib import Path

import torch
from torch import Tensor

from autograder import Artifact, Exercise, Mistake, thresholds
from autograder.draws import normal, uniform
from course.drives.week08_efficient import facts_asked, score_retrieval

Cases = list[tuple[str, dict]]

RESULTS = Path(__file__).parent / "results.json"
HELDOUT_FACTS = 8128  # the seed of the sequences that only the grader has

READY_MADE = [
    "aten::scaled_dot_product_attention",
    "aten::_softmax",
    "aten::_log_softmax",
    "aten::logsumexp",
    "aten::log_softmax",
]
REACH = 24  # times 1,024 positions: a matrix of all pairs, 2.4 GB, is more than a kernel is allowed
ONLY_MEMORY = "The results are right, but all pairs of positions are in memory at some moment"


def heldout_facts(heldout: Path) -> tuple[dict, Tensor]:
    """(inputs of the drive `retrieval`, facts) of sequences that nobody but the grader draws."""
    return facts_asked(HELDOUT_FACTS)


def number(rng: torch.Generator, low: int, high: int) -> int:
    """A whole number from low to high."""
    return low + int(torch.randint(high - low + 1, (), generator=rng))


def qkv(rng: torch.Generator, leading: tuple[int, ...], T: int, S: int, K: int, F: int, scale: float = 1.2) -> dict:
    """Queries, keys and values, and an upstream gradient for the output."""
    return {
        "q": normal(rng, *leading, T, K, scale=scale),
        "k": normal(rng, *leading, S, K, scale=scale),
        "v": normal(rng, *leading, S, F),
        "upstream": normal(rng, *leading, T, F),
    }


# --------------------------------------------------------------------------------------- everything with everything


def cost_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, called: str, sized: bool = True) -> tuple[str, dict]:
        T, K = number(rng, 50, 3000), number(rng, 3, 90)
        return kind, {"kind": called, "T": T, "K": K, "size": number(rng, 100, 400) if sized else None}

    return [
        case("full", "full", sized=False),
        case("online", "online"),
        case("sparse", "sparse"),
        case("linformer", "linformer"),
        case("performer", "performer"),
        case("a kind that does not exist", "flash"),
    ]


def online_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, tensors: dict, block_size: int, is_causal: bool = False, **more: list) -> tuple[str, dict]:
        return kind, tensors | {"block_size": block_size, "is_causal": is_causal} | more

    along = torch.tensor([1.0, -1.0, 1.0, 1.0])
    rising = qkv(rng, (), 3, 8, 4, 2)
    rising["k"] = along * torch.linspace(0.2, 3.0, 8).unsqueeze(1) + 0.1 * rising["k"]
    rising["q"] = 1.5 * along + 0.2 * rising["q"]
    low = qkv(rng, (2,), 3, 7, 4, 3)
    low["q"], low["k"] = 16 * along + low["q"], -11 * along + 0.3 * low["k"]
    square = {name: tensor for name, tensor in qkv(rng, (), 128, 128, 4, 4).items() if name != "upstream"}
    return [
        case("several heads, equal blocks", qkv(rng, (2, 3), 4, 6, 5, 3), 2),
        case("scores that rise, so that each block has a new maximum", rising, 2),
        case("a smaller last block", qkv(rng, (2,), 5, 8, 4, 3), 3),
        case("a block larger than all keys", qkv(rng, (), 3, 5, 4, 2), 8),
        case("scores beyond 100", qkv(rng, (2,), 4, 9, 4, 3, scale=12.0), 4),
        case("scores that are all far below 0", low, 3),
        case("causal, a smaller last block", qkv(rng, (2,), 7, 7, 4, 3), 3, True),
        case("causal, single keys", qkv(rng, (), 4, 4, 3, 2), 1, True),
        case("128 and 256 positions, for their memory", square, 16, repeats=[1, 2]),
        case("the same, causal", square, 16, True, repeats=[1, 2]),
    ]


# -------------------------------------------------------------------------------------------- holes in the matrix


def window_cases(rng: torch.Generator) -> Cases:
    return [
        ("a window of several", {"N": number(rng, 10, 13), "window": number(rng, 2, 3)}),
        ("a window of one", {"N": number(rng, 5, 9), "window": 1}),
        ("the diagonal alone", {"N": number(rng, 3, 7), "window": 0}),
        ("a window wider than everything", {"N": 4, "window": number(rng, 5, 6)}),
    ]


def global_cases(rng: torch.Generator) -> Cases:
    def some(N: int, count: int) -> dict:
        """Positions that are not the first ones."""
        return {"N": N, "positions": 1 + torch.randperm(N - 1, generator=rng)[:count]}

    return [
        ("two positions", some(number(rng, 7, 10), 2)),
        ("three positions", some(number(rng, 9, 12), 3)),
        ("a single one", some(number(rng, 4, 6), 1)),
        ("none", {"N": number(rng, 3, 5), "positions": torch.empty(0, dtype=torch.int64)}),
    ]


def apart(rng: torch.Generator, N: int) -> Tensor:
    """Draws (N, N) of which no two are equal, or nearly so."""
    return ((torch.randperm(N * N, generator=rng) + 0.1 + 0.8 * uniform(rng, N * N)) / (N * N)).view(N, N)


def random_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, N: int, r: int, taken: Tensor) -> tuple[str, dict]:
        return kind, {"draws": apart(rng, N), "taken": taken, "r": r}

    def near(N: int, width: int) -> Tensor:
        position = torch.arange(N)
        return (position.unsqueeze(1) - position).abs() <= width

    few = near(7, 1)
    few[2] = few[:, 2] = True
    crowded = uniform(rng, 6, 6) < 0.5
    crowded[1], crowded[4] = True, torch.arange(6) != 3
    return [
        case("nothing taken", 8, 2, torch.zeros(8, 8, dtype=torch.bool)),
        case("a window taken", 9, 2, near(9, 1)),
        case("a window and a global block taken", 7, 1, few),
        case("rows with fewer free keys than r", 6, 3, crowded),
    ]


def bigbird_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, leading: tuple[int, ...], T: int, size: int, pattern: Tensor, **more) -> tuple[str, dict]:
        tensors = qkv(rng, leading, T, T, 4, 3)
        return kind, tensors | {"pattern": pattern, "block_size": size} | more

    def some(N: int) -> Tensor:
        """A pattern that is not symmetric, with one to N - 1 blocks in each row, and not always the block itself."""
        while True:
            pattern = uniform(rng, N, N) < 0.5
            rows = pattern.sum(dim=1)
            if rows.min() > 0 and rows.max() < N and not pattern.equal(pattern.T) and not pattern.diagonal().all():
                return pattern

    kind, hidden = case("a block that nobody attends to holds NaN", (2,), 12, 3, some(4))
    hidden["pattern"][:, 1] = False
    hidden["pattern"][~hidden["pattern"].any(dim=1), 2] = True
    hidden["k"][:, 3:6] = hidden["v"][:, 3:6] = math.nan
    near = (torch.arange(8).unsqueeze(1) - torch.arange(8)).abs() <= 1
    _, long = case("", (), 1024, 128, near)
    del long["upstream"]
    return [
        case("two heads, equal blocks", (2,), 8, 2, some(4)),
        case("a smaller last block", (), 11, 3, some(4)),
        case("a smaller last block, attended to by all", (2,), 7, 3, some(3) | torch.tensor([False, False, True])),
        case("every block with every one", (2, 2), 6, 2, torch.ones(3, 3, dtype=torch.bool)),
        case("blocks of one position", (), 5, 1, some(5)),
        (kind, hidden),
        ("1,024 positions and more, for their memory", long | {"repeats": [1, 2], "reach": REACH}),
    ]


# ---------------------------------------------------------------------------------------------- a shorter memory


def linformer_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, leading: tuple[int, ...], T: int, S: int, P: int, K: int, F: int) -> tuple[str, dict]:
        return kind, qkv(rng, leading, T, S, K, F) | {"e": normal(rng, P, S), "f": normal(rng, P, S)}

    kind, identity = case("the identity as projection", (2,), 4, 5, 5, 3, 2)
    identity["e"] = identity["f"] = torch.eye(5)
    return [
        case("several heads", (2, 2), 4, 7, 3, 5, 2),
        case("a single mixture", (), 3, 6, 1, 4, 2),
        case("as many mixtures as positions and features", (2,), 3, 5, 5, 5, 5),
        (kind, identity),
    ]


# ------------------------------------------------------------------------------------------------ random features


def projection_cases(rng: torch.Generator) -> Cases:
    def draws(M: int, K: int) -> Tensor:
        """Normal rows of which none lies almost within those before it."""
        while True:
            drawn = normal(rng, M, K)
            if all(torch.linalg.qr(block.T)[1].diagonal().abs().min() > 0.3 for block in drawn.split(K)):
                return drawn

    return [
        ("two blocks", {"draws": draws(8, 4)}),
        ("a smaller last block", {"draws": draws(8, 3)}),
        ("fewer rows than features", {"draws": draws(3, 5)}),
    ]


def features_cases(rng: torch.Generator) -> Cases:
    def case(
        kind: str, leading: tuple[int, ...], T: int, K: int, M: int, is_query: bool, scale: float = 1.0
    ) -> tuple[str, dict]:
        inputs = {
            "x": normal(rng, *leading, T, K, scale=scale),
            "projection": normal(rng, M, K),
            "is_query": is_query,
            "upstream": normal(rng, *leading, T, M),
        }
        return kind, inputs

    return [
        case("queries", (2,), 4, 5, 7, True),
        case("keys", (2,), 4, 5, 7, False),
        case("keys of several heads", (2, 2), 3, 4, 6, False),
        case("queries of large norm", (), 4, 6, 8, True, scale=9.0),
        case("keys of large norm", (), 4, 6, 8, False, scale=4.0),
    ]


def performer_cases(rng: torch.Generator) -> Cases:
    def case(
        kind: str, leading: tuple[int, ...], T: int, S: int, M: int, scale: float = 1.0, **more
    ) -> tuple[str, dict]:
        return kind, qkv(rng, leading, T, S, 5, 3, scale) | {"projection": normal(rng, M, 5)} | more

    _, long = case("", (), 1024, 1024, 4)
    del long["upstream"]
    return [
        case("two heads", (2,), 4, 6, 7),
        case("a single query, few features", (), 1, 5, 3),
        case("more queries than keys", (2, 2), 6, 3, 8),
        case("queries and keys of large norm", (2,), 3, 5, 9, scale=3.0),
        ("1,024 positions and more, for their memory", long | {"repeats": [1, 2], "reach": REACH}),
    ]


# -------------------------------------------------------------------------------------------------------- further


def causal_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, leading: tuple[int, ...], T: int, M: int, scale: float = 1.0, **more) -> tuple[str, dict]:
        return kind, qkv(rng, leading, T, T, 4, 3, scale) | {"projection": normal(rng, M, 4)} | more

    _, long = case("", (), 128, 2)
    del long["upstream"]
    return [
        case("two heads", (2,), 5, 6),
        case("two positions", (), 2, 4),
        case("queries and keys of some size", (2, 2), 4, 8, scale=2.0),
        ("128 and 256 positions, for their memory", long | {"repeats": [1, 2]}),
    ]


def kernel_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, H: int, T: int, S: int, blocks: tuple[int, int], scale: float = 1.0) -> tuple[str, dict]:
        tensors = {name: normal(rng, H, n, 16, scale=scale) for name, n in (("q", T), ("k", S), ("v", S))}
        return kind, tensors | {"BLOCK_T": blocks[0], "BLOCK_S": blocks[1]}

    return [
        case("one head, whole blocks", 1, 16, 32, (16, 16)),
        case("two heads, neither length a multiple of the blocks", 2, 19, 37, (16, 16)),
        case("fewer keys than a block has, wide blocks of queries", 2, 33, 9, (32, 16)),
        case("long vectors", 1, 16, 48, (16, 16), scale=3.0),
    ]


def flex_cases(rng: torch.Generator) -> Cases:
    def case(kind: str, lengths: list[int], window: int) -> tuple[str, dict]:
        names = torch.randperm(9, generator=rng)[: len(lengths)]
        return kind, {"document": names.repeat_interleave(torch.tensor(lengths)), "window": window}

    return [
        case("three texts, a window shorter than some", [number(rng, 5, 7), 2, number(rng, 4, 6)], 3),
        case("one text, a short window", [7], 1),
        case("two texts, a window longer than all", [3, number(rng, 4, 5)], 20),
        case("a window of 0", [2, 3], 0),
    ]


def rotary_cases(rng: torch.Generator) -> Cases:
    def case(
        kind: str, leading: tuple[int, ...], positions: Tensor, K: int, base: float | None, factor: float | None
    ) -> tuple[str, dict]:
        shape = (*leading, len(positions), K)
        inputs = {"x": normal(rng, *shape), "upstream": normal(rng, *shape), "positions": positions}
        return kind, inputs | {"base": base, "factor": factor}

    return [
        case("from position 0", (2, 2), torch.arange(5), 6, None, None),
        case("from a later position on", (2,), number(rng, 5, 30) + torch.arange(4), 8, None, None),
        case("positions in any order, another base", (), torch.randperm(12, generator=rng)[:4], 4, 500.0, None),
        case("a factor", (2,), number(rng, 3, 9) + torch.arange(5), 6, 10000.0, 4.0),
        case("a single pair", (), torch.arange(1, 4), 2, None, 2.0),
    ]


# --------------------------------------------------------------------------------------------------- exercises

EXERCISES = [
    Exercise(
        "attention_cost",
        points=8,
        cases=cost_cases,
        raises=["ValueError"],
        mistakes=[
            Mistake(
                "one-for-a-term",
                "A multiplication and the addition that follows are counted as one operation; they are two.",
                'if kind == "full":\n        return 4 *',
                'if kind == "full":\n        return 2 *',
                also=[
                    ('if kind == "online":\n        return 4 *', 'if kind == "online":\n        return 2 *'),
                    ('if kind == "sparse":\n        return 4 *', 'if kind == "sparse":\n        return 2 *'),
                    ("return projections + attention", "return (projections + attention) // 2"),
                    ("return features + sums + 2 * T * size", "return (features + sums) // 2 + T * size"),
                ],
            ),
            Mistake(
                "scores-only",
                "Full attention is counted with the scores alone; the weighted sums take as many operations again.",
                'if kind == "full":\n        return 4 *',
                'if kind == "full":\n        return 2 *',
            ),
            Mistake(
                "numbers-for-bytes",
                "Numbers are counted in place of bytes; each takes 4.",
                "K, 4 * T * T\n",
                "K, T * T\n",
                also=[
                    ("T * T * K, 4 * T * size", "T * T * K, T * size"),
                    ("T * size * K, 4 * T * size", "T * size * K, T * size"),
                    ("4 * (2 * size * K + T * size)", "2 * size * K + T * size"),
                    ("4 * (2 * T * size + size * K + size)", "2 * T * size + size * K + size"),
                ],
            ),
            Mistake(
                "outputs-for-scores",
                "Full attention is given T × K numbers of memory, as for its output; its scores are T × T.",
                "K, 4 * T * T\n",
                "K, 4 * T * K\n",
            ),
            Mistake(
                "online-computes-less",
                "The online kind is counted with T × size scores; it computes all of them, one block after the other.",
                'if kind == "online":\n        return 4 * T * T * K',
                'if kind == "online":\n        return 4 * T * size * K',
            ),
            Mistake(
                "online-keeps-all",
                "The online kind is given memory for all T × T scores; only one block of them is there at a time.",
                "T * T * K, 4 * T * size",
                "T * T * K, 4 * T * T",
            ),
            Mistake(
                "online-in-tiles",
                "The online kind is given size × size scores; here only the keys are read in blocks, by all T queries.",
                "T * T * K, 4 * T * size",
                "T * T * K, 4 * size * size",
            ),
            Mistake(
                "linformer-without-projections",
                "Linformer is counted without the products that make the shorter keys and values.",
                "return projections + attention",
                "return attention",
            ),
            Mistake(
                "linformer-one-projection",
                "Linformer is counted with one projection; keys and values have one each.",
                "projections, attention = 4 *",
                "projections, attention = 2 *",
            ),
            Mistake(
                "linformer-projected-for-nothing",
                "Linformer's memory lacks the projected keys and values.",
                "4 * (2 * size * K + T * size)",
                "4 * T * size",
            ),
            Mistake(
                "performer-queries-only",
                "Performer is counted with the features of the queries only; keys have features too.",
                "features, sums = 4 *",
                "features, sums = 2 *",
            ),
            Mistake(
                "performer-without-denominators",
                "Performer is counted without the product that gives the denominators.",
                " + 2 * T * size, ",
                ", ",
            ),
            Mistake(
                "performer-one-side",
                "Performer's memory has the features of one side only; those of queries and of keys are both there.",
                "4 * (2 * T * size",
                "4 * (T * size",
            ),
            Mistake(
                "performer-all-pairs",
                "Performer is given a T × T matrix, as if the features of queries met those of keys; keys meet values first.",
                "4 * (2 * T * size + size * K + size)",
                "4 * (2 * T * size + T * T)",
            ),
            Mistake(
                "any-kind",
                "A kind that does not exist gets an answer; it should raise ValueError.",
                'raise ValueError(f"no attention is called {kind!r}")',
                "return 0, 0",
            ),
        ],
    ),
    Exercise(
        "online_softmax_attention",
        points=14,
        cases=online_cases,
        forbid=READY_MADE,
        mistakes=[
            Mistake(
                "never-rescaled",
                "When the maximum rises, what was summed before is not put right by the factor exp(m - m').",
                "torch.exp(largest - new)",
                "torch.ones_like(largest)",
            ),
            Mistake(
                "sum-not-rescaled",
                "When the maximum rises, the weighted sum is put right but the sum of weights is not.",
                "total = shrink * total",
                "total = total",
            ),
            Mistake(
                "values-not-rescaled",
                "When the maximum rises, the sum of weights is put right but the weighted sum of values is not.",
                "weighted = shrink * weighted",
                "weighted = weighted",
            ),
            Mistake(
                "rescaled-the-wrong-way",
                "The factor is exp(m' - m), upside down; what was summed before has to shrink, by exp(m - m').",
                "torch.exp(largest - new)",
                "torch.exp(new - largest)",
            ),
            Mistake(
                "maximum-of-the-block",
                "The maximum is that of the block alone; it has to be the largest of all scores so far.",
                "torch.maximum(largest, scores.amax(dim=-1, keepdim=True))",
                "scores.amax(dim=-1, keepdim=True)",
            ),
            Mistake(
                "no-maximum",
                "The exponentials are taken of the scores as they are: beyond 88 they overflow.",
                "torch.maximum(largest, scores.amax(dim=-1, keepdim=True))",
                "torch.zeros_like(largest)",
            ),
            Mistake(
                "maximum-from-zero",
                "The maximum starts at 0; where all scores are far below, every exponential is 0. It starts at minus infinity.",
                "[:-1], 1), -math.inf)",
                "[:-1], 1), 0.0)",
            ),
            Mistake(
                "sum-from-one",
                "The sum starts at 1 (and the maximum at 0): it counts a key that is not there.",
                "[:-1], 1), -math.inf)",
                "[:-1], 1), 0.0)",
                also=[("total = q.new_zeros(", "total = q.new_ones(")],
            ),
            Mistake(
                "last-block-dropped",
                "A last block that is smaller is left out.",
                "range(0, S, block_size)",
                "range(0, S - block_size + 1, block_size)",
            ),
            Mistake(
                "blocks-overlap",
                "Blocks overlap by one key, which is counted twice.",
                "slice(start, start + block_size)",
                "slice(start, start + block_size + 1)",
            ),
            Mistake(
                "mean-over-blocks",
                "Each block has a softmax of its own, and their outputs are averaged; a block of small scores counts too much.",
                source="""def online_softmax_attention(q, k, v, block_size, is_causal=False):
    T, S = q.size(-2), k.size(-2)
    outputs = []
    for start in range(0, S, block_size):
        block = slice(start, start + block_size)
        scores = q @ k[..., block, :].transpose(-2, -1) / math.sqrt(q.size(-1))
        if is_causal:
            hidden = torch.arange(S)[block] > torch.arange(T).unsqueeze(-1)
            scores = scores.masked_fill(hidden, -1e4)
        weights = torch.exp(scores - scores.amax(dim=-1, keepdim=True))
        outputs.append(weights / weights.sum(dim=-1, keepdim=True) @ v[..., block, :])
    return sum(outputs) / len(outputs)
""",
            ),
            Mistake(
                "divided-in-every-block",
                "The weighted sum is divided by the sum in every block, and once more at the end; the end alone is right.",
                "weighted = shrink * weighted + weights @ v[..., block, :]",
                "weighted = (shrink * weighted + weights @ v[..., block, :]) / total",
            ),
            Mistake(
                "not-divided",
                "The weighted sum is never divided by the sum of the weights.",
                "return weighted / total",
                "return weighted",
            ),
            Mistake("unscaled", "The scores are not divided by the square root of K.", " / math.sqrt(K)", ""),
            Mistake(
                "scaled-by-the-width",
                "The scores are divided by K; it should be its square root.",
                "math.sqrt(K)",
                "K",
            ),
            Mistake(
                "causal-ignored",
                "is_causal makes no difference: a query sees the future.",
                "if is_causal:",
                "if False:",
            ),
            Mistake(
                "hides-the-present",
                "Causal: a query does not see its own position, and the first one sees nothing at all.",
                "columns > torch",
                "columns >= torch",
            ),
            Mistake(
                "counted-within-the-block",
                "Causal: keys are numbered from the start of their block; they count from the start of the sequence.",
                "torch.arange(S, device=q.device)[block]",
                "torch.arange(scores.size(-1), device=q.device)",
            ),
            Mistake(
                "hidden-by-zero",
                "Causal: hidden scores are set to 0, which still gets a weight; it takes minus infinity.",
                ".unsqueeze(-1), -math.inf)",
                ".unsqueeze(-1), 0.0)",
            ),
            Mistake(
                "full-matrix",
                f"{ONLY_MEMORY}: the scores are computed at once and then cut into blocks.",
                "q @ k[..., block, :].transpose(-2, -1) / math.sqrt(K)",
                "(q @ k.transpose(-2, -1))[..., block] / math.sqrt(K)",
            ),
            Mistake(
                "full-mask",
                f"{ONLY_MEMORY}: the causal mask is made as a whole and then cut into blocks.",
                "columns > torch.arange(T, device=q.device).unsqueeze(-1)",
                "torch.ones(T, S, device=q.device).triu(1)[:, block].bool()",
            ),
        ],
    ),
    Exercise(
        "window_mask",
        points=3,
        cases=window_cases,
        mistakes=[
            Mistake(
                "backwards-only",
                "The window reaches back only; it reaches to both sides.",
                "(position.unsqueeze(1) - position).abs() <= window",
                "(position.unsqueeze(1) >= position) & (position.unsqueeze(1) - position <= window)",
            ),
            Mistake(
                "forwards-only",
                "The window reaches forward only; it reaches to both sides.",
                "(position.unsqueeze(1) - position).abs() <= window",
                "(position.unsqueeze(1) <= position) & (position - position.unsqueeze(1) <= window)",
            ),
            Mistake(
                "no-end-ahead",
                "The difference is compared without its absolute value: everything ahead is allowed.",
                ".abs() <= window",
                " <= window",
            ),
            Mistake(
                "one-too-narrow",
                "The window is one too narrow: at a distance of exactly `window` attention is allowed.",
                "<= window",
                "< window",
            ),
            Mistake("one-too-wide", "The window is one too wide, on either side.", "<= window", "<= window + 1"),
            Mistake(
                "whole-width",
                "`window` is taken for the width of the whole window; it is that of one side.",
                "<= window",
                "<= window // 2",
            ),
            Mistake(
                "twice-as-wide",
                "The window is twice as wide as it should be, on either side.",
                "<= window",
                "<= 2 * window",
            ),
            Mistake(
                "round-the-end",
                "The window goes round the end: the first sees the last.",
                source="""def window_mask(N: int, window: int) -> Tensor:
    position = torch.arange(N)
    distance = (position.unsqueeze(1) - position).abs()
    return torch.minimum(distance, N - distance) <= window
""",
            ),
            Mistake(
                "inverted",
                "True and False are exchanged: True means that attention is allowed.",
                "<= window",
                "> window",
            ),
            Mistake(
                "not-itself",
                "The diagonal is missing: a position is within its own window.",
                ".abs() <= window",
                ".abs().sub(1).remainder(N) < window",
            ),
            Mistake(
                "numbers",
                "Zeros and ones are returned; a mask is of dtype bool.",
                "(position.unsqueeze(1) - position).abs() <= window",
                "((position.unsqueeze(1) - position).abs() <= window).float()",
            ),
        ],
    ),
    Exercise(
        "global_mask",
        points=3,
        cases=global_cases,
        mistakes=[
            Mistake(
                "columns-only",
                "Global positions are seen by all, but do not see all: their rows are missing.",
                "chosen.unsqueeze(1) | chosen",
                "chosen.expand(N, N)",
            ),
            Mistake(
                "rows-only",
                "Global positions see all, but are not seen by all: their columns are missing.",
                "chosen.unsqueeze(1) | chosen",
                "chosen.unsqueeze(1).expand(N, N)",
            ),
            Mistake(
                "among-themselves",
                "Global positions see each other only: it takes a query or a key that is global, not both.",
                "chosen.unsqueeze(1) | chosen",
                "chosen.unsqueeze(1) & chosen",
            ),
            Mistake(
                "not-among-themselves",
                "Global positions do not see each other: `^` is False where both are global.",
                "chosen.unsqueeze(1) | chosen",
                "chosen.unsqueeze(1) ^ chosen",
            ),
            Mistake(
                "every-one",
                "Every position is made global: the mask is full, and nothing is saved.",
                "chosen[positions] = True",
                "chosen[:] = True",
            ),
            Mistake(
                "the-first-ones",
                "The first positions are made global, as many as there are; it should be those that are given.",
                "chosen[positions] = True",
                "chosen[: len(positions)] = True",
            ),
            Mistake(
                "up-to-the-last",
                "Everything up to the largest of the positions is made global.",
                "chosen[positions] = True",
                "chosen[: int(positions.amax()) + 1 if len(positions) else 0] = True",
            ),
            Mistake(
                "only-one",
                "Only one of the positions is made global.",
                "chosen[positions] = True",
                "chosen[positions[-1:]] = True",
            ),
            Mistake(
                "one-too-early",
                "Positions are counted from 1; they count from 0.",
                "chosen[positions] = True",
                "chosen[positions - 1] = True",
            ),
            Mistake(
                "inverted",
                "True and False are exchanged: what is global should be True, and the rest False.",
                "return chosen.unsqueeze(1) | chosen",
                "return ~(chosen.unsqueeze(1) | chosen)",
            ),
            Mistake(
                "and-the-diagonal",
                "The diagonal is added; that a position sees itself is the window's business.",
                "chosen.unsqueeze(1) | chosen",
                "chosen.unsqueeze(1) | chosen | torch.eye(N, dtype=torch.bool)",
            ),
        ],
    ),
    Exercise(
        "random_mask",
        points=6,
        cases=random_cases,
        mistakes=[
            Mistake(
                "largest",
                "The keys with the largest draws are chosen; it should be the smallest.",
                "draws.masked_fill(taken, math.inf).argsort(dim=1)",
                "draws.masked_fill(taken, -math.inf).argsort(dim=1, descending=True)",
            ),
            Mistake(
                "taken-drawn-again",
                "Keys that are taken are drawn too, and thrown away afterwards: rows get fewer than r new ones.",
                "draws.masked_fill(taken, math.inf)",
                "draws",
            ),
            Mistake(
                "taken-chosen",
                "Where fewer than r keys are free, taken ones are chosen for what is missing; they would be counted twice.",
                "return mask & ~taken",
                "return mask",
            ),
            Mistake(
                "taken-added",
                "What was taken is in the result; only the new ones are wanted.",
                "return mask & ~taken",
                "return mask | taken",
            ),
            Mistake(
                "taken-ignored",
                "`taken` makes no difference: keys that are seen already are chosen again.",
                "draws.masked_fill(taken, math.inf)",
                "draws",
                also=[("return mask & ~taken", "return mask")],
            ),
            Mistake(
                "both-ways",
                "Where i sees j, j is made to see i; each row chooses for itself.",
                "return mask & ~taken",
                "return (mask | mask.T) & ~taken",
            ),
            Mistake("one-too-few", "Each row gets one key too few.", "order[:, :r]", "order[:, : r - 1]"),
            Mistake("one-too-many", "Each row gets one key too many.", "order[:, :r]", "order[:, : r + 1]"),
            Mistake(
                "by-columns",
                "Each column chooses its queries; each row should choose its keys.",
                "argsort(dim=1)",
                "argsort(dim=0)",
                also=[("order[:, :r]", "order[:r]"), (".scatter(1, first", ".scatter(0, first")],
            ),
            Mistake(
                "order-taken-for-ranks",
                "`argsort` is compared with r as if it gave the rank of each key; it gives the keys in the order of their draws.",
                "mask = torch.zeros_like(taken).scatter(1, first, True)",
                "mask = order < r",
            ),
            Mistake(
                "the-same-for-all",
                "All rows get the keys that the first row has drawn.",
                "order[:, :r]",
                "order[:1, :r].expand(len(order), -1)",
            ),
            Mistake(
                "over-the-whole",
                "The smallest draws of the whole matrix are chosen, r for each row on average; each row should have r.",
                source="""def random_mask(draws: Tensor, taken: Tensor, r: int) -> Tensor:
    free = draws.masked_fill(taken, math.inf).flatten()
    mask = torch.zeros_like(free, dtype=torch.bool)
    mask[free.argsort()[: r * len(draws)]] = True
    return mask.view_as(taken) & ~taken
""",
            ),
            Mistake(
                "below-a-threshold",
                "Keys with draws below r / N are chosen: that is r on average, and not r in each row.",
                "mask = torch.zeros_like(taken).scatter(1, first, True)",
                "mask = draws < r / len(draws)",
            ),
        ],
    ),
    Exercise(
        "bigbird_attention",
        points=15,
        cases=bigbird_cases,
        forbid=["aten::scaled_dot_product_attention"],
        mistakes=[
            Mistake(
                "full-and-masked",
                "The whole matrix is computed and masked afterwards: right where all numbers are finite, and nothing is saved.",
                source="""def bigbird_attention(q: Tensor, k: Tensor, v: Tensor, pattern: Tensor, block_size: int) -> Tensor:
    T = q.size(-2)
    mask = pattern.repeat_interleave(block_size, 0).repeat_interleave(block_size, 1)[:T, :T]
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
    return scores.masked_fill(~mask, -math.inf).softmax(dim=-1) @ v
""",
            ),
            Mistake(
                "rows-and-masked",
                "Each block of queries computes its scores with all keys, and masks them: blocks that it does not need are read.",
                source="""def bigbird_attention(q: Tensor, k: Tensor, v: Tensor, pattern: Tensor, block_size: int) -> Tensor:
    outputs = []
    for rows, allowed in zip(q.split(block_size, dim=-2), pattern, strict=True):
        scores = rows @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
        mask = allowed.repeat_interleave(block_size)[: k.size(-2)]
        outputs.append(scores.masked_fill(~mask, -math.inf).softmax(dim=-1) @ v)
    return torch.cat(outputs, dim=-2)
""",
            ),
            Mistake(
                "softmax-by-block",
                "Each block of keys has a softmax of its own, and the results are added; one softmax goes over all of them.",
                "        columns = torch.cat(needed)\n        scores = q[..., rows, :] @ k[..., columns, :].transpose(-2, -1) "
                "/ math.sqrt(q.size(-1))\n        outputs.append(scores.softmax(dim=-1) @ v[..., columns, :])",
                "        parts = []\n        for columns in needed:\n            scores = q[..., rows, :] @ k[..., columns, :]"
                ".transpose(-2, -1) / math.sqrt(q.size(-1))\n            parts.append(scores.softmax(dim=-1) @ "
                "v[..., columns, :])\n        outputs.append(sum(parts))",
            ),
            Mistake(
                "mean-of-blocks",
                "Each block of keys has a softmax of its own, and the results are averaged; one softmax goes over all of them.",
                "        columns = torch.cat(needed)\n        scores = q[..., rows, :] @ k[..., columns, :].transpose(-2, -1) "
                "/ math.sqrt(q.size(-1))\n        outputs.append(scores.softmax(dim=-1) @ v[..., columns, :])",
                "        parts = []\n        for columns in needed:\n            scores = q[..., rows, :] @ k[..., columns, :]"
                ".transpose(-2, -1) / math.sqrt(q.size(-1))\n            parts.append(scores.softmax(dim=-1) @ "
                "v[..., columns, :])\n        outputs.append(sum(parts) / len(parts))",
            ),
            Mistake(
                "itself-twice",
                "The block of the queries is added to those of the pattern: it is counted twice, or where it is not wanted.",
                "columns = torch.cat(needed)",
                "columns = torch.cat([*needed, rows])",
            ),
            Mistake(
                "itself-always",
                "The block of the queries is attended to even where the pattern does not have it.",
                "if wanted]",
                "if wanted or positions is rows]",
            ),
            Mistake(
                "first-block-twice",
                "The first block of a row is gathered twice, and counted twice.",
                "columns = torch.cat(needed)",
                "columns = torch.cat([needed[0], *needed])",
            ),
            Mistake(
                "transposed",
                "The pattern is read by columns: `pattern[i, j]` is about queries of block i and keys of block j.",
                "zip(blocks, pattern, strict=True)",
                "zip(blocks, pattern.T, strict=True)",
            ),
            Mistake(
                "both-ways",
                "Blocks are attended to also where the pattern has only the opposite direction.",
                "zip(blocks, pattern, strict=True)",
                "zip(blocks, pattern | pattern.T, strict=True)",
            ),
            Mistake(
                "inverted",
                "The pattern is read the wrong way round: True means that attention is allowed.",
                "if wanted]",
                "if not wanted]",
            ),
            Mistake(
                "filled-up-with-zeros",
                "A smaller last block is filled up with keys of zeros, which get weights.",
                source="""def bigbird_attention(q: Tensor, k: Tensor, v: Tensor, pattern: Tensor, block_size: int) -> Tensor:
    T = q.size(-2)
    more = (0, 0, 0, -T % block_size)
    q, k, v = (F.pad(x, more) for x in (q, k, v))
    blocks = torch.arange(q.size(-2)).split(block_size)
    outputs = []
    for rows, allowed in zip(blocks, pattern, strict=True):
        columns = torch.cat([positions for positions, wanted in zip(blocks, allowed, strict=True) if wanted])
        scores = q[..., rows, :] @ k[..., columns, :].transpose(-2, -1) / math.sqrt(q.size(-1))
        outputs.append(scores.softmax(dim=-1) @ v[..., columns, :])
    return torch.cat(outputs, dim=-2)[..., :T, :]
""",
            ),
            Mistake(
                "last-block-not-seen",
                "Keys of a smaller last block are left out.",
                "columns = torch.cat(needed)",
                "columns = torch.cat([p for p in needed if len(p) == block_size] or needed)",
            ),
            Mistake(
                "only-the-first",
                "Of the blocks in a row only the first is read.",
                "columns = torch.cat(needed)",
                "columns = needed[0]",
            ),
            Mistake(
                "over-the-queries",
                "The softmax goes over the queries of the block; it should go over the keys.",
                "scores.softmax(dim=-1)",
                "scores.softmax(dim=-2)",
            ),
            Mistake(
                "unscaled",
                "The scores of a block are not divided by the square root of K.",
                " / math.sqrt(q.size(-1))",
                "",
            ),
            Mistake(
                "scaled-by-the-block",
                "The scores are divided by the root of the block size; it should be that of the width K.",
                "math.sqrt(q.size(-1))",
                "math.sqrt(block_size)",
            ),
        ],
    ),
    Exercise(
        "linformer_attention",
        points=7,
        cases=linformer_cases,
        mistakes=[
            Mistake(
                "features-projected",
                "The features are projected; e and f mix positions, along time.",
                "e @ k, f @ v",
                "k @ e.T, v @ f.T",
            ),
            Mistake(
                "transposed",
                "e and f are transposed; row p has the weights of mixture p.",
                "e @ k, f @ v",
                "e.T @ k, f.T @ v",
            ),
            Mistake("one-for-both", "Values are mixed by e; f is for them.", "f @ v", "e @ v"),
            Mistake("values-projection-for-both", "Keys are mixed by f; e is for them.", "e @ k", "f @ k"),
            Mistake("exchanged", "e and f are exchanged: e is for the keys.", "e @ k, f @ v", "f @ k, e @ v"),
            Mistake(
                "mixed-after-the-softmax",
                "The weights are mixed, after a softmax over all positions; the keys should be, before.",
                source="""def linformer_attention(q: Tensor, k: Tensor, v: Tensor, e: Tensor, f: Tensor) -> Tensor:
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
    return scores.softmax(dim=-1) @ e.T @ (f @ v)
""",
            ),
            Mistake(
                "mixtures-normalised",
                "The rows of e and f are put through a softmax; they are used as they are.",
                "e @ k, f @ v",
                "e.softmax(dim=-1) @ k, f.softmax(dim=-1) @ v",
            ),
            Mistake(
                "over-the-queries",
                "The softmax goes over the queries; it should go over the mixtures.",
                "scores.softmax(dim=-1)",
                "scores.softmax(dim=-2)",
            ),
            Mistake(
                "unscaled",
                "The scores of the mixtures are not divided by the square root of K.",
                " / math.sqrt(q.size(-1))",
                "",
            ),
            Mistake(
                "scaled-by-the-mixtures",
                "The scores are divided by the root of P, the number of mixtures; it should be that of the width K.",
                "math.sqrt(q.size(-1))",
                "math.sqrt(e.size(0))",
            ),
        ],
    ),
    Exercise(
        "orthogonal_projections",
        points=8,
        cases=projection_cases,
        mistakes=[
            Mistake(
                "not-orthogonal",
                "The draws are returned as they came, not orthogonal to each other.",
                "return torch.cat(blocks)",
                "return draws",
            ),
            Mistake(
                "unit-length",
                "All rows have length 1; each gets back the length of its draw.",
                "directions * block.norm(dim=1, keepdim=True)",
                "directions",
            ),
            Mistake(
                "one-length-for-all",
                "All rows have length root K; each gets back the length of its own draw.",
                "block.norm(dim=1, keepdim=True)",
                "math.sqrt(draws.size(1))",
            ),
            Mistake(
                "length-that-is-left",
                "Rows have the length that Gram-Schmidt leaves them, which is too short; each gets back that of its draw.",
                "block.norm(dim=1, keepdim=True)",
                "r.diagonal().abs().unsqueeze(1)",
            ),
            Mistake(
                "signs-left-open",
                "Some rows point the opposite way: `qr` leaves the signs open; Gram-Schmidt keeps each on its draw's side.",
                "(q * r.diagonal().sign()).T",
                "q.T",
            ),
            Mistake(
                "last-block-as-drawn",
                "A smaller last block is left as it was drawn.",
                "blocks.append(directions * block.norm(dim=1, keepdim=True))",
                "blocks.append(directions * block.norm(dim=1, keepdim=True) if len(block) == draws.size(1) else block)",
            ),
            Mistake(
                "first-block-only",
                "Only the first block is made orthogonal.",
                "blocks.append(directions * block.norm(dim=1, keepdim=True))",
                "blocks.append(block if blocks else directions * block.norm(dim=1, keepdim=True))",
            ),
            Mistake(
                "only-the-row-before",
                "Each row loses its component along the row before it only; it has to be orthogonal to all before it.",
                source="""def orthogonal_projections(draws: Tensor) -> Tensor:
    rows = []
    for i, draw in enumerate(draws):
        row = draw
        if i % draws.size(1):
            before = rows[-1] / rows[-1].norm()
            row = row - row.dot(before) * before
        rows.append(row / row.norm() * draw.norm())
    return torch.stack(rows)
""",
            ),
            Mistake(
                "draws-for-directions",
                "Components along the draws of earlier rows are removed; it should be those along the finished rows.",
                source="""def orthogonal_projections(draws: Tensor) -> Tensor:
    blocks = []
    for block in draws.split(draws.size(1)):
        rows = []
        for draw in block:
            row = draw
            for before in block[: len(rows)]:
                row = row - draw.dot(before) / before.dot(before) * before
            rows.append(row / row.norm() * draw.norm())
        blocks.append(torch.stack(rows))
    return torch.cat(blocks)
""",
            ),
            Mistake(
                "from-the-last",
                "Gram-Schmidt starts at the last row of a block; it starts at the first, which stays as it is.",
                "in draws.split(draws.size(1))",
                "in [part.flip(0) for part in draws.split(draws.size(1))]",
                also=[
                    (
                        "blocks.append(directions * block.norm(dim=1, keepdim=True))",
                        "blocks.append((directions * block.norm(dim=1, keepdim=True)).flip(0))",
                    )
                ],
            ),
        ],
    ),
    Exercise(
        "performer_features",
        points=8,
        cases=features_cases,
        mistakes=[
            Mistake(
                "no-stabiliser",
                "There is no stabiliser: of long vectors all features are 0.",
                "exponent - stabiliser",
                "exponent",
            ),
            Mistake(
                "one-for-each-key",
                "Each key has a stabiliser of its own, so that keys are weighted against each other; there is one for all.",
                "-1 if is_query else (-2, -1)",
                "-1",
            ),
            Mistake(
                "one-for-all-queries",
                "All queries share one stabiliser, so that the features of some can be 0; each has its own.",
                "-1 if is_query else (-2, -1)",
                "(-2, -1)",
            ),
            Mistake(
                "exchanged",
                "Queries and keys are exchanged: each query has a stabiliser of its own, all keys have one.",
                "-1 if is_query else (-2, -1)",
                "(-2, -1) if is_query else -1",
            ),
            Mistake(
                "one-for-all-heads",
                "The stabiliser of the keys is taken over all leading axes together; each head and row of the batch has its own.",
                "(-2, -1), keepdim",
                "tuple(range(x.ndim)), keepdim",
            ),
            Mistake(
                "over-time-only",
                "The stabiliser of the keys is taken over time, one for each feature; it is one for all features.",
                "(-2, -1), keepdim",
                "-2, keepdim",
            ),
            Mistake(
                "stabiliser-too-early",
                "The stabiliser is the largest w·u, before the squared norm is subtracted; it is the largest whole exponent.",
                "exponent.detach()",
                "(u @ projection.T).detach()",
            ),
            Mistake(
                "stabiliser-learns",
                "A gradient goes through the stabiliser; it is a constant.",
                "exponent.detach()",
                "exponent",
            ),
            Mistake(
                "no-norm",
                "The squared norm is not subtracted in the exponent.",
                " - u.square().sum(dim=-1, keepdim=True) / 2",
                "",
            ),
            Mistake(
                "whole-norm",
                "The whole squared norm is subtracted in the exponent; it is half of it.",
                ".sum(dim=-1, keepdim=True) / 2",
                ".sum(dim=-1, keepdim=True)",
            ),
            Mistake(
                "norm-not-squared",
                "Half of the norm is subtracted in the exponent; it is half of its square.",
                "u.square().sum(dim=-1, keepdim=True)",
                "u.norm(dim=-1, keepdim=True)",
            ),
            Mistake(
                "norm-of-x",
                "The squared norm is that of x; it should be that of u, after the division.",
                "u.square()",
                "x.square()",
            ),
            Mistake(
                "not-divided",
                "Vectors are not divided by the fourth root of K.",
                "x / x.size(-1) ** 0.25",
                "x",
            ),
            Mistake(
                "divided-by-the-root",
                "Vectors are divided by the square root of K each, so that scores are divided by K; each takes the fourth root.",
                "** 0.25",
                "** 0.5",
            ),
            Mistake(
                "sum-for-mean",
                "Features are not divided by the square root of M.",
                " / math.sqrt(projection.size(0))",
                "",
            ),
            Mistake(
                "divided-by-m",
                "Features are divided by M; since two of them are multiplied, each takes its root.",
                "math.sqrt(projection.size(0))",
                "projection.size(0)",
            ),
            Mistake(
                "cosines",
                "Features are cosines, which can be negative; positive ones are exponentials.",
                "torch.exp(exponent - stabiliser)",
                "torch.cos(u @ projection.T)",
            ),
            Mistake(
                "relu",
                "Features are cut off at 0; that is positive too, but the kernel of another attention, not of the softmax.",
                "torch.exp(exponent - stabiliser)",
                "torch.relu(u @ projection.T)",
            ),
        ],
    ),
    Exercise(
        "performer_attention",
        points=9,
        cases=performer_cases,
        uses=["performer_features"],
        mistakes=[
            Mistake(
                "no-denominator",
                "The denominator is missing: the weights of a query do not add up to 1.",
                "(queries @ weighted) / (queries @ total)",
                "queries @ weighted",
            ),
            Mistake(
                "mean-below",
                "The denominator has the mean over keys in place of the sum.",
                "keys.sum(dim=-2)",
                "keys.mean(dim=-2)",
            ),
            Mistake(
                "keys-alone-below",
                "The denominator is a sum over keys and features alone, the same for all queries.",
                " / (queries @ total)",
                " / total.sum(dim=-2, keepdim=True)",
            ),
            Mistake(
                "features-divided-one-by-one",
                "The sums are divided feature by feature, before the queries come in; numerator and denominator each "
                "need the queries first.",
                "(queries @ weighted) / (queries @ total)",
                "queries @ (weighted / total)",
            ),
            Mistake(
                "keys-as-queries",
                "Features of the keys are made as if they were queries, with a stabiliser for each: they are weighted anew.",
                "is_query=False",
                "is_query=True",
            ),
            Mistake(
                "scaled-twice",
                "Queries are divided by the square root of K once more; the features do it already.",
                "performer_features(q, ",
                "performer_features(q / math.sqrt(q.size(-1)), ",
            ),
            Mistake(
                "other-projection",
                "Queries and keys have their features in another order; both need the same projection.",
                "performer_features(k, projection,",
                "performer_features(k, projection.flip(0),",
            ),
            Mistake(
                "softmax-of-features",
                "A softmax goes over the features of each query; they are positive already.",
                "(queries @ weighted) / (queries @ total)",
                "(queries.softmax(-1) @ weighted) / (queries.softmax(-1) @ total)",
            ),
            Mistake(
                "all-pairs",
                f"{ONLY_MEMORY}: features of queries meet those of keys before the values come in.",
                "(queries @ weighted) / (queries @ total)",
                "(queries @ keys.transpose(-2, -1) @ v) / (queries @ total)",
            ),
        ],
    ),
    Exercise(
        "causal_performer_attention",
        points=4,
        cases=causal_cases,
        uses=["performer_features"],
        stretch=True,
        mistakes=[
            Mistake(
                "sees-all",
                "Sums go over all keys; those of query t end at t.",
                ".cumsum(dim=-3)",
                ".sum(dim=-3, keepdim=True)",
                also=[("keys.cumsum(dim=-2)", "keys.sum(dim=-2, keepdim=True)")],
            ),
            Mistake(
                "denominator-sees-all",
                "The denominator goes over all keys; it ends at t as the numerator does.",
                "keys.cumsum(dim=-2)",
                "keys.sum(dim=-2, keepdim=True)",
            ),
            Mistake(
                "over-features",
                "The prefix sum of the numerator runs over features; it runs over time.",
                ".cumsum(dim=-3)",
                ".cumsum(dim=-2)",
            ),
            Mistake(
                "from-the-end",
                "The sums run from the last position back.",
                ".cumsum(dim=-3)",
                ".flip(-3).cumsum(dim=-3).flip(-3)",
                also=[("keys.cumsum(dim=-2)", "keys.flip(-2).cumsum(dim=-2).flip(-2)")],
            ),
            Mistake(
                "hides-the-present",
                "The sums end before t; a query sees its own position.",
                "(keys.unsqueeze(-1) * v.unsqueeze(-2)).cumsum(dim=-3)",
                "(keys.unsqueeze(-1) * v.unsqueeze(-2)).cumsum(dim=-3) - keys.unsqueeze(-1) * v.unsqueeze(-2)",
                also=[("keys.cumsum(dim=-2)", "keys.cumsum(dim=-2) - keys")],
            ),
            Mistake(
                "no-denominator",
                "The denominator is missing.",
                "numerator / (queries * total).sum(dim=-1, keepdim=True)",
                "numerator",
            ),
            Mistake(
                "all-pairs",
                f"{ONLY_MEMORY}: a lower triangle of weights is made.",
                source="""def causal_performer_attention(q: Tensor, k: Tensor, v: Tensor, projection: Tensor) -> Tensor:
    queries = performer_features(q, projection, is_query=True)
    keys = performer_features(k, projection, is_query=False)
    weights = (queries @ keys.transpose(-2, -1)).tril()
    return weights @ v / weights.sum(dim=-1, keepdim=True)
""",
            ),
        ],
    ),
    Exercise(
        "flash_kernel",
        points=5,
        cases=kernel_cases,
        stretch=True,
        timeout=60.0,
        mistakes=[
            Mistake("unscaled", "In the kernel nothing is divided by the square root of K.", " / K**0.5", ""),
            Mistake(
                "scaled-twice",
                "The scores are divided by the square root of K twice: with the queries, and again.",
                'scores = tl.dot(queries, tl.trans(keys), input_precision="ieee")',
                'scores = tl.dot(queries, tl.trans(keys), input_precision="ieee") / K**0.5',
            ),
            Mistake(
                "zeros-count",
                "Keys beyond the end are zeros, and count: their score is 0, and e to the 0 is 1.",
                'scores = tl.where(columns[None, :] < S, scores, float("-inf"))\n',
                "\n",
            ),
            Mistake(
                "no-bounds",
                "Nothing is hidden beyond the end of the keys: the next head's are read, and count.",
                "keys = tl.load(k + there, mask=columns[:, None] < S, other=0.0)",
                "keys = tl.load(k + there)",
                also=[
                    (
                        "values = tl.load(v + there, mask=columns[:, None] < S, other=0.0)",
                        "values = tl.load(v + there)",
                    ),
                    ('scores = tl.where(columns[None, :] < S, scores, float("-inf"))\n', "\n"),
                ],
            ),
            Mistake(
                "written-beyond-the-end",
                "The output is stored without a mask: rows beyond the end are written, into the next head or whatever is there.",
                "weighted / total[:, None], mask=rows[:, None] < T)",
                "weighted / total[:, None])",
            ),
            Mistake(
                "last-block-dropped",
                "A last block of keys that is not full is left out.",
                "range(0, S, BLOCK_S)",
                "range(0, S - BLOCK_S + 1, BLOCK_S)",
            ),
            Mistake(
                "never-rescaled",
                "The kernel does not put right what was summed before, when the maximum rises.",
                "tl.exp(largest - new)",
                "tl.exp(largest * 0.0)",
                also=[('tl.full((BLOCK_T,), float("-inf"), tl.float32)', "tl.full((BLOCK_T,), -1e4, tl.float32)")],
            ),
            Mistake(
                "sum-not-rescaled",
                "The kernel puts the weighted sum right when the maximum rises, but not the sum of weights.",
                "total = total * shrink",
                "total = total",
            ),
            Mistake(
                "not-divided",
                "The kernel stores the weighted sum without dividing it by the sum of the weights.",
                "weighted / total[:, None]",
                "weighted",
            ),
            Mistake(
                "one-head-for-all",
                "Every head reads the keys and values of the first.",
                "head * S * K + columns",
                "columns",
            ),
            Mistake(
                "heads-by-the-length-of-queries",
                "The keys of a head are looked for at `head * T * K`; there are S of them in a head.",
                "head * S * K + columns",
                "head * min(S, T) * K + columns",
            ),
        ],
    ),
    Exercise(
        "flex_mask",
        points=3,
        cases=flex_cases,
        stretch=True,
        mistakes=[
            Mistake(
                "over-the-border",
                "A query sees into the text before its own.",
                "same & (kv_idx <= q_idx)",
                "(kv_idx <= q_idx)",
            ),
            Mistake("not-causal", "A query sees the future.", " & (kv_idx <= q_idx)", ""),
            Mistake("no-window", "A query sees further back than the window.", " & (q_idx - kv_idx <= window)", ""),
            Mistake(
                "window-one-too-narrow",
                "The window is one too narrow: a key exactly `window` positions before is allowed.",
                "q_idx - kv_idx <= window",
                "q_idx - kv_idx < window",
            ),
            Mistake(
                "window-one-too-wide",
                "The window is one too wide.",
                "q_idx - kv_idx <= window",
                "q_idx - kv_idx <= window + 1",
            ),
            Mistake(
                "hides-the-present",
                "A query does not see its own position.",
                "kv_idx <= q_idx",
                "kv_idx < q_idx",
            ),
            Mistake(
                "ahead",
                "Query and key are exchanged: the window lies ahead.",
                "(kv_idx <= q_idx) & (q_idx - kv_idx <= window)",
                "(kv_idx >= q_idx) & (kv_idx - q_idx <= window)",
            ),
            Mistake(
                "both-sides",
                "The window reaches to both sides, into the future.",
                "(kv_idx <= q_idx) & (q_idx - kv_idx <= window)",
                "((q_idx - kv_idx).abs() <= window)",
            ),
            Mistake(
                "and-for-ampersand",
                "Comparisons are joined by `and`, which asks a whole tensor whether it is true; `&` joins them one by one.",
                "same & (kv_idx <= q_idx) & (q_idx - kv_idx <= window)",
                "same.all() and (kv_idx <= q_idx).all() and (q_idx - kv_idx <= window)",
            ),
        ],
    ),
    Exercise(
        "rotary",
        points=3,
        cases=rotary_cases,
        stretch=True,
        mistakes=[
            Mistake(
                "neighbours-paired",
                "Neighbouring features are paired; feature i goes with feature i + K/2.",
                source="""def rotary(x: Tensor, positions: Tensor, base: float = 10000.0, factor: float = 1.0) -> Tensor:
    half = x.size(-1) // 2
    speeds = base ** (-torch.arange(half, dtype=x.dtype) / half)
    angles = positions.to(x.dtype).unsqueeze(-1) / factor * speeds
    a, b = x[..., ::2], x[..., 1::2]
    turned = [a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()]
    return torch.stack(turned, dim=-1).flatten(-2)
""",
            ),
            Mistake(
                "turned-back",
                "Pairs are turned the other way: the signs of the sines are exchanged.",
                "a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()",
                "a * angles.cos() + b * angles.sin(), b * angles.cos() - a * angles.sin()",
            ),
            Mistake(
                "no-minus",
                "Both sines are added; that is no rotation, and lengths change.",
                "a * angles.cos() - b",
                "a * angles.cos() + b",
            ),
            Mistake(
                "from-zero",
                "Positions are counted from 0; those that are given need not begin there.",
                "positions.to(x.dtype)",
                "torch.arange(x.size(-2), dtype=x.dtype)",
            ),
            Mistake(
                "factor-the-wrong-way",
                "Angles are multiplied by the factor; they are divided by it.",
                "/ factor",
                "* factor",
            ),
            Mistake("factor-ignored", "The factor makes no difference.", " / factor", ""),
            Mistake(
                "factor-on-the-base",
                "The base is multiplied by the factor; here all angles are divided by it.",
                "base ** (-",
                "(base * factor) ** (-",
                also=[(" / factor", "")],
            ),
            Mistake(
                "half-the-exponent",
                "The exponent is -i / K; it is -2i / K.",
                "dtype=x.dtype, device=x.device) / half)",
                "dtype=x.dtype, device=x.device) / half / 2)",
            ),
            Mistake(
                "faster-and-faster",
                "The speeds grow from pair to pair: the exponent has lost its minus sign.",
                "base ** (-",
                "base ** (",
            ),
            Mistake("base-ignored", "The base is always 10,000.", "base ** (-", "10000.0 ** (-"),
        ],
    ),
    # --------------------------------------------------------------------------------------------- trained models
    Artifact(
        name="retrieval",
        file="retrieval.safetensors",
        figure="accuracy",
        thresholds=thresholds(RESULTS, "retrieval", points=7, early=0.1),  # a fifth is nearly as good as the whole
        inputs=heldout_facts,
        score=score_retrieval,
        where="sequences that nobody has seen",
    ),
]
