"""How each exercise is exercised. One module a week; one function an exercise, named after it.

A drive calls the student's code on one case and returns raw outputs: tensors, numbers, strings, and dicts or lists of
them. It concludes nothing. Where a conclusion is needed (is this causal? is this distribution right?), a function
`measure_<exercise>(inputs, outputs)` beside the drive draws it from the raw outputs, in whichever process reaches the
verdict: the student's notebook for the public cases, the grader for the hidden ones.
"""

import importlib
import io
import linecache
import os
import re
import socket
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._profiler import _ExperimentalConfig
from torch.autograd import ProfilerConfig, ProfilerState

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


MEMORY = ProfilerConfig(ProfilerState.CPU, False, True, False, False, False, _ExperimentalConfig())


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


def peak_bytes(call: Callable[[], Any]) -> int:
    """The most bytes of tensors on the CPU that a call had allocated and not yet freed, at any moment, its result included.

    What PyTorch's profiler notes of every allocation, and so the same number each time. In a thread of its own, without
    gradients: a Tripwire may be watching this one.
    """

    def watched() -> list:
        torch.autograd._enable_profiler_legacy(MEMORY)
        try:
            with torch.no_grad():
                result = call()
        finally:
            records = torch.autograd._disable_profiler_legacy()
        del result
        return records

    with ThreadPoolExecutor(1) as thread:
        records = thread.submit(watched).result()
    held = most = 0
    for event in (event for one in records for event in one if event.kind() == "memory_alloc"):
        held += event.cpu_memory_usage()
        most = max(most, held)
    return most


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


class Tripwire:
    """Records the operators that run inside a `with` block and keeps those that an exercise forbids.

    `forbid` names operators as PyTorch's profiler does (`aten::rnn_tanh`), or `autograd` for any backward pass or
    forward-mode derivative. What runs in another thread is not seen; turning the profiler off is. It is PyTorch's older
    profiler: the newer one takes four times as long to begin and end, and writes to file descriptor 2.
    """

    CONFIG = ProfilerConfig(ProfilerState.CPU, False, False, False, False, False, _ExperimentalConfig())

    def __init__(self, forbid: Sequence[str]):
        self.forbid = list(forbid)
        self.hits: list[str] = []

    def __enter__(self) -> "Tripwire":
        if self.forbid:
            torch.autograd._enable_profiler_legacy(self.CONFIG)
            self._note("watching")
        return self

    @staticmethod
    def _note(what: str) -> None:
        with torch.autograd.profiler.record_function(what):
            pass

    def __exit__(self, *exc: Any) -> None:
        if not self.forbid:
            return
        self._note("still watching")
        try:
            records = torch.autograd._disable_profiler_legacy()
        except RuntimeError:  # it does not run any more
            records = []
        seen = {event.name() for thread in records for event in thread}
        derived = any(name.startswith(("autograd::engine", "aten::_make_dual")) for name in seen)
        self.hits = [name for name in self.forbid if name in seen or (name == "autograd" and derived)]
        if not {"watching", "still watching"} <= seen:
            self.hits.append("turning off the profiler")


def _attempt(
    week: str,
    exercise: str,
    namespace: dict[str, Any],
    inputs: dict,
    forbid: Sequence[str],
    cross: Callable[[Any], Any],
) -> Any:
    """Runs one exercise on one case. Returns what `cross` makes of its outputs, or of the Failure that stands for them."""
    drive = drive_of(week, exercise)
    # The CPU's generator only: torch.manual_seed queues a call for CUDA, with its stack, each time.
    torch.default_generator.manual_seed(0)
    try:
        with Tripwire(forbid) as tripwire:
            outputs = drive(Student(namespace), inputs)
        return cross(Failure("Forbidden", ", ".join(tripwire.hits)) if tripwire.hits else outputs)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit and the like are answers too
        return cross(Failure(type(error).__name__, _message(error), _failing_line(error)))


def answer(week: str, exercise: str, namespace: dict[str, Any], inputs: dict, forbid: Sequence[str] = ()) -> Any:
    """Runs one exercise on one case.

    Returns what the drive returned, as it looks across the border (`codec.normalise`). An exception of the student's
    comes back as a `Failure`; so does the use of a forbidden operator, with type "Forbidden".
    """
    return _attempt(week, exercise, namespace, codec.normalise(inputs), forbid, codec.normalise)


def answer_files(week: str, exercise: str, namespace: dict[str, Any], stem: str, forbid: Sequence[str] = ()) -> None:
    """Runs one exercise on the case saved at `stem` and saves the answer beside it, at `stem`-answer.

    Nothing is returned or printed: the answer is in the file.
    """
    path = Path(stem)
    save = partial(codec.save, stem=path.with_name(path.name + "-answer"), indent=None)
    _attempt(week, exercise, namespace, codec.load(path), forbid, save)


def answer_each(
    week: str, exercise: str, namespace: dict[str, Any], line: int, last: str, forbid: Sequence[str] = ()
) -> None:
    """Runs one exercise on case after case: the stem of each comes over a line, and goes back when its answer is saved.

    The grader calls this in the student's kernel. `line` is the descriptor of a SOCK_SEQPACKET socket; the word `last` ends it.
    Other words, and cases that are not there any more, are left from an earlier call that was interrupted.
    """
    with socket.socket(fileno=os.dup(line)) as host:
        while (stem := host.recv(4096).decode()) not in ("", last):
            if Path(f"{stem}.json").exists():
                answer_files(week, exercise, namespace, stem, forbid)
                host.send(stem.encode())


class _Dropped(io.TextIOWrapper):
    """A stream that drops what is written to it, and does not let itself be closed."""

    def __init__(self) -> None:
        super().__init__(open(os.devnull, "wb"), encoding="utf-8", write_through=True)  # noqa: SIM115

    def close(self) -> None:
        self.flush()


def unheard(shell: Any) -> None:
    """Makes the ipykernel of an IPython shell drop whatever is printed and displayed in it, and what it tells of its state.

    The grader calls this in the student's kernel: it listens to replies only, and reads no traceback.
    """
    kernel = shell.kernel
    send, nobody = kernel.session.send, kernel.iopub_socket

    def send_if_heard(stream: Any, *arguments: Any, **options: Any) -> Any:
        return None if stream is nobody else send(stream, *arguments, **options)

    def with_streams() -> None:
        for name in ("stdout", "stderr"):
            if not hasattr(getattr(sys, name, None), "flush"):  # ipykernel flushes both, and would die of None
                setattr(sys, name, _Dropped())

    kernel.session.send = send_if_heard
    shell.InteractiveTB.set_mode("Minimal")
    kernel._execute_sleep = 0.0  # it gives outputs the time to arrive
    sys.stdout = sys.stderr = _Dropped()
    shell.events.register("post_execute", with_streams)


def several(value: Any, exercise: str, names: Sequence[str]) -> list:
    """The parts of a result that should be a tuple of so many. Raises TypeError, in the student's terms, otherwise."""
    if not isinstance(value, tuple | list) or len(value) != len(names):
        got = f"{len(value)} values" if isinstance(value, tuple | list) else f"one {type(value).__name__}"
        raise TypeError(f"{exercise} should return {len(names)} values, ({', '.join(names)}); yours returned {got}")
    return list(value)


def gradients_of(outputs: Sequence[Any], upstream: Sequence[Tensor], inputs: dict[str, Tensor]) -> dict[str, Any]:
    """Named gradients of sum(outputs * upstream); None for all where an output is no tensor of the upstream's shape."""
    usable = all(
        isinstance(out, Tensor) and out.shape == up.shape for out, up in zip(outputs, upstream, strict=True)
    ) and any(out.requires_grad for out in outputs)
    values = gradients(outputs, upstream, list(inputs.values())) if usable else [None] * len(inputs)
    return {f"the gradient of {name}": value for name, value in zip(inputs, values, strict=True)}


def by_part(
    found: dict[str, Tensor | None], module: nn.Module, parts: Iterable[tuple[str, nn.Module]] | None = None
) -> dict[str, Tensor | None]:
    """What `gradients_of` found, those of a part's parameters one after the other in one vector; None where all are None.

    parts: (name, submodule) of each part; by default the module's children. Other gradients stay as they are.
    """
    joined = dict(found)
    for part, child in module.named_children() if parts is None else parts:
        names = {f"the gradient of {part}.{name}": p for name, p in child.named_parameters()}
        values = [joined.pop(name) for name in names]
        if any(value is not None for value in values):
            pieces = [torch.zeros_like(p) if v is None else v for v, p in zip(values, names.values(), strict=True)]
            joined[f"the gradient of {part}"] = torch.cat([piece.flatten() for piece in pieces])
        elif values:
            joined[f"the gradient of {part}"] = None
    return joined
