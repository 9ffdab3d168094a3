"""The engine: runs a repaired notebook in a kernel and exercises the student's functions on the hidden cases.

Everything that is known of the kernel is its name (`autograder.kernel.KERNELS`), Jupyter's protocol, and a descriptor of its
working folder. Code runs in it and answers come back as files (`course.codec`); verdicts are reached here, from bytes.
Nothing that the kernel prints, displays or reports has a say in them, so its output is not even listened to.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass
from queue import Empty
from typing import Any

import zmq
import zmq.asyncio
from jupyter_client.manager import AsyncKernelManager

from autograder.kernel import KERNELS, kernelspecs
from course import codec
from course.check import ENDED
from course.codec import MAX_BYTES, Failure

QUIET = logging.getLogger("autograder.kernel")  # what goes wrong in a kernel is an Outcome, not a line in a log
QUIET.addHandler(logging.NullHandler())
QUIET.propagate = False

GIVEN_TIMEOUT = 120.0  # seconds for a cell of given code, the first of which imports torch
GRACE = 5.0  # seconds that an interrupted kernel has to come back
LOOK = 0.25  # seconds between two looks whether a kernel is still alive
MAX_REPLY = 4 * 2**20  # bytes of one message of the kernel's; ZeroMQ hangs up on a larger one
UNANSWERED = object()  # stands for an answer that did not come
MAX_REPLIES = 16  # messages that may wait to be read
# IPython's own exit ends the kernel after the cell, without an error. Outputs would be the most of what a kernel sends.
PREPARE = """
from sys import exit, exit as quit
__import__("course.drives", fromlist=["drives"]).unheard(get_ipython())
"""

TIMEOUT_MESSAGE = "It was stopped after {seconds:g} seconds. Is there a loop that does not end?"
LIMITS = {"memory": "OutOfMemory", "processes": "TooManyProcesses", "cpu_seconds": "TooMuchComputing"}


@dataclass(frozen=True)
class Outcome:
    """How a cell ended: ok, error (it raised), timeout or crashed. `alive`: the kernel can go on."""

    status: str
    alive: bool = True
    name: str = ""
    message: str = ""


class KernelLost(RuntimeError):
    """A kernel ended by no fault of the code in it: something outside of the sandbox was killed."""


class Session:
    """A kernel that runs cells in a folder of its own; `async with` starts it and ends it."""

    def __init__(self, isolation: str):
        self.isolation = isolation

    async def __aenter__(self) -> "Session":
        """Raises RuntimeError where no kernel comes up; CourseError where this isolation is not to be had."""
        context = zmq.asyncio.Context()
        context.setsockopt(zmq.MAXMSGSIZE, MAX_REPLY)
        context.setsockopt(zmq.RCVHWM, MAX_REPLIES)
        self.manager = AsyncKernelManager(
            kernel_name=KERNELS[self.isolation],
            kernel_spec_manager=kernelspecs(),
            context=context,
            transport_encryption="disabled",
            log=QUIET,
        )
        self.client = None
        try:
            await self.manager.start_kernel()
            self.client = self.manager.client()
            self.client.start_channels(shell=True, iopub=False, stdin=False, hb=False, control=True)
            ready = await self.run(PREPARE, GIVEN_TIMEOUT, silent=True)
            if ready.status != "ok":
                raise RuntimeError(f"the kernel does not answer: {ready.message}")
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *exc: Any) -> None:
        await self.close()

    async def close(self, wait: bool = True) -> None:
        """Ends the kernel, and returns when all of its processes are gone. `wait=False`: when they are told to end."""
        if self.client is not None:
            self.client.stop_channels()
        if self.manager.has_kernel:
            if not wait:
                self.manager.provisioner.let_go()
            await self.manager.shutdown_kernel(now=True)
        self.manager.context.destroy(linger=0)

    async def run(self, source: str, timeout: float, silent: bool = False) -> Outcome:
        """Runs a cell's source. `silent`: without the hooks that code has left in IPython.

        Never raises for what the code does; KernelLost where the kernel ended for another reason.
        """
        if not source.strip():
            return Outcome("ok")
        return await self._outcome(timeout, code=source, silent=silent)

    async def evaluate(self, expression: str, timeout: float) -> Outcome:
        """Evaluates a Python expression, past all that IPython does with a cell and half as expensive; as `run` otherwise."""
        return await self._outcome(timeout, code="", silent=True, user_expressions={"value": expression})

    async def _outcome(self, timeout: float, **request: Any) -> Outcome:
        reply = await self._reply(timeout, **request)
        if reply is None:
            if not await self.manager.is_alive():
                ended = self.manager.provisioner.ended
                if ended == "lost":
                    raise KernelLost("the kernel was lost: something killed the sandbox's own processes")
                name = LIMITS.get(ended, "Crashed")
                return Outcome("crashed", False, name, ENDED[name])
            await self.manager.interrupt_kernel()
            alive = await self._reply(GRACE, code="pass") is not None
            return Outcome("timeout", alive, "Timeout", TIMEOUT_MESSAGE.format(seconds=timeout))
        values = reply.get("user_expressions")
        for told in (reply, values.get("value") if isinstance(values, dict) else None):
            if isinstance(told, dict) and told.get("status") == "error":
                return Outcome("error", True, str(told.get("ename", ""))[:200], str(told.get("evalue", ""))[:2000])
        return Outcome("ok")

    async def _reply(self, timeout: float, **request: Any) -> dict[str, Any] | None:
        """The kernel's reply to a request; None where it ended or let the time pass. Replies to anything else are dropped."""
        asked = self.client.execute(**request, allow_stdin=False, stop_on_error=False)
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            try:
                message = await self.client.get_shell_msg(timeout=min(left, LOOK))
                if message["parent_header"].get("msg_id") == asked and isinstance(message["content"], dict):
                    return message["content"]
            except Empty:
                if not await self.manager.is_alive():
                    return None
            except Exception:  # a message that no honest kernel sends
                continue
        return None

    # ------------------------------------------------------------------------------ the line to code in the kernel

    def tell(self, word: str) -> None:
        """Says a word to what listens to the line in the kernel. Where nothing can be said, nobody will answer."""
        with contextlib.suppress(OSError):
            self.manager.provisioner.line.send(word.encode())

    async def hears(self, word: str, running: asyncio.Future) -> bool:
        """Whether the word comes back before `running` ends. Other words are dropped."""
        loop, line = asyncio.get_running_loop(), self.manager.provisioner.line
        while True:
            heard = asyncio.ensure_future(loop.sock_recv(line, 4096))
            await asyncio.wait({heard, running}, return_when=asyncio.FIRST_COMPLETED)
            if not heard.done():
                heard.cancel()
                return False
            if heard.exception() is not None or not heard.result():
                await asyncio.wait({running})  # the kernel has closed its end, or has ended
                return False
            if heard.result() == word.encode():
                return True

    # ------------------------------------------------------------------------------ files in the kernel's folder

    @property
    def folder(self) -> str:
        """The working folder's path as the kernel sees it."""
        return str(self.manager.provisioner.folder)

    def put(self, name: str, content: bytes) -> None:
        """Makes a new file in the working folder. Raises OSError, as where the folder is full or gone."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(name, flags, 0o644, dir_fd=self.manager.provisioner.work), "wb") as file:
            file.write(content)

    def take(self, name: str, most: int) -> bytes:
        """The content of a regular file in the working folder, whatever else may stand there under its name.

        At most one byte more than `most` is read. Raises OSError where there is no such file.
        """
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
        with os.fdopen(os.open(name, flags, dir_fd=self.manager.provisioner.work), "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(f"{name} is not a file")
            parts, left = [], most + 1
            while left > 0 and (part := file.read(left)):
                parts.append(part)
                left -= len(part)
            return b"".join(parts)

    def remove(self, *names: str) -> None:
        for name in names:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=self.manager.provisioner.work)


class Run:
    """A notebook run from top to bottom, which goes on after a crash: in a new kernel, without the guilty cell."""

    def __init__(self, isolation: str, cell_timeout: float):
        self.isolation, self.cell_timeout = isolation, cell_timeout
        self.session: Session | None = None
        self.history: list[tuple[str, float]] = []

    async def __aenter__(self) -> "Run":
        await self._start()
        return self

    async def __aexit__(self, *exc: Any) -> None:
        if self.session is not None:
            await self.session.close(wait=False)

    async def _start(self) -> None:
        """A kernel in which every cell of the history has been run; cells that end it now too are left out."""
        while True:
            if self.session is not None:
                await self.session.close()
            self.session = await Session(self.isolation).__aenter__()
            for i, (source, timeout) in enumerate(self.history):
                if not (await self.session.run(source, timeout)).alive:
                    del self.history[i]
                    break
            else:
                return

    async def cell(self, source: str, given: bool = False) -> Outcome:
        """Runs a cell of the notebook; one with given code has time enough for imports on a busy machine.

        What it puts out is dropped: from the first hidden case on, it could be showing that.

        A cell that ends the kernel, or cannot be interrupted, is not run again.
        """
        timeout = max(GIVEN_TIMEOUT, self.cell_timeout) if given else self.cell_timeout
        outcome = await self.session.run(source, timeout)
        if outcome.alive:
            self.history.append((source, timeout))
        else:
            await self._start()
        return outcome

    async def answers(
        self, week: str, exercise: str, cases: Sequence[tuple[bytes, bytes]], timeout: float, forbid: Sequence[str]
    ) -> list[Any]:
        """What the exercise answers to each case's inputs (`codec.to_bytes`), one case at a time; `timeout` seconds for all.

        A case that ends the kernel or takes too long is answered by a Failure, and so is every case after it.
        """
        answers: list[Any] = []
        deadline = time.monotonic() + timeout
        while len(answers) < len(cases):
            session, last = self.session, secrets.token_hex(8)
            call = (
                '__import__("course.drives", fromlist=["drives"]).answer_each('
                f"{week!r}, {exercise!r}, globals(), {session.manager.provisioner.its_line}, {last!r}, {list(forbid)!r})"
            )
            running = asyncio.ensure_future(session.evaluate(call, deadline - time.monotonic()))
            for inputs in cases[len(answers) :]:
                answer = await self._answer(session, inputs, running)
                if answer is UNANSWERED:
                    break
                answers.append(answer)
            session.tell(last)
            outcome = await running
            if outcome.status in ("timeout", "crashed"):
                message = TIMEOUT_MESSAGE.format(seconds=timeout) if outcome.status == "timeout" else outcome.message
                answers += [Failure(outcome.name, message)] * (len(cases) - len(answers))
                await self._start()  # interrupted or not, it may have left threads or a second process that answer too
            elif len(answers) < len(cases):
                why = f" ({outcome.name}: {outcome.message})" if outcome.name else ""
                answers.append(Failure("Unreadable", f"No answer came back from your code{why}."))
        return answers

    @staticmethod
    async def _answer(session: Session, inputs: tuple[bytes, bytes], running: asyncio.Future) -> Any:
        """The answer to one case; UNANSWERED where what runs in the kernel ends before it is there."""
        stem = f"case-{secrets.token_hex(8)}"
        files = [f"{stem}{part}.{kind}" for part in ("", "-answer") for kind in ("safetensors", "json")]
        try:
            for name, content in zip(files[:2], inputs, strict=True):
                session.put(name, content)
            path = f"{session.folder}/{stem}"
            session.tell(path)
            if not await session.hears(path, running):
                return UNANSWERED
        except OSError:
            return Failure("Unreadable", "Your code left no room in its folder for the case.")
        else:
            return _read(session, files[2:])
        finally:
            session.remove(*files)


def _read(session: Session, names: list[str]) -> Any:
    """The answer in two files of the kernel's folder; a Failure where there is none that can be read."""
    try:
        return codec.from_bytes(*(session.take(name, MAX_BYTES + 2**20) for name in names))
    except codec.TooLarge as error:
        return Failure("TooLarge", f"{error}".capitalize() + ".")
    except (OSError, ValueError):
        return Failure("Unreadable", "No answer came back from your code.")
