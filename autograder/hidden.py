"""The hidden cases: drawn once per class from a secret seed, kept where only the grader can read them."""

import hashlib
import os
import platform
import secrets
import shutil
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

import autograder.bank
import course
from autograder.bank import make_bank
from autograder.week import Week


def secret_seed(root: Path) -> str:
    """The grader's seed in grading/secret, readable by its owner only; drawn on first use."""
    path = root / "grading" / "secret"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        part = path.with_name(f".secret-{os.getpid()}")
        part.touch(mode=0o600)
        part.write_text(secrets.token_hex(32) + "\n")
        try:
            os.link(part, path)  # of two graders that start together, one draws the seed
        except FileExistsError:
            pass
        finally:
            part.unlink()
    return path.read_text().strip()


def fingerprint(seed: str) -> str:
    """Tells one secret seed from another without giving it away."""
    return hashlib.sha256(f"fingerprint of {seed}".encode()).hexdigest()[:12]


def checks_version(week: Week) -> str:
    """Changes with anything that hidden cases and their answers depend on, except the seed."""
    folder = Path(course.__file__).parent
    files = [
        *sorted(week.folder.rglob("*.py")),
        *sorted(folder.glob("*.py")),
        *sorted((folder / "drives").glob("*.py")),
    ]
    digest = hashlib.sha256(torch.__version__.encode())
    for path in [*files, Path(autograder.bank.__file__)]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def provenance_of(week: Week, isolation: str) -> dict[str, str]:
    """What a verdict was reached with, kept beside it: versions, the seed's fingerprint, machine, time."""
    return {
        "week": week.name,
        "checks": checks_version(week),
        "seed": fingerprint(secret_seed(week.root)),
        "isolation": "bubblewrap" if isolation == "bubblewrap" else "none (not a sandbox)",
        "version": version("rnn-to-transformers"),
        "torch": torch.__version__,
        "nbgrader": version("nbgrader"),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "graded": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def hidden_banks(week: Week) -> Path:
    """The folder with the week's hidden banks, made now where they are missing or stale. Call it before any worker starts.

    Raises CourseError where the week's solution does not answer its own cases.
    """
    seed = secret_seed(week.root)
    folder = week.root / "grading" / "cases" / week.name
    key = f"{checks_version(week)} {fingerprint(seed)}\n"
    mark = folder / "made-of"
    if mark.exists() and mark.read_text() == key:
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{week.name}-", dir=folder.parent))  # mode 700
    try:
        for exercise in week.exercises:
            make_bank(week, exercise, seed).save(fresh)
        (fresh / "made-of").write_text(key)
        shutil.rmtree(folder, ignore_errors=True)
        fresh.replace(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder
