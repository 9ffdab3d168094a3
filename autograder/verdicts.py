"""Verdicts on disk: what grading found out about one submission, beside the points in the gradebook.

One JSON file a student, `grading/verdicts/<week>/<student>.json`: {"verdicts", "repairs", "provenance", "failed"}.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from autograder.atomic import write_bytes
from course.check import Difference, Verdict


@dataclass(frozen=True)
class Record:
    """`repairs`: sentences for the student. `failed`: why the submission could not be read, empty where it could.

    `provenance`: what the verdicts were reached with (`autograder.hidden.provenance_of`), when it began, how long it took.
    Verdicts themselves are free of it: those on the same submission are the same, byte for byte.
    """

    verdicts: list[Verdict]
    repairs: list[str] = field(default_factory=list)
    provenance: dict[str, str] = field(default_factory=dict)
    failed: str = ""


def folder_of(root: Path, week: str) -> Path:
    return root / "grading" / "verdicts" / week


def path_of(root: Path, week: str, student: str) -> Path:
    return folder_of(root, week) / f"{student}.json"


def write(root: Path, week: str, student: str, record: Record) -> None:
    text = json.dumps(asdict(record), indent=1, sort_keys=True) + "\n"
    write_bytes(path_of(root, week, student), text.encode())


def read(root: Path, week: str, student: str) -> Record | None:
    """A student's record; None where there is none, or none that can be read."""
    try:
        tree = json.loads(path_of(root, week, student).read_bytes())
        return Record(**{**tree, "verdicts": [from_tree(verdict) for verdict in tree["verdicts"]]})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def from_tree(tree: dict) -> Verdict:
    """A verdict from what JSON keeps of `asdict(verdict)`. Raises TypeError or KeyError where it is something else."""
    difference = tree["difference"]
    if difference is not None:
        difference = Difference(**{**difference, "index": tuple(difference["index"])})
    return Verdict(
        **{**tree, "difference": difference, "mistakes": tuple(tree["mistakes"]), "named": tuple(tree["named"])}
    )


def read_class(root: Path, week: str) -> dict[str, list[Verdict]]:
    """Every student's verdicts on a week, by student id, in the order of the ids."""
    students = sorted(path.stem for path in folder_of(root, week).glob("[!.]*.json"))
    records = {student: read(root, week, student) for student in students}
    return {student: record.verdicts for student, record in records.items() if record is not None}
