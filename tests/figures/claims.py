"""What it means that a text's figure is the measured one: the text, with the figures of `results.json` put in, stands there.

One module beside this one for each week, `CLAIMS` in it. A `Claim` is a piece of a text in which the figures are
placeholders of `str.format`, and a function that takes them from the week's results. Measured anew, a figure that changed
fails with the piece that is to be written.
"""

import importlib
import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from typing import Any

import nbformat

from tests.conftest import ROOT

WEEKS = sorted(path.name for path in ROOT.glob("solutions/week0[1-8]_*"))


@dataclass(frozen=True)
class Claim:
    """`text.format(*figures(results))` stands in `document`. `results`: what `results` gives for the claim's week.

    document  from the root of the repository: a lecture, a master notebook, or a page
    text      as it stands there; breaks of lines, and `#` and `>` that begin one, count as a space
    """

    document: str
    text: str
    figures: Callable[[dict[str, Any]], tuple]

    def filled_in(self, week: str) -> str:
        """The text on one line, with what that week measured."""
        return plain(self.text.format(*self.figures(results(week))))


@cache
def results(week: str) -> dict[str, Any]:
    """What the week's experiments left, by cell, and under `artifacts` the scores of trained models."""
    found = json.loads((ROOT / "solutions" / week / "results.json").read_text(encoding="utf-8"))
    return {**found["experiments"], "artifacts": found["artifacts"], "whole": found}


def claims(week: str) -> list[Claim]:
    return importlib.import_module(f"tests.figures.{week}").CLAIMS


def plain(text: str) -> str:
    """The text on one line, without the marks of comments and quotations."""
    return re.sub(r"\s+", " ", re.sub(r"(?m)^\s*[#>]+(?=\s|$)", " ", text)).strip()


@cache
def prose(document: str) -> str:
    path = ROOT / document
    if path.suffix == ".ipynb":
        return "\n\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
    return path.read_text(encoding="utf-8")


@cache
def on_one_line(document: str) -> str:
    return plain(prose(document))


def percent(*shares: float) -> tuple[float, ...]:
    return tuple(100 * share for share in shares)


def least_and_most(figures: Collection[float]) -> tuple[float, float]:
    return min(figures), max(figures)


def minutes_of_all_cells(found: dict[str, Any]) -> tuple[float]:
    """That the week's experiments took, as they were measured."""
    return (sum(cell["wall_seconds"] for cell in found["whole"]["experiments"].values()) / 60,)
