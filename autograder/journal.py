"""The journal: what grading found out about each submission, durable before anything else happens with it.

One JSON file a student, `grading/journal/<week>/<student>.json`, under a key that changes with everything that the result
depends on. `autograder grade --resume` takes what still fits from here and grades the rest.
"""

import fcntl
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import nbformat

import autograder
import course
from autograder import atomic, verdicts
from autograder.errors import CourseError
from autograder.grade import Graded
from autograder.handed_in import TIMESTAMP, files_of
from autograder.verdicts import Record
from autograder.week import Week

NOT_OF_A_RESULT = (
    "week",
    "version",
    "commit",
    "machine",
    "processor",
    "cores",
    "system",
    "graded",
)  # of the provenance


@dataclass(frozen=True)
class Entry:
    """A graded submission, and the provenance of its verdicts, in which "key" is the entry's key.

    `reused` where it was read from the journal, not graded now.
    """

    graded: Graded
    provenance: dict[str, str]
    reused: bool = field(default=False, compare=False)

    @property
    def key(self) -> str:
        return self.provenance["key"]

    @property
    def record(self) -> Record:
        """What is kept of it in grading/verdicts."""
        graded = self.graded
        times = {"began": graded.began, "seconds": f"{graded.seconds:.2f}"} if graded.began else {}
        return Record(graded.verdicts, graded.repairs, {**self.provenance, **times}, graded.failed)


def folder_of(root: Path, week: str) -> Path:
    return root / "grading" / "journal" / week


def write(week: Week, student: str, entry: Entry) -> None:
    """Makes an entry durable, in place of an earlier one of the student."""
    graded = {**vars(entry.graded), "verdicts": [asdict(verdict) for verdict in entry.graded.verdicts]}
    tree = {"graded": graded, "provenance": entry.provenance}
    atomic.write_bytes(folder_of(week.root, week.name) / f"{student}.json", json.dumps(tree).encode(), durable=True)


def read(week: Week, student: str) -> Entry | None:
    """A student's entry; None where there is none, or none that can be read."""
    try:
        tree = json.loads((folder_of(week.root, week.name) / f"{student}.json").read_bytes())
        graded = tree["graded"]
        graded["verdicts"] = [verdicts.from_tree(verdict) for verdict in graded["verdicts"]]
        graded["notebook"] = nbformat.from_dict(graded["notebook"])
        return Entry(Graded(**graded), tree["provenance"], reused=True)
    except (OSError, ValueError, TypeError, KeyError):
        return None


# ---------------------------------------------------------------------------------------------------------- the key


def ground(
    week: Week, release: Path, isolation: str, settings: Mapping[str, Any], provenance: Mapping[str, str]
) -> str:
    """A digest of what all results of a batch depend on: the grader's code and data, the release, seed, settings, versions."""
    code = Path(autograder.__file__).parent
    facts = {
        "versions": {name: value for name, value in provenance.items() if name not in NOT_OF_A_RESULT},
        "isolation": isolation,
        "settings": dict(settings),
        "release": hashlib.sha256(release.read_bytes()).hexdigest(),
        "code": _digest(code, [path.relative_to(code) for path in sorted(code.rglob("*.py"))]),
        "course": _digest(Path(course.__file__).parent, files_of(Path(course.__file__).parent)),
        "heldout": _digest(week.heldout, files_of(week.heldout)),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def key(ground: str, submission: Path) -> str:
    """The key of a submission's result: of the ground and of the bytes of every file handed in.

    timestamp.txt is left out: lateness is reckoned when the result is written, not when it is reached.
    """
    files = [path for path in files_of(submission) if path != Path(TIMESTAMP)]
    return hashlib.sha256(f"{ground} {_digest(submission, files)}".encode()).hexdigest()


def _digest(folder: Path, files: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        if "__pycache__" not in path.parts:
            digest.update(json.dumps([str(path), _digest_of_file(folder / path)]).encode())
    return digest.hexdigest()


def _digest_of_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:  # grading will not be able to read it either
        return "unreadable"


# ---------------------------------------------------------------------------------------------------- one at a time


@contextmanager
def alone(week: Week) -> Iterator[None]:
    """Holds the week for one batch. Raises CourseError where another one is at it. A kill lets it go."""
    folder = folder_of(week.root, week.name)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CourseError(
                f"{week.name} is being graded by another `autograder grade`; wait until it is done."
            ) from None
        yield
