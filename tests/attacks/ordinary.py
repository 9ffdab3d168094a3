"""Runs a command of this checkout as an ordinary user, from root: `python -m tests.attacks.ordinary COMMAND...`.

The checkout and Python may lie below folders that only root can enter. So this happens in a mount namespace of its own, in
which such a folder is covered by an open one that shows just what is needed, at the same paths.
"""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

from tests.conftest import ROOT

NOBODY = 65534


def free_user() -> int:
    """A user id that nobody has and under which nothing runs."""
    used = {user.pw_uid for user in pwd.getpwall()}
    used |= {process.info["uids"].real for process in psutil.process_iter(["uids"])}
    return next(uid for uid in range(NOBODY - 1, 1000, -1) if uid not in used)


def needed() -> list[Path]:
    return [ROOT.resolve(), Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()]


def _closed(folder: Path) -> bool:
    """Whether an ordinary user can go through this folder, which belongs to somebody else, no further."""
    return folder.stat().st_mode & 0o005 != 0o005


def openings() -> list[tuple[Path, list[Path]]]:
    """Closed folders on the way to what is needed, each with the paths that are to be seen in it."""
    found: dict[Path, set[Path]] = {}
    for path in needed():
        for folder in (*reversed(path.parents), path):
            if _closed(folder):
                shown = sorted(path.iterdir()) if _closed(path) else [path]
                found.setdefault(folder, set()).update(shown)
                break
    return [(folder, sorted(paths)) for folder, paths in found.items()]


def script(user: int, home: Path) -> str:
    """The shell script that opens the folders, in a mount namespace of its own, and becomes the user."""
    lines = ["set -e", "umask 022"]
    for number, (folder, shown) in enumerate(openings()):
        aside = home / f".aside-{number}"
        lines += [
            f"mkdir '{aside}'",
            f"mount --rbind '{folder}' '{aside}'",
            f"mount -t tmpfs -o mode=755 none '{folder}'",
        ]
        for path in shown:
            make = "mkdir -p" if path.is_dir() else "touch"
            lines += [
                f"mkdir -p '{path.parent}'",
                f"{make} '{path}'",
                f"mount --rbind '{aside / path.relative_to(folder)}' '{path}'",
            ]
        lines += [f"umount -l '{aside}'"]
    lines += [f"cd '{ROOT}'", f'exec setpriv --reuid {user} --regid {user} --clear-groups "$@"']
    return "\n".join(lines)


def run(command: list[str], **more: object) -> subprocess.CompletedProcess:
    """Runs the command as an ordinary user in a fresh home, with a temporary folder of its own."""
    user = free_user()
    home = Path(tempfile.mkdtemp(prefix="ordinary-"))
    try:
        os.chown(home, user, user)
        (home / "tmp").mkdir()
        os.chown(home / "tmp", user, user)
        env = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(home),
            "TMPDIR": str(home / "tmp"),
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "LANG": "C.UTF-8",
        }
        line = ["unshare", "--mount", "sh", "-c", script(user, home), "sh", *command]
        return subprocess.run(line, env=env, **more)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def trouble() -> str:
    """Why a command cannot be run as an ordinary user, in words; empty where it can."""
    if os.getuid() != 0:
        return "only root can become another user"
    if missing := [name for name in ("unshare", "setpriv") if shutil.which(name) is None]:
        return f"{' and '.join(missing)} (util-linux) is not installed"
    code = "import os, autograder.kernel.sandbox as s; assert os.getuid(); s.require('bubblewrap')"
    done = run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    return (
        f"an ordinary user cannot run the sandbox: {done.stderr.strip().splitlines()[-1:]}" if done.returncode else ""
    )


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]).returncode)
