"""Every lecture is committed clean, and has the parts that all have. That it runs is shown by the site's tests, which build it.

Weeks 1 to 8: week 0 is a warm-up, its page is read in a minute.
"""

import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
LECTURES = sorted(path for path in ROOT.glob("course/week0[1-8]_*/lecture.ipynb"))
SECTIONS = {
    "a question": r"^## .*question",
    "its history": r"^## .*(comes from|history)",
    "what to read": r"^## .*read",
    "what the assignment asks": r"^## .*assignment",
}
lecture = pytest.mark.parametrize("path", LECTURES, ids=lambda path: path.parent.name)


def test_there_is_one_for_each_week():
    assert [path.parent.name[:6] for path in LECTURES] == [f"week0{week}" for week in range(1, 9)]


@lecture
def test_it_is_committed_clean(path: Path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z][a-z0-9-]+", cell_id) for cell_id in ids), ids
    assert notebook.metadata.kernelspec.name == "python3"


@lecture
def test_it_has_all_parts(path: Path):
    notebook = nbformat.read(path, as_version=4)
    assert 25 <= len(notebook.cells) <= 45
    assert [cell.id for cell in notebook.cells[:3]] == ["title", "goals", "needed"]
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    for part, heading in SECTIONS.items():
        assert re.search(heading, prose, re.MULTILINE | re.IGNORECASE), f"no section for {part}"
    assert "**Predict" in prose
    assert "![" not in prose and "<img" not in prose  # pictures are drawn by the code
    assert any("plots.slider(" in cell.source for cell in notebook.cells if cell.cell_type == "code")
