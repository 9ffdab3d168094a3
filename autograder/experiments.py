"""Runs a week's experiments as a student would, and writes down what came out: `solutions/WEEK/results.json`.

    python -m autograder.experiments week01 [--only CELL ...] [--seeds N] [--figures DIR]

The experiment cells of the master notebook are executed as they stand, on the solution. Cells that save a model are run
once for each seed, and each model is scored on the data that only the grader has, as in the grade; the models of seed 0 are
kept in `solutions/WEEK/artifacts/`. Results are written after every cell, so a run can be interrupted and `--only` adds to
what there is.
"""

import argparse
import contextlib
import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt

from autograder.exercise import Artifact
from autograder.hidden import processor_name
from autograder.week import Week, find_root, find_week


def machine() -> dict[str, Any]:
    """What figures depend on: processor, number of threads, versions."""
    import torch

    return {
        "processor": torch.cuda.get_device_name() if torch.cuda.is_available() else processor_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def experiments(week: Week) -> list[tuple[str, str]]:
    """(name, source) of the master's experiment cells, in order."""
    return [(c.metadata["experiment"], c.source) for c in week.master.cells if "experiment" in c.metadata]


def score(week: Week, artifact: Artifact, namespace: dict[str, Any], folder: Path) -> float:
    """The figure of a saved model on the held-out data. Raises ValueError where it cannot be loaded or scored."""
    from course.codec import Failure
    from course.drives import answer

    inputs, key = artifact.inputs(week.heldout)
    outputs = answer(week.name, artifact.name, namespace, {**inputs, **artifact.load(folder)})
    if isinstance(outputs, Failure):
        raise ValueError(f"{artifact.name}: {outputs.type}: {outputs.message}")
    return artifact.score(inputs, outputs, key)


def summary(figures: list[float]) -> dict[str, Any]:
    """Mean and standard deviation (of the sample) beside the figures themselves."""
    deviation = statistics.stdev(figures) if len(figures) > 1 else 0.0
    return {"per_seed": figures, "mean": statistics.fmean(figures), "sd": deviation}


def left_by(cell: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """The results that a cell left in variables: histories of runs, and lists and dicts of plain values."""
    from course.train import History

    found: dict[str, Any] = {}
    for name, value in sorted(cell.items()):
        if isinstance(value, History):
            value = {"points": value.points, "seconds": value.seconds, "updates": value.updates}
        if not isinstance(value, dict | list) or name.startswith("__") or before.get(name) is cell[name]:
            continue
        try:
            found[name] = json.loads(json.dumps(value))
        except TypeError:  # holds something else than plain values
            continue
    return found


def read_results(week: Week) -> dict[str, Any]:
    path = week.folder / "results.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"experiments": {}, "artifacts": {}}


def write_results(week: Week, results: dict[str, Any]) -> None:
    text = json.dumps(results, indent=1, sort_keys=True) + "\n"
    (week.folder / "results.json").write_text(text, encoding="utf-8")


def record(week: Week, cell: str, found: dict[str, Any], seed: int, model: dict[str, Any] | None) -> None:
    """Adds one run of a cell to the week's results; `model` has the figures of the model that it saved, if it did.

    The results name the machine of the last run. What another one left gets that one's name beside it.
    """
    results = read_results(week)
    results["command"] = f"python -m autograder.experiments {week.name}"
    here = machine()
    earlier, results["machine"] = results.get("machine", here), here
    if earlier != here:
        seeds = [model for entry in results["artifacts"].values() for model in entry["seeds"].values()]
        for each in (*results["experiments"].values(), *seeds):
            each.setdefault("machine", earlier)
    if seed == 0:
        results["experiments"][cell] = found
    if model is not None:
        entry = results["artifacts"].setdefault(cell, {"seeds": {}})
        entry["seeds"][str(seed)] = model
        entry["heldout"] = summary([entry["seeds"][key]["heldout"] for key in sorted(entry["seeds"], key=int)])
    write_results(week, results)


def save_figures(folder: Path, cell: str) -> None:
    """Every open figure as `CELL-N.png`, to be looked at."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in plt.get_fignums():
        plt.figure(number).savefig(folder / f"{cell}-{number}.png", dpi=80)


def run(week: Week, only: list[str], seeds: int, figures: Path | None = None) -> None:
    """Runs the experiment cells, or those named in `only`, one after the other in one namespace.

    `figures` is a folder for what the cells draw.
    """
    artifacts = {artifact.name: artifact for artifact in week.artifacts}
    namespace = week.namespace()
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):  # the cells save beside the notebook
        for name, source in experiments(week):
            if only and name not in only:
                continue
            for seed in reversed(
                range(seeds if name in artifacts else 1)
            ):  # 0 comes last: later cells look at its model
                namespace["seed"], before, began = seed, dict(namespace), time.perf_counter()
                exec(compile(source, f"<experiment {name}>", "exec"), namespace)
                found = left_by(namespace, before) | {"wall_seconds": round(time.perf_counter() - began, 1)}
                if figures is not None and seed == 0:
                    save_figures(figures, name)
                plt.close("all")
                model = None
                if name in artifacts:
                    saved = json.loads(Path(f"{name}.json").read_text(encoding="utf-8"))
                    model = {"heldout": score(week, artifacts[name], namespace, Path(scratch)), **saved}
                if model and seed == 0:
                    (week.folder / "artifacts").mkdir(exist_ok=True)
                    for suffix in (".safetensors", ".json"):
                        shutil.copy(f"{name}{suffix}", week.folder / "artifacts")
                record(week, name, found, seed, model)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("week")
    parser.add_argument("--only", nargs="*", default=[], help="experiment cells to run")
    parser.add_argument("--seeds", type=int, default=5, help="seeds of the cells that save a model")
    parser.add_argument("--figures", type=Path, help="a folder for what the cells draw")
    arguments = parser.parse_args()
    matplotlib.use("Agg")
    figures = arguments.figures and arguments.figures.resolve()  # the cells run in another folder
    run(find_week(find_root(), arguments.week), arguments.only, arguments.seeds, figures)


if __name__ == "__main__":
    main()
