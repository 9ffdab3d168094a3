"""What an attack, a probe or an accident is, and the code that all of them can use inside the kernel.

An `Entry` is a submission with its expected verdicts. A `Probe` is something that code in a kernel tries to reach; many
share a submission, whose `rnn_step` runs each in a process of its own and raises what they got as its message.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nbformat import NotebookNode

from autograder.grade import Graded
from course.check import Verdict

OTHERS = (
    "rnn_step_backward",
    "next_char_probs",
    "char_lm_loss",
    "names",
)  # than rnn_step, which most attacks get wrong
WRONG_STEP = "def rnn_step(x, h, w_ih, w_hh, b_ih, b_hh):\n    return torch.zeros_like(h)\n"

# In every attack's first own cell. The attacker is told every path, port and process there is to reach: TARGET.
HELPERS = '''
import ctypes, errno, gc, glob, json, mmap, os, platform, resource, select, shutil, signal, socket, struct, subprocess
import sys, threading, time

libc = ctypes.CDLL(None, use_errno=True)
ARM = platform.machine() == "aarch64"
SECONDS = 5


def must(value):
    """The value of a system call; raises where that is negative."""
    if value < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return value


def call(x86, arm, *arguments):
    """A system call by its number."""
    return must(libc.syscall(arm if ARM else x86, *arguments))


def status(field):
    return next(line.split()[1] for line in open("/proc/self/status") if line.startswith(field + ":"))


def branded():
    """Gives this process a name by which it is known outside."""
    open("/proc/self/comm", "w").write(TARGET["token"])


def attempt(probe):
    """What a probe gets, in a process of its own: "" where it is refused, a text otherwise."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            branded()
            text = str(probe() or "")
        except BaseException:
            text = ""
        os.write(write, ("!" + text[:80]).encode())
        os._exit(0)
    os.close(write)
    answered = select.select([read], [], [], SECONDS)[0]
    text = os.read(read, 400).decode(errors="replace") if answered else "!it hangs"
    os.close(read)
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        pass
    os.waitpid(pid, 0)
    return text[1:]


def report(probes):
    got = {name: attempt(probe) for name, probe in probes.items()}
    return json.dumps({"tried": len(got), "got": {name: text for name, text in got.items() if text}})


def tell(**facts):
    """Brings evidence out: an exception's message is kept beside the verdict."""
    raise RuntimeError(json.dumps(facts))
'''


@dataclass(frozen=True)
class Seen:
    """What came of a submission, for a witness. `target`: see `run.Scene`."""

    graded: Graded
    target: Mapping[str, object]

    def verdict(self, exercise: str = "rnn_step") -> Verdict:
        return next(verdict for verdict in self.graded.verdicts if verdict.exercise == exercise)

    @property
    def evidence(self) -> str:
        """What the attacked function told in an exception: `tell(...)`."""
        return self.verdict().detail


@dataclass(frozen=True)
class Entry:
    """A submission that misbehaves, or has an accident.

    tries    what it tries, in one sentence
    sources  solution cells, by exercise; all others are right
    cells    own code cells in front of the first exercise
    helped   HELPERS and TARGET come before them
    raises   they may raise; those of other attacks must run, or else nothing was tried
    edit     changes the notebook before it is handed in
    files    (folder) changes the folder that is handed in
    collected  the folder is graded as it is, as nbgrader's collect would leave it, without the import's sieve
    expect   statuses that are right, joined by `|`, by exercise; "refused" is any but passed. All other exercises pass
    witness  says what is wrong with what was seen; "" where nothing is
    fools    the test cell of a stock assignment that this does fool: proof that the attack works where nothing stops it
    within   seconds that the run may take
    """

    name: str
    group: str
    tries: str
    sources: Mapping[str, str] = field(default_factory=dict)
    cells: Sequence[str] = ()
    helped: bool = False
    raises: bool = False
    edit: Callable[[NotebookNode], None] | None = None
    files: Callable[[Path], None] | None = None
    collected: bool = False
    expect: Mapping[str, str] = field(default_factory=dict)
    witness: Callable[[Seen], str] | None = None
    fools: str = ""
    within: float = 90.0


@dataclass(frozen=True)
class Probe:
    """`code`: the body of a function that returns a text if it got what it wanted, and raises or returns nothing if not.

    control  where it must succeed without a sandbox: "always", "root", or "" where that would do harm or proves nothing
    """

    name: str
    group: str
    tries: str
    code: str
    control: str = "always"


def attack(
    name: str,
    group: str,
    tries: str,
    *cells: str,
    step: str = WRONG_STEP,
    status: str = "wrong",
    also: Mapping[str, str] | None = None,
    **more,
) -> Entry:
    """An attack by code: `rnn_step` is wrong (or `step`) and scores `status`; `also` says what else may come out."""
    sources = {"rnn_step": step, **more.pop("sources", {})}
    return Entry(name, group, tries, sources, cells, helped=True, expect={"rnn_step": status, **(also or {})}, **more)
