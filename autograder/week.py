"""A week's private source: the master notebook, its exercises and alternates, and the namespaces made of them."""

import ast
import importlib.util
import io
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from types import CodeType
from typing import Any

import jupytext
from nbformat import NotebookNode

from autograder.errors import CourseError
from autograder.exercise import Artifact, Exercise, Mistake

ROOT_MARK = "nbgrader_config.py"


def find_root(start: Path | None = None) -> Path:
    """The course's root: the nearest folder, from `start` upwards, that holds nbgrader_config.py and solutions/."""
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if (folder / ROOT_MARK).is_file() and (folder / "solutions").is_dir():
            return folder
    raise CourseError(f"{start} is not inside a course: no folder above it has {ROOT_MARK} and solutions/.")


def weeks_of(root: Path) -> list["Week"]:
    """All weeks that have a master notebook, in order."""
    return [
        Week(path.parent) for path in sorted(root.glob("solutions/week*/week*.py")) if path.stem == path.parent.name
    ]


def find_week(root: Path, prefix: str) -> "Week":
    """The week whose folder name begins with `prefix`. Raises CourseError unless there is exactly one."""
    weeks = weeks_of(root)
    found = [week for week in weeks if week.name == prefix] or [
        w for w in weeks if prefix and w.name.startswith(prefix)
    ]
    if len(found) == 1:
        return found[0]
    known = ", ".join(week.name for week in weeks) or "none"
    raise CourseError(f"{'No' if not found else 'More than one'} week begins with {prefix!r}. Weeks here: {known}.")


@dataclass(frozen=True)
class Alternate:
    """A correct answer written another way: a whole solution cell. `accepted` ones count as right by themselves."""

    exercise: str
    name: str
    source: str
    accepted: bool = False


@dataclass(frozen=True)
class Week:
    """One week in `solutions/`. Picklable; everything else is read when it is first asked for."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def root(self) -> Path:
        return self.folder.parent.parent

    @property
    def heldout(self) -> Path:
        return self.folder.parent / "heldout"

    @cached_property
    def master(self) -> NotebookNode:
        """The master notebook's cells, with their options as metadata."""
        return jupytext.read(self.folder / f"{self.name}.py", fmt="py:percent")

    @cached_property
    def _module(self) -> Any:
        path = self.folder / "exercises.py"
        spec = importlib.util.spec_from_file_location(f"_exercises_{self.name}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    @property
    def exercises(self) -> list[Exercise]:
        return [item for item in self._module.EXERCISES if isinstance(item, Exercise)]

    @property
    def artifacts(self) -> list[Artifact]:
        return [item for item in self._module.EXERCISES if isinstance(item, Artifact)]

    def exercise(self, name: str) -> Exercise:
        """The exercise of that name or slug. Raises CourseError."""
        for exercise in self.exercises:
            if name in (exercise.name, exercise.slug):
                return exercise
        raise CourseError(f"{self.name} has no exercise {name!r}; it has {', '.join(e.name for e in self.exercises)}.")

    @cached_property
    def uses(self) -> dict[str, frozenset[str]]:
        """For each exercise those that it calls, directly or through others."""
        found: dict[str, frozenset[str]] = {}
        for exercise in self.exercises:  # in the order of the notebook: whatever an exercise uses comes before it
            found[exercise.name] = frozenset(exercise.uses).union(*(found.get(name, ()) for name in exercise.uses))
        return found

    @cached_property
    def alternates(self) -> list[Alternate]:
        path = self.folder / "alternates.py"
        if not path.exists():
            return []
        cells = jupytext.read(path, fmt="py:percent").cells
        return [
            Alternate(
                cell.metadata["alternate"],
                cell.metadata.get("name", f"alternate-{i}"),
                cell.source,
                bool(cell.metadata.get("accepted", False)),
            )
            for i, cell in enumerate(cells)
            if "alternate" in cell.metadata
        ]

    # ------------------------------------------------------------------------------------------- namespaces

    @cached_property
    def code_cells(self) -> list[tuple[str, str]]:
        """(exercise name or "", source) of every cell that defines something: given code and solutions, in order."""
        skipped = ("check", "experiment", "look")
        return [
            (cell.metadata.get("exercise", ""), cell.source)
            for cell in self.master.cells
            if cell.cell_type == "code" and not any(option in cell.metadata for option in skipped)
        ]

    def solution(self, exercise: str) -> str:
        """The source of the exercise's solution cell. Raises CourseError where the master has none or several."""
        found = [source for name, source in self.code_cells if name and name == exercise]
        if len(found) != 1:
            raise CourseError(f"The master notebook of {self.name} has {len(found)} solution cells for {exercise}.")
        return found[0]

    def namespace(self, replaced: Mapping[str, str] | None = None) -> dict[str, Any]:
        """What the notebook defines, with the solution cells of some exercises replaced by other sources.

        Raises CourseError for the name of an exercise that the master does not have; whatever a replacement raises while
        it is executed is raised here.
        """
        replaced = dict(replaced or {})
        namespace: dict[str, Any] = {"__name__": "__main__"}
        for name, source in self.code_cells:
            source = replaced.pop(name, source) if name else source
            exec(_compiled(source, f"<{name or self.name}>"), namespace)
        if replaced:
            raise CourseError(f"{self.name} has no solution cell for {', '.join(replaced)}.")
        return namespace

    def mistaken(self, exercise: Exercise, *mistakes: Mistake) -> str:
        """The exercise's solution cell with the mistake in it, or with several, one made after the other.

        Raises CourseError where a text to find does not occur exactly once in the code, docstrings and comments apart.
        """
        source = self.solution(exercise.name)
        for mistake in mistakes:
            source = mistake.source or source
            for find, replacement in mistake.edits:
                places = list(_places_in_code(source, find))
                if len(places) != 1:
                    raise CourseError(
                        f"{self.name}, {exercise.name}: the text of mistake {mistake.name!r} occurs {len(places)} times in "
                        f"the solution's code instead of once: {find!r}."
                    )
                source = source[: places[0]] + replacement + source[places[0] + len(find) :]
        return source


@lru_cache(maxsize=512)
def _compiled(source: str, name: str) -> CodeType:
    """The same cells are executed again and again, each time with one of them replaced."""
    return compile(source, name, "exec")


def _places_in_code(source: str, text: str) -> Iterator[int]:
    """Where `text` begins in the source, leaving out places that lie inside a comment or a docstring."""
    at = source.find(text)
    while at >= 0:
        if not any(begin <= at < end for begin, end in _prose(source)):
            yield at
        at = source.find(text, at + 1)


@lru_cache(maxsize=512)
def _prose(source: str) -> list[tuple[int, int]]:
    """Where the source's comments and docstrings begin and end."""
    lines = io.StringIO(source).readlines()
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    found: list[tuple[int, int]] = []

    def place(line: int, column: int) -> int:  # ast counts columns in bytes of UTF-8, tokenize in characters
        return starts[line - 1] + len(lines[line - 1].encode()[:column].decode())

    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            found.append((starts[token.start[0] - 1] + token.start[1], starts[token.end[0] - 1] + token.end[1]))
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", None)
        documented = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module)
        if documented and body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            expr = body[0]
            found.append((place(expr.lineno, expr.col_offset), place(expr.end_lineno, expr.end_col_offset)))
    return found
