"""Work spread over any `concurrent.futures.Executor`, where a worker may be killed at any moment."""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from multiprocessing import forkserver
from multiprocessing.connection import wait as wait_for
from typing import Any

PATIENCE = 100  # times that the server of workers may refuse, a tenth of a second each, before that is an error


def process_pool(jobs: int) -> ProcessPoolExecutor:
    """Worker processes of this machine, one thread each, which end with the process that started them.

    They are forked from a server that has imported what they need (`autograder.warm`), and share its zygote.
    """
    start_server()
    return ProcessPoolExecutor(jobs, multiprocessing.get_context("forkserver"), initializer=_prepare_worker)


def start_server() -> None:
    """Starts the server that workers are forked from, if there is none, so that its imports run beside other work."""
    forkserver.set_forkserver_preload(["autograder.warm"])
    forkserver.ensure_running()


def _prepare_worker() -> None:
    import torch

    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work forever: it holds both ends of the pipe that work comes through."""
    wait_for([multiprocessing.parent_process().sentinel])
    os._exit(1)


class Workers:
    """`jobs` workers of an executor that `pool` makes, anew when it breaks; `with` gives them up."""

    def __init__(self, pool: Callable[[int], Executor], jobs: int):
        self.pool, self.jobs = pool, jobs
        self.executor: Executor | None = None

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *exc: object) -> None:
        self._give_up()

    def _give_up(self) -> None:
        if self.executor is not None:
            self.executor.shutdown(cancel_futures=True)
            self.executor = None

    def run(
        self, function: Callable[..., Any], tasks: Mapping[str, tuple], **settings: Any
    ) -> Iterator[tuple[str, Any | BaseException]]:
        """(name, result or what was raised) of `function(*arguments, **settings)` for each task, as they come.

        A task that kills its worker costs no other: those under way with it are tried once more, one at a time.
        """
        suspects: list[str] = []
        yield from self._run(function, tasks, settings, 2 * self.jobs, suspects)
        for name in suspects:
            again: list[str] = []
            yield from self._run(function, {name: tasks[name]}, settings, 1, again)
            if again:
                yield name, BrokenExecutor("its worker was killed, twice")

    def _run(
        self, function: Callable[..., Any], tasks: Mapping[str, tuple], settings: dict, at_once: int, broke: list[str]
    ) -> Iterator[tuple[str, Any | BaseException]]:
        """As `run`; the names of tasks that were under way when a worker was killed are added to `broke`."""
        waiting = list(reversed(tasks))
        flying: dict[Future, str] = {}
        refused = 0
        while waiting or flying:
            try:
                while waiting and len(flying) < at_once:
                    self.executor = self.executor or self.pool(self.jobs)
                    future = self.executor.submit(function, *tasks[waiting[-1]], **settings)
                    flying[future] = waiting.pop()
                for future in wait(flying, return_when=FIRST_COMPLETED).done:
                    if isinstance(future.exception(), BrokenExecutor):
                        raise future.exception()
                    yield flying.pop(future), future.exception() or future.result()
            except (BrokenExecutor, ConnectionError) as error:
                # The server that workers are forked from refuses where it was killed, and is not yet known to be gone.
                if isinstance(error, ConnectionError):
                    refused += 1
                    if refused > PATIENCE:
                        raise
                    time.sleep(0.1)
                done = [future for future in flying if _has_result(future)]
                for future in done:
                    yield flying.pop(future), future.result()
                broke += flying.values()
                flying = {}
                self._give_up()


def _has_result(future: Future) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None
