"""Week 1's trained models are scored from raw outputs: nothing is gained by looking ahead, by NaNs or by another shape."""

import math

import pytest
import torch

from course.data import encode_novels, encode_surnames, novel_alphabet, surname_labels, surnames
from course.drives import week01_rnn as drives

V = 82


@pytest.fixture(scope="module")
def public():
    return drives.chars_public()


def pair(model, inputs):
    logits, changed = (drives.scored_part(model(inputs[name])) for name in ("tokens", "changed"))
    return {"logits": logits, "logits on changed": changed}


def bigrams(tokens):
    """An honest model: its logits depend on the last character alone."""
    return torch.randn(V, V, generator=torch.Generator().manual_seed(0))[tokens]


def test_windows_lie_apart_and_change_in_their_second_half(public):
    inputs, cuts = public
    tokens, changed = inputs["tokens"], inputs["changed"]
    assert tokens.shape == (75, 256) and changed.shape == (15, 256) and len(cuts) == 15
    assert tokens.numel() * V * 4 < 8 * 2**20  # the outputs, in bytes
    for row, other, cut in zip(tokens[:: drives.EVERY], changed, cuts.tolist(), strict=True):
        assert 128 < cut < 248
        assert torch.equal(row[:cut], other[:cut]) and not torch.equal(row[cut:], other[cut:])
    # apart: the windows of a text of different numbers share none of them
    windows, _ = drives.chars_windows(torch.arange(100_000))
    assert windows["tokens"].unique().numel() == 75 * 256
    with pytest.raises(ValueError, match="too few"):
        drives.chars_windows(torch.arange(25_000))


def test_an_honest_model_is_scored_on_second_halves(public):
    inputs, cuts = public
    score = drives.score_chars(inputs, pair(bigrams, inputs), cuts)
    log_probs = torch.log_softmax(bigrams(inputs["tokens"]).double(), dim=-1)
    surprise = [
        -log_probs[n, t - 1, inputs["tokens"][n, t]].item() / math.log(2) for n in range(75) for t in range(128, 256)
    ]
    assert score == pytest.approx(sum(surprise) / len(surprise))
    assert drives.score_chars(inputs, pair(lambda t: bigrams(t) + 5, inputs), cuts) == pytest.approx(score, rel=1e-5)


def peeks(tokens):
    following = tokens.roll(-1, dims=1)
    return 20.0 * torch.nn.functional.one_hot(following, V)


def test_a_model_that_looks_ahead_gets_nothing(public):
    inputs, cuts = public
    with pytest.raises(ValueError, match="looks ahead"):
        drives.score_chars(inputs, pair(peeks, inputs), cuts)
    same = drives.scored_part(peeks(inputs["tokens"]))  # answers the second question with what it said to the first
    with pytest.raises(ValueError, match="do not depend"):
        drives.score_chars(inputs, {"logits": same, "logits on changed": same[:: drives.EVERY]}, cuts)


@pytest.mark.parametrize("spoil", [lambda x: x[..., :-1], lambda x: x * math.nan, lambda x: x[:-1]])
def test_other_shapes_and_nans_are_refused(public, spoil):
    inputs, cuts = public
    with pytest.raises(ValueError, match="shape"):
        drives.score_chars(inputs, pair(lambda tokens: spoil(bigrams(tokens)), inputs), cuts)


def test_names_are_scored_by_accuracy():
    inputs, labels = drives.names_public()
    assert inputs["tokens"].shape[0] == inputs["lengths"].shape[0] == len(labels) == 1778
    logits = torch.nn.functional.one_hot(labels, 18).float()
    assert drives.score_names(inputs, {"logits": logits}, labels) == 1.0
    logits[:889] = logits[:889].roll(1, dims=1)
    assert drives.score_names(inputs, {"logits": logits}, labels) == 0.5
    for bad in (logits[:, :-1], logits / 0):
        with pytest.raises(ValueError, match="logits of shape"):
            drives.score_names(inputs, {"logits": bad}, labels)


def test_encodings_come_from_the_training_split():
    rows = surnames()["validation"].select(range(5))
    tokens, lengths, labels = encode_surnames(rows)
    assert lengths.tolist() == [len(name) for name in rows["name"]]
    assert [surname_labels()[i] for i in labels] == list(rows["label"])
    assert (len(surname_labels()), len(novel_alphabet())) == (drives.LABELS, drives.CHARACTERS) == (18, V)
    assert novel_alphabet().decode(encode_novels({"text": ["Anne ", "Elliot"]})) == "Anne Elliot"
    assert tokens.shape == (5, int(lengths.max()))
