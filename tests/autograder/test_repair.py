"""Repair: whatever is done to a notebook, everything released is in its place again, and the student is told."""

import copy
import json

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell

from autograder.repair import Unreadable, find_notebook, read_notebook, repair


def cell(notebook, cell_id):
    return next(cell for cell in notebook.cells if cell.id == cell_id)


def position(notebook, cell_id):
    return [cell.id for cell in notebook.cells].index(cell_id)


def test_an_untouched_release_needs_no_repair(small):
    repaired = repair(copy.deepcopy(small.release), small.release)
    assert repaired.repairs == [] and repaired.notebook == small.release


def test_edited_deleted_duplicated_and_moved_cells(small):
    broken = small.solved()
    cell(broken, "check-rnn-step").source = "pass  # always right"
    cell(broken, "check-rnn-step").metadata.nbgrader.points = 1000
    twice = copy.deepcopy(cell(broken, "rnn-step"))
    twice.id, twice.source = "copied", "helper = 1"
    check_twice = copy.deepcopy(cell(broken, "check-rnn-step"))
    check_twice.id = "copied-check"
    broken.cells.insert(position(broken, "rnn-step") + 1, twice)
    broken.cells.append(check_twice)
    broken.cells.remove(cell(broken, "check-rnn-step-backward"))
    broken.cells.remove(cell(broken, "next-char-probs"))
    moved = broken.cells.pop(position(broken, "check-char-lm-loss"))
    broken.cells.insert(0, moved)
    cell(broken, "written-why-tanh").source = "Because."
    cell(broken, "rnn-step").metadata.tags = ["skip-execution"]
    cell(broken, "rnn-step").cell_type = "raw"
    repaired = repair(broken, small.release)
    notebook = repaired.notebook

    released = [cell.id for cell in small.release.cells]
    assert [cell.id for cell in notebook.cells if cell.id in released] == released
    for each in small.release.cells:
        mended = cell(notebook, each.id)
        assert mended.metadata == each.metadata and mended.cell_type == each.cell_type
    for check in ("rnn-step", "rnn-step-backward", "next-char-probs", "char-lm-loss"):
        assert cell(notebook, f"check-{check}").source == cell(small.release, f"check-{check}").source
    assert cell(notebook, "rnn-step").source == small.week.solution("rnn_step")
    assert cell(notebook, "next-char-probs").source == cell(small.release, "next-char-probs").source
    assert cell(notebook, "written-why-tanh").source == "Because."
    own = notebook.cells[position(notebook, "rnn-step") + 1]
    assert own.source == "helper = 1" and "nbgrader" not in own.metadata
    assert sorted(repaired.repairs) == [
        "The cell for next_char_probs was missing; it is the released one again.",
        "The cell for rnn_step had become a raw cell; it is a code cell again.",
        "The cell for rnn_step stood there twice; the copy counts as a cell of your own.",
        "The check of char_lm_loss had been moved; it is graded in its own place.",
        "The check of rnn_step had been changed; it is the released one again.",
        "The check of rnn_step stood there twice; the copy is left out.",
        "The check of rnn_step_backward was missing; it is the released one again.",
    ]
    nbformat.validate(notebook)


def test_cells_are_found_by_grade_id_where_ids_are_lost(small):
    """Old editors and Colab write notebooks without the released cell ids."""
    submitted = small.solved()
    for i, each in enumerate(submitted.cells):
        each.id = f"x{i}"
    repaired = repair(submitted, small.release)
    assert cell(repaired.notebook, "rnn-step").source == small.week.solution("rnn_step")
    assert not [text for text in repaired.repairs if "missing" in text]


def test_own_cells_stay_where_they_are(small):
    submitted = small.solved()
    at = position(submitted, "rnn-step")
    submitted.cells.insert(at, new_code_cell("import math"))
    submitted.cells.insert(0, new_markdown_cell("my notes"))
    notebook = repair(submitted, small.release).notebook
    assert notebook.cells[0].source == "my notes"
    assert notebook.cells[position(notebook, "rnn-step") - 1].source == "import math"


def test_outputs_of_experiments_are_kept_and_nonsense_is_dropped(small):
    submitted = json.loads(json.dumps(small.solved()))
    for each in submitted["cells"]:
        if each["id"] == "experiment-names":
            each["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "0.61"}]
        if each["id"] == "look-rnn-step":
            each["outputs"] = [{"output_type": "stream", "evil": 1}]
    submitted["cells"] += [None, 3, {"cell_type": "exotic"}, {"cell_type": "code", "source": 4, "metadata": []}]
    notebook = repair(nbformat.from_dict(submitted), small.release).notebook
    assert cell(notebook, "experiment-names").outputs[0].text == "0.61"
    assert cell(notebook, "look-rnn-step").outputs == []
    nbformat.validate(notebook)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "not json",
        "[]",
        "{}",
        '{"nbformat": 4}',
        '{"nbformat": 4, "cells": 3}',
        '{"nbformat": "x", "cells": []}',
        "[" * 9999,
    ],
)
def test_what_is_no_notebook_is_said_in_a_sentence(tmp_path, content):
    path = tmp_path / "week01_rnn.ipynb"
    path.write_text(content)
    with pytest.raises(Unreadable, match="Save it in Jupyter and submit it again"):
        read_notebook(path)


def test_the_notebook_is_found_under_another_name(tmp_path):
    assert find_notebook(tmp_path, "week01_rnn") is None
    (tmp_path / "Copy of week01_rnn.ipynb").touch()
    assert find_notebook(tmp_path, "week01_rnn").name == "Copy of week01_rnn.ipynb"
    (tmp_path / "scratch.ipynb").touch()
    assert find_notebook(tmp_path, "week01_rnn").name == "Copy of week01_rnn.ipynb"
    (tmp_path / "week01_rnn (1).ipynb").touch()
    assert find_notebook(tmp_path, "week01_rnn") is None
    (tmp_path / "week01_rnn.ipynb").symlink_to("/etc/passwd")
    assert find_notebook(tmp_path, "week01_rnn") is None
