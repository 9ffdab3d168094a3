"""The syllabus has a row for everything that the course promises, and each of its links leads somewhere."""

import re
from functools import cache
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
SYLLABUS = ROOT / "course" / "syllabus.md"
TOPICS = (
    "recurrent network (1986)",
    "translation",
    "summarisation",
    "next-sentence prediction",
    "short reference window",
    "vanishing gradient",
    "LSTM (1997)",
    "GRU (2014)",
    "looking up one word's meaning in a textbook",
    "reference windows of RNN, LSTM, GRU and attention side by side",
    "Attention in pictures",
    "AttnGAN",
    "transformer (2017): encoder and decoder",
    "what is English, what is context, how English words map to French",
    "BERT (2018): masked words and next sentence",
    "GLUE, SQuAD and SWAG",
    "GPT-2 (1.5 billion parameters, 40 GB of text, tens of petaflop/s-days)",
    "GPT-3 (175 billion, 570 GB, thousands of petaflop/s-days)",
    "sizes compared to scale",
    "why size matters",
    "Prompting",
    "Drawbacks: size, youth of the class, hierarchical data",
    "complexity and longer sequences",
    "Quantization",
    "Distillation (up to 100 times smaller, 15 times faster)",
    "Pruning (up to 80 %",
    "Specialised models",
    "hurts so little",
    "BigBird: random, window and global attention, and their sum",
    "Linformer",
    "Performer",
    "character text generation",
    "text classification with a recurrent network",
    "name classification by characters",
    "sequence tagging with an LSTM",
    "text analysis",
)
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in SYLLABUS.read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| topic")
]


@cache
def notebook(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def headings(path: Path) -> list[str]:
    """The texts of a notebook's headings, without backticks."""
    text = "\n".join(cell.source for cell in notebook(path).cells if cell.cell_type == "markdown")
    return [heading.replace("`", "") for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)]


def anchor(heading: str) -> str:
    """What GitHub, and the course's site, make of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def links(cell: str) -> list[tuple[Path, str]]:
    """The files and anchors of a cell's links."""
    targets = [target.partition("#") for target in re.findall(r"\]\(([^)]+)\)", cell)]
    return [((SYLLABUS.parent / file).resolve(), after) for file, _, after in targets]


@pytest.mark.parametrize("topic", TOPICS)
def test_topic_has_a_row(topic: str):
    assert any(topic in row[0] for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:50])
def test_it_is_taught_where_the_row_says(row: list[str]):
    found = links(row[1])
    assert found
    for file, where in found:
        assert file.is_file(), file
        assert where in map(anchor, headings(file)), f"{file.parent.name} has no heading #{where}"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:50])
def test_it_is_built_where_the_row_says(row: list[str]):
    if "text analysis" in row[0]:
        return  # beyond the course
    for part in row[2].split("; "):
        ((file, _),) = links(part)
        assert file.is_file(), file
        exercises = {
            cell.metadata["course"]["exercise"]
            for cell in notebook(file).cells
            if cell.metadata.get("course", {}).get("role") == "solution"
        }
        names, experiments = re.findall(r"`([^`]+)`", part), re.findall(r"\*([^*]+)\*", part)
        assert names or experiments
        assert set(names) <= exercises
        assert set(experiments) <= set(headings(file))
