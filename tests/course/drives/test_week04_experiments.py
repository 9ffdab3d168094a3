"""Week 4's experiments: how a trained translator is scored, and the translators that the student's is compared with."""

import math
from pathlib import Path

import pytest
import torch
from sacrebleu.metrics import BLEU
from torch import Tensor, nn

from autograder.week import find_week
from course.drives import Student
from course.drives import week04_transformer as drives
from tests.course.drives.conftest import CLOSE

WEEK = find_week(Path(__file__).parents[3], "week04_transformer")
SIZES = (4000, 16, 2, 1, 2, 24)


@pytest.fixture(scope="module")
def asked() -> tuple[dict, dict]:
    return drives.translation_public()


def answer(week: dict, model: nn.Module, inputs: dict) -> dict:
    weights = {name: value.detach().clone() for name, value in model.named_parameters()}
    return drives.translation(Student(week), {"weights": weights, "figures": {"num_heads": 2}, **inputs})


# ------------------------------------------------------------------------------------------------ trained models


def test_a_trained_translator_is_loaded_with_the_sizes_of_its_weights(week: dict, asked: tuple[dict, dict]):
    inputs, key = asked
    torch.manual_seed(0)
    model = week["Transformer"](*SIZES).eval()
    outputs = answer(week, model, inputs)
    real = inputs["target"][:, 1:] != 0
    with torch.no_grad():
        torch.testing.assert_close(outputs["logits"], model(inputs["source"], inputs["target"])[real])
    nats = torch.nn.functional.cross_entropy(outputs["logits"], inputs["target"][:, 1:][real], reduction="sum")
    figure = drives.score_translation(inputs, outputs, key)
    assert figure == pytest.approx(float(nats) / math.log(2) / key["characters"], rel=1e-5)


def test_what_is_asked_is_small_and_differs_from_the_cut_on(asked: tuple[dict, dict]):
    inputs, key = asked
    target, changed, cuts = inputs["target"], inputs["changed"], key["cuts"]
    assert len(target) == drives.SCORED_PAIRS and len(changed) == len(cuts) == drives.SCORED_PAIRS / drives.EVERY
    tokens = int((target[:, 1:] != 0).sum() + (changed[:, 1:] != 0).sum())
    assert tokens * drives.PIECES * 4 < 48 * 2**20  # bytes of logits, of the 64 MiB that may cross the border
    for row, other, cut in zip(target[:: drives.EVERY], changed, cuts.tolist(), strict=True):
        differs = (row != other)[row != 0]
        assert 1 <= cut < len(differs) and not differs[:cut].any() and differs[cut:].all()
        assert torch.equal(other == 0, row == 0) and int(other[other != 0][cut:].min()) >= 4


def test_the_graders_pages_are_others(asked: tuple[dict, dict]):
    artifact = next(artifact for artifact in WEEK.artifacts if artifact.name == "translation")
    inputs, _ = artifact.inputs(WEEK.heldout)
    rows = {tuple(row[row != 0].tolist()) for row in inputs["source"]}
    assert not rows & {tuple(row[row != 0].tolist()) for row in asked[0]["source"]}


def test_a_translator_that_looks_ahead_or_reads_nothing_is_refused(week: dict, asked: tuple[dict, dict]):
    inputs, key = asked

    class LooksAhead(week["Transformer"]):
        def forward(self, source: Tensor, target: Tensor) -> Tensor:
            logits = super().forward(source, target)
            return logits + 20 * nn.functional.one_hot(target[:, 1:], logits.size(-1))

    class ReadsNothing(week["Transformer"]):
        def forward(self, source: Tensor, target: Tensor) -> Tensor:
            return super().forward(source, torch.full_like(target, 2))

    torch.manual_seed(0)
    for kind, message in ((LooksAhead, "looks ahead"), (ReadsNothing, "do not depend on")):
        outputs = answer({"Transformer": kind}, kind(*SIZES), inputs)
        with pytest.raises(ValueError, match=message):
            drives.score_translation(inputs, outputs, key)


def test_logits_of_another_form_are_refused(week: dict, asked: tuple[dict, dict]):
    inputs, key = asked
    torch.manual_seed(0)
    outputs = answer(week, week["Transformer"](*SIZES), inputs)
    for spoilt in (outputs["logits"][1:], outputs["logits"][:, 1:], outputs["logits"] / 0):
        with pytest.raises(ValueError, match="logits of shape"):
            drives.score_translation(inputs, outputs | {"logits": spoilt}, key)


# --------------------------------------------------------------------------------------- what it is compared with


def pairs(rng: torch.Generator) -> tuple[Tensor, Tensor]:
    source, target = (torch.randint(4, 30, (3, T), generator=rng) for T in (7, 6))
    source[1, 4:], target[2, 3:] = 0, 0
    target[:, 0] = 2
    return source, target


def test_the_twin_is_the_same_function(week: dict, rng: torch.Generator):
    sizes = (30, 16, 4, 2, 3, 24)
    ours, twin = week["Transformer"](*sizes).double().eval(), week["Twin"](*sizes).drop_out_as_ours().double().eval()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.normal_(std=0.3, generator=rng)
    twin.begin_as(ours)
    source, target = pairs(rng)
    real = target[:, 1:] != 0
    torch.testing.assert_close(ours(source, target)[real], twin(source, target)[real], **CLOSE)


@pytest.mark.parametrize("name", ["Twin", "GRUTranslator"])
def test_a_compared_translator_reads_nothing_of_the_padding_nor_ahead(week: dict, rng: torch.Generator, name: str):
    torch.manual_seed(0)
    model = week[name](*{"Twin": (30, 16, 4, 1, 1, 24), "GRUTranslator": (30, 16, 12)}[name]).double().eval()
    source, target = pairs(rng)
    whole = model(source, target)
    for b in range(3):
        alone = model(
            source[b : b + 1, : int((source[b] != 0).sum())], target[b : b + 1, : int((target[b] != 0).sum())]
        )
        torch.testing.assert_close(whole[b, : alone.size(1)], alone[0], **CLOSE)
    changed = target.clone()
    changed[0, 3:] = 4 + (target[0, 3:] + 9) % 26
    other = model(source, changed)
    torch.testing.assert_close(whole[0, :3], other[0, :3], **CLOSE)
    assert not torch.allclose(whole[0, 3:], other[0, 3:])


def test_bleu_of_drawn_sentences_is_sacrebleus(week: dict):
    references = ["the cat sat on the mat today", "a dog ran to the red house there", "we read a book about the sea"]
    texts = ["the cat sat on the mat", "the dog ran to the red house there now", "we read the book about the sea"]
    counts = week["bleu_counts"](texts, references)
    for rows in ([0, 1, 2], [0, 0, 1], [1, 2, 2]):
        expected = BLEU().corpus_score([texts[i] for i in rows], [[references[i] for i in rows]]).score
        assert float(week["bleu_from"](counts[rows].sum(dim=0))) == pytest.approx(expected, abs=1e-6)
