"""The Jupyter kernel provisioner of the kernelspecs `course-sandbox` and `course-process`.

Whatever runs notebooks by jupyter_client (nbclient, papermill, nbgrader, a Jupyter server) gets a sandboxed kernel by naming
`course-sandbox`: one that was forked ahead from a zygote in bubblewrap (`autograder.kernel.sandbox`) and listens already.
`course-process` starts a plain ipykernel in a process of its own, which is no sandbox, where there cannot be one.

Either kernel works in a fresh folder of its own, whatever `cwd` it is asked for: the provisioner's `work`, a descriptor of
that folder, and `folder`, its path as the kernel sees it. The folder is gone when the kernel ends. `line` is a SOCK_SEQPACKET
socket to code in the kernel, which has its other end at the descriptor `its_line`.
"""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning import KernelProvisionerBase, LocalProvisioner
from traitlets import Float, Integer

from autograder.kernel.sandbox import SCRATCH, Kernel, Limits, environment, font_lists, nursery, require


class SandboxProvisioner(KernelProvisionerBase):
    """A kernel in the sandbox. Its limits can be set in the kernelspec, under metadata.kernel_provisioner.config."""

    memory_gb = Float(Limits.memory / 1e9, help="Memory of the kernel and its processes together, in GB.").tag(
        config=True
    )
    scratch_mb = Integer(Limits.scratch // 2**20, help="Size of its scratch folder, in MB, in memory.").tag(config=True)
    processes = Integer(Limits.processes, help="Processes and threads, together.").tag(config=True)
    cpu_seconds = Integer(Limits.cpu_seconds, help="CPU seconds, together.").tag(config=True)

    kernel: Kernel | None = None
    folder = Path(SCRATCH, "work")
    file = -1  # the connection file: Jupyter wants one, and needs its path to outlive nothing

    @property
    def limits(self) -> Limits:
        return Limits(
            memory=int(self.memory_gb * 1e9),
            scratch=self.scratch_mb * 2**20,
            processes=self.processes,
            cpu_seconds=self.cpu_seconds,
        )

    @property
    def work(self) -> int:
        return self.kernel.work

    @property
    def line(self) -> socket.socket:
        return self.kernel.line

    @property
    def its_line(self) -> int:
        return self.kernel.its_line

    @property
    def ended(self) -> str:
        """Why it ended, once it has (`Kernel.ended`)."""
        return self.kernel.ended if self.kernel else "closed"

    @property
    def has_process(self) -> bool:
        return self.kernel is not None

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Raises CourseError, with what to do, where there can be no sandbox."""
        require("bubblewrap")
        return await super().pre_launch(cmd=self.kernel_spec.argv, **kwargs)

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Takes a kernel that was forked ahead. Raises RuntimeError where none comes up."""
        self.kernel = await asyncio.to_thread(nursery(self.limits).take)
        info = {**self.kernel.connection, "kernel_name": self.kernel_spec.name or ""}
        self.file = os.memfd_create("connection.json")
        os.write(self.file, json.dumps(info).encode())
        manager = self.parent
        manager.connection_file = f"/proc/self/fd/{self.file}"
        manager.load_connection_info({**info, "key": info["key"].encode()})
        self.connection_info = manager.get_connection_info()
        return self.connection_info

    async def poll(self) -> int | None:
        return None if self.kernel is not None and self.kernel.alive() else 1

    async def wait(self) -> int | None:
        while await self.poll() is None:
            await asyncio.sleep(0.05)
        return 1

    async def send_signal(self, signum: int) -> None:
        """Only one that ends it: it is interrupted by a message, since its process number means nothing here."""
        if signum in (signal.SIGKILL, signal.SIGTERM):
            await self.kill()

    async def kill(self, restart: bool = False) -> None:
        if self.kernel is not None:
            await asyncio.to_thread(self.kernel.end)

    def let_go(self) -> None:
        """Ends the kernel and does not wait for it: this process's next kernel will be there after it is gone."""
        nursery(self.limits).let_go(self.kernel)
        self.kernel = None

    async def terminate(self, restart: bool = False) -> None:
        await self.kill(restart)

    async def cleanup(self, restart: bool = False) -> None:
        await self.kill(restart)
        self.kernel = None
        if self.file >= 0:
            os.close(self.file)
            self.file = -1


class ProcessProvisioner(LocalProvisioner):
    """A plain ipykernel in a process of its own, which can do whatever its owner can do."""

    scratch: Path | None = None
    work = its_line = -1
    line: socket.socket | None = None
    ended = "exit"

    @property
    def folder(self) -> Path:
        return self.scratch / "work"

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        if self.scratch is None:
            # A socket's path must stay under 107 bytes, so TMPDIR is not asked.
            self.scratch = Path(tempfile.mkdtemp(prefix="kernel-", dir="/tmp")).resolve()
            for name in ("work", "home", "tmp"):
                (self.scratch / name).mkdir()
            self.parent.transport = "ipc"
            self.parent.ip = str(self.scratch / "s")
            self.parent.connection_file = str(self.scratch / "connection.json")
            self.work = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        kwargs = await super().pre_launch(**kwargs)
        home = self.scratch / "home"
        (home / "matplotlib").mkdir(exist_ok=True)
        for path in font_lists():
            shutil.copy(path, home / "matplotlib")
        return {**kwargs, "cwd": str(self.folder), "env": environment(home, self.scratch / "tmp")}

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Starts it; what it writes to its own stdout and stderr, outside of any cell, is dropped."""
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.line.setblocking(False)
        self.its_line = theirs.fileno()
        with theirs:
            return await super().launch_kernel(cmd, **{**kwargs, **quiet, "pass_fds": [self.its_line]})

    def let_go(self) -> None:
        """Nothing: there is no kernel ahead of which this one's end could be waited for."""

    async def cleanup(self, restart: bool = False) -> None:
        await super().cleanup(restart)
        if self.line is not None:
            self.line.close()
        if self.scratch is not None and not restart:
            os.close(self.work)
            await asyncio.to_thread(shutil.rmtree, self.scratch, ignore_errors=True)
            self.scratch = None
