"""Repair: rebuilds what a student handed in on the released notebook, so that everything in the release is in its place.

The result has every released cell, in the released order, with the released ids, types and metadata. Students' own words
and code stand in the cells that are theirs to write; checks and given code are the released ones. Cells that students
added keep their place behind the cell they follow. What was changed is said in `repairs`.

A submitted cell is known by its cell id, by the id that Colab keeps in the metadata, or by its grade id. Where ids are
lost, by what it defines, then by likeness to what was released, then by its place. Of several cells that define an
exercise's function, the one counts that is in force at the exercise's check when the notebook runs from top to bottom.
"""

import ast
import copy
import json
import os
import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache
from pathlib import Path
from typing import Any

import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_raw_cell

MAX_NOTEBOOK_BYTES = 64 * 2**20
MAX_CELLS = 1000  # of a notebook; the longest release has a tenth
MAX_OUTPUTS = 100  # of a cell
MAX_IMAGE = 2_000_000  # characters of an attached image
MAX_PARSED = 100_000  # characters of a cell that are read as code to see what it defines
MAX_REPAIRS = 40  # sentences
ALIKE = 0.6  # least likeness by which a cell without ids is taken for a released one
MAX_COMPARED = (
    200  # cells without ids that are compared with the release, and words of each: comparing costs their product
)
IMAGES = ("image/png", "image/jpeg", "image/gif")  # what may be attached to a text; scripts fit into none of them
BASE64 = re.compile(r"[A-Za-z0-9+/=\s]+")
LOCKED = ("setup", "given", "check")  # released cells whose source is not the student's to change
OWN = {"code": new_code_cell, "markdown": new_markdown_cell, "raw": new_raw_cell}
KEYS = (("id",), ("metadata", "id"), ("metadata", "nbgrader", "grade_id"))
GRADING = ("cell_type", "grade", "grade_id", "locked", "points", "schema_version", "solution", "task")


class Unreadable(ValueError):
    """A submission that is no notebook. The message says why, for students."""


@dataclass(frozen=True)
class Repaired:
    """A notebook that can be graded, and what had to be done to make it one, each a sentence for the student."""

    notebook: NotebookNode
    repairs: list[str]


# ----------------------------------------------------------------------------------------------------- files


def find_notebook(folder: Path, name: str) -> Path | None:
    """The notebook that was handed in for `name`; None where there is none, or where it cannot be told which one.

    `name.ipynb`; else that name in another case; else a copy of it ("Copy of ...", "... (1)", "...-1"), of several
    the one with the highest number; else the only notebook there. Subfolders are searched where the folder has none.
    Links are never followed.
    """
    found = _notebooks(folder) or [path for sub in _subfolders(folder) for path in _notebooks(sub)]
    best = min((_distance(path, name) for path in found), default=0)
    found = [path for path in found if _distance(path, name) == best]
    if len(found) > 1:
        numbers = [int((re.findall(r"\d+", _stem(path)[len(name) :]) or ["1"])[-1]) for path in found]
        found = [path for path, number in zip(found, numbers, strict=True) if number == max(numbers) and best == 2]
    return found[0] if len(found) == 1 else None


def why_not_found(folder: Path, name: str) -> str:
    """Why `find_notebook` found nothing, in a sentence for the student."""
    if _notebooks(folder) or any(_notebooks(sub) for sub in _subfolders(folder)):
        return f"Submit one notebook, {name}.ipynb; several others were found."
    packed = sorted(
        path.name for path in folder.iterdir() if path.suffix.lower() in (".zip", ".gz", ".tar", ".7z", ".rar")
    )
    if packed:
        return f"Submit {name}.ipynb itself; {_shown(packed[0])} has to be unpacked first."
    return f"Submit one notebook, {name}.ipynb; none was found."


def file_repairs(path: Path, name: str) -> list[str]:
    """What the student is told about the file that is graded: another name, other notebooks beside it."""
    told = []
    if path.name != f"{name}.ipynb":
        told.append(f"The notebook was named {_shown(path.name)}; it is graded as {name}.ipynb.")
    others = [_shown(other.name) for other in _notebooks(path.parent) if other != path]
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        told.append(f"Only one notebook is graded. Beside it stood {', '.join(others[:3])}{more}.")
    return told


def _notebooks(folder: Path) -> list[Path]:
    """The notebooks in a folder, also where a browser or an editor has put another ending behind the right one."""
    with os.scandir(folder) as entries:
        found = [Path(entry.path) for entry in entries if entry.is_file(follow_symlinks=False)]
    return sorted(path for path in found if re.search(r"^[^.].*\.ipynb(\.txt|\.json)?$", path.name, re.IGNORECASE))


def _subfolders(folder: Path) -> Iterator[Path]:
    """The folders below, three deep, in order, without those that tools hide."""
    for top, folders, _ in os.walk(folder):  # which follows no links
        deep = len(Path(top).relative_to(folder).parts) >= 3
        folders[:] = [] if deep else sorted(each for each in folders if not each.startswith((".", "__")))
        if Path(top) != folder:
            yield Path(top)


def _stem(path: Path) -> str:
    return re.split(r"\.ipynb", path.name, flags=re.IGNORECASE)[0]


def _distance(path: Path, name: str) -> int:
    """How far a file's name is from the right one: the same, in another case, a copy of it, another name."""
    stem = _stem(path)
    return 0 if stem == name else 1 if stem.lower() == name.lower() else 2 if name.lower() in stem.lower() else 3


def _shown(name: str) -> str:
    """A file's name as it can be shown on any page."""
    return re.sub(r"[^\w .()-]", "?", name)[:80]


def read_notebook(path: Path) -> NotebookNode:
    """The notebook at `path` in format 4. Raises Unreadable, in words for students."""
    if path.is_symlink() or not path.is_file():
        raise Unreadable(f"There is no notebook {_shown(path.name)} in the submission.")
    if path.stat().st_size > MAX_NOTEBOOK_BYTES:
        raise Unreadable(
            f"{_shown(path.name)} is larger than {MAX_NOTEBOOK_BYTES // 2**20} MB; clear its outputs and submit it again."
        )
    try:
        tree = json.loads(path.read_bytes(), parse_constant=lambda name: None)  # NaN is no JSON: Jupyter cannot open it
    except (ValueError, RecursionError):
        raise Unreadable(
            f"{_shown(path.name)} is not a notebook: it cannot be read as JSON. Save it in Jupyter and submit it again."
        ) from None
    try:
        if tree["nbformat"] < 4:
            tree = nbformat.convert(nbformat.reader.reads(json.dumps(tree)), 4)
        notebook = nbformat.from_dict(tree)
        if notebook["nbformat"] != 4 or not isinstance(notebook["cells"], list):
            raise ValueError
    except Exception:  # anything at all can stand in the place of a notebook
        raise Unreadable(
            f"{_shown(path.name)} is not a notebook in a format that Jupyter writes. Save it in Jupyter and submit it again."
        ) from None
    return notebook


# ------------------------------------------------------------------------------------------- what a cell holds


def _text(value: Any) -> str:
    """Text as notebooks hold it, in one piece or in lines, without what no file or program text can have in it."""
    if isinstance(value, list):
        value = "".join(part for part in value if isinstance(part, str))
    value = value if isinstance(value, str) else ""
    return value.replace("\r\n", "\n").replace("\0", "").encode("utf-8", "replace").decode()


def _source(cell: Any) -> str:
    return _text(cell.get("source", ""))


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


def _label(cell: NotebookNode) -> str:
    what, name = role(cell), exercise(cell)
    if what == "check":
        return f"The check of {name}"
    if what == "solution":
        return f"The cell for {name}"
    if what == "written":
        return f"The cell for your answer {name!r}"
    return "A cell of given code" if what in LOCKED else f"The cell {cell.id}"


def parse_cell(source: str) -> ast.Module:
    """A cell's code, with IPython's own syntax made Python where there is some.

    Raises SyntaxError, or MemoryError, RecursionError or ValueError for what Python cannot even parse.
    """
    try:
        return ast.parse(source)
    except SyntaxError:
        return ast.parse(TransformerManager().transform_cell(source))


@lru_cache(maxsize=256)  # most cells of a class are those of the release
def _definitions(source: str) -> frozenset[str]:
    """What code defines at its top level: functions and classes, and methods as `Class.method`. Nothing if it is no code."""
    source = re.sub(r"\A\s*%%.*", "", source)  # %%time and the like
    if len(source) > MAX_PARSED or not re.search(r"\b(def|class)\b", source):
        return frozenset()
    try:
        body = parse_cell(source).body
    except Exception:  # a SyntaxError, or whatever else hostile code does to a parser
        return frozenset()
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    found = {node.name for node in body if isinstance(node, (*functions, ast.ClassDef))}
    classes = [node for node in body if isinstance(node, ast.ClassDef)]
    methods = {f"{node.name}.{each.name}" for node in classes for each in node.body if isinstance(each, functions)}
    return frozenset(found | methods)


def _has_code(source: str) -> bool:
    return any(line.strip() and not line.strip().startswith("#") for line in source.splitlines())


def _outputs(cell: Any) -> list[NotebookNode]:
    """The outputs that a code cell was handed in with, texts in one piece; without those that no notebook can hold."""
    outputs = cell.get("outputs")
    kept = []
    for output in outputs[:MAX_OUTPUTS] if isinstance(outputs, list) else []:
        try:
            output = json.loads(json.dumps(output, ensure_ascii=False).encode("utf-8", "replace"))
            shell = nbformat.from_dict({**new_code_cell(""), "outputs": [output]})
            if nbformat.validator.isvalid({**new_notebook(), "cells": [shell]}):
                kept += nbformat.v4.rwbase.rejoin_lines(new_notebook(cells=[shell])).cells[0].outputs
        except (ValueError, RecursionError):
            continue
    return kept


def _attachments(cell: Any) -> dict[str, dict[str, str]]:
    """The images attached to a text cell."""
    attached = cell.get("attachments")
    kept: dict[str, dict[str, str]] = {}
    for name, bundle in attached.items() if isinstance(attached, dict) else ():
        for kind, data in bundle.items() if isinstance(bundle, dict) else ():
            if kind in IMAGES and (data := _text(data)) and len(data) <= MAX_IMAGE and BASE64.fullmatch(data):
                kept.setdefault(_text(name), {})[kind] = data
    return kept


# -------------------------------------------------------------------------------------------------- matching


class _Match:
    """Which submitted cell stands for which released one. Cells are known by their positions in the two notebooks.

    `of_release`: released -> submitted. `of_submitted`: the same, the other way round. `claims`: submitted -> released,
    by ids alone, so that several may claim the same. `lent`: released solution -> submitted cell that stands for another
    released cell, or was merged into one, and defines this exercise too. `found`: those matched without an id.
    `plural`: solutions that several cells define. `instead`: solutions whose own cell does not define them, but another
    does -> their own cell.
    """

    def __init__(self, submitted: list[Any], released: list[NotebookNode]):
        self.submitted, self.released = submitted, released
        self.sources = [_source(cell) for cell in submitted]
        self.of_release: dict[int, int] = {}
        self.of_submitted: dict[int, int] = {}
        self.claims: dict[int, int] = {}
        self.lent: dict[int, int] = {}
        self.found: set[int] = set()
        self.plural: set[int] = set()
        self.instead: dict[int, int] = {}
        self._by_ids()
        self._by_definition()
        self._by_likeness()
        self._by_place()

    def untouched(self, j: int, i: int) -> bool:
        return self.sources[j].strip() == self.released[i].source.strip()

    def _put(self, j: int, i: int) -> None:
        self.of_submitted.pop(self.of_release.pop(i, -1), None)
        self.of_release[i], self.of_submitted[j] = j, i

    def _by_ids(self) -> None:
        for key in KEYS:
            ours = key if "nbgrader" in key else ("id",)
            places = {_tag(cell, *ours): i for i, cell in enumerate(self.released)}
            places.pop("", None)
            for j, cell in enumerate(self.submitted):
                i = places.get(_tag(cell, *key))
                if i is None or j in self.claims:
                    continue
                if not role(self.released[i]) and cell["cell_type"] != self.released[i].cell_type:
                    continue  # a text of the release in which the student wrote code: a cell of their own
                self.claims[j] = i
                if i not in self.of_release:
                    self._put(j, i)

    def _claimed_type(self, j: int) -> str:
        return self.released[self.claims[j]].cell_type if j in self.claims else ""

    def _by_definition(self) -> None:
        """For each solution, the cell that defines it; see the module's docstring for which of several."""
        defined = [
            _definitions(source) if "code" in (cell["cell_type"], self._claimed_type(j)) else frozenset()
            for j, (cell, source) in enumerate(zip(self.submitted, self.sources, strict=True))
        ]
        checks = {exercise(cell): i for i, cell in enumerate(self.released) if role(cell) == "check"}
        for i, cell in enumerate(self.released):
            if role(cell) != "solution":
                continue
            at = self.of_release.get(i)
            makers = [j for j, names in enumerate(defined) if exercise(cell) in names and not self.untouched(j, i)]
            free = [j for j in makers if self.of_submitted.get(j, i) == i]
            end = self.of_release.get(checks.get(exercise(cell), -1), len(self.submitted))
            if free:
                chosen = max((j for j in free if j < end), default=free[0])
                if len(free) > 1:
                    self.plural.add(i)
                elif at is not None and chosen != at:
                    self.instead[i] = at
                elif chosen not in self.claims:
                    self.found.add(i)
                if chosen != at:
                    self._put(chosen, i)
            elif makers and (at is None or self.untouched(at, i) or not _has_code(self.sources[at])):
                others = [j for j in makers if not self.untouched(j, self.of_submitted[j])]
                if others:
                    self.lent[i] = max((j for j in others if j < end), default=others[0])

    def _left(self) -> tuple[list[int], list[int]]:
        """Submitted cells that stand for nothing and say nothing of themselves, released cells that nothing stands for."""
        loose = [
            j for j, source in enumerate(self.sources) if j not in self.of_submitted and j not in self.claims and source
        ]
        return loose, [i for i in range(len(self.released)) if i not in self.of_release and i not in self.lent]

    def _by_likeness(self) -> None:
        """The pairs that are most alike first; of pairs as much alike, those whose places are nearest."""
        loose, missing = self._left()
        pairs = []
        words = {i: _words(self.released[i].source) for i in missing}
        for j in loose[:MAX_COMPARED]:
            theirs = _words(self.sources[j])
            for i in missing:
                what = role(self.released[i])
                if self.submitted[j]["cell_type"] == self.released[i].cell_type or what == "written":
                    alike = _likeness(theirs, words[i], grown=what in ("solution", "written"))
                    apart = abs(j / len(self.submitted) - i / len(self.released))
                    if alike >= ALIKE:
                        pairs.append((-round(alike, 2), round(apart, 3), j, i))
        for _, _, j, i in sorted(pairs):
            if j not in self.of_submitted and i not in self.of_release:
                self._put(j, i)
                self.found.add(i)

    def _by_place(self) -> None:
        """A written answer that replaced all of its prompt: the only text left between the cells around it."""
        loose, missing = self._left()
        for i in missing:
            if role(self.released[i]) != "written":
                continue
            before = max((self.of_release[k] for k in range(i) if k in self.of_release), default=-1)
            after = (self.of_release[k] for k in range(i + 1, len(self.released)) if k in self.of_release)
            end = next(after, len(self.submitted))
            between = [j for j in loose if before < j < end and self.submitted[j]["cell_type"] == "markdown"]
            if len(between) == 1:
                self._put(between[0], i)
                self.found.add(i)


def _words(source: str) -> list[str]:
    return re.findall(r"\w+", source)[:MAX_COMPARED]


def _likeness(theirs: list[str], released: list[str], grown: bool) -> float:
    """0 to 1: how much two texts have in common. `grown`: how much of the released one is left, whatever was added."""
    if not theirs or not released:
        return 0.0
    matcher = SequenceMatcher(None, theirs, released, autojunk=False)
    scale = (len(theirs) + len(released)) / (2 * len(released)) if grown else 1.0
    if matcher.real_quick_ratio() * scale < ALIKE or matcher.quick_ratio() * scale < ALIKE:
        return 0.0
    return matcher.ratio() * scale


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


# -------------------------------------------------------------------------------------------------- building


def repair(submission: NotebookNode, release: NotebookNode) -> Repaired:
    """The submission rebuilt on the release. Never fails: whatever is no cell is left out."""
    submitted = [cell for cell in submission["cells"] if isinstance(cell, dict) and cell.get("cell_type") in list(OWN)]
    repairs: list[str] = []
    if len(submitted) > MAX_CELLS:
        repairs.append(f"The notebook has {len(submitted)} cells; only the first {MAX_CELLS} are read.")
        submitted = submitted[:MAX_CELLS]
    match = _Match(submitted, release.cells)
    places = [match.of_submitted[j] for j in sorted(match.of_submitted)]
    places = [i for i in places if i not in match.plural and i not in match.instead]
    ordered = _in_order(places)
    built = []
    for i, cell in enumerate(release.cells):
        built.append(_rebuilt(match, i, repairs))
        if i in places and i not in ordered and role(cell):
            repairs.append(f"{_label(cell)} had been moved; it is graded in its own place.")
    repairs += _told_of_ids_and_marks(match)
    extras = _own_cells(match, repairs)
    cells = extras.get(-1, [])
    for i, cell in enumerate(built):
        cells += [cell, *extras.get(i, [])]
    notebook = copy.deepcopy(release)
    notebook.cells = cells
    repairs = list(dict.fromkeys(repairs))
    if len(repairs) > MAX_REPAIRS:
        repairs[MAX_REPAIRS:] = [f"{len(repairs) - MAX_REPAIRS} more cells were repaired in the same way."]
    return Repaired(notebook, repairs)


def _rebuilt(match: _Match, i: int, repairs: list[str]) -> NotebookNode:
    """A released cell with the student's part in it; what had to be mended is added to `repairs`."""
    cell = copy.deepcopy(match.released[i])
    what, name = role(cell), exercise(cell)
    if i in match.lent:
        cell.source = match.sources[match.lent[i]]
        repairs.append(
            f"You define {name} in a cell that has another task; that cell stands in the cell for {name} too."
        )
        return cell
    if i not in match.of_release:
        if what in ("solution", "written", *LOCKED):
            repairs.append(f"{_label(cell)} was missing; it is the released one again.")
        return cell
    j = match.of_release[i]
    theirs = match.submitted[j]
    if what in LOCKED:
        if not match.untouched(j, i) or theirs["cell_type"] != cell.cell_type:
            repairs.append(f"{_label(cell)} had been changed; it is the released one again.")
        return cell
    cell.source = match.sources[j]
    if i in match.plural:
        repairs.append(
            f"You define {name} in more than one cell. The last one before its check counts, as in a run from top to bottom."
        )
    if i in match.instead:
        repairs.append(f"{_label(cell)} does not hold your {name}; the cell that does counts for it.")
    if what in ("solution", "written") and theirs["cell_type"] != cell.cell_type:
        repairs.append(f"{_label(cell)} had become a {theirs['cell_type']} cell; it is a {cell.cell_type} cell again.")
    if cell.cell_type == "code":
        cell.outputs = _outputs(theirs)
    elif attached := _attachments(theirs):
        cell.attachments = attached
    return cell


def _told_of_ids_and_marks(match: _Match) -> list[str]:
    """One sentence on the cells that were found without their ids, one on those whose marks for grading were changed."""
    told = []
    found = [
        exercise(match.released[i]) for i in sorted(match.found) if role(match.released[i]) in ("solution", "written")
    ]
    if found:
        told.append(
            f"Found by what they hold, because they stood in cells without the released ids: {', '.join(found)}."
        )
    marked = []
    for i, j in sorted(match.of_release.items()):
        cell, theirs = match.released[i], match.submitted[j]
        metadata = theirs.get("metadata") if isinstance(theirs.get("metadata"), dict) else {}
        marks, right = metadata.get("nbgrader"), cell.metadata.get("nbgrader", {})
        forged = isinstance(marks, dict) and any(marks.get(key) != right.get(key) for key in GRADING)
        tags, given = metadata.get("tags"), cell.metadata.get("tags", [])
        skipped = isinstance(tags, list) and "skip-execution" in tags and "skip-execution" not in given
        if role(cell) and (forged or skipped):
            marked.append(_label(cell).removeprefix("The ").removeprefix("A "))
    if marked:
        more = f" and {len(marked) - 5} more" if len(marked) > 5 else ""
        told.append(
            f"Tags or marks for grading had been changed and are the released ones again: {', '.join(marked[:5])}{more}."
        )
    return told


def _own_cells(match: _Match, repairs: list[str]) -> dict[int, list[NotebookNode]]:
    """The student's own cells, by the released cell behind which each stands; -1 is the top of the notebook.

    Copies of checks and given code, and untouched copies of a solution's template, are left out: they would undo work.
    """
    extras: dict[int, list[NotebookNode]] = {}
    behind = _behind(match)
    templates = {cell.source.strip(): cell for cell in match.released if role(cell) == "solution"}
    number = 0
    for j, cell in enumerate(match.submitted):
        source = match.sources[j]
        if j in match.of_submitted or not source.strip():
            continue
        original = match.released[match.claims[j]] if j in match.claims else templates.get(source.strip())
        if original is not None and (role(original) in LOCKED or source.strip() in templates):
            if j not in match.instead.values():
                repairs.append(f"{_label(original)} stood there twice; the copy is left out.")
            continue
        told = j in match.instead.values() or match.claims.get(j) in match.plural
        if original is not None and role(original) and not told:
            repairs.append(f"{_label(original)} stood there twice; the copy counts as a cell of your own.")
        number += 1
        own = OWN[cell["cell_type"]](source, id=f"own-{number}")
        if own.cell_type == "code":
            own.outputs = _outputs(cell)
        elif own.cell_type == "markdown" and (attached := _attachments(cell)):
            own.attachments = attached
        extras.setdefault(behind[j], []).append(own)
    return extras


def _behind(match: _Match) -> list[int]:
    """For each submitted cell, the released cell that it stands behind in the rebuilt notebook.

    The one that it follows; but cells right above a solution that is moved up go up with it, for it may need them.
    """
    follows, behind = [], -1
    for j in range(len(match.submitted)):
        behind = match.of_submitted.get(j, behind)
        follows.append(behind)
    following = None
    for j in reversed(range(len(match.submitted))):
        if j in match.of_submitted:
            following = match.of_submitted[j]
        elif following is not None and following <= follows[j] and role(match.released[following]) == "solution":
            follows[j] = following - 1
    return follows
