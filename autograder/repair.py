"""Repair: rebuilds what a student handed in on the released notebook, so that everything in the release is in its place.

The result has every released cell, in the released order, with the released ids and metadata. Students' own words and
code stand in the cells that are theirs to write; checks and given code are the released ones. Cells that students added
keep their place behind the cell they follow. What was changed is said in `repairs`.
"""

import copy
import json
from bisect import bisect_left
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_raw_cell

MAX_NOTEBOOK_BYTES = 64 * 2**20
LOCKED = ("setup", "given", "check")  # released cells whose source is not the student's to change
OWN = {"code": new_code_cell, "markdown": new_markdown_cell, "raw": new_raw_cell}


class Unreadable(ValueError):
    """A submission that is no notebook. The message says why, for students."""


@dataclass(frozen=True)
class Repaired:
    """A notebook that can be graded, and what had to be done to make it one, each a sentence for the student."""

    notebook: NotebookNode
    repairs: list[str]


def find_notebook(folder: Path, name: str) -> Path | None:
    """The notebook that was handed in: `name.ipynb`, or the only notebook in the folder. None where there is none.

    Of several notebooks under other names, the one whose name has the released name in it, if that is only one.
    """
    exact = folder / f"{name}.ipynb"
    if exact.is_file() and not exact.is_symlink():
        return exact
    found = sorted(p for p in folder.glob("*.ipynb") if p.is_file() and not p.is_symlink())
    likely = [path for path in found if name in path.name]
    candidates = found if len(found) == 1 else likely
    return candidates[0] if len(candidates) == 1 else None


def read_notebook(path: Path) -> NotebookNode:
    """The notebook at `path` in format 4. Raises Unreadable, in words for students."""
    if path.is_symlink() or not path.is_file():
        raise Unreadable(f"There is no notebook {path.name} in the submission.")
    if path.stat().st_size > MAX_NOTEBOOK_BYTES:
        raise Unreadable(
            f"{path.name} is larger than {MAX_NOTEBOOK_BYTES // 2**20} MB; clear its outputs and submit it again."
        )
    try:
        tree = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise Unreadable(
            f"{path.name} is not a notebook: it cannot be read as JSON. Save it in Jupyter and submit it again."
        ) from None
    try:
        if tree["nbformat"] < 4:
            tree = nbformat.convert(nbformat.from_dict(tree), 4)
        notebook = nbformat.from_dict(tree)
        if notebook["nbformat"] != 4 or not isinstance(notebook["cells"], list):
            raise ValueError
    except Exception:  # anything at all can stand in the place of a notebook
        raise Unreadable(
            f"{path.name} is not a notebook in a format that Jupyter writes. Save it in Jupyter and submit it again."
        ) from None
    return notebook


def _source(cell: Any) -> str:
    source = cell.get("source", "")
    if isinstance(source, list):
        source = "".join(part for part in source if isinstance(part, str))
    return source if isinstance(source, str) else ""


def _tag(cell: Any, *path: str) -> str:
    """The text at a path of keys in a cell that may hold anything."""
    for key in path:
        cell = cell.get(key) if isinstance(cell, dict) else None
    return cell if isinstance(cell, str) else ""


def role(cell: NotebookNode) -> str:
    """What a released cell is for: solution, check, given, setup, written, experiment, look or text."""
    return _tag(cell, "metadata", "course", "role")


def exercise(cell: NotebookNode) -> str:
    return _tag(cell, "metadata", "course", "exercise")


def _match(submitted: list[Any], released: list[NotebookNode]) -> dict[int, int]:
    """Submitted cell -> released cell, by position: by cell id first, then by grade id. Each at most once, the first wins."""
    matched: dict[int, int] = {}
    taken: set[int] = set()
    for key in (("id",), ("metadata", "nbgrader", "grade_id")):
        places = {_tag(cell, *key): i for i, cell in enumerate(released) if _tag(cell, *key)}
        for j, cell in enumerate(submitted):
            i = places.get(_tag(cell, *key))
            if i is not None and i not in taken and j not in matched:
                matched[j] = i
                taken.add(i)
    return matched


def _in_order(places: list[int]) -> set[int]:
    """The values of a longest increasing subsequence: cells that stand in the released order among themselves."""
    tails: list[int] = []
    previous: dict[int, int | None] = {}
    for place in places:
        at = bisect_left(tails, place)
        previous[place] = tails[at - 1] if at else None
        tails[at : at + 1] = [place]
    kept, place = set(), tails[-1] if tails else None
    while place is not None:
        kept.add(place)
        place = previous[place]
    return kept


def _label(cell: NotebookNode) -> str:
    what, name = role(cell), exercise(cell)
    if what == "check":
        return f"The check of {name}"
    if what == "solution":
        return f"The cell for {name}"
    if what == "written":
        return f"The cell for your answer {name!r}"
    return "A cell of given code"


def repair(submission: NotebookNode, release: NotebookNode) -> Repaired:
    """The submission rebuilt on the release. Never fails: whatever is no cell is left out."""
    submitted = [cell for cell in submission["cells"] if isinstance(cell, dict) and cell.get("cell_type") in OWN]
    matched = _match(submitted, release.cells)
    of_release = {i: j for j, i in matched.items()}
    ordered = _in_order([matched[j] for j in sorted(matched)])
    grade_ids = {_tag(cell, "metadata", "nbgrader", "grade_id"): cell for cell in release.cells}
    grade_ids.pop("", None)
    ids = {cell.id: cell for cell in release.cells}
    repairs: list[str] = []
    built: dict[int, NotebookNode] = {}
    for i, cell in enumerate(release.cells):
        theirs = submitted[of_release[i]] if i in of_release else None
        built[i] = _rebuilt(cell, theirs, repairs)
        if theirs is not None and i not in ordered and role(cell):
            repairs.append(f"{_label(cell)} had been moved; it is graded in its own place.")

    extras: dict[int, list[NotebookNode]] = {}
    behind = -1
    for j, cell in enumerate(submitted):
        if j in matched:
            behind = matched[j]
            continue
        original = ids.get(_tag(cell, "id")) or grade_ids.get(_tag(cell, "metadata", "nbgrader", "grade_id"))
        if original is not None and role(original):
            if role(original) in LOCKED:
                repairs.append(f"{_label(original)} stood there twice; the copy is left out.")
                continue
            repairs.append(f"{_label(original)} stood there twice; the copy counts as a cell of your own.")
        if _source(cell).strip():
            own = OWN[cell["cell_type"]](_source(cell))
            if own.cell_type == "code":
                own.outputs = _outputs(cell)
            extras.setdefault(behind, []).append(own)
    cells = []
    for i in range(-1, len(release.cells)):
        cells += [built[i]] if i >= 0 else []
        cells += extras.get(i, [])
    number = 0
    for cell in cells:
        if not role(cell) and cell.id not in ids:
            number += 1
            cell.id = f"own-{number}"
    notebook = copy.deepcopy(release)
    notebook.cells = cells
    return Repaired(notebook, repairs)


def _rebuilt(cell: NotebookNode, theirs: Any | None, repairs: list[str]) -> NotebookNode:
    """A released cell with the student's part in it; what had to be mended is added to `repairs`."""
    cell = copy.deepcopy(cell)
    what = role(cell)
    if theirs is None:
        if what in ("solution", "written", *LOCKED):
            repairs.append(f"{_label(cell)} was missing; it is the released one again.")
        return cell
    if what in LOCKED:
        if _source(theirs).strip() != cell.source.strip() or theirs["cell_type"] != cell.cell_type:
            repairs.append(f"{_label(cell)} had been changed; it is the released one again.")
        return cell
    cell.source = _source(theirs)
    if what in ("solution", "written") and theirs["cell_type"] != cell.cell_type:
        repairs.append(f"{_label(cell)} had become a {theirs['cell_type']} cell; it is a {cell.cell_type} cell again.")
    if cell.cell_type == "code":
        cell.outputs = _outputs(theirs)
    return cell


def _outputs(cell: Any) -> list[NotebookNode]:
    """The outputs that a code cell was handed in with; none where they are not what a notebook holds."""
    shell = {**new_code_cell(""), "outputs": copy.deepcopy(cell.get("outputs"))}
    valid = nbformat.validator.isvalid({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [shell]})
    return nbformat.from_dict(shell["outputs"]) if valid else []
