"""Week 4's loss, BLEU, searches and batches against truth from outside: torch's losses, sacrebleu, exhaustive search."""

import math
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from sacrebleu.metrics import BLEU
from torch import Tensor, nn

from autograder.week import Week
from course.drives import Student
from course.drives import week04_transformer as drives
from course.drives.week04_transformer import CaseTranslator
from tests.course.drives.conftest import CLOSE, cases_of, normal

WEEK = Week(Path(__file__).parents[3] / "solutions" / "week04_transformer")
PAD, UNKNOWN, BEGIN, END = range(4)


def integers(rng: torch.Generator, low: int, high: int, *shape: int) -> Tensor:
    return torch.randint(low, high, shape, generator=rng)


# --------------------------------------------------------------------------------------------------------- loss


def smoothed(target: Tensor, vocab: int, eps: float) -> Tensor:
    """(N, V): the wanted distributions, entry by entry."""
    rows = []
    for true in target.tolist():
        rows.append([0.0 if v == PAD else 1 - eps if v == true else eps / (vocab - 2) for v in range(vocab)])
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("eps", [0.0, 0.1, 0.5])
def test_smoothing_is_kl_divergence_and_entropy_forward_and_backward(week: dict, rng: torch.Generator, eps: float):
    logits, target = normal(rng, 3, 5, 7).requires_grad_(), integers(rng, 1, 7, 3, 5)
    target[0, 2:] = target[1, 4:] = PAD
    real = target != PAD
    wanted = smoothed(target[real], 7, eps)
    torch.testing.assert_close(wanted.sum(dim=1), torch.ones(len(wanted), dtype=torch.float64), **CLOSE)
    twin = nn.KLDivLoss(reduction="batchmean")(F.log_softmax(logits[real], dim=-1), wanted)
    loss = week["label_smoothing_loss"](logits, target, eps)
    entropy = torch.special.entr(wanted).sum(dim=1).mean()
    torch.testing.assert_close(loss, twin + entropy, **CLOSE)
    (mine,), (theirs,) = torch.autograd.grad(loss, [logits]), torch.autograd.grad(twin, [logits])
    torch.testing.assert_close(mine, theirs, **CLOSE)
    assert not bool(mine[~real].any())


def test_without_smoothing_it_is_the_cross_entropy_that_ignores_padding(week: dict, rng: torch.Generator):
    logits, target = normal(rng, 3, 5, 7), integers(rng, 0, 7, 3, 5)
    expected = F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=PAD)
    torch.testing.assert_close(week["label_smoothing_loss"](logits, target, 0.0), expected, **CLOSE)


def test_no_distribution_does_better_than_the_wanted_one(week: dict, rng: torch.Generator):
    target = integers(rng, 1, 6, 2, 3)
    best = smoothed(target.flatten(), 6, 0.2).clamp(min=1e-30).log().view(2, 3, 6)
    least = week["label_smoothing_loss"](best, target, 0.2)
    for _ in range(20):
        assert week["label_smoothing_loss"](best + 0.3 * normal(rng, 2, 3, 6), target, 0.2) > least


@pytest.mark.parametrize("shift", [1000.0, -1000.0])
def test_large_logits_do_no_harm(week: dict, rng: torch.Generator, shift: float):
    logits, target = normal(rng, 2, 3, 6), integers(rng, 1, 6, 2, 3)
    loss = week["label_smoothing_loss"]
    torch.testing.assert_close(loss(logits + shift, target, 0.1), loss(logits, target, 0.1), **CLOSE)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_loss_has_the_dtype_of_the_logits(week: dict, dtype: torch.dtype):
    loss = week["label_smoothing_loss"](torch.zeros(1, 2, 5, dtype=dtype), torch.tensor([[4, PAD]]), 0.1)
    assert loss.dtype == dtype and loss.item() == pytest.approx(math.log(5), rel=1e-2)


# --------------------------------------------------------------------------------------------------------- BLEU


def official(hypotheses: list[list[str]], references: list[list[str]]) -> float:
    metric = BLEU(tokenize="none", smooth_method="none", force=True)
    joined = [[" ".join(words) for words in some] for some in (hypotheses, references)]
    return metric.corpus_score(joined[0], [joined[1]]).score


def corpus(rng: torch.Generator, sentences: int, noise: float) -> tuple[list[list[str]], list[list[str]]]:
    """References of few different words, so that many are said again, and hypotheses with words changed, left out and added."""
    hypotheses, references = [], []
    for length in integers(rng, 0, 16, sentences).tolist():
        reference = [f"w{i}" for i in integers(rng, 0, 9, length).tolist()]
        hypothesis = []
        for word in reference:
            what = float(torch.rand((), generator=rng)) / noise
            hypothesis += [] if what < 0.3 else [word, word] if what < 0.6 else ["x"] if what < 1 else [word]
        hypotheses.append(hypothesis)
        references.append(reference)
    return hypotheses, references


@pytest.mark.parametrize("noise", [0.05, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("sentences", [1, 2, 12])
def test_bleu_is_sacrebleus(week: dict, rng: torch.Generator, sentences: int, noise: float):
    for _ in range(10):
        hypotheses, references = corpus(rng, sentences, noise)
        mine = week["corpus_bleu"](hypotheses, references)
        assert mine == pytest.approx(official(hypotheses, references), rel=1e-12, abs=1e-12)


def test_bleu_of_the_cases_is_sacrebleus(week: dict):
    scores = []
    for inputs in cases_of(WEEK, "corpus_bleu"):
        scores.append(week["corpus_bleu"](**inputs))
        assert scores[-1] == pytest.approx(official(**inputs), rel=1e-12, abs=1e-12)
    assert scores.count(0.0) == 2 and max(scores) == pytest.approx(100.0)


@pytest.mark.parametrize("hypotheses", [[[], []], [["a"], []], [["b", "a"], ["c"]]])
def test_bleu_of_next_to_nothing_is_zero(week: dict, hypotheses: list[list[str]]):
    assert week["corpus_bleu"](hypotheses, [["a", "b"], ["c"]]) == 0.0


def test_bleu_is_clipped_as_in_the_paper(week: dict):
    """Papineni et al. 2002, section 2.1: seven times `the`, of which two are matched. One sentence more gives the 4-grams."""
    hypotheses = [["the"] * 7, list("abcde")]
    references = [["the", "cat", "is", "on", "the", "mat"], list("abcde")]
    precisions = [(2 + 5) / 12, 4 / 10, 3 / 8, 2 / 6]
    expected = 100 * math.prod(precisions) ** 0.25
    assert week["corpus_bleu"](hypotheses, references) == pytest.approx(expected, rel=1e-12)


def test_bleu_written_without_a_point_is_a_number_too():
    measure = drives.measure_corpus_bleu
    assert isinstance(measure({}, {"bleu": 0})["bleu"], float)
    assert measure({}, {"bleu": True})["bleu"] is True


# ------------------------------------------------------------------------------------------------------- search


def translator(rng: torch.Generator, vocab: int = 6, states: int = 50, rows: int = 1) -> CaseTranslator:
    table = torch.log_softmax(normal(rng, states, vocab), dim=-1)
    return CaseTranslator(integers(rng, 0, states, states, vocab), table, integers(rng, 0, states, rows))


def one_of(model: CaseTranslator, row: int) -> CaseTranslator:
    return CaseTranslator(model.moves, model.table, model.start[row : row + 1])


def every_sentence(model: CaseTranslator, longest: int, alpha: float) -> list[tuple[float, list[int]]]:
    """(score, tokens) of all hypotheses there are: those that end with END, and those of `longest` tokens without."""
    found = []
    words = [v for v in range(model.table.size(1)) if v != END]
    bodies = [list(body) for n in range(longest + 1) for body in product(words, repeat=n)]
    for tokens in [[*body, END] for body in bodies if len(body) < longest] + [b for b in bodies if len(b) == longest]:
        log_p = sum(float(model(torch.tensor([[BEGIN, *tokens[:i]]]))[0, token]) for i, token in enumerate(tokens))
        found.append((log_p / ((5 + len(tokens)) / 6) ** alpha, tokens))
    return found


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.5])
def test_a_beam_that_drops_nothing_finds_the_best_of_all_sentences(week: dict, rng: torch.Generator, alpha: float):
    model = translator(rng, vocab=5)
    everything = every_sentence(model, 3, alpha)
    assert len(everything) == 1 + 4 + 16 + 64
    tokens, score = week["beam_search"](model, len(everything), 3, alpha)
    best_score, best_tokens = max(everything)
    assert tokens == best_tokens and score == pytest.approx(best_score, rel=1e-6)


def test_no_beam_finds_more_than_there_is_and_its_score_is_its_own(week: dict, rng: torch.Generator):
    model = translator(rng, vocab=5)
    everything = {tuple(tokens): score for score, tokens in every_sentence(model, 4, 0.6)}
    for width in (1, 2, 3, 7, 20):
        tokens, score = week["beam_search"](model, width, 4)
        assert score == pytest.approx(everything[tuple(tokens)], rel=1e-6)
        assert score <= max(everything.values()) + 1e-6


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
def test_a_beam_of_one_is_greedy(week: dict, rng: torch.Generator, alpha: float):
    model = translator(rng, rows=8)
    rows = week["greedy_decode"](model, 8, 7)
    for i, row in enumerate(rows.tolist()):
        tokens, _ = week["beam_search"](one_of(model, i), 1, 7, alpha)
        assert [BEGIN, *tokens] == [token for j, token in enumerate(row) if END not in row[:j]]


def test_greedy_rows_do_not_know_of_each_other(week: dict, rng: torch.Generator):
    model = translator(rng, rows=6)
    together = week["greedy_decode"](model, 6, 9)
    for i, row in enumerate(together):
        alone = week["greedy_decode"](one_of(model, i), 1, 9)[0]
        assert torch.equal(row[: len(alone)], alone) and not bool(row[len(alone) :].any())


def test_greedy_stops_when_the_last_row_has_ended(week: dict):
    rows = week["greedy_decode"](fixed({(): {4: 0.0}, (4,): {END: 0.0}}, 5), 2, 9)
    assert rows.tolist() == [[BEGIN, 4, END]] * 2 and rows.dtype == torch.int64


def test_searches_ask_no_more_than_they_must(week: dict, rng: torch.Generator):
    """A row of a beam is asked about once, a finished hypothesis never; and nobody asks after the last token."""
    asked = []
    model = translator(rng)

    def listening(prefixes: Tensor) -> Tensor:
        asked.append(prefixes)
        return model(prefixes)

    week["beam_search"](listening, 4, 5)
    assert len(asked) <= 5 and all(len(prefixes) <= 4 for prefixes in asked)
    assert not any(bool((prefixes == END).any()) for prefixes in asked)
    assert all(len({tuple(row) for row in prefixes.tolist()}) == len(prefixes) for prefixes in asked)
    asked.clear()
    week["greedy_decode"](listening, 1, 5)
    assert [prefixes.size(1) for prefixes in asked] == list(range(1, len(asked) + 1)) and len(asked) <= 5


def fixed(table: dict[tuple[int, ...], dict[int, float]], vocab: int) -> Callable[[Tensor], Tensor]:
    """Log-probabilities written by hand, minus infinity for all others; exact numbers."""

    def next_log_probs(prefixes: Tensor) -> Tensor:
        rows = torch.full((len(prefixes), vocab), -math.inf)
        for row, prefix in zip(rows, prefixes.tolist(), strict=True):
            for token, value in table.get(tuple(prefix[1:]), {END: 0.0}).items():
                row[token] = value
        return rows

    return next_log_probs


def test_ties_go_to_the_lower_flat_index(week: dict):
    """Three equal first words and two slots: the third is dropped, although its sentence would have been the best."""
    model = fixed({(): {4: -1.0, 5: -1.0, 6: -1.0}, (4,): {END: -2.0}, (5,): {END: -2.0}, (6,): {END: -0.5}}, 7)
    assert week["beam_search"](model, 2, 5, 0.0) == ([4, END], -3.0)  # and of these two the one kept first
    assert week["beam_search"](model, 3, 5, 0.0) == ([6, END], -1.5)


def test_a_finished_hypothesis_uses_up_its_slot(week: dict):
    """After an early END one of two slots is left: of two ways to go on the likelier is kept, and the other was better."""
    model = fixed({(): {END: -1.0, 4: -1.5}, (4,): {5: -0.5, 6: -1.0}, (4, 5): {END: -4.0}, (4, 6): {END: 0.0}}, 7)
    alpha = 6.0  # long sentences are much preferred: -2.5 / (8 / 6) ** 6 is better than -1
    assert week["beam_search"](model, 2, 4, alpha)[0] == [END]
    assert week["beam_search"](model, 3, 4, alpha)[0] == [4, 6, END]


def test_what_is_impossible_takes_no_slot(week: dict):
    """One word can come first; of the six slots none is lost to tokens of probability 0, END among them."""
    after = {word: -1.0 - word / 8 for word in range(4, 10)}
    model = fixed({(): {4: 0.0}, (4,): after, **{(4, word): {END: -20.0} for word in range(4, 9)}}, 10)
    assert week["beam_search"](model, 6, 5, 0.0)[0] == [4, 9, END]
    assert week["beam_search"](model, 5, 5, 0.0)[0] == [4, 4, END]


def test_a_hypothesis_without_end_counts_as_it_stands(week: dict):
    model = fixed({(): {END: -5.0, 4: -0.5}, (4,): {5: -0.5}, (4, 5): {6: -0.5}}, 7)
    tokens, score = week["beam_search"](model, 2, 3, 0.6)
    assert tokens == [4, 5, 6] and score == pytest.approx(-1.5 / (8 / 6) ** 0.6)
    tokens, score = week["beam_search"](model, 2, 4, 0.6)
    assert tokens == [4, 5, 6, END] and score == pytest.approx(-1.5 / (9 / 6) ** 0.6)


def test_searches_leave_no_gradient(week: dict, rng: torch.Generator):
    model = translator(rng, rows=2)
    model.table.requires_grad_()
    seen = []

    def listening(prefixes: Tensor) -> Tensor:
        seen.append(model(prefixes).requires_grad)
        return model(prefixes)

    week["greedy_decode"](listening, 2, 4)
    week["beam_search"](one_of(model, 0), 2, 4)
    assert seen and not any(seen)


# ------------------------------------------------------------------------------------------------------ batches


@pytest.mark.parametrize("max_tokens", [9, 20, 64])
def test_batches_by_tokens_have_every_index_once_and_no_more_than_fits(
    week: dict, rng: torch.Generator, max_tokens: int
):
    lengths = integers(rng, 1, 10, 57).tolist()
    batches = week["token_batches"](lengths, max_tokens)
    assert sorted(i for batch in batches for i in batch) == list(range(57))
    assert all(batch and len(batch) * max(lengths[i] for i in batch) <= max_tokens for batch in batches)


def groupings(items: list[int]) -> list[list[list[int]]]:
    if not items:
        return [[]]
    first, found = items[0], []
    for rest in groupings(items[1:]):
        found.append([[first], *rest])
        found += [[*rest[:i], [first, *rest[i]], *rest[i + 1 :]] for i in range(len(rest))]
    return found


def test_no_other_way_to_group_needs_fewer_batches(week: dict, rng: torch.Generator):
    """All 4,140 ways to divide eight sentences; the cases' own number is that of the best way too."""
    for _ in range(3):
        lengths = integers(rng, 1, 9, 8).tolist()
        fewest = min(
            len(groups)
            for groups in groupings(list(range(8)))
            if all(len(group) * max(lengths[i] for i in group) <= 16 for group in groups)
        )
        assert len(week["token_batches"](lengths, 16)) == fewest == WEEK._module._fewest(lengths, 16)


def test_cases_of_batches_leave_room_under_the_limit_of_padding(week: dict):
    for inputs in cases_of(WEEK, "token_batches"):
        outputs = drives.token_batches(Student(week), inputs)
        batches = outputs["batches"]
        positions = sum(len(batch) * max(inputs["lengths"][i] for i in batch) for batch in batches)
        assert 1 - sum(inputs["lengths"]) / positions <= drives.MOST_PADDING * 2 / 3
        measured = drives.measure_token_batches(inputs, outputs)
        assert not any(measured.values())


def test_every_fault_of_batches_is_measured():
    inputs = {"lengths": [2, 2, 3, 8], "max_tokens": 8, "fewest": 2}
    measured = drives.measure_token_batches(inputs, {"batches": [[0, 3], [0], [], [9]]})
    assert measured["indices left out"] == [1, 2] and measured["indices that do not exist"] == [9]
    assert measured["indices used again"] == 1 and measured["empty batches"] == 1
    assert measured["batches beyond max_tokens"] == 1 and measured["batches beyond the least number"] == 2
    assert measured["padding beyond 15 %"] == pytest.approx(6 / 18 - 0.15)


# ------------------------------------------------------------------------------------------------------- drives


def test_what_comes_next_depends_on_the_whole_prefix(rng: torch.Generator):
    model = translator(rng, states=400)
    prefixes = integers(rng, 4, 6, 1, 6)
    whole = model(prefixes)
    for t in range(6):
        other = prefixes.clone()
        other[0, t] = 9 - other[0, t]  # 4 for 5 and 5 for 4
        assert not torch.equal(model(other), whole)


def test_a_translator_says_what_it_wants():
    model = CaseTranslator(torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 3), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"takes prefixes \(N, T\); it was given a tensor of shape \(4,\)"):
        model(torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ValueError, match="one prefix for each of the 4 rows; it was given 3"):
        model(torch.zeros(3, 1, dtype=torch.int64))


def test_cases_of_searches_have_no_near_ties(week: dict):
    """Noise a hundred times that of float32 changes no token, where numbers are not made equal on purpose."""
    for exercise in ("greedy_decode", "beam_search"):
        for inputs in cases_of(WEEK, exercise):
            drive = getattr(drives, exercise)
            single = drive(Student(week), inputs)["tokens"]
            noise = 1e-5 * torch.randn(inputs["table"].shape, generator=torch.Generator().manual_seed(1))
            if len(inputs["table"].unique()) > 100:
                moved = drive(Student(week), inputs | {"table": inputs["table"] + noise})["tokens"]
                assert torch.equal(single, moved) if isinstance(single, Tensor) else single == moved


def test_tokens_of_a_beam_may_be_a_tensor():
    lists = drives.measure_beam_search({}, {"tokens": [[4, END]], "scores": [-1.5]})
    tensors = drives.measure_beam_search({}, {"tokens": [torch.tensor([4, END])], "scores": [torch.tensor(-1.5)]})
    assert torch.equal(lists["tokens"][0], tensors["tokens"][0])
    assert torch.equal(lists["scores"], tensors["scores"])
