"""Week 5's experiments: how a pretrained network is scored, and the batches and tasks that it learns from."""

import math
from pathlib import Path

import pytest
import torch

from autograder.week import find_week
from course import data
from course.drives import Student
from course.drives import week05_bert as drives
from tests.course.drives.conftest import CLOSE, run_experiments

WEEK = find_week(Path(__file__).parents[3], "week05_bert")
SIZES = (4000, 64, 16, 2, 2, 24, 0.0)
PAD, UNKNOWN, CLS, SEP, MASK = range(5)


@pytest.fixture(scope="module")
def asked() -> tuple[dict, dict]:
    return drives.pretraining_public()


@pytest.fixture(scope="module")
def corpora(week: dict) -> list:
    """Two small ones, whose pieces are the lengths of words."""
    return [
        week["Corpus"]([text] * 3, lambda sentence: [5 + len(word) for word in sentence.split()])
        for text in ("one two three four. " * 40, "seven eight nine. " * 50)
    ]


# ------------------------------------------------------------------------------------------------ trained models


def test_a_pretrained_network_is_loaded_with_the_sizes_of_its_weights(week: dict, asked: tuple[dict, dict]):
    inputs, key = asked
    torch.manual_seed(0)
    model = week["Bert"](*SIZES).eval()
    weights = {name: value.detach().clone() for name, value in model.named_parameters()}
    outputs = drives.pretraining(Student(week), {"weights": weights, "figures": {"num_heads": 2}, **inputs})
    hidden, pooled = model.bert(inputs["tokens"], inputs["segments"], torch.ones_like(inputs["asked"]))
    labels = torch.full_like(inputs["tokens"], -100)
    labels[inputs["asked"]] = key["pieces"]
    words = model.bert.embeddings.word_embeddings.weight
    loss, logits, _ = week["pretraining_loss"](model.heads, words, hidden, pooled, labels, None)
    torch.testing.assert_close(outputs["logits"], logits.detach())
    assert drives.score_pretraining(inputs, outputs, key) == pytest.approx(loss.item() / math.log(2), rel=1e-5)


def test_what_is_hidden_is_not_among_the_inputs(asked: tuple[dict, dict]):
    inputs, key = asked
    tokens, hidden = inputs["tokens"], inputs["asked"]
    assert set(inputs) == {"tokens", "segments", "asked"} and tokens.shape == (160, 64)
    assert (tokens[hidden] == MASK).all() and not (tokens[~hidden] == MASK).any()
    assert hidden.sum() == len(key["pieces"]) and int(key["pieces"].min()) >= 5
    assert 0.12 < hidden.double().mean() < 0.16
    assert (tokens[:, 0] == CLS).all() and (tokens[:, [31, 63]] == SEP).all() and not (tokens == PAD).any()
    assert len(key["pieces"]) * drives.PIECES * 4 < 32 * 2**20  # bytes of logits


def test_the_graders_text_is_other_text(asked: tuple[dict, dict]):
    artifact = next(artifact for artifact in WEEK.artifacts if artifact.name == "pretraining")
    inputs, _ = artifact.inputs(WEEK.heldout)
    assert not {tuple(row) for row in inputs["tokens"].tolist()} & {tuple(row) for row in asked[0]["tokens"].tolist()}


def test_logits_of_another_form_are_refused(asked: tuple[dict, dict]):
    inputs, key = asked
    logits = torch.zeros(len(key["pieces"]), 4000)
    assert drives.score_pretraining(inputs, {"logits": logits}, key) == pytest.approx(math.log2(4000))
    for spoilt in (logits[1:], logits[:, 1:], logits / 0):
        with pytest.raises(ValueError, match="logits of shape"):
            drives.score_pretraining(inputs, {"logits": spoilt}, key)


def test_the_committed_network_fits_and_has_learnt(week: dict, asked: tuple[dict, dict]):
    (sizes, weights, training), vocab = data.bert(), data.bert_vocab()
    assert len(vocab) == sizes["vocab_size"] == 4000 and list(vocab.values()) == list(range(4000))
    assert data.BERT.stat().st_size < 5 * 2**20
    inputs, key = asked
    figures = {"num_heads": sizes["num_heads"]}
    outputs = drives.pretraining(Student(week), {"weights": weights, "figures": figures, **inputs})
    assert drives.score_pretraining(inputs, outputs, key) < 8.5  # with frequencies alone it is more than 9.3
    assert training["points"][-1]["bits"] < training["points"][0]["bits"]


# ------------------------------------------------------------------------------------------------------ batches


def test_parts_keep_every_piece_but_a_short_rest(week: dict):
    sentences = [list(range(n)) for n in (3, 9, 30, 1, 2, 4)]
    parts = list(week["parts_of"](sentences, 5, 12))
    assert all(len(part) <= 12 for part in parts)
    joined = [piece for part in parts for piece in part]
    assert joined == [piece for sentence in sentences for piece in sentence][: len(joined)]


def test_batches_play_both_games_and_are_the_same_each_time(week: dict, corpora: list):
    batch_at = week["game_batches"](corpora, 512, seed=3)
    for update, length in ((0, 64), (4, 128)):
        masked, segments, mask, labels, next_labels = batch_at(update)
        assert masked.shape == segments.shape == mask.shape == labels.shape == (512 // length, length)
        assert next_labels.shape == (512 // length,)
        assert all(
            torch.equal(one, two)
            for one, two in zip(batch_at(update), (masked, segments, mask, labels, next_labels), strict=True)
        )
        assert not (labels != -100)[~mask].any()


def test_without_the_next_sentence_every_pair_belongs_together(week: dict, corpora: list):
    *_, next_labels = week["game_batches"](corpora, 512, seed=3, next_sentence=False)(0)
    assert next_labels is None
    drawn = corpora[0].pairs(20, 64, torch.Generator().manual_seed(0), next_sentence=False)
    assert all(int(label) == 0 for *_, label in drawn)


def test_the_games_are_scored_on_hidden_pieces_alone(week: dict, corpora: list):
    games = week["Games"](corpora, batches=1)

    class Uniform(torch.nn.Module):
        def forward(self, masked, segments, mask, labels, next_labels):
            return None, torch.zeros(int((labels != -100).sum()), 4000), torch.zeros(len(masked), 2)

    assert games(Uniform()) == pytest.approx(math.log2(4000), rel=1e-5)
    assert games.marks[-1]["perplexity"] == pytest.approx(4000, rel=1e-4)


# -------------------------------------------------------------------------------------------------------- tasks


def test_padding_columns_are_cut(week: dict):
    tokens = torch.tensor([[2, 7, 3, 0, 0], [2, 7, 8, 3, 0]])
    cut = week["cut_to_longest"](tokens, tokens * 0, tokens != PAD)
    assert all(part.shape == (2, 4) for part in cut) and torch.equal(cut[0], tokens[:, :4])


def test_a_span_finder_answers_in_the_text_only(week: dict):
    torch.manual_seed(0)
    finder = week["SpanFinder"](week["BertModel"](*SIZES), 16).double().eval()
    tokens, segments, mask = (part.unsqueeze(0) for part in week["pack_pair"]([7, 8], [9, 10, 11], 12))
    start, end = finder(tokens, segments, mask)
    text = (segments == 1) & (tokens != SEP)
    assert (start[text] > -1e3).all() and (end[~text] == -1e4).all()
    whole, _ = finder.bert(tokens, segments, mask)
    torch.testing.assert_close(torch.stack([start[text], end[text]], dim=-1), finder.output(whole[text]), **CLOSE)


def test_a_bootstrap_interval_holds_the_mean(week: dict):
    scores = torch.rand(3, 200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    each = torch.arange(200)
    mean, low, high = week["interval"](scores, each)
    assert mean == pytest.approx(scores.mean().item()) and low < mean < high
    assert high - low == pytest.approx(2 * 1.96 * scores.std().item() / math.sqrt(200), rel=0.5)
    assert week["interval"](torch.ones(2, 5, dtype=torch.float64), each[:5]) == [1.0, 1.0, 1.0]


def test_rows_that_resemble_each_other_are_drawn_together(week: dict):
    groups = torch.arange(10).repeat_interleave(20)
    scores = (groups % 2).double().expand(3, 200)  # all rows of a group score the same
    (_, low, high), (_, lower, higher) = (week["interval"](scores, of) for of in (torch.arange(200), groups))
    assert higher - lower == pytest.approx((high - low) * math.sqrt(20), rel=0.3)


# --------------------------------------------------------------------------------------------------- all of them


def test_the_experiments_run_at_their_smallest_size(week: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The cells as they stand, on a few documents and questions, with a few updates each."""
    monkeypatch.chdir(tmp_path)
    tuning, tuning_seeds = week["TUNING"]["tiny"]
    names = run_experiments(WEEK, size="tiny", tuning=tuning, tuning_seeds=tuning_seeds)
    assert (tmp_path / "pretraining.safetensors").exists() and set(names["tasks"]) == {"sentiment", "spans", "choices"}
    for found in (names["sentiment_found"], names["spans_found"], names["choices_found"]):
        for runs in (runs for measure in found.values() for runs in measure.values()):
            assert all(low <= mean <= high for mean, low, high in runs.values())
    assert set(names["next_sentence_found"]) == set(names["tasks"])
