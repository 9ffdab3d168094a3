"""Grades every attack against the real sandbox and judges what comes out: `python -m tests.attacks.run`.

A small course is made in a temporary folder, with a gradebook, hidden cases, another student's submission and listening
sockets to go for. All submissions, honest ones among them, go through the workers of `autograder grade`, two at a time.
"""

import argparse
import ctypes
import fnmatch
import hashlib
import json
import multiprocessing
import os
import secrets
import shutil
import socket
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from nbformat.v4 import new_code_cell

from autograder.batch import grade_folder, import_submissions, process_pool, submitted_folders
from autograder.grade import Graded
from autograder.gradebook import open_gradebook, register
from autograder.submission import write_submission
from tests.attacks.accidents import ACCIDENTS
from tests.attacks.checks import CHECKS
from tests.attacks.endings import ENDINGS
from tests.attacks.entry import HELPERS, Entry, Probe, Seen
from tests.attacks.handed_in import HANDED_IN
from tests.attacks.probes import PROBES
from tests.autograder.conftest import SmallCourse, make_small_course
from tests.conftest import ROOT, WEEK

ENTRIES: list[Entry | Probe] = [*PROBES, *CHECKS, *ENDINGS, *HANDED_IN, *ACCIDENTS]
CELL_TIMEOUT = 5.0
PROBES_EACH = 14  # in one submission
HONEST = 6
JOBS = 2


@dataclass(frozen=True)
class Report:
    """`complaints` by entry, empty where all is well; `whole`: what is wrong with the run as such."""

    complaints: dict[str, str]
    seconds: dict[str, float]
    whole: list[str]
    uid: int
    isolation: str


# ---------------------------------------------------------------------------------------------------- the scene


class Listener:
    """Sockets of this machine that no kernel may reach; remembers who did."""

    def __init__(self, folder: Path, token: str):
        self.path = str(folder / "listener")
        self.reached: list[str] = []
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.port = self.tcp.getsockname()[1]
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", self.port))
        self.named = socket.socket(socket.AF_UNIX)
        self.named.bind(self.path)
        os.chmod(self.path, 0o777)
        self.abstract = socket.socket(socket.AF_UNIX)
        self.abstract.bind(f"\0{token}")
        for name in ("tcp", "named", "abstract"):
            getattr(self, name).listen()
            threading.Thread(target=self._accept, args=(name,), daemon=True).start()
        threading.Thread(target=self._receive, daemon=True).start()

    def _accept(self, name: str) -> None:
        while True:
            try:
                getattr(self, name).accept()[0].close()
            except OSError:
                return
            self.reached.append(name)

    def _receive(self) -> None:
        while True:
            try:
                self.udp.recv(64)
            except OSError:
                return
            self.reached.append("udp")

    def close(self) -> None:
        for each in (self.tcp, self.udp, self.named, self.abstract):
            hang_up(each)


def hang_up(each: socket.socket) -> None:
    """Closes a socket and wakes whoever waits in accept or recv."""
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()


@dataclass(frozen=True)
class Scene:
    """The course, and `target`: where everything is that an attacker could wish for, as JSON."""

    root: Path
    course: SmallCourse
    listener: Listener
    target: dict[str, object]

    @property
    def folder(self) -> Path:
        """What kernels and graders leave behind would lie here: it is the temporary folder of this run."""
        return self.root / "tmp"


@contextmanager
def scene() -> Iterator[Scene]:
    root = Path(tempfile.mkdtemp(prefix="attacks-")).resolve()
    root.chmod(0o755)
    token = f"atk{secrets.token_hex(4)}"
    course = make_small_course(root / "course")
    for folder in ("tmp", "outside"):
        (root / folder).mkdir(mode=0o777)
    (root / "outside" / "canary").write_text("untouched\n")
    write_submission(course.root / "grading" / "submitted" / "other" / WEEK, course.solved(), WEEK)
    open_gradebook(course.root).close()
    register(course.week)
    listener = Listener(root / "outside", token)
    target = {
        "token": token,
        "pid": os.getpid(),
        "port": listener.port,
        "socket": listener.path,
        "canary": str(root / "outside" / "canary"),
        "outside": str(root / "outside"),
        "gradebook": str(course.root / "grading" / "gradebook.db"),
        "solution": str(course.week.folder / f"{WEEK}.py"),
        "hidden": str(course.banks / "rnn-step.json"),
        "secret": str(course.root / "grading" / "secret"),
        "other": str(course.root / "grading" / "submitted" / "other" / WEEK / f"{WEEK}.ipynb"),
        "engine": str(ROOT / "autograder" / "engine.py"),
        "heldout": str(ROOT / "solutions" / "heldout" / "surnames.parquet"),
        "attacks": str(ROOT / "tests" / "attacks" / "entry.py"),
        "password": secrets.token_hex(12),
    }
    kept = {name: os.environ.get(name) for name in ("COURSE_ATTACK_PASSWORD", "TMPDIR")}
    os.environ.update(COURSE_ATTACK_PASSWORD=target["password"], TMPDIR=str(root / "tmp"))
    try:
        yield Scene(root, course, listener, target)
    finally:
        for name, value in kept.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        listener.close()
        shutil.rmtree(root, ignore_errors=True)


# ---------------------------------------------------------------------------------------------- the submissions


def together(probes: Sequence[Probe]) -> Entry:
    """The submission of several probes: its `rnn_step` runs them all and raises what they got."""
    functions = [
        f"def probe_{number}():\n{textwrap.indent(textwrap.dedent(probe.code).strip(), '    ')}"
        for number, probe in enumerate(probes)
    ]
    names = ", ".join(f"{probe.name!r}: probe_{number}" for number, probe in enumerate(probes))
    step = (
        f"told = None\n\n\ndef rnn_step(*a):\n    global told\n    told = told or report({{{names}}})\n"
        "    raise RuntimeError(told)\n"
    )
    return Entry("", "", "", {"rnn_step": step}, functions, expect={"rnn_step": "error"}, helped=True)


def hand_in(scene: Scene, entry: Entry, folder: Path) -> None:
    """Writes an entry's submission into `folder`: notebook and artifact."""
    notebook = scene.course.solved(**entry.sources)
    at = 1 + next(i for i, cell in enumerate(notebook.cells) if "class NameClassifier" in cell.source)
    given = f"{HELPERS}\n\nTARGET = json.loads({json.dumps(scene.target)!r})\n"
    helpers = [given] if entry.helped else []
    notebook.cells[at:at] = [new_code_cell(source) for source in [*helpers, *entry.cells]]
    if entry.edit is not None:
        entry.edit(notebook)
    folder.mkdir(parents=True)
    scene.course.hand_in(folder, notebook)
    if entry.files is not None:
        entry.files(folder)


def grade_all(jobs: int, folders: dict[str, Path], arguments: tuple) -> dict[str, Graded | str]:
    """Every submission, by the workers of `autograder grade`; a text where that did not succeed."""
    results: dict[str, Graded | str] = {}
    with process_pool(jobs) as pool:
        futures = {
            name: pool.submit(grade_folder, folder, *arguments, cell_timeout=CELL_TIMEOUT)
            for name, folder in folders.items()
        }
        for name, future in futures.items():
            try:
                results[name] = future.result()
            except Exception as error:
                results[name] = f"it could not be graded: {type(error).__name__}: {error}"
    return results


# ---------------------------------------------------------------------------------------------------- judging


def complaint(entry: Entry, seen: Seen) -> str:
    """What is wrong with a submission's verdicts; "" where nothing is."""
    found = []
    for verdict in seen.graded.verdicts:
        wanted = entry.expect.get(verdict.exercise, "passed").split("|")
        right = verdict.status in wanted or (wanted == ["refused"] and verdict.status != "passed")
        full = verdict.max_points if verdict.status == "passed" else 0.0
        if not right or verdict.points != full:
            told = f"{verdict.message} {verdict.detail}".strip()[:300]
            found.append(
                f"{verdict.exercise} is {verdict.status} with {verdict.points:g} points instead of {'|'.join(wanted)}"
                f" ({told})"
            )
    if entry.helped and not entry.raises and (line := _broken(seen)):
        found.append(f"its own code did not run: {line}")
    if len(seen.graded.verdicts) != 5:
        found.append(f"there are {len(seen.graded.verdicts)} verdicts instead of 5")
    if seen.graded.seconds > entry.within:
        found.append(f"it took {seen.graded.seconds:.0f} s instead of {entry.within:g}")
    if not found and entry.witness is not None and (why := entry.witness(seen)):
        found.append(why)
    return "; ".join(found)[:600]


def _broken(seen: Seen) -> str:
    """What the graded notebook says of a cell that raised; "" where none did."""
    texts = [output.get("text", "") for cell in seen.graded.notebook.cells for output in cell.get("outputs", [])]
    return next((text.strip() for text in texts if text.startswith("When this was graded")), "")


def loot(seen: Seen) -> tuple[int, dict[str, str]]:
    """How many probes a submission tried, and what they got. (0, {}) where it did not report."""
    text = seen.evidence
    try:
        told = json.JSONDecoder().raw_decode(text[text.index("{") :])[0]
        return told["tried"], told["got"]
    except (ValueError, KeyError):
        return 0, {}


def _tree(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def _descendants() -> set[int]:
    """Processes below this one: it is asked for orphans too (see `_adopt_orphans`)."""
    found, waiting = set(), [os.getpid()]
    while waiting:
        with suppress(OSError):  # it has ended in this moment
            for path in Path(f"/proc/{waiting.pop()}/task").glob("*/children"):
                children = [int(pid) for pid in path.read_text().split()]
                found.update(children)
                waiting += children
    return found


def _adopt_orphans() -> None:
    """Makes this process the parent of every orphan below it, so that nothing can hide from `_descendants`."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def _named(token: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/comm"):
        try:
            if path.read_text().strip() == token:
                found.append(path.parent.name)
        except OSError:
            continue
    return found


def _survivors(before: set[int], token: str) -> list[str]:
    """Processes of this run that are still there ten seconds after its end, in words."""
    left: list[str] = []
    for _ in range(40):
        left = [f"process {pid} bears the attackers' name" for pid in _named(token)]
        for pid in _descendants() - before:
            try:
                line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if line and "multiprocessing.resource_tracker" not in line:  # zombies have no command line
                left.append(f"process {pid} is still there: {line[:120]}")
        if not left:
            return []
        time.sleep(0.25)
    return left


# -------------------------------------------------------------------------------------------------------- the run


def submissions_of(chosen: Sequence[Entry | Probe]) -> tuple[dict[str, Entry], dict[str, str]]:
    """(submissions by student, student by probe): probes share submissions, honest ones stand among the attacks."""
    entries = {entry.name: entry for entry in chosen if isinstance(entry, Entry)}
    probes = [probe for probe in chosen if isinstance(probe, Probe)]
    place = {}
    for i in range(0, len(probes), PROBES_EACH):
        name, some = f"probes-{i // PROBES_EACH}", probes[i : i + PROBES_EACH]
        entries[name] = together(some)
        place.update({probe.name: name for probe in some})
    every = max(1, len(entries) // HONEST)
    mixed: dict[str, Entry] = {}
    for i, (name, entry) in enumerate(entries.items()):
        mixed[name] = entry
        if i % every == 0:
            mixed[f"honest-{i // every}"] = Entry("", "", "")
    return mixed, place


def run(chosen: Sequence[Entry | Probe], isolation: str = "bubblewrap", jobs: int = JOBS, loud: bool = False) -> Report:
    """Grades the chosen entries. With isolation `process`, probes that may be tried there must succeed: see `Probe.control`."""
    _adopt_orphans()
    before = _descendants()
    entries, place = submissions_of(chosen)
    complaints: dict[str, str] = {}
    seconds: dict[str, float] = {}
    seen: dict[str, Seen] = {}
    whole: list[str] = []
    with scene() as here:
        for name, entry in entries.items():
            hand_in(here, entry, here.root / "handed-in" / name)
        import_submissions(here.course.week, here.root / "handed-in")
        submitted = submitted_folders(here.course.week)
        folders = {
            name: here.root / "handed-in" / name if entry.collected else submitted[name]
            for name, entry in entries.items()
        }
        course = here.course
        arguments = (course.release_path, course.week.folder, course.banks, isolation)
        tree = _tree(course.root)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as batch:  # all that it starts ends with it
            results = batch.submit(grade_all, jobs, folders, arguments).result()
        for name, entry in entries.items():
            if isinstance(graded := results[name], str):
                complaints[name] = graded
            else:
                seen[name], seconds[name] = Seen(graded, here.target), graded.seconds
                complaints[name] = complaint(entry, seen[name])
            if loud:
                print(f"{seconds.get(name, 0):6.1f} s  {name}: {complaints[name] or 'ok'}", flush=True)
        if isolation != "process":
            whole += [f"{path} was changed" for path in _changed(tree, _tree(course.root))]
            whole += [f"the listener was reached by {name}" for name in set(here.listener.reached)]
            whole += _survivors(before, here.target["token"])
            whole += [f"{path} was left behind" for path in sorted(here.folder.iterdir())]
            whole += [f"{path} was left behind" for path in Path("/tmp").glob(f"*{here.target['token']}*")]
            whole += [f"{path} was left behind" for path in Path("/dev/shm").glob(f"*{here.target['token']}*")]
            outside = {path.name for path in (here.root / "outside").iterdir()}
            if outside != {"canary", "listener"} or Path(here.target["canary"]).read_text() != "untouched\n":
                whole.append(f"the folder outside was written: {sorted(outside)}")
    for name in [name for name in entries if name.startswith("honest-")]:
        if why := complaints.pop(name, ""):
            whole.append(f"an honest submission lost points: {why}")
    _judge_probes(place, seen, complaints, succeed=isolation == "process")
    return Report(complaints, seconds, whole, os.getuid(), isolation)


def _changed(before: dict[str, str], after: dict[str, str]) -> list[str]:
    return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))


def _judge_probes(place: dict[str, str], seen: dict[str, Seen], complaints: dict[str, str], succeed: bool) -> None:
    """Each probe's complaint from what its submission told; `succeed`: it was to get something."""
    for probe, student in place.items():
        tried, got = loot(seen[student]) if student in seen else (0, {})
        if tried != list(place.values()).count(student):
            complaints[probe] = f"it was not tried: {complaints[student] or seen[student].evidence[:300]}"
        elif succeed:
            complaints[probe] = "" if probe in got else "it got nothing, even without a sandbox: it proves nothing"
        else:
            complaints[probe] = f"it got {got[probe]!r}" if probe in got else ""
    for student in set(place.values()):
        complaints.pop(student, None)


def controls() -> list[Probe]:
    """The probes that are tried without a sandbox too, as this user."""
    wanted = ("always", "root") if os.getuid() == 0 else ("always",)
    return [probe for probe in PROBES if probe.control in wanted]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="entries or groups, by name or pattern")
    parser.add_argument("--json", metavar="FILE", help="writes the report there")
    parser.add_argument("--controls", action="store_true", help="runs the probes' controls, without a sandbox, instead")
    options = parser.parse_args()
    chosen = controls() if options.controls else ENTRIES
    if options.only:
        chosen = [e for e in chosen if any(fnmatch.fnmatch(n, o) for o in options.only for n in (e.name, e.group))]
    report = run(chosen, "process" if options.controls else "bubblewrap", loud=True)
    wrong = {name: why for name, why in report.complaints.items() if why}
    for line in [*(f"{name}: {why}" for name, why in wrong.items()), *report.whole]:
        print(f"WRONG  {line}")
    print(f"{len(report.complaints) - len(wrong)} of {len(report.complaints)} as they should be, as user {report.uid}.")
    if options.json:
        Path(options.json).write_text(json.dumps(vars(report), indent=1) + "\n")
    return 1 if wrong or report.whole else 0


if __name__ == "__main__":
    sys.exit(main())
