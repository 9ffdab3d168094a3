"""What texts say of the runs by which a reference window is measured, beside the window itself (`course.window.window_of`)."""

from itertools import takewhile

from course.window import REACHED
from tests.figures.spelled import spelled


def of_delay(runs: list[dict], delay: int, least: float = REACHED) -> list[bool]:
    """Of each seed whether it learned the delay: reached that accuracy at least."""
    return [run["accuracy"] >= least for run in runs if run["delay"] == delay]


def delays(runs: list[dict]) -> list[int]:
    return sorted({run["delay"] for run in runs})


def learned_by_all(runs: list[dict], least: float = REACHED) -> int:
    """The longest delay that every seed learned, and all shorter ones too; 0 if there is none."""
    return max(takewhile(lambda delay: all(of_delay(runs, delay, least)), delays(runs)), default=0)


def learned_by_none(runs: list[dict]) -> int:
    """The shortest delay that no seed learned."""
    return min(delay for delay in delays(runs) if not any(of_delay(runs, delay)))


def most_updates(runs: list[dict]) -> int:
    return max(run["updates"] for run in runs)


def seeds(runs: list[dict]) -> str:
    return spelled(len({run["seed"] for run in runs}))
