"""How each exercise is exercised. One module a week; one function an exercise, named after it.

A drive calls the student's code on one case and returns raw outputs: tensors, numbers, strings, and dicts or lists of
them. It concludes nothing. Where a conclusion is needed (is this causal? is this distribution right?), a function
`measure_<exercise>(inputs, outputs)` beside the drive draws it from the raw outputs, in whichever process reaches the
verdict: the student's notebook for the public cases, the grader for the hidden ones.
"""

import contextlib
import importlib
import linecache
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from course import codec
from course.codec import Failure


def slug(exercise: str) -> str:
    """The exercise's name in ids and file names: `NameClassifier.forward` is `nameclassifier-forward`."""
    return re.sub(r"[^a-z0-9]+", "-", exercise.lower()).strip("-")


def drives_of(week: str) -> ModuleType:
    """The drives of a week, given by its full name (`week01_rnn`)."""
    return importlib.import_module(f"course.drives.{week}")


def drive_of(week: str, exercise: str) -> Callable[["Student", dict], Any]:
    return getattr(drives_of(week), slug(exercise).replace("-", "_"))


def measure_of(week: str, exercise: str) -> Callable[[dict, Any], Any]:
    """What turns raw outputs into what is compared; the outputs themselves where the exercise has no measure."""
    name = "measure_" + slug(exercise).replace("-", "_")
    return getattr(drives_of(week), name, lambda inputs, outputs: outputs)


class Missing(NameError):
    """The exercise's function or class is not in the notebook's namespace."""


class Student:
    """The names that a notebook has defined, as attributes: `student.rnn_step(...)`."""

    def __init__(self, namespace: dict[str, Any]):
        self._namespace = namespace

    def __getattr__(self, name: str) -> Any:
        try:
            return self._namespace[name]
        except KeyError:
            raise Missing(f"`{name}` is not defined. Run the cell that defines it, then this one again.") from None


def set_weights(module: nn.Module, weights: dict[str, Tensor]) -> nn.Module:
    """Copies the case's weights into a module the student built, by parameter name, in the weights' dtype.

    Raises KeyError, naming them, where the module's parameter names are not those of the case.
    """
    own = dict(module.named_parameters())
    if own.keys() != weights.keys():
        missing, extra = sorted(weights.keys() - own.keys()), sorted(own.keys() - weights.keys())
        raise KeyError(f"parameter names differ from the given __init__: missing {missing}, unexpected {extra}")
    module.to(next(iter(weights.values())).dtype)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(weights[name])
    return module


def gradients(
    outputs: Tensor | Sequence[Tensor], upstream: Tensor | Sequence[Tensor], inputs: Sequence[Tensor]
) -> list:
    """Gradients of sum(outputs * upstream) with respect to each input; None where an output does not depend on it."""
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    upstream = [upstream] if isinstance(upstream, Tensor) else list(upstream)
    total = sum((out * up).sum() for out, up in zip(outputs, upstream, strict=True))
    return list(torch.autograd.grad(total, list(inputs), allow_unused=True))


def tracked(*tensors: Tensor) -> list[Tensor]:
    """Fresh leaves that record gradients, with the values of the given tensors."""
    return [tensor.detach().clone().requires_grad_(True) for tensor in tensors]


def _message(error: BaseException) -> str:
    """The error's message, shortened; empty for an exception of the student's that cannot even be printed."""
    try:
        return str(error)[:2000].encode("utf-8", "replace").decode()
    except Exception:
        return ""


def _failing_line(error: BaseException) -> str:
    """The last line of student code in the traceback: its number within the cell and its text."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "ipykernel_" in frame.filename or frame.filename.startswith("<")]
    if not own:
        return ""
    line = own[-1].line or linecache.getline(own[-1].filename, own[-1].lineno or 0)
    return f"line {own[-1].lineno}: {line.strip()}" if line else f"line {own[-1].lineno}"


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Keeps what the profiler's C++ code writes to file descriptor 2 out of the student's notebook."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


class Tripwire:
    """Records the operators that run inside a `with` block and keeps those that an exercise forbids.

    `forbid` names operators as PyTorch's profiler does (`aten::rnn_tanh`), or `autograd` for any backward pass or
    forward-mode derivative. What runs in another thread is not seen; turning the profiler off is.
    """

    def __init__(self, forbid: Sequence[str]):
        self.forbid = list(forbid)
        self.hits: list[str] = []

    def __enter__(self) -> "Tripwire":
        self._profile = torch.autograd.profiler.profile(enabled=bool(self.forbid), use_kineto=False)
        with _silent_stderr():
            self._profile.__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        with torch.autograd.profiler.record_function("still watching"):
            pass
        with _silent_stderr():
            self._profile.__exit__(*exc)
        if self.forbid:
            # The raw events have the names already; `function_events` would spend most of the time on their timings.
            seen = {event.name() for event in self._profile.kineto_results.events()}
            derived = any(name.startswith(("autograd::engine", "aten::_make_dual")) for name in seen)
            self.hits = [name for name in self.forbid if name in seen or (name == "autograd" and derived)]
            if "still watching" not in seen:
                self.hits.append("turning off the profiler")


def answer(week: str, exercise: str, namespace: dict[str, Any], inputs: dict, forbid: Sequence[str] = ()) -> Any:
    """Runs one exercise on one case.

    Returns what the drive returned, as it looks across the border (`codec.normalise`). An exception of the student's
    comes back as a `Failure`; so does the use of a forbidden operator, with type "Forbidden".
    """
    drive = drive_of(week, exercise)
    torch.manual_seed(0)
    try:
        with Tripwire(forbid) as tripwire:
            outputs = drive(Student(namespace), codec.normalise(inputs))
        if tripwire.hits:
            return Failure("Forbidden", ", ".join(tripwire.hits))
        return codec.normalise(outputs)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit and the like are answers too
        return Failure(type(error).__name__, _message(error), _failing_line(error))


def answer_files(week: str, exercise: str, namespace: dict[str, Any], stem: str, forbid: Sequence[str] = ()) -> None:
    """Runs one exercise on the case saved at `stem` and saves the answer beside it, at `stem`-answer.

    The grader calls this in the student's kernel. Nothing is returned or printed: the answer is in the file.
    """
    path = Path(stem)
    result = answer(week, exercise, namespace, codec.load(path), forbid)
    codec.save(result, path.with_name(path.name + "-answer"))
