"""Files and folders put in place by rename: who reads sees the old one or the new one, and a kill leaves nothing half-written.

What a killed run leaves behind has a name that begins with a dot, and is cleared away by `tidy`.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_bytes(path: Path, content: bytes, durable: bool = False) -> None:
    """Writes a file; `durable` waits until the disk has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A fresh folder beside `target`, for `swap`; gone in the end where it was not swapped in."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        fresh.chmod(0o755)
        yield fresh
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def swap(fresh: Path, target: Path) -> None:
    """Puts `fresh` in the place of the folder `target`, which need not exist."""
    old = _old(target)
    if target.exists():
        target.rename(old)
    fresh.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _old(target: Path) -> Path:
    return target.with_name(f".{target.name}-old")


def tidy(folder: Path, name: str) -> None:
    """Clears away what killed runs left in `folder` beside `name` (a pattern); what was caught in a swap is put back."""
    for old in folder.glob(f".{name}-old"):
        target = old.with_name(old.name.removeprefix(".").removesuffix("-old"))
        if not target.exists():
            old.rename(target)
    for left in [*folder.glob(f".{name}-*"), *folder.glob(f".{name}.*.part")]:
        if left.is_dir():
            shutil.rmtree(left)
        else:
            left.unlink()
