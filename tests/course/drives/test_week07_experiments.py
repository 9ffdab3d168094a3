"""Week 7's experiments run as they stand at a tiny size; the given networks are those of the earlier weeks."""

import copy
import math
from pathlib import Path

import pytest
import torch
from sacrebleu.metrics import BLEU
from safetensors.torch import load_file
from torch import nn

from autograder import experiments
from autograder.week import find_week
from course import data, train
from course.drives import Student
from course.drives import week07_compression as drives
from tests.course.drives.conftest import CLOSE, run_experiments

ROOT = Path(__file__).parents[3]
WEEK = find_week(ROOT, "week07_compression")
ARTIFACT = WEEK.artifacts[0]


@pytest.fixture(scope="module")
def names() -> dict:
    return WEEK.namespace()


@pytest.fixture
def small(names: dict) -> nn.Module:
    torch.manual_seed(0)
    return names["Translator"](4000, 16, 2, 2, 1, 24).eval()


def test_every_cell_runs_at_a_tiny_size(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run_experiments(WEEK, size="tiny", device="cpu")
    assert (tmp_path / "small_translator.safetensors").stat().st_size < ARTIFACT.max_bytes
    assert sum(names["small_history"]["kept"][-1]) == 6
    found = experiments.score(WEEK, ARTIFACT, names, tmp_path)
    assert 0.4 < found < 0.8  # a few updates hardly change the translator that all begins with
    assert names["eight_bits"]["int8, yours"]["times smaller"] > 3.8
    assert set(names["on_front"]) == {"reviews", "translation"}


def test_the_translator_is_week_4s(names: dict):
    theirs = find_week(ROOT, "week04_transformer").namespace()["Transformer"](**data.translator()[0])
    theirs.load_state_dict(data.translator()[1])
    source, target = (train.padded(side, range(3)) for side in data.encode_pairs(data.libreoffice()["validation"]))
    real = target[:, 1:] != 0
    with torch.no_grad():
        ours, expected = names["trained_translator"]()(source, target), theirs.eval()(source, target)
    torch.testing.assert_close(ours[real], expected[real], rtol=1e-3, atol=1e-3)


def test_the_novelist_is_week_6s(names: dict):
    theirs = find_week(ROOT, "week06_gpt").namespace()["GPT"](**data.novelist("chars")[0])
    theirs.load_state_dict(data.novelist("chars")[1])
    tokens = torch.randint(82, (2, 20), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(names["trained_novelist"]()(tokens), theirs(tokens)[0], rtol=1e-3, atol=1e-3)


def test_a_reader_takes_no_notice_of_padding(names: dict):
    torch.manual_seed(0)
    reader, bag = names["Reader"](30, 12, 16, 2, 2, 24).double().eval(), names["Bag"](30, 2).double()
    tokens = torch.randint(4, 30, (1, 7))
    for model in (reader, bag):
        longer = nn.functional.pad(tokens, (0, 4))
        torch.testing.assert_close(model(longer), model(tokens), **CLOSE)


def test_what_is_packed_comes_back_with_its_heads(names: dict, small: nn.Module):
    pruning = names["Pruning"](small.encoder)
    pruning.take_out([(0, 1), (1, 0), (1, 1)])
    assert pruning.kept == [[0], []] and pruning.gone == 3 and small.encoder[1].self_attn is None
    stored = names["packed"](small)
    assert all(value.dtype == torch.int8 for name, value in stored.items() if name.endswith(".q"))
    back = names["unpacked"](stored, head_width=8)
    assert [layer.self_attn and layer.self_attn.num_heads for layer in back.encoder] == [1, None]
    for (name, one), other in zip(small.named_parameters(), back.parameters(), strict=True):
        step = one.abs().amax(dim=1, keepdim=True) / 127 if one.ndim == 2 else torch.zeros(())
        assert bool(((one - other).abs() <= 0.51 * step + 1e-7).all()), name


def test_a_layer_keeps_its_most_important_head_as_long_as_it_can(names: dict, small: nn.Module):
    pruning = names["Pruning"](small.encoder)
    importance = torch.tensor([[0.1, 0.2], [0.8, 0.9]])
    assert pruning.least(importance, 2) == [(0, 0), (1, 0)]
    assert set(pruning.least(importance, 4)) == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_gates_do_what_taking_out_does(names: dict, small: nn.Module):
    small = small.double()
    source = torch.randint(4, 4000, (2, 6))
    gates = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    with torch.no_grad():
        gated, _ = small.encode(source, list(gates))
        pruned = copy.deepcopy(small)
        names["Pruning"](pruned.encoder).take_out([(0, 1), (1, 0)])
        torch.testing.assert_close(pruned.encode(source)[0], gated, **CLOSE)


def test_eight_bits_compute_nearly_the_same(names: dict, small: nn.Module):
    source, target = torch.randint(4, 4000, (2, 6)), torch.randint(4, 4000, (2, 5))
    found = names["in_eight_bits"](small)
    with torch.no_grad():
        exact, rounded = small(source, target), found(source, target)
    assert 0 < float((rounded - exact).norm() / exact.norm()) < 0.05
    numbers = sum(p.numel() for p in small.parameters() if p.ndim == 2)
    assert numbers < names["stored_bytes"](found) < 2 * numbers


def test_bleu_of_summed_counts_is_sacrebleus(names: dict):
    unseen = names["Unseen"](data.libreoffice()["validation"].select(range(0, 3000, 300)))
    model = names["trained_translator"]()
    expected = BLEU().corpus_score(names["translate"](model, unseen.sources), [unseen.french]).score
    judged = unseen.judge(model)
    assert judged["figures"]["BLEU"] == pytest.approx(expected, abs=1e-6)
    lost = unseen.lost(judged, judged)
    assert lost == {"bits per character": [0.0, 0.0, 0.0], "BLEU": [0.0, 0.0, 0.0]}


def test_a_saved_translator_is_scored_and_one_that_reads_ahead_is_refused(names: dict, small: nn.Module):
    inputs, key = drives.small_translator_public()
    answered = {"weights": names["packed"](small), "figures": {}}
    student = {**names, "unpacked": lambda weights: names["unpacked"](weights, head_width=8)}
    outputs = drives.small_translator(Student(student), {**inputs, **answered})
    bits = drives.score_small_translator(inputs, outputs, key)
    assert 2 < bits < math.log2(4000) * 2  # it knows nothing

    class Ahead(nn.Module):
        def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return 20.0 * nn.functional.one_hot(target[:, 1:], 4000)

    outputs = drives.small_translator(Student({"unpacked": lambda weights: Ahead()}), {**inputs, **answered})
    with pytest.raises(ValueError, match="looks ahead"):
        drives.score_small_translator(inputs, outputs, key)


def test_the_graders_pages_are_others():
    asked, _ = drives.small_translator_public()
    inputs, _ = ARTIFACT.inputs(WEEK.heldout)
    rows = {tuple(row[row != 0].tolist()) for row in inputs["source"]}
    assert not rows & {tuple(row[row != 0].tolist()) for row in asked["source"]}


def test_tensors_by_name_are_saved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train.save_artifact("some", {"a.q": torch.tensor([1, -2], dtype=torch.int8)}, {"bits": 1.5})
    saved = load_file("some.safetensors")
    assert saved.keys() == {"a.q"} and saved["a.q"].dtype == torch.int8 and saved["a.q"].tolist() == [1, -2]
