"""Makes submissions out of a released notebook: for proving a week, for the demo's class, for tests."""

import copy
from collections.abc import Mapping
from pathlib import Path

from nbformat import NotebookNode

from autograder.release import notebook_bytes
from course.drives import slug


def filled(
    notebook: NotebookNode, sources: Mapping[str, str], written: Mapping[str, str] | None = None
) -> NotebookNode:
    """A copy of the released notebook with the solution cells of some exercises replaced, by exercise name.

    `written` maps written questions to answers. Raises KeyError for a name that the notebook does not have.
    """
    notebook = copy.deepcopy(notebook)
    cells = {cell.id: cell for cell in notebook.cells}
    for exercise, source in sources.items():
        cells[slug(exercise)].source = source
    for question, answer in (written or {}).items():
        cells[f"written-{slug(question)}"].source = answer
    return notebook


def write_submission(folder: Path, notebook: NotebookNode, name: str) -> Path:
    """Writes `folder/name.ipynb` and returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.ipynb"
    path.write_bytes(notebook_bytes(notebook))
    return path
