"""A Jupyter kernel provisioner that starts a plain ipykernel inside bubblewrap.

The kernel sees a read-only whitelist: system folders, Python with its packages, and the `course` package. No network, no
other process, no file of the course but `course/`; it may write its working folder and nothing else that outlives it. It
speaks to its client over Unix sockets in a folder of its own, which cross the network namespace by path.
"""

import asyncio
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning import LocalProvisioner
from traitlets import Enum

import course
from autograder.kernel import KERNELS
from autograder.week import CourseError

SYSTEM = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/etc/alternatives",
    "/etc/fonts",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
)
NAMESPACES = ("user", "pid", "net", "ipc", "uts")
NEITHER = (
    "Submissions cannot be graded safely here: {why}. Install bubblewrap (apt install bubblewrap) on a Linux that lets it "
    "make namespaces, or accept grading without a sandbox with --isolation process."
)


def environment(home: Path) -> dict[str, str]:
    """The whole environment of a kernel. One thread, no network, no window; files that libraries keep go below `home`."""
    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "TMPDIR": "/tmp",
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HOME": str(home / "huggingface"),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "MPLCONFIGDIR": str(home / "matplotlib"),
        "IPYTHONDIR": str(home / "ipython"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }


def readable() -> list[Path]:
    """Folders that a kernel may read besides the system's: Python, its packages, and the `course` package."""
    folders = [Path(sys.base_prefix), Path(sys.prefix), Path(course.__file__).resolve().parent]
    return [
        folder
        for i, folder in enumerate(folders)
        if not any(folder.is_relative_to(other) for other in [Path("/usr"), *folders[:i]])
    ]


def sandboxed(command: list[str], env: dict[str, str], writable: list[Path], cwd: Path) -> list[str]:
    """The bubblewrap command line that runs `command` with `env` in `cwd`, able to write the folders in `writable` only."""
    line = [_bwrap(), *(f"--unshare-{namespace}" for namespace in NAMESPACES)]
    line += ["--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"]
    for folder in SYSTEM:
        line += ["--ro-bind-try", folder, folder]
    line += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    for folder in readable():
        line += ["--ro-bind", str(folder), str(folder)]
    for folder in writable:
        line += ["--bind", str(folder), str(folder)]
    for name, value in env.items():
        line += ["--setenv", name, value]
    return [*line, "--chdir", str(cwd), "--", *command]


def _bwrap() -> str:
    return shutil.which("bwrap") or "bwrap"


@functools.cache
def sandbox_trouble() -> str:
    """Why bubblewrap cannot run here, in words; empty where it can. Tried once a process."""
    if sys.platform != "linux":
        return f"bubblewrap does not exist for {sys.platform}"
    if not shutil.which("bwrap"):
        return "bubblewrap is not installed"
    trial = subprocess.run(
        sandboxed(["/bin/sh", "-c", "exit 0"], {}, [], Path("/")), capture_output=True, text=True, timeout=30
    )
    return f"bubblewrap says {trial.stderr.strip()!r}" if trial.returncode else ""


def require(isolation: str) -> None:
    """Raises CourseError, with what to do, where this kind of isolation is not to be had on this machine."""
    if isolation not in KERNELS:
        raise CourseError(f"There is no isolation {isolation!r}; there are {' and '.join(KERNELS)}.")
    if isolation == "bubblewrap" and (why := sandbox_trouble()):
        raise CourseError(NEITHER.format(why=why))


class SandboxProvisioner(LocalProvisioner):
    """Starts one ipykernel, cold. Its working folder is the `cwd` given to `start_kernel`, the current folder otherwise."""

    isolation = Enum(("bubblewrap", "process"), default_value="bubblewrap")
    sockets: Path | None = None

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        require(self.isolation)
        if self.sockets is None:
            # A socket's path must stay under 107 bytes, so TMPDIR is not asked.
            self.sockets = Path(tempfile.mkdtemp(prefix="kernel-", dir="/tmp"))
            self.parent.transport = "ipc"
            self.parent.ip = str(self.sockets / "s")
            self.parent.connection_file = str(self.sockets / "connection.json")
        kwargs = await super().pre_launch(**kwargs)
        cwd = Path(kwargs.get("cwd") or os.getcwd()).resolve()
        home = cwd / ".home"
        _warm_home(home)
        env = environment(home)
        # A kernel ends with its parent: by bubblewrap's --die-with-parent, elsewhere by watching JPY_PARENT_PID, which
        # launch_kernel sets unless told that it is independent. (Inside a PID namespace that watch would see process 1.)
        boxed = self.isolation == "bubblewrap"
        if boxed:
            kwargs["cmd"] = sandboxed(kwargs["cmd"], env, [self.sockets, cwd], cwd)
        return {**kwargs, "cwd": str(cwd), "env": env, "independent": boxed}

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Starts it; what it writes to its own stdout and stderr, outside of any cell, is dropped."""
        return await super().launch_kernel(
            cmd, **{**kwargs, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        )

    async def cleanup(self, restart: bool = False) -> None:
        await super().cleanup(restart)
        if self.sockets is not None and not restart:
            await asyncio.to_thread(shutil.rmtree, self.sockets, ignore_errors=True)
            self.sockets = None


@functools.cache
def _font_lists() -> list[Path]:
    """matplotlib's list of fonts, made once here: every new home would spend a second on making it again."""
    import matplotlib.font_manager

    return sorted(Path(matplotlib.get_cachedir()).glob("fontlist-*.json"))


def _warm_home(home: Path) -> None:
    (home / "matplotlib").mkdir(parents=True, exist_ok=True)
    for path in _font_lists():
        shutil.copy(path, home / "matplotlib")
