"""What grading a submission costs at least: the processor time of the student's own code."""

import contextlib
import io
import itertools
import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import nbformat
import torch

from autograder.exercise import Artifact
from autograder.repair import exercise, role
from autograder.week import Week
from course.check import Bank
from course.drives import answer


def code_seconds(week: Week, submissions: Sequence[Path], banks: Path) -> list[float]:
    """Processor seconds of each submission's code alone: no kernel, no sandbox, one process after another, one thread.

    The notebook's cells, then every hidden case once, as the drive runs it, unwatched; on saved models too. The imports of
    the course's own modules are not in it. Run it on code that you trust.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=torch.set_num_threads, initargs=(1,)) as process:
        return list(process.map(_seconds, submissions, itertools.repeat(week.folder), itertools.repeat(banks)))


def _seconds(submission: Path, folder: Path, banks: Path) -> float:
    week = Week(folder)
    artifacts = {artifact.name: artifact for artifact in week.artifacts}
    namespace: dict[str, Any] = {"__name__": "__main__"}
    seconds = 0.0
    for cell in nbformat.read(submission / f"{week.name}.ipynb", as_version=4).cells:
        what, name = role(cell), exercise(cell)
        if what == "check" and name in artifacts:
            cases = _saved_model(artifacts[name], submission, week.heldout)
        elif what == "check":
            cases = [case.inputs for case in Bank.load(banks, name).cases]
        elif what in ("setup", "given", "solution"):
            seconds += _cpu(lambda source=cell.source: exec(compile(source, "<cell>", "exec"), namespace))
            continue
        else:
            continue
        for inputs in cases:
            seconds += _cpu(lambda name=name, inputs=inputs: answer(week.name, name, namespace, inputs))
    return seconds


def _saved_model(artifact: Artifact, submission: Path, heldout: Path) -> list[dict]:
    """The one case of a saved model; none where it was not handed in."""
    try:
        return [{**artifact.inputs(heldout)[0], **artifact.load(submission)}]
    except ValueError:
        return []


def _cpu(action: Callable[[], Any]) -> float:
    """Processor seconds of an action; what it prints or raises is dropped."""
    nowhere = io.StringIO()
    began = time.process_time()
    with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere), contextlib.suppress(Exception):
        action()
    return time.process_time() - began
