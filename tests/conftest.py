"""Fixtures shared by all tests. `small_course` is a real course with one exercise: week 1 cut down to `rnn_step`."""

import os
import shutil
from pathlib import Path

import jupytext
import pytest

os.environ.setdefault("TRITON_INTERPRET", "1")  # Triton reads it when it is imported, and transformers imports Triton

ROOT = Path(__file__).parent.parent
WEEK = "week01_rnn"


@pytest.fixture
def root() -> Path:
    return ROOT


def cut_week(target: Path, exercises: tuple[str, ...]) -> None:
    """Copies week 1 into another course, keeping only some exercises (a new last line of exercises.py says which)."""
    source, folder = ROOT / "solutions" / WEEK, target / "solutions" / WEEK
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("__pycache__"))
    master = jupytext.read(source / f"{WEEK}.py", fmt="py:percent")

    def kept(cell) -> bool:
        names = [cell.metadata[option] for option in ("exercise", "check") if option in cell.metadata]
        given = cell.cell_type == "code" and not any(o in cell.metadata for o in ("experiment", "look"))
        return names[0] in exercises if names else given

    master.cells = [cell for cell in master.cells if kept(cell)]
    jupytext.write(master, folder / f"{WEEK}.py", fmt="py:percent")
    with (folder / "exercises.py").open("a") as file:
        file.write(f"\nEXERCISES = [e for e in EXERCISES if e.name in {exercises!r}]\n")
    alternates = jupytext.read(source / "alternates.py", fmt="py:percent")
    alternates.cells = [cell for cell in alternates.cells if cell.metadata.get("alternate", exercises[0]) in exercises]
    jupytext.write(alternates, folder / "alternates.py", fmt="py:percent")


@pytest.fixture
def small_course(tmp_path: Path) -> Path:
    """The root of a course of its own whose only week is week 1 with `rnn_step` alone, not yet released."""
    target = tmp_path / "course-copy"
    (target / "course").mkdir(parents=True)
    shutil.copyfile(ROOT / "nbgrader_config.py", target / "nbgrader_config.py")
    cut_week(target, ("rnn_step",))
    return target
