"""The command that runs a week's experiments: cells as they stand, each seed scored on held-out data, results added up."""

import json
from pathlib import Path

import pytest
import torch

from autograder import Artifact, experiments

MASTER = """# %%
import torch
from torch import nn

seed = 0

# %% experiment="small"
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.tensor([float(seed)]))
from course.train import save_artifact
save_artifact("small", Model(), {"points": [[1, seed]]})
made = {"of": seed}

# %% experiment="after"
table, model = [made["of"], 2.5], Model()
import matplotlib.pyplot as plt
figure, ax = plt.subplots()
ax.plot(table)
plt.show()
"""


class Week:
    """What `run` asks of a week, without the rest."""

    name = "week01_rnn"
    heldout = Path("nowhere")

    def __init__(self, folder):
        import jupytext

        self.folder, self.master = folder, jupytext.reads(MASTER, fmt="py:percent")
        self.artifacts = [
            Artifact(
                name="small",
                file="small.safetensors",
                thresholds=[(1.0, 1)],
                inputs=lambda heldout: ({"add": 10.0}, 100.0),
                score=lambda inputs, outputs, key: float(outputs["sum"]) + key,
            )
        ]

    def namespace(self):
        namespace = {"__name__": "__main__"}
        exec(self.master.cells[0].source, namespace)
        return namespace


@pytest.fixture
def week(tmp_path, monkeypatch):
    def drive(student, inputs):
        assert student.Model
        return {"sum": inputs["weights"]["bias"] + inputs["add"]}

    monkeypatch.setattr("course.drives.drive_of", lambda week, exercise: drive)
    return Week(tmp_path)


def results(week):
    return json.loads((week.folder / "results.json").read_text())


def test_every_seed_is_scored_and_seed_0_is_kept(week):
    experiments.run(week, [], seeds=3)
    found = results(week)
    model = found["artifacts"]["small"]
    assert model["heldout"] == {"per_seed": [110.0, 111.0, 112.0], "mean": 111.0, "sd": 1.0}
    assert model["seeds"]["2"] == {"heldout": 112.0, "points": [[1, 2]]}
    assert found["command"] == "python -m autograder.experiments week01_rnn"
    assert found["machine"]["torch"] == torch.__version__
    assert found["experiments"]["small"]["made"] == {"of": 0}
    assert found["experiments"]["after"].keys() == {"table", "wall_seconds"}  # a model is no result
    assert found["experiments"]["after"]["table"] == [0, 2.5]
    assert json.loads((week.folder / "artifacts" / "small.json").read_text()) == {"points": [[1, 0]]}
    assert not Path("small.json").exists()


def test_what_the_cells_draw_is_kept_on_request(week, tmp_path):
    experiments.run(week, [], seeds=2, figures=tmp_path / "figures")
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["after-1.png"]


def test_only_some_cells_add_to_what_there_is(week):
    experiments.run(week, [], seeds=2)
    (week.folder / "results.json").write_text(json.dumps(results(week) | {"note": "kept"}))
    experiments.run(week, ["small"], seeds=1)
    assert results(week)["note"] == "kept"
    assert results(week)["experiments"].keys() == {"small", "after"}
    assert results(week)["artifacts"]["small"]["heldout"]["per_seed"] == [110.0, 111.0]


def test_what_another_machine_left_keeps_its_name(week, monkeypatch):
    experiments.run(week, [], seeds=2)
    there = results(week)["machine"]
    monkeypatch.setattr(experiments, "machine", lambda: {"processor": "another"})
    experiments.run(week, ["small"], seeds=1)
    found = results(week)
    assert found["machine"] == {"processor": "another"}
    assert "machine" not in found["experiments"]["small"] and found["experiments"]["after"]["machine"] == there
    seeds = found["artifacts"]["small"]["seeds"]
    assert "machine" not in seeds["0"] and seeds["1"]["machine"] == there


def test_a_model_that_cannot_be_scored_is_told(week, monkeypatch):
    def drive(student, inputs):
        raise RuntimeError("no such weight")

    monkeypatch.setattr("course.drives.drive_of", lambda week, exercise: drive)
    with pytest.raises(ValueError, match="small: RuntimeError: no such weight"):
        experiments.run(week, [], seeds=1)
