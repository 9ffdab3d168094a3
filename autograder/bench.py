"""The bench: the same class graded by stock `nbgrader autograde` and by this engine, pair by pair in one run.

Both sides grade the same files (`classroom.Maker.ordinary`), each by a command of its own:

- stock: `nbgrader autograde WEEK` with nbgrader's default configuration and the stock kernel, in a course whose source
  notebook is the released one. Its check cells run the public checks, which raise, so that nbgrader gives the points.
- ours: what `autograder grade WEEK --jobs N` runs, `batch.grade_week` in a new Python process, with the hidden cases.

Neither writes feedback. A pair is the whole class by one command of each, one after the other; of several pairs, who begins
alternates, so that a machine that slows down favours nobody. A command's seconds run from its start to its end: Python,
imports, kernels, gradebook and all, for both. What a class needs once is done before, and told: nbgrader's
generate_assignment, our registration and drawing of hidden cases.

Processor time is that of a control group with the command in it. Adding up the processes that were waited for would not do:
what dies with the first process of its PID namespace, as sandboxed kernels can, is never waited for. Memory is the sum of
the proportional set sizes of all descendants, its peak by samples; pages of libraries that this process has mapped too are
partly left to it.
"""

import contextlib
import ctypes
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from matplotlib.figure import Figure
from nbgrader.api import Gradebook
from nbgrader.utils import parse_utc

from autograder.batch import grade_folder
from autograder.classroom import Made, Maker, write_class
from autograder.cost import code_seconds
from autograder.demo import DUE, compare, complete, copy_course
from autograder.errors import CourseError
from autograder.experiments import machine
from autograder.feedback import write_pages
from autograder.grade import read_release
from autograder.gradebook import register, released_path
from autograder.hidden import hidden_banks
from autograder.kernel.sandbox import require
from autograder.report import read_report
from autograder.settings import course_directory, load_settings
from autograder.week import ROOT_MARK, Week
from autograder.workers import process_pool

WAITING = 20  # submissions that a waiting grader is timed with
SAMPLE = 0.5  # seconds between two looks at the processes
LOOKING = (
    0.02  # most of the time that may go into looking at memory: Linux walks every page for it, and holds processes up
)
MIB = 2**20
PR_SET_CHILD_SUBREAPER = 36
STOCK_SETTINGS = 'c = get_config()\nc.CourseDirectory.course_id = "stock"\n'
OURS = """
import sys
from pathlib import Path
from autograder.workers import start_server
start_server()
from autograder.batch import grade_week
from autograder.week import Week
folder, jobs, isolation = sys.argv[1:]
rows = grade_week(Week(Path(folder)), jobs=int(jobs), isolation=isolation, feedback=False, quiet=True)
sys.exit("; ".join(f"{row.student}: {row.trouble}" for row in rows if row.trouble) or None)
"""


# ------------------------------------------------------------------------------------------------ what a command costs


@dataclass(frozen=True)
class Usage:
    """What a command and all that descends from it used.

    seconds      from its start to its end
    cpu_seconds  processor time of all its descendants
    exact        False where no control group could be made: `cpu_seconds` is a lower bound then
    peak_mib     the largest sum of proportional set sizes that a sample saw
    trouble      its last words where it failed, empty where it did not
    """

    seconds: float
    cpu_seconds: float
    exact: bool
    peak_mib: float
    trouble: str = ""


def measured(command: Sequence[str], cwd: Path) -> Usage:
    """Runs a command to its end and says what it used. What outlives it by more than five seconds is killed."""
    bystanders = set(psutil.Process().children())
    stop = threading.Event()
    with (
        _adopting_orphans(),
        _control_group() as group,
        tempfile.TemporaryFile() as words,
        ThreadPoolExecutor(1) as thread,
    ):
        if group:
            command = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group / "cgroup.procs"), *command]
        waited_for, began = _cpu_of_children(), time.perf_counter()
        process = subprocess.Popen(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=words, stderr=words)
        watching = thread.submit(_watch, bystanders, stop)
        try:
            code = process.wait()
            seconds = time.perf_counter() - began
        finally:
            stop.set()
            process.kill()
            while left := set(psutil.Process().children()) - bystanders:
                for straggler in psutil.wait_procs(left, timeout=5)[1]:
                    straggler.kill()
        seen, peak = watching.result()
        cpu = _cpu_of_group(group) if group else max(seen, _cpu_of_children() - waited_for)
        words.seek(0)
        last = words.read().decode(errors="replace").strip().rpartition("\n")[2]
        trouble = f"exit code {code}: {last}" if code else ""
        return Usage(seconds, cpu, group is not None, peak / MIB, trouble)


@contextlib.contextmanager
def _adopting_orphans() -> Iterator[None]:
    """What outlives its parent becomes a child of this process, which so can see it and wait for it."""
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


@contextlib.contextmanager
def _control_group() -> Iterator[Path | None]:
    """A new control group (version 2) below this process's own; None where there is no leave to make one."""
    mounts = [Path(disk.mountpoint) for disk in psutil.disk_partitions(all=True) if disk.fstype == "cgroup2"]
    own = Path("/proc/self/cgroup").read_text().rpartition("0::/")[2].strip()
    group = mounts[0] / own / f"bench-{os.getpid()}" if mounts else None
    try:
        if group:
            group.mkdir()
            (mounts[0] / own / "cgroup.procs").open("a").close()  # moving a process needs leave to write both
    except OSError:
        group = None
    try:
        yield group
    finally:
        if group:
            group.rmdir()


def _cpu_of_group(group: Path) -> float:
    facts = dict(line.split() for line in (group / "cpu.stat").read_text().splitlines())
    return int(facts["usage_usec"]) / 1e6


def _cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _watch(bystanders: set[psutil.Process], stop: threading.Event) -> tuple[float, int]:
    """Looks at all descendants until told to stop. Returns (processor seconds seen, largest sum of bytes seen)."""
    cpu: dict[psutil.Process, float] = {}
    peak, pause = 0, SAMPLE
    while not stop.wait(pause):
        began, memory = time.perf_counter(), 0
        for child in set(psutil.Process().children()) - bystanders:
            for process in _family(child):
                with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                    times = process.cpu_times()
                    cpu[process] = times.user + times.system
                    memory += process.memory_full_info().pss
        peak = max(peak, memory)
        pause = max(SAMPLE, (time.perf_counter() - began) / LOOKING)
    return sum(cpu.values()), peak


def _family(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


# ---------------------------------------------------------------------------------------------------- the two sides


def prepare_stock(week: Week, root: Path) -> None:
    """A stock course in `root`, an absent folder, whose source notebook is the released one."""
    source = root / "source" / week.name
    source.mkdir(parents=True)
    (root / ROOT_MARK).write_text(STOCK_SETTINGS, encoding="utf-8")
    shutil.copy(released_path(week), source)
    usage = measured([sys.executable, "-m", "nbgrader", "generate_assignment", week.name], root)
    if usage.trouble:
        raise CourseError(f"Stock nbgrader does not generate the assignment: {usage.trouble}")


def prepare_ours(week: Week, root: Path) -> Week:
    """A course of ours in `root`, an absent folder: registered, hidden cases drawn. Returns the week in it."""
    copied = copy_course(week, root)
    released_path(copied).parent.mkdir(parents=True)
    shutil.copy(released_path(week), released_path(copied))
    register(copied)
    hidden_banks(copied)
    return copied


def grade_by_nbgrader(root: Path, week: Week, made: Sequence[Made]) -> Usage:
    """Hands in and grades some of the class, and no others, in the stock course at `root`."""
    _hand_in(week, made, root / "submitted")
    return measured([sys.executable, "-m", "nbgrader", "autograde", week.name], root)


def grade_by_engine(week: Week, made: Sequence[Made], jobs: int, isolation: str) -> Usage:
    """Hands in and grades some of the class, and no others, in the course that `week` lies in."""
    _hand_in(week, made, week.root / course_directory(week.root).submitted_directory)
    return measured([sys.executable, "-c", OURS, str(week.folder), str(jobs), isolation], week.root)


def _hand_in(week: Week, made: Sequence[Made], submitted: Path) -> None:
    shutil.rmtree(submitted, ignore_errors=True)
    write_class(week, read_release(released_path(week)), made, submitted, parse_utc(DUE))


def points_of(url: str, week: Week) -> dict[str, float]:
    """What grading by itself gave, by student, in either side's gradebook: written answers have nothing yet."""
    with Gradebook(url) as gradebook:
        return {
            submission.student_id: sum(
                grade.auto_score or 0.0 for notebook in submission.notebooks for grade in notebook.grades
            )
            for submission in gradebook.assignment_submissions(week.name)
        }


# --------------------------------------------------------------------------------------------------------- the limit


def own_seconds(week: Week, made: Sequence[Made], banks: Path) -> list[float]:
    """Processor seconds of each student's code alone, after one submission more has warmed the process up."""
    with _handed_in(week, made) as folders:
        return code_seconds(week, [folders[0], *folders], banks)[1:]


def waiting_seconds(week: Week, made: Sequence[Made], banks: Path, isolation: str) -> list[float]:
    """Seconds from each submission's arrival at a grader that waits, warm, for it to its verdicts. One after the other."""
    seconds = []
    with _handed_in(week, made) as folders, process_pool(1) as pool:
        for folder in [folders[0], *folders]:
            began = time.perf_counter()
            pool.submit(grade_folder, folder, released_path(week), week.folder, banks, isolation).result()
            seconds.append(time.perf_counter() - began)
    return seconds[1:]


@contextlib.contextmanager
def _handed_in(week: Week, made: Sequence[Made]) -> Iterator[list[Path]]:
    """The folders of submissions, while they are there."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        _hand_in(week, made, Path(folder))
        yield [Path(folder) / each.student / week.name for each in made]


# --------------------------------------------------------------------------------------------------------- the bench


@dataclass(frozen=True)
class Pair:
    """The class, graded by a command of each. `first`: the side that began."""

    first: str
    nbgrader: Usage
    ours: Usage

    @property
    def ratio(self) -> float:
        return self.nbgrader.seconds / self.ours.seconds


def run_bench(
    week: Week,
    submissions: int,
    scale: Sequence[int],
    jobs: int | None = None,
    isolation: str | None = None,
    repeats: int = 1,
    tell: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Grades a made-up class by both sides, `repeats` times, and classes of the sizes in `scale` by ours alone.

    Returns the findings and writes them to grading/bench/, as bench.json and bench.png. `jobs` and `isolation` override the
    settings; `tell` gets a line for each step. Raises CourseError where the machine or the course lacks something.
    """
    settings = load_settings(week.root)
    jobs, isolation = jobs or settings.jobs, isolation or settings.isolation
    sizes = sorted({*scale, submissions})
    if sys.platform != "linux":
        raise CourseError("The bench reads times and memory of processes from Linux's /proc: run it on Linux.")
    if submissions < 2 or sizes[0] < 1 or len(sizes) < 2 or repeats < 1:
        raise CourseError("The bench needs two submissions or more, and two sizes or more to see how time grows.")
    require(isolation)
    everybody = Maker(week).ordinary(sizes[-1])
    made = everybody[:submissions]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        root = Path(folder)
        tell("Preparing both courses; one submission each, not counted ...")
        prepared = {
            "nbgrader": _seconds(lambda: prepare_stock(week, root / "stock")),
            "ours": _seconds(lambda: prepare_ours(week, root / "prepared")),
        }
        grade_by_nbgrader(_copy(root / "stock", root / "stock-warm"), week, made[:1])
        grade_by_engine(_course(week, root, "ours-warm"), made[:1], jobs, isolation)
        pairs = grade_in_pairs(week, root, made, repeats, jobs, isolation, tell)
        stock, ours = root / "nbgrader-0", Week(root / "ours-0" / "solutions" / week.name)
        tell("Ours: comparing with what was made, feedback pages, a waiting grader, the students' own computation ...")
        problems = [f"ours: {pair.ours.trouble}" for pair in pairs if pair.ours.trouble]
        problems += [f"nbgrader: {pair.nbgrader.trouble}" for pair in pairs if pair.nbgrader.trouble]
        problems += compare(ours, complete(ours, made), read_report(ours))
        theirs = points_of(f"sqlite:///{stock / 'gradebook.db'}", ours)
        mine = points_of(course_directory(ours.root).db_url, ours)
        feedback = _seconds(lambda: write_pages(ours.folder, [each.student for each in made])) / submissions
        own = own_seconds(ours, made, hidden_banks(ours))
        waited = waiting_seconds(ours, made[:WAITING], hidden_banks(ours), isolation)
        runs = []
        for size in sizes:
            if size == submissions:
                runs.append(sorted((pair.ours for pair in pairs), key=lambda usage: usage.seconds)[len(pairs) // 2])
                continue
            course = _course(week, root, "ours-alone")
            runs.append(grade_by_engine(course, everybody[:size], jobs, isolation))
            shutil.rmtree(course.root)
            problems += [f"{size} by ours: {runs[-1].trouble}"] if runs[-1].trouble else []
            tell(f"{size:>5} by ours in one command: {runs[-1].seconds:.1f} s, {runs[-1].peak_mib:.0f} MiB")
    found = {
        "command": f"autograder bench {week.name} --submissions {submissions} --pairs {repeats} --jobs {jobs} "
        f"--isolation {isolation} --scale {','.join(map(str, scale))}",
        "week": week.name,
        "submissions": submissions,
        **_compared(pairs, submissions),
        **_growth(sizes, runs),
        "students_cpu_seconds": statistics.fmean(own),
        "waiting": _waiting(waited, own),
        "feedback_seconds": feedback,
        "prepare_seconds": prepared,
        "graded_by_nbgrader": len(theirs),
        "same_points": sum(theirs.get(student) == points for student, points in mine.items()),
        "problems": problems,
        "jobs": jobs,
        "isolation": isolation,
        "machine": machine(),
        "pairs": [asdict(pair) for pair in pairs],
    }
    workers = min(jobs, os.cpu_count() or jobs)
    found["limit_per_minute"] = 60 * workers / found["students_cpu_seconds"]
    found["share_of_limit"] = found["ours_per_minute"] / found["limit_per_minute"]
    _write(week.root / "grading" / "bench", found)
    return found


def grade_in_pairs(
    week: Week,
    root: Path,
    made: Sequence[Made],
    repeats: int,
    jobs: int,
    isolation: str,
    tell: Callable[[str], None],
) -> list[Pair]:
    """The class by one command of each side, `repeats` times, in fresh courses: `root`/nbgrader-N and `root`/ours-N."""
    pairs: list[Pair] = []
    for number in range(repeats):
        stock, ours = _copy(root / "stock", root / f"nbgrader-{number}"), _course(week, root, f"ours-{number}")
        sides = {
            "nbgrader": lambda stock=stock: grade_by_nbgrader(stock, week, made),
            "ours": lambda ours=ours: grade_by_engine(ours, made, jobs, isolation),
        }
        order = sorted(sides, reverse=number % 2 == 1)
        usage = {side: sides[side]() for side in order}
        pairs.append(Pair(order[0], **usage))
        told = ", ".join(f"{side} {usage[side].seconds:.1f} s" for side in order)
        tell(f"{len(made)} submissions: {told}, {pairs[-1].ratio:.1f} times as fast")
    return pairs


def _seconds(action: Callable[[], Any]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def _copy(source: Path, target: Path) -> Path:
    return Path(shutil.copytree(source, target))


def _course(week: Week, root: Path, name: str) -> Week:
    """A fresh copy of the prepared course of ours."""
    return Week(_copy(root / "prepared", root / name) / "solutions" / week.name)


# ------------------------------------------------------------------------------------------------------ the findings


def _compared(pairs: Sequence[Pair], submissions: int) -> dict[str, Any]:
    """Rates with every command's start-up in them, and what else a submission takes of the machine."""
    usages = {"ours": [pair.ours for pair in pairs], "nbgrader": [pair.nbgrader for pair in pairs]}
    count = submissions * len(pairs)
    a_minute = {side: 60 * count / sum(usage.seconds for usage in usages[side]) for side in usages}
    return {
        "ours_per_minute": a_minute["ours"],
        "nbgrader_per_minute": a_minute["nbgrader"],
        "ratio": a_minute["ours"] / a_minute["nbgrader"],
        "ratio_of_pairs": [pair.ratio for pair in pairs],
        "cpu_seconds": {side: sum(usage.cpu_seconds for usage in usages[side]) / count for side in usages},
        "cpu_exact": all(usage.exact for side in usages for usage in usages[side]),
        "peak_mib": {side: max(usage.peak_mib for usage in usages[side]) for side in usages},
    }


def _growth(sizes: Sequence[int], runs: Sequence[Usage]) -> dict[str, Any]:
    """The straight line through (submissions, seconds): its slope is what one more costs, without start-up."""
    seconds = np.array([run.seconds for run in runs])
    slope, start = np.polyfit(sizes, seconds, 1)
    return {
        "ours_per_minute_without_start": 60 / slope,
        "growth": {
            "submissions": list(sizes),
            "seconds": seconds.tolist(),
            "peak_mib": [run.peak_mib for run in runs],
            "cpu_seconds": [run.cpu_seconds for run in runs],
            "line": {"seconds_to_start": start, "seconds_each": slope},
            "residual_seconds": (seconds - np.polyval((slope, start), sizes)).tolist(),
        },
    }


def _waiting(waited: Sequence[float], own: Sequence[float]) -> dict[str, Any]:
    """What a submission to a waiting grader takes, and how much of it is not the student's own computation."""
    beyond = [seconds - mine for seconds, mine in zip(waited, own, strict=False)]
    return {
        "submissions": len(waited),
        "seconds": {"median": statistics.median(waited), "largest": max(waited)},
        "beyond_own": {"median": statistics.median(beyond), "largest": max(beyond)},
    }


def told(found: dict[str, Any]) -> str:
    """The findings for a person: both sides, the limit, growth, whether the grades are what they have to be."""
    computer, growth, waiting = found["machine"], found["growth"], found["waiting"]
    ours, stock = found["ours_per_minute"], found["nbgrader_per_minute"]
    cpu, memory, line = found["cpu_seconds"], found["peak_mib"], growth["line"]
    lines = [
        "",
        f"{found['week']}: {found['submissions']} submissions, by one command of each; "
        f"{found['jobs']} workers, isolation {found['isolation']}",
        f"{computer['processor']}, {computer['cores']} cores; torch {computer['torch']}, Python {computer['python']}",
        "",
        f"{'':<44}{'nbgrader':>9}{'ours':>9}{'ratio':>8}",
        f"{'submissions a minute, start-up in':<44}{stock:>9.1f}{ours:>9.1f}{found['ratio']:>8.1f}",
        f"{'processor seconds a submission':<44}{cpu['nbgrader']:>9.2f}{cpu['ours']:>9.2f}{cpu['nbgrader'] / cpu['ours']:>8.1f}",
        f"{'peak memory, MiB':<44}{memory['nbgrader']:>9.0f}{memory['ours']:>9.0f}",
        f"Pair by pair the ratio is {', '.join(f'{ratio:.1f}' for ratio in found['ratio_of_pairs'])}.",
        f"The students' own computation takes {found['students_cpu_seconds']:.3f} processor seconds a submission, "
        f"{found['students_cpu_seconds'] / cpu['ours']:.0%} of ours. It would allow {found['limit_per_minute']:.0f} a minute: "
        f"ours is at {found['share_of_limit']:.0%} of this limit.",
        f"A submission to a waiting grader has its verdicts in {waiting['seconds']['median']:.2f} s, "
        f"{waiting['beyond_own']['median']:.2f} s beyond the student's own computation (medians of {waiting['submissions']}; "
        f"at most {waiting['seconds']['largest']:.2f} s and {waiting['beyond_own']['largest']:.2f} s).",
        f"Not counted: feedback pages of ours, {found['feedback_seconds']:.2f} s a submission; once a class, "
        f"{found['prepare_seconds']['nbgrader']:.1f} s (nbgrader) and {found['prepare_seconds']['ours']:.1f} s (ours).",
        "",
        f"{'submissions':>11}  {'seconds':>8}  {'off the line':>12}  {'peak MiB':>8}",
    ]
    for row in zip(*(growth[key] for key in ("submissions", "seconds", "residual_seconds", "peak_mib")), strict=True):
        lines.append("{:>11}  {:>8.1f}  {:>+12.1f}  {:>8.0f}".format(*row))
    lines += [
        f"The line: {line['seconds_to_start']:.1f} s to start, {line['seconds_each']:.3f} s a submission.",
        "",
        f"The same points by both for {found['same_points']} of {found['submissions']} submissions "
        f"(public cases there, hidden ones here; nbgrader graded {found['graded_by_nbgrader']}).",
    ]
    if not found["cpu_exact"]:
        lines.append("Processor seconds are lower bounds: no control group could be made here. As root they are exact.")
    lines += [f"✗ {problem}" for problem in found["problems"]] or ["Ours graded every submission as it was made."]
    return "\n".join(lines)


def _write(folder: Path, found: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    picture(found).savefig(folder / "bench.png", dpi=150)


def picture(found: dict[str, Any]) -> Figure:
    """Left: submissions a minute of both, pair by pair. Right: seconds and memory of ours by the size of the class."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    rates, growing = figure.subplots(1, 2)
    sides = {"nbgrader": "stock nbgrader autograde", "ours": f"autograder grade, {found['jobs']} workers"}
    for place, side in enumerate(sides):
        rate = found[f"{side}_per_minute"]
        rates.bar(place, rate, width=0.6, color=("C7", "C0")[place])
        rates.annotate(f"{rate:.1f}", (place - 0.3, rate), (2, 3), textcoords="offset points")
        each = [60 * found["submissions"] / pair[side]["seconds"] for pair in found["pairs"]]
        rates.plot([place] * len(each), each, "o", ms=4, color="black", alpha=0.4, label="" if place else "one command")
    rates.set_xticks(range(len(sides)), sides.values())
    rates.set(
        title=f"{found['submissions']} submissions of {found['week']}: {found['ratio']:.1f} times as fast",
        ylabel="submissions a minute",
    )
    rates.legend()
    growth = found["growth"]
    sizes, line = np.array(growth["submissions"]), growth["line"]
    memory = growing.twinx()
    memory.plot(sizes, np.array(growth["peak_mib"]) / 1024, "s--", color="C1")
    memory.set_ylabel("peak memory of all processes, GiB", color="C1")
    memory.set_ylim(0, 2 * max(growth["peak_mib"]) / 1024)
    ends = np.array([0, sizes[-1]])
    label = f"{line['seconds_to_start']:.1f} s + {line['seconds_each']:.3f} s a submission"
    growing.plot(ends, line["seconds_to_start"] + line["seconds_each"] * ends, color="C0", alpha=0.5, label=label)
    growing.plot(sizes, growth["seconds"], "o", color="C0")
    alone = 60 / found["limit_per_minute"] * ends
    growing.plot(ends, alone, ":", color="C0", label="the students' own computation alone")
    growing.set(title="Ours, a class in one command", xlabel="submissions in the class")
    growing.set_ylabel("seconds", color="C0")
    growing.set_ylim(0)
    growing.legend(loc="upper left")
    computer = found["machine"]
    figure.suptitle(f"{computer['processor']}, {computer['cores']} cores", fontsize=9, color="C7")
    return figure
