"""Scores as the files that learning management systems import, and CSV that is safe to open in a spreadsheet.

Canvas: the importer (instructure/canvas-lms, lib/gradebook_importer.rb) wants `Student` first and `ID` second, then
`SIS User ID`, `SIS Login ID` and `Section` in this order, then one column an assignment; a row whose first field holds
"Points Possible" gives the assignments' points. A student is found by ID (a number of Canvas's own), then by SIS User ID,
SIS Login ID and at last by name. A wrong number in ID would give the score to somebody else, so ID is filled in only from
the roster's `lms_user_id`, where that is a number; the roster's own id goes into both SIS columns. An assignment of the
same title is updated, otherwise a new one is offered; an empty score means none.

Moodle: the importer (moodle/moodle, grade/import/csv; docs.moodle.org/en/Grade_import) asks which column identifies the
student (username, email address, which is case-sensitive, or ID number) and what each other column is; the header of a
score column that becomes a new grade item is its name. "-" means no score. One row with an unknown student, or a score above
100 unless the site allows more (`unlimitedgrades`), stops the whole import.

Spreadsheets run a cell that begins with one of = + - @ as a formula, quoted or not (OWASP, "CSV injection"). Names come from
students, so such a cell gets an apostrophe in front.
"""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")


@dataclass(frozen=True)
class Score:
    """One student's line for a learning management system. `score` is None where there is none to tell."""

    student: str
    last_name: str
    first_name: str
    email: str
    lms_user_id: str
    score: float | None

    @property
    def sortable_name(self) -> str:
        return ", ".join(part for part in (self.last_name, self.first_name) if part) or self.student


def safe(value: Any) -> Any:
    """A value that no spreadsheet takes for a formula: text on one line, with an apostrophe where it would begin one.

    Numbers stay numbers, None becomes an empty cell, and a lone "-" is no formula.
    """
    if not isinstance(value, str):
        return "" if value is None else value
    text = " ".join(value.replace("\0", "").split())
    return f"'{text}" if text.startswith(FORMULA) and len(text) > 1 else text


def number(value: float | None) -> str:
    """Points with two decimals at most, as short as they go; empty for None."""
    if value is None:
        return ""
    return f"{value:.2f}".rstrip("0").rstrip(".") if round(value, 2) else "0"


def write_csv(path: Path, rows: Iterable[Sequence[Any]], bom: bool = False) -> None:
    """Writes rows of safe cells as UTF-8. With `bom`, Excel too reads names beyond ASCII as what they are."""
    with path.open("w", encoding="utf-8-sig" if bom else "utf-8", newline="") as file:
        csv.writer(file).writerows([safe(cell) for cell in row] for row in rows)


def canvas_rows(title: str, points: float, scores: Sequence[Score]) -> list[list[str]]:
    """The rows of a Canvas gradebook import with one assignment, named `title`, worth `points`."""
    rows = [
        ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", title],
        ["Points Possible", "", "", "", "", number(points)],
    ]
    for score in scores:
        canvas_id = score.lms_user_id if score.lms_user_id.isdecimal() else ""
        rows.append([score.sortable_name, canvas_id, score.student, score.student, "", number(score.score)])
    return rows


def moodle_rows(title: str, scores: Sequence[Score]) -> list[list[str]]:
    """The rows of a Moodle grade import with one grade item, named `title`."""
    rows = [["username", "email", "idnumber", title]]
    for score in scores:
        rows.append([score.student, score.email, score.lms_user_id or score.student, number(score.score) or "-"])
    return rows
