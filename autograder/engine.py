"""The engine: runs a repaired notebook in a kernel and exercises the student's functions on the hidden cases.

Everything that is known of the kernel is its name (`autograder.kernel.KERNELS`) and Jupyter's protocol. Code runs in it and
answers come back as files (`course.codec`); verdicts are reached here, from bytes. Nothing that the kernel prints, displays
or reports has a say in them.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionComplete, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

from autograder.kernel import KERNELS, kernelspecs
from course import codec
from course.codec import Failure

QUIET = logging.getLogger("autograder.kernel")  # what goes wrong in a kernel is an Outcome, not a line in a log
QUIET.addHandler(logging.NullHandler())
QUIET.propagate = False

GIVEN_TIMEOUT = 120.0  # seconds for a cell of given code, the first of which imports torch
GRACE = 5.0  # seconds that an interrupted kernel has to come back
PREPARE = "from sys import exit, exit as quit"  # IPython's own end the kernel after the cell, without an error

TIMEOUT_MESSAGE = "It was stopped after {seconds:g} seconds. Is there a loop that does not end?"
CRASH_MESSAGE = "It ended the Python process: a crash, out of memory, or a call such as os._exit."


@dataclass(frozen=True)
class Outcome:
    """How a cell ended: ok, error (it raised), timeout or crashed. `alive`: the kernel can go on."""

    status: str
    alive: bool = True
    name: str = ""
    message: str = ""


class _Client(NotebookClient):
    """nbclient's client for one cell at a time, which keeps no output, only learns when a cell ends, and survives odd
    messages."""

    def run_next(self, source: str) -> NotebookNode:
        self.reset_execution_trackers()
        self.listener: asyncio.Task | None = None
        self.reply: dict[str, Any] = {}
        cell = new_code_cell(source)
        self.nb.cells = [cell]
        return cell

    async def _async_poll_output_msg(self, *arguments: Any) -> None:
        self.listener = asyncio.current_task()
        await super()._async_poll_output_msg(*arguments)

    async def stop_listening(self) -> None:
        """Ends the task that collects a cell's output. After a timeout nbclient leaves it running: it would take the
        messages of the next cells, and each of those would wait for its own in vain."""
        if self.listener is not None:
            self.listener.cancel()
            await asyncio.gather(self.listener, return_exceptions=True)

    def process_message(self, msg: dict[str, Any], cell: NotebookNode, cell_index: int) -> NotebookNode | None:
        if msg.get("msg_type") != "status":
            return None
        try:
            return super().process_message(msg, cell, cell_index)
        except CellExecutionComplete:
            raise
        except Exception:  # a message that no honest kernel sends
            return None


class Session:
    """A kernel that runs cells in a folder of its own; `async with` starts it and ends it."""

    def __init__(self, isolation: str, folder: Path):
        self.isolation, self.folder = isolation, folder

    async def __aenter__(self) -> "Session":
        """Raises RuntimeError where no kernel comes up; CourseError where this isolation is not to be had."""
        self.manager = AsyncKernelManager(
            kernel_name=KERNELS[self.isolation], kernel_spec_manager=kernelspecs(), transport_encryption="disabled"
        )
        self.client = _Client(new_notebook(), km=self.manager, allow_errors=True, skip_cells_with_tag="")
        self.client.log = self.manager.log = QUIET
        self.client.on_cell_executed = self._note_reply
        try:
            await self.client.async_start_new_kernel(cwd=str(self.folder))
            await self.client.async_start_new_kernel_client()
            await self.run(PREPARE, 60.0)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc: Any) -> None:
        if self.client.kc is not None:
            self.client.kc.stop_channels()
            self.client.kc = None
        if self.client.km is not None and self.manager.has_kernel:
            await self.manager.shutdown_kernel(now=True)

    def _note_reply(self, cell: NotebookNode, cell_index: int, execute_reply: dict[str, Any]) -> None:
        self.client.reply = execute_reply.get("content", {})

    async def run(self, source: str, timeout: float) -> Outcome:
        """Runs a cell's source. Never raises for what the code does."""
        if not source.strip():
            return Outcome("ok")
        cell = self.client.run_next(source)
        self.client.timeout = max(1, round(timeout))
        try:
            await self.client.async_execute_cell(cell, 0)
            outcome = self._outcome()
        except CellTimeoutError:
            await self.client.stop_listening()
            message = TIMEOUT_MESSAGE.format(seconds=timeout)
            outcome = Outcome("timeout", await self._interrupt(), "Timeout", message)
        except DeadKernelError:
            outcome = Outcome("crashed", False, "Crashed", CRASH_MESSAGE)
        return outcome

    def _outcome(self) -> Outcome:
        reply = self.client.reply
        if reply.get("status") == "error":
            return Outcome("error", True, str(reply.get("ename", ""))[:200], str(reply.get("evalue", ""))[:2000])
        return Outcome("ok")

    async def _interrupt(self) -> bool:
        """Interrupts what is running, and tells whether the kernel came back from it."""
        try:
            await self.manager.interrupt_kernel()
            cell = self.client.run_next("pass")
            self.client.timeout = round(GRACE)
            await self.client.async_execute_cell(cell, 0)
        except (CellTimeoutError, DeadKernelError, RuntimeError):
            await self.client.stop_listening()
            return False
        return True


class Run:
    """A notebook run from top to bottom, which goes on after a crash: in a new kernel, without the guilty cell."""

    def __init__(self, isolation: str, folder: Path, cell_timeout: float):
        self.isolation, self.folder, self.cell_timeout = isolation, folder, cell_timeout
        self.session: Session | None = None
        self.history: list[tuple[str, float]] = []

    async def __aenter__(self) -> "Run":
        await self._start()
        return self

    async def __aexit__(self, *exc: Any) -> None:
        if self.session is not None:
            await self.session.__aexit__()

    async def _start(self) -> None:
        """A kernel in which every cell of the history has been run; cells that end it now too are left out."""
        while True:
            if self.session is not None:
                await self.session.__aexit__()
            self.session = await Session(self.isolation, self.folder).__aenter__()
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
        self, week: str, exercise: str, cases: Sequence[dict], timeout: float, forbid: Sequence[str]
    ) -> list[Any]:
        """What the exercise answers to each case's inputs, one case at a time; `timeout` seconds for all together.

        A case that ends the kernel or takes too long is answered by a Failure, and so is every case after it.
        """
        answers: list[Any] = []
        deadline = time.monotonic() + timeout
        for inputs in cases:
            answer, outcome = await self._answer(week, exercise, inputs, deadline - time.monotonic(), forbid)
            if outcome.status in ("timeout", "crashed"):
                message = TIMEOUT_MESSAGE.format(seconds=timeout) if outcome.status == "timeout" else CRASH_MESSAGE
                answers += [Failure(outcome.name, message)] * (len(cases) - len(answers))
                if not outcome.alive:
                    await self._start()
                return answers
            answers.append(answer)
        return answers

    async def _answer(
        self, week: str, exercise: str, inputs: dict, timeout: float, forbid: Sequence[str]
    ) -> tuple[Any, Outcome]:
        stem = self.folder / f"case-{secrets.token_hex(8)}"
        back = stem.with_name(f"{stem.name}-answer")
        call = (
            '__import__("course.drives", fromlist=["drives"]).answer_files('
            f"{week!r}, {exercise!r}, globals(), {str(stem)!r}, {list(forbid)!r})"
        )
        codec.save(inputs, stem)
        try:
            outcome = await self.session.run(call, timeout)
            try:
                return await asyncio.to_thread(codec.load, back), outcome
            except codec.TooLarge as error:
                return Failure("TooLarge", f"{error}".capitalize() + "."), outcome
            except ValueError:
                why = f" ({outcome.name}: {outcome.message})" if outcome.name else ""
                return Failure("Unreadable", f"No answer came back from your code{why}."), outcome
        finally:
            for path in self.folder.glob(f"{stem.name}*"):
                path.unlink(missing_ok=True)
