"""Week 8's puzzles, drawn as often as one likes: a fact planted far back, logical inference, and nested lists."""

import random
from collections.abc import Sequence

import torch
from torch import Tensor

# -------------------------------------------------------------------------------------------------- a planted fact

FILLER, FACTS = 0, 8
QUESTION = FACTS + 1  # the last token of every sequence
PLANTED_TOKENS = FACTS + 2


def planted(count: int, T: int, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Sequences with a fact in their first half: tokens (count, T), facts (count,) from 0, and where it stands (count,).

    Token 0 fills the sequence; one position of its first half has token 1 + fact; the last one is the question.
    """
    tokens = torch.full((count, T), FILLER)
    facts = torch.randint(FACTS, (count,), generator=rng)
    where = torch.randint(T // 2, (count,), generator=rng)
    tokens[torch.arange(count), where] = 1 + facts
    tokens[:, -1] = QUESTION
    return tokens, facts, where


# ----------------------------------------------------------------------------------------------- logical inference

RELATIONS = ("equivalent", "entails", "is entailed by", "negation", "excludes", "covers", "independent")
LOGIC_TOKENS = ("<pad>", "(", ")", "not", "and", "or", *"abcdef")
LETTER = LOGIC_TOKENS.index("a")
ROWS = 16  # of the truth table of four variables
VARIABLES = [sum(1 << row for row in range(ROWS) if row >> i & 1) for i in range(4)]
POOL = 500  # formulas from which the pairs of one length are chosen


def formula(operators: int, rng: random.Random) -> tuple[list[int], int]:
    """A random formula over four variables with so many operators: tokens, and its truth table, a bit for each row."""
    if operators == 0:
        variable = rng.randrange(4)
        return [LETTER + variable], VARIABLES[variable]
    if rng.random() < 1 / 3:
        tokens, table = formula(operators - 1, rng)
        return [LOGIC_TOKENS.index("not"), *tokens], ~table & (1 << ROWS) - 1
    first = rng.randrange(operators)
    (left, a), (right, b) = formula(first, rng), formula(operators - 1 - first, rng)
    joint = rng.choice(("and", "or"))
    tokens = [LOGIC_TOKENS.index("("), *left, LOGIC_TOKENS.index(joint), *right, LOGIC_TOKENS.index(")")]
    return tokens, a & b if joint == "and" else a | b


def _pool(operators: Sequence[int], rng: random.Random) -> tuple[list[list[int]], Tensor]:
    """POOL formulas that are neither always true nor never, and their truth tables (POOL, ROWS) of 0 and 1."""
    formulas, tables = [], []
    while len(formulas) < POOL:
        tokens, table = formula(rng.choice(operators), rng)
        if 0 < table < (1 << ROWS) - 1:
            formulas.append(tokens)
            tables.append([table >> row & 1 for row in range(ROWS)])
    return formulas, torch.tensor(tables, dtype=torch.float32)


def relations(first: Tensor, second: Tensor) -> Tensor:
    """Which of RELATIONS each formula of the first has to each of the second (Bowman et al. 2015): (M, M') int64.

    first (M, ROWS), second (M', ROWS): truth tables of 0 and 1, none of them constant.
    """
    both, neither = first @ second.T > 0, (1 - first) @ (1 - second).T > 0
    only_first, only_second = first @ (1 - second).T > 0, (1 - first) @ second.T > 0
    found = torch.full(both.shape, RELATIONS.index("independent"))
    found[~both] = RELATIONS.index("excludes")
    found[~neither] = RELATIONS.index("covers")
    found[~both & ~neither] = RELATIONS.index("negation")
    found[~only_first] = RELATIONS.index("entails")
    found[~only_second] = RELATIONS.index("is entailed by")
    found[~only_first & ~only_second] = RELATIONS.index("equivalent")
    return found


def logic_pairs(count: int, operators: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs of formulas of which the longer one has so many operators, each relation as often as the others, or nearly.

    Returns both sides, (count, T) int64, padded with 0, and the numbers of their relations (count,). Four of the six letters
    may occur in a pair. A relation that does not occur between the formulas drawn is left out.
    """
    rng, draws = random.Random(seed), torch.Generator().manual_seed(seed)
    (long, tables), (other, others) = _pool([operators], rng), _pool(range(operators + 1), rng)
    found = relations(tables, others)
    chosen = []
    for relation in range(len(RELATIONS)):
        candidates = (found == relation).nonzero()
        if len(candidates):
            chosen.append(candidates[torch.randint(len(candidates), (-(-count // len(RELATIONS)),), generator=draws)])
    pairs = torch.cat(chosen)
    pairs = pairs[torch.randperm(len(pairs), generator=draws)[:count]]
    sides = [
        torch.nn.utils.rnn.pad_sequence([torch.tensor(formulas[i]) for i in column], batch_first=True)
        for formulas, column in ((long, pairs[:, 0].tolist()), (other, pairs[:, 1].tolist()))
    ]
    return *sides, found[pairs[:, 0], pairs[:, 1]]


def with_letters(sides: Sequence[Tensor], rng: torch.Generator) -> list[Tensor]:
    """Gives the four variables of each pair four of the six letters, by chance: both sides alike. sides: (B, T) each."""
    letters = torch.rand(len(sides[0]), 6, generator=rng).argsort(dim=1)[:, :4] + LETTER  # (B, 4)
    names = torch.cat([torch.arange(LETTER).expand(len(letters), -1), letters], dim=1)  # (B, LETTER + 4)
    return [names.gather(1, side) for side in sides]


# ---------------------------------------------------------------------------------------------------- nested lists

LIST_TOKENS = ("<pad>", "[MIN", "[MAX", "[MED", "[SM", "]", *"0123456789")


def nested_list(longest: int, rng: random.Random, depth: int = 4) -> tuple[list[int], int]:
    """A list of ListOps (Nangia and Bowman 2018) with at most `longest` tokens, at least 4: tokens, and its value, a digit."""
    operation = rng.randrange(4)
    tokens, values = [1 + operation], []
    wanted = rng.randint(2, 5)
    while len(values) < wanted and len(tokens) < longest - 1:
        room = longest - 1 - len(tokens)
        if depth > 1 and room >= 4 and rng.random() < 0.35:
            inner, value = nested_list(room, rng, depth - 1)
            tokens += inner
        else:
            value = rng.randrange(10)
            tokens.append(LIST_TOKENS.index(str(value)))
        values.append(value)
    ordered = sorted(values)
    value = (ordered[0], ordered[-1], ordered[len(ordered) // 2], sum(values) % 10)[operation]
    return [*tokens, LIST_TOKENS.index("]")], value


def list_operations(count: int, longest: int, seed: int) -> tuple[Tensor, Tensor]:
    """Nested lists of at most `longest` tokens: (count, T) int64, padded with 0, and their values (count,)."""
    rng = random.Random(seed)
    drawn = [nested_list(longest, rng) for _ in range(count)]
    tokens = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row, _ in drawn], batch_first=True)
    return tokens, torch.tensor([value for _, value in drawn])
