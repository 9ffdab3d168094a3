"""The hidden cases: drawn once per class from a secret seed, kept where only the grader can read them."""

import functools
import hashlib
import os
import platform
import re
import secrets
import shutil
import subprocess
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import course
from autograder import bank, draws, naming, novel
from autograder.errors import CourseError
from autograder.naming import write_banks
from autograder.week import Week
from course import codec

HELDOUT = "heldout"
PACKAGES = (
    "nbgrader",
    "nbformat",
    "ipykernel",
    "numpy",
    "safetensors",
)  # those that verdicts can depend on, besides torch


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
    data = sorted(path for path in week.heldout.rglob("*") if path.is_file())
    for path in [*files, *(Path(module.__file__) for module in (bank, draws, naming, novel)), Path(__file__), *data]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def provenance_of(week: Week, isolation: str) -> dict[str, str]:
    """What verdicts are reached with, kept beside them: versions, the seed's fingerprint, machine, when grading began."""
    commit = _commit(week.root)
    return {
        "week": week.name,
        "checks": checks_version(week),
        "seed": fingerprint(secret_seed(week.root)),
        "isolation": "bubblewrap" if isolation == "bubblewrap" else "none (not a sandbox)",
        "version": version("rnn-to-transformers"),
        **({"commit": commit} if commit else {}),
        **{package: version(package) for package in PACKAGES},
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "processor": processor_name(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "system": platform.platform(),
        "graded": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _commit(root: Path) -> str:
    """The commit that the course is at, with `-dirty` where files differ from it; empty where it is in no repository."""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude=*", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def processor_name() -> str:
    """The processor's name as Linux tells it, elsewhere as Python does."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine() or "unknown"


def hidden_banks(week: Week) -> Path:
    """The folder with the week's hidden banks, made now where they are missing or stale. Call it before any worker starts.

    `autograder.naming` says what is in it, besides what trained models are scored on (`heldout`). Making it takes a while:
    every pair of mistakes, and every exercise on top of every mistake of those that it calls, is run on the very cases that
    students will be graded by.

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
        write_banks(week, seed, fresh)
        write_heldout(week, fresh)
        (fresh / "made-of").write_text(key)
        shutil.rmtree(folder, ignore_errors=True)
        fresh.replace(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def write_heldout(week: Week, banks: Path) -> None:
    """Adds what trained models are scored on to a folder of banks. Where a course has no held-out data, it adds none."""
    folder = banks / HELDOUT
    folder.mkdir()
    for artifact in week.artifacts:
        try:
            inputs, key = artifact.inputs(week.heldout)
        except FileNotFoundError:  # a course without the held-out data can be released, and its exercises graded
            continue
        codec.save({"inputs": inputs, "key": key}, folder / artifact.slug)


@functools.lru_cache(maxsize=8)
def heldout(banks: Path, artifact: str) -> tuple[dict, Any]:
    """(inputs of the drive, key) that a trained model, by its slug, is scored on, as `write_heldout` has written them.

    Raises CourseError where they are not there.
    """
    try:
        kept = codec.load(banks / HELDOUT / artifact)
    except ValueError as error:
        raise CourseError(f"There is no held-out data to score {artifact} on: {error}.") from None
    return kept["inputs"], kept["key"]
