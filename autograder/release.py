"""Release: from a week's master notebook to what students get.

The nbgrader source notebook is built in a folder that holds nothing else (nbgrader copies whatever lies beside a source
notebook to students), nbgrader's own generate_assignment turns it into the assignment, and the public cases are drawn.
The same master gives the same bytes. Nothing is put in place unless `validate` passes and the leak scan finds nothing.
"""

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import torch
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from nbgrader.converters import GenerateAssignment
from nbgrader.coursedir import CourseDirectory
from traitlets.config import Config

from autograder.bank import PUBLIC_SEED, make_bank
from autograder.errors import CourseError
from autograder.settings import load_settings
from autograder.week import Week
from course.check import Bank, compare, is_floating, leaves
from course.drives import slug

ROLES = ("exercise", "check", "written", "experiment", "look")
LEAST_PRIVATE_LINE = 24  # characters without spaces; shorter lines are too common to prove a leak

COLAB_CELL = """\
# In Google Colab this cell installs the course; anywhere else it does nothing.
import sys

if "google.colab" in sys.modules:
    {install}"""


def colab_cell(repository: str | None) -> str:
    """The first cell of every released notebook. Without a repository it says in Colab what is missing."""
    if repository:
        return COLAB_CELL.format(install=f'%pip install --quiet "rnn-to-transformers @ git+{repository}"')
    message = "This copy of the course names no repository: ask your instructor where to install it from."
    return COLAB_CELL.format(install=f'raise SystemExit("{message}")')


def _digest(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()[:8]


def source_notebook(week: Week, repository: str | None = None) -> NotebookNode:
    """The nbgrader source notebook of a week: the master's cells, in order, with ids and nbgrader's metadata.

    Raises CourseError where the master and exercises.py do not name the same exercises in the same order, or where an id
    would stand twice.
    """
    points = {exercise.name: exercise.points for exercise in week.exercises}
    points |= {artifact.name: artifact.points for artifact in week.artifacts}
    setup = new_code_cell(colab_cell(repository), id="setup")
    setup.metadata = _metadata("setup", "", grade_id="setup", locked=True)
    cells = [setup]
    for cell in week.master.cells:
        role = next((role for role in ROLES if role in cell.metadata), "given" if cell.cell_type == "code" else "text")
        name = cell.metadata.get(role, "")
        cell_id = f"{role}-{slug(name) if name else _digest(cell.source)}"
        if role == "exercise":
            role, cell_id = "solution", slug(name)
        make = new_code_cell if cell.cell_type == "code" else new_markdown_cell
        built = make(cell.source, id=cell_id)
        if role == "solution":
            built.metadata = _metadata(role, name, grade_id=cell_id, solution=True)
        elif role == "check":
            if name not in points:
                raise CourseError(f"{week.name}: the master checks {name!r}, which is not in exercises.py.")
            built.metadata = _metadata(role, name, grade_id=cell_id, grade=True, locked=True, points=points[name])
        elif role == "written":
            worth = float(cell.metadata.get("points", 0))
            built.metadata = _metadata(role, name, grade_id=cell_id, grade=True, solution=True, points=worth)
        elif role == "given":
            built.metadata = _metadata(role, "", grade_id=cell_id, locked=True)
        elif role in ("experiment", "look"):
            built.metadata = NotebookNode({"course": {"role": role, "exercise": name}, "tags": ["skip-execution"]})
        cells.append(built)
    ids = [cell.id for cell in cells]
    twice = sorted({cell_id for cell_id in ids if ids.count(cell_id) > 1})
    if twice:
        raise CourseError(f"{week.name}: these cells stand twice in the master notebook: {', '.join(twice)}.")
    _same_order(week, cells)
    notebook = new_notebook(cells=cells)
    notebook.metadata = NotebookNode(
        kernelspec={"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        language_info={"name": "python"},
        course={"week": week.name},
    )
    return notebook


def _metadata(role: str, exercise: str, grade_id: str, points: float | None = None, **flags: bool) -> NotebookNode:
    flags = {"grade": False, "solution": False, "locked": False, "task": False, **flags}
    nbgrader = {"schema_version": 3, "grade_id": grade_id, **flags}
    if points is not None:
        nbgrader["points"] = points
    return NotebookNode({"nbgrader": nbgrader, "course": {"role": role, "exercise": exercise}})


def _same_order(week: Week, cells: list[NotebookNode]) -> None:
    def named(role: str) -> list[str]:
        return [
            cell.metadata["course"]["exercise"] for cell in cells if cell.metadata.get("course", {}).get("role") == role
        ]

    exercises = [exercise.name for exercise in week.exercises]
    if named("solution") != exercises:
        raise CourseError(
            f"{week.name}: the master's solution cells are {named('solution')}, but exercises.py has {exercises}."
        )
    everything = exercises + [artifact.name for artifact in week.artifacts]
    if sorted(named("check")) != sorted(everything):
        raise CourseError(
            f"{week.name}: the master's check cells are {named('check')}, but exercises.py has {everything}."
        )


def assignment_notebook(week: Week, repository: str | None = None) -> NotebookNode:
    """What nbgrader's generate_assignment makes of the source notebook, in a folder that is gone afterwards.

    Raises CourseError with nbgrader's own words where it refuses.
    """
    with tempfile.TemporaryDirectory() as folder:
        build = Path(folder)
        source = build / "source" / week.name / f"{week.name}.ipynb"
        source.parent.mkdir(parents=True)
        nbformat.write(source_notebook(week, repository), source)
        config = Config()
        config.CourseDirectory.root = folder
        config.CourseDirectory.assignment_id = week.name
        config.CourseDirectory.db_url = f"sqlite:///{build / 'gradebook.db'}"
        converter = GenerateAssignment(coursedir=CourseDirectory(config=config), config=config)
        quiet = logging.getLogger(f"release.{week.name}")
        quiet.addHandler(logging.NullHandler())
        quiet.propagate = False
        converter.log = quiet
        try:
            converter.start()
        except (Exception, SystemExit) as error:
            raise CourseError(f"nbgrader's generate_assignment refuses {week.name}: {error}") from error
        notebook = nbformat.read(build / "release" / week.name / f"{week.name}.ipynb", as_version=4)
    notebook.nbformat_minor = 5
    return notebook


def notebook_bytes(notebook: NotebookNode) -> bytes:
    """A notebook as it is written to disk: sorted keys, one trailing newline."""
    return (json.dumps(notebook, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()


@dataclass(frozen=True)
class Release:
    """What a release consists of: the assignment and the public cases, in memory."""

    week: Week
    notebook: NotebookNode
    banks: list[Bank]

    @property
    def assignment_path(self) -> Path:
        return self.week.root / "assignments" / self.week.name / f"{self.week.name}.ipynb"

    @property
    def cases_folder(self) -> Path:
        return self.week.root / "course" / "cases" / self.week.name

    def write_cases(self, folder: Path) -> None:
        """Public banks and artifact goals into an empty or absent folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for bank in self.banks:
            bank.save(folder)
        for artifact in self.week.artifacts:
            artifact.save(folder)

    def differences(self) -> list[str]:
        """What on disk is not what this release would write, in words. Cases are compared within their tolerances.

        Processors differ in the last bits of a float, so the cases of a release made elsewhere agree without being the
        same bytes; notebooks have no floats and must be the same bytes.
        """
        found = []
        if not self.assignment_path.exists() or self.assignment_path.read_bytes() != notebook_bytes(self.notebook):
            found.append(f"{self.assignment_path.relative_to(self.week.root)} is not what the master notebook gives")
        with tempfile.TemporaryDirectory() as folder:
            fresh = Path(folder) / self.week.name
            self.write_cases(fresh)
            names = {path.name for path in fresh.iterdir()}
            there = {path.name for path in self.cases_folder.iterdir()} if self.cases_folder.exists() else set()
            cases = self.cases_folder.relative_to(self.week.root)
            found += [f"{cases}/{name} is missing" for name in sorted(names - there)]
            found += [f"{cases}/{name} belongs to no exercise" for name in sorted(there - names)]
            for path in sorted(fresh.glob("*.goal.json")):
                if path.name in there and (self.cases_folder / path.name).read_bytes() != path.read_bytes():
                    found.append(f"{cases}/{path.name} is not what exercises.py gives")
        for bank in self.banks:
            if f"{slug(bank.exercise)}.json" in there and not _same_bank(bank, self.cases_folder):
                found.append(f"the public cases of {bank.exercise} are not what exercises.py gives")
        return found

    def write(self) -> list[Path]:
        """Puts the release in place and returns the files that changed. Files that agree already are left alone."""
        if not self.differences():
            return []
        self.assignment_path.parent.mkdir(parents=True, exist_ok=True)
        part = self.assignment_path.with_suffix(".part")
        part.write_bytes(notebook_bytes(self.notebook))
        part.replace(self.assignment_path)
        fresh = self.cases_folder.with_name(f".{self.week.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        self.write_cases(fresh)
        shutil.rmtree(self.cases_folder, ignore_errors=True)
        fresh.replace(self.cases_folder)
        return [self.assignment_path, *sorted(self.cases_folder.iterdir())]


def _same_bank(bank: Bank, folder: Path) -> bool:
    try:
        stored = Bank.load(folder, bank.exercise)
    except (ValueError, TypeError):
        return False
    if (stored.messages, stored.forbid, len(stored.cases)) != (bank.messages, bank.forbid, len(bank.cases)):
        return False
    for old, new in zip(stored.cases, bank.cases, strict=True):
        if old.kind != new.kind or old.mistakes.keys() != new.mistakes.keys() or len(old.accepted) != len(new.accepted):
            return False
        pairs = [(new.inputs, old.inputs), (new.answer, old.answer)]
        pairs += [(new.mistakes[name], old.mistakes[name]) for name in new.mistakes]
        if not all(compare(a, b, _last_bits(a)).agrees for a, b in pairs):
            return False
    return True


def _last_bits(value: Any) -> list[float]:
    """A tolerance for each floating-point leaf: a thousandth of its largest value, and at least 1e-6 of the largest of all.

    A gradient that is zero but for rounding is other noise on every processor.
    """
    largest = []
    for _, leaf in leaves(value):
        if is_floating(leaf):
            finite = torch.as_tensor(leaf, dtype=torch.float64).abs()
            finite = finite[finite.isfinite()]
            largest.append(float(finite.max()) if finite.numel() else 1.0)
    return [max(1e-3 * one, 1e-6 * max(largest)) for one in largest]


def release(week: Week) -> Release:
    """Builds a week's release in memory, nothing written. Raises CourseError where the week cannot be released."""
    banks = [make_bank(week, exercise, PUBLIC_SEED) for exercise in week.exercises]
    return Release(week, assignment_notebook(week, load_settings(week.root).repository), banks)


# ------------------------------------------------------------------------------------------------- leak scan


def private_lines(week: Week) -> set[str]:
    """Lines that only solutions, alternates and mistakes have, normalised: spaces and comments gone, long enough."""
    sources = [alternate.source for alternate in week.alternates]
    sources += [mistake.source for exercise in week.exercises for mistake in exercise.mistakes if mistake.source]
    sources += [text for exercise in week.exercises for mistake in exercise.mistakes for _, text in mistake.edits]
    sources += list(_regions(cell.source for cell in week.master.cells))
    lines = {_normal(line) for source in sources for line in source.splitlines()}
    given = {_normal(line) for line in _given_lines(week)}
    return {line for line in lines - given if len(line) >= LEAST_PRIVATE_LINE}


def _normal(line: str) -> str:
    return "".join(line.split("#")[0].split())


def _regions(sources: Iterator[str]) -> Iterator[str]:
    for source in sources:
        for part in source.split("BEGIN SOLUTION")[1:]:
            yield part.split("END SOLUTION")[0].rsplit("\n", 1)[0]


def _given_lines(week: Week) -> Iterator[str]:
    """Lines of solution cells that students get: signatures, docstrings, a given __init__. Alternates repeat them."""
    for cell in week.master.cells:
        if "exercise" in cell.metadata:
            for part in cell.source.split("END SOLUTION"):
                yield from part.split("BEGIN SOLUTION")[0].splitlines()


def leaks(week: Week, notebook: NotebookNode, public: list[Path]) -> list[str]:
    """Where something private stands in what students get: the released notebook and public files, in words.

    `public` are files or folders; data (Parquet, safetensors) is not searched for source lines. Also looked for: the
    secret seed of the grader, if there is one.
    """
    private = private_lines(week)
    secret_file = week.root / "grading" / "secret"
    secret = secret_file.read_text().strip() if secret_file.exists() else ""
    texts = [(f"the notebook, cell {cell.id}", cell.source) for cell in notebook.cells]
    for path in public:
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.suffix in (".py", ".md", ".json", ".ipynb", ".txt", ".toml", ".yml"):
                text = file.read_text(encoding="utf-8", errors="replace")
                if file.suffix == ".ipynb":
                    text = "\n".join(cell.source for cell in nbformat.reads(text, as_version=4).cells)
                texts.append((str(file.relative_to(week.root) if file.is_relative_to(week.root) else file), text))
    found = []
    for where, text in texts:
        squeezed = "".join(text.split())
        found += [f"{where} has a line of the solution: {line}" for line in sorted(private) if line in squeezed]
        if secret and secret in text:
            found.append(f"{where} has the grader's secret seed")
        if "### BEGIN SOLUTION" in text and where.startswith("the notebook"):
            found.append(f"{where} has a solution region")
    return found
