"""Verdicts on disk: what grading found out about one submission, beside the points in the gradebook.

One JSON file a student, `grading/verdicts/<week>/<student>.json`: {"verdicts", "repairs", "provenance", "failed"}.
"""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from course.check import Difference, Verdict


@dataclass(frozen=True)
class Record:
    """`repairs`: sentences for the student. `failed`: why the submission could not be read, empty where it could."""

    verdicts: list[Verdict]
    repairs: list[str] = field(default_factory=list)
    provenance: dict[str, str] = field(default_factory=dict)
    failed: str = ""


def folder_of(root: Path, week: str) -> Path:
    return root / "grading" / "verdicts" / week


def write(root: Path, week: str, student: str, record: Record) -> Path:
    """Puts a record in place by rename: a reader sees the old one or the new one."""
    path = folder_of(root, week) / f"{student}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{student}.{os.getpid()}.part")
    part.write_text(json.dumps(asdict(record), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    part.replace(path)
    return path


def read(root: Path, week: str, student: str) -> Record | None:
    """A student's record; None where there is none, or none that can be read."""
    path = folder_of(root, week) / f"{student}.json"
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        return Record(**{**tree, "verdicts": [_verdict(verdict) for verdict in tree["verdicts"]]})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _verdict(tree: dict) -> Verdict:
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
