"""Week 8's experiments run as they stand at a tiny size; the puzzles they ask, and how a trained reader is scored."""

import json
import random
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from autograder import experiments
from autograder.week import find_week
from course import puzzles
from course.drives import Student
from course.drives import week08_efficient as drives
from tests.course.drives.conftest import run_experiments

WEEK = find_week(Path(__file__).parents[3], "week08_efficient")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    """The names that all experiment cells leave at the tiny size, and the folder in which they ran."""
    folder = tmp_path_factory.mktemp("week08_efficient")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return run_experiments(WEEK, size="tiny", device="cpu"), folder


def test_every_cell_runs_at_a_tiny_size(run: tuple[dict, Path]):
    names, folder = run
    assert set(names["exponents"]) == {"full", "fused", "BigBird", "Linformer", "Performer"}
    assert (folder / "retrieval.safetensors").exists() and len(names["finder_history"].points) >= 2
    assert 0 <= experiments.score(WEEK, WEEK.artifacts[0], names, folder) <= 1
    assert all(0 <= figure <= 1 for figure in names["party"].values())
    assert len(names["logic"]) == 3 and len(names["listops"]) == 2
    assert {label for label in names["curve"]} >= {"RNN, week 1, the course's run", "GPT, longer"}


def test_without_a_gpu_speeds_are_told_as_not_measured_and_the_kernels_agree(run: tuple[dict, Path]):
    gpu = run[0]["gpu"]
    assert gpu["measured"] is False and not any("speed" in what or "times" in what for what in gpu)
    assert gpu["kernel: off by at most"] < 1e-5 and gpu["FlexAttention: off by at most"] < 1e-5


# ------------------------------------------------------------------------------------------------- the reader


@pytest.mark.parametrize("kind", ["full", "Linformer", "Performer", "window, global, random", "window"])
def test_a_reader_learns_from_every_weight(kind: str):
    names = WEEK.namespace()
    torch.manual_seed(0)
    model = names["Reader"](kind, 17, 8, 64, d_model=8)
    tokens = torch.randint(17, (2, 64), generator=torch.Generator().manual_seed(0))
    names["class_loss"](model, tokens, torch.tensor([1, 5])).backward()
    untouched = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert untouched == []


def test_bigbird_with_all_blocks_reads_as_full_attention_does():
    names = WEEK.namespace()
    torch.manual_seed(0)
    full, sparse = (names["Reader"](kind, 17, 8, 48, d_model=8) for kind in ("full", "window, global, random"))
    sparse.load_state_dict(full.state_dict())
    tokens = torch.randint(17, (2, 48), generator=torch.Generator().manual_seed(0))
    assert bool(names["pattern_of"]("window, global, random", 3).all())  # three blocks of 16: each sees each
    torch.testing.assert_close(full(tokens), sparse(tokens))


def test_what_two_layers_reach_is_where_the_answer_depends_on(run: tuple[dict, Path]):
    names = run[0]
    torch.manual_seed(0)
    tokens = torch.randint(8, (1, 256), generator=torch.Generator().manual_seed(1))
    for parts in ("window", "window, random", "window, global"):
        model = names["Reader"](parts, 17, 8, 256).eval()
        felt = 0
        for block in range(8):
            changed = tokens.clone()
            changed[:, 16 * block : 16 * block + 16] = 9
            felt += bool((model(changed) != model(tokens)).any())
        assert felt / 8 == names["reached"](parts, 16)


# ------------------------------------------------------------------------------------------------ the puzzles


def test_a_planted_fact_stands_once_in_the_first_half():
    tokens, facts, where = puzzles.planted(50, 64, torch.Generator().manual_seed(0))
    is_fact = (tokens > puzzles.FILLER) & (tokens < puzzles.QUESTION)
    assert bool((is_fact.sum(dim=1) == 1).all()) and torch.equal(is_fact.int().argmax(dim=1), where)
    assert torch.equal(tokens[torch.arange(50), where] - 1, facts) and int(where.max()) < 32
    assert bool((tokens[:, -1] == puzzles.QUESTION).all()) and int((tokens == puzzles.QUESTION).sum()) == 50


def value_of(words: list[str], row: dict[str, bool]) -> bool:
    """Of a formula in words, by Python."""
    return bool(eval(" ".join(words), {"__builtins__": {}}, row))


def test_relations_are_those_of_the_truth_tables():
    rng = torch.Generator().manual_seed(0)
    first, second, found = puzzles.logic_pairs(70, 4, seed=3)
    first, second = puzzles.with_letters([first, second], rng)
    assert found.bincount(minlength=7).tolist() == [10] * 7
    rows = [{letter: bool(bits >> i & 1) for i, letter in enumerate("abcdef")} for bits in range(64)]
    for left, right, relation in zip(first, second, found.tolist(), strict=True):
        sides = [[puzzles.LOGIC_TOKENS[t] for t in side.tolist() if t] for side in (left, right)]
        assert sum(word in ("not", "and", "or") for word in sides[0]) == 4
        assert len({word for side in sides for word in side if len(word) == 1 and word.isalpha()}) <= 4
        values = {tuple(value_of(side, row) for side in sides) for row in rows}
        expected = {
            frozenset({(True, True), (False, False)}): "equivalent",
            frozenset({(True, True), (False, False), (False, True)}): "entails",
            frozenset({(True, True), (False, False), (True, False)}): "is entailed by",
            frozenset({(True, False), (False, True)}): "negation",
            frozenset({(True, False), (False, True), (False, False)}): "excludes",
            frozenset({(True, False), (False, True), (True, True)}): "covers",
            frozenset({(True, False), (False, True), (True, True), (False, False)}): "independent",
        }[frozenset(values)]
        assert puzzles.RELATIONS[relation] == expected


def evaluated(words: list[str]) -> int:
    """A nested list's value, by a stack."""
    stack: list[list] = [[]]
    for word in words:
        if word.startswith("["):
            stack.append([word])
        elif word == "]":
            operation, *values = stack.pop()
            ordered = sorted(values)
            found = {"[MIN": ordered[0], "[MAX": ordered[-1], "[MED": ordered[len(ordered) // 2]}
            stack[-1].append(found.get(operation, sum(values) % 10))
        else:
            stack[-1].append(int(word))
    [[value]] = stack
    return value


def test_nested_lists_have_the_values_that_are_told():
    tokens, values = puzzles.list_operations(200, 40, seed=0)
    assert tokens.size(1) <= 40
    for row, value in zip(tokens, values.tolist(), strict=True):
        assert evaluated([puzzles.LIST_TOKENS[t] for t in row.tolist() if t]) == value
    assert all(len(puzzles.nested_list(4, random.Random(i))[0]) == 4 for i in range(20))


# --------------------------------------------------------------------------------------------- a trained reader


def answer(week: dict, inputs: dict) -> dict:
    torch.manual_seed(0)
    model = week["Reader"](week["FINDER"], puzzles.PLANTED_TOKENS, puzzles.FACTS, 256)
    weights = {name: value.detach().clone() for name, value in model.named_parameters()}
    return drives.retrieval(Student(week), {"weights": weights, "figures": {}, **inputs})


def shortened(inputs: dict) -> dict:
    return {name: tokens[:, -256:] for name, tokens in inputs.items()}


def test_a_reader_that_reads_nothing_is_refused():
    inputs, facts = drives.retrieval_public()
    outputs = {"logits": torch.nn.functional.one_hot(facts, puzzles.FACTS).float()}
    outputs["logits without the fact"] = torch.zeros(len(facts) // 8, puzzles.FACTS)
    assert drives.score_retrieval(inputs, outputs, facts) == 1.0
    for spoilt, message in (
        ({"logits": outputs["logits"][1:]}, "logits of shape"),
        ({"logits": outputs["logits"] / 0}, "not finite"),
        ({"logits": torch.zeros(len(facts), puzzles.FACTS)}, "do not depend"),
    ):
        with pytest.raises(ValueError, match=message):
            drives.score_retrieval(inputs, outputs | spoilt, facts)


def test_a_saved_reader_is_built_by_its_weights():
    week, (inputs, _) = WEEK.namespace(), drives.retrieval_public()
    inputs = {name: tokens[:40] for name, tokens in shortened(inputs).items()}
    outputs = answer(week, inputs)
    assert outputs["logits"].shape == (40, puzzles.FACTS)
    torch.manual_seed(0)
    model = week["Reader"](week["FINDER"], puzzles.PLANTED_TOKENS, puzzles.FACTS, 256).eval()
    with torch.no_grad():
        torch.testing.assert_close(outputs["logits"], model(inputs["tokens"]))


def test_the_graders_sequences_are_others():
    [artifact] = WEEK.artifacts
    inputs, facts = artifact.inputs(WEEK.heldout)
    public, others = drives.retrieval_public()
    same = (inputs["tokens"] == public["tokens"]).all(dim=1)
    assert int(same.sum()) <= 3 and not torch.equal(facts, others)
    changed: Tensor = inputs["tokens"][::8] != inputs["without the fact"]
    assert bool((changed.sum(dim=1) == 1).all())


# --------------------------------------------------------------------------------------------- the common curve


def test_the_courses_runs_are_those_of_the_weeks_results(run: tuple[dict, Path]):
    names = run[0]
    for week, points in names["COURSE_RUNS"].items():
        folder = WEEK.folder.parent / week
        results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        expected = results["artifacts"]["chars"]["seeds"]["0"]["points"]
        assert [point[0] for point in points] == [point[0] for point in expected]
        for told, (_, seconds, seen, bits) in zip(points, expected, strict=True):
            assert told[1:] == (round(seconds, 1), seen, round(bits, 4))
        saved = folder / "artifacts" / "chars.safetensors"
        assert names["shape_of"](saved) == names["SHAPES"][week]
        with safe_open(saved, framework="pt") as file:
            weights = sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118
        built = sum(p.numel() for p in names["network_of"](*names["SHAPES"][week]).parameters())
        assert built == weights


def test_the_students_own_models_are_found_beside_the_notebook(run: tuple[dict, Path], tmp_path, monkeypatch):
    names = dict(run[0])
    theirs, here = tmp_path / "week06_gpt", tmp_path / "week08_efficient"
    theirs.mkdir()
    here.mkdir()
    for suffix in (".safetensors", ".json"):
        source = WEEK.folder.parent / "week06_gpt" / "artifacts" / f"chars{suffix}"
        (theirs / source.name).write_bytes(source.read_bytes())
    monkeypatch.chdir(here)
    exec(dict(experiments.experiments(WEEK))["curve"], names)
    plt.close("all")
    assert "GPT, week 6, yours" in names["curve"] and "LSTM, week 2, the course's run" in names["curve"]
