"""The course's settings: one class, read from nbgrader_config.py at the course's root, beside nbgrader's own."""

from pathlib import Path
from typing import Any

from nbgrader.coursedir import CourseDirectory
from traitlets import Bool, Dict, Enum, Float, Integer, TraitError, Unicode
from traitlets.config import Config, Configurable
from traitlets.config.loader import PyFileConfigLoader

from autograder.errors import CourseError
from autograder.week import ROOT_MARK


class Course(Configurable):
    """Set in nbgrader_config.py: `c.Course.late_policy = "percent"`.

    Settings tagged `grading=True` are handed to `grade_notebook` by their names, and a change of one makes a journalled
    result stale.
    """

    repository = Unicode(
        None,
        allow_none=True,
        help="Address from which Google Colab installs the course: https://github.com/owner/course.",
    ).tag(config=True)
    due = Dict(
        key_trait=Unicode(),
        value_trait=Unicode(),
        help='Due dates by week: {"week01": "2026-10-05 23:59 Europe/Berlin"}. Any unambiguous beginning of a week\'s name.',
    ).tag(config=True)
    late_policy = Enum(
        ("none", "zero", "percent"),
        default_value="none",
        help="What lateness costs: nothing, everything, or `late_percent` of the points earned for each day begun.",
    ).tag(config=True)
    late_percent = Float(10.0, min=0.0, max=100.0, help="Percent for each day begun.").tag(config=True)
    isolation = Enum(
        ("bubblewrap", "process"),
        default_value="bubblewrap",
        help="How students' code is kept apart. `process` is not a sandbox: it can read whatever the grader can read.",
    ).tag(config=True)
    jobs = Integer(2, min=1, help="Submissions graded at the same time.").tag(config=True)
    cell_timeout = Float(
        60.0, min=1.0, help="Seconds that a cell of a submission may run. Checks have times of their own."
    ).tag(config=True, grading=True)

    follow_through = Bool(
        True, help="Whether an exercise that is right given a named mistake in one that it calls keeps its points."
    ).tag(config=True, grading=True)

    def grading(self) -> dict[str, Any]:
        """The settings that verdicts depend on, as keyword arguments of `grade_notebook`."""
        return {name: getattr(self, name) for name in sorted(self.trait_names(grading=True))}

    def due_date(self, week: str) -> str | None:
        """The due date of a week given by its full name, as written in the settings."""
        found = [date for prefix, date in self.due.items() if prefix and week.startswith(prefix)]
        if len(found) > 1:
            raise CourseError(f"{ROOT_MARK}: more than one of c.Course.due fits {week}.")
        return found[0] if found else None

    def penalty(self, score: float, seconds_late: float) -> float:
        """Points to take from a score that is `seconds_late` late: between 0 and the score."""
        if seconds_late <= 0 or self.late_policy == "none":
            return 0.0
        if self.late_policy == "zero":
            return score
        days = -(-seconds_late // 86400)
        return score * min(1.0, days * self.late_percent / 100)


def load_settings(root: Path) -> Course:
    """The settings of the course at `root`. Raises CourseError where the file cannot be read or has a wrong value."""
    try:
        return Course(config=_config(root))
    except TraitError as error:
        raise CourseError(f"{ROOT_MARK}: {error}") from error
    except Exception as error:  # the file is Python: anything can go wrong in it
        raise CourseError(f"{ROOT_MARK} cannot be read: {type(error).__name__}: {error}") from error


def _config(root: Path) -> Config:
    return PyFileConfigLoader(ROOT_MARK, path=str(root)).load_config()


def nbgrader_config(root: Path) -> Config:
    """nbgrader's configuration at the course's root, settings and wiring. Raises as `load_settings` does."""
    load_settings(root)
    return _config(root)


def course_directory(root: Path) -> CourseDirectory:
    """Where nbgrader keeps things in the course at `root`. Raises as `load_settings` does."""
    return CourseDirectory(config=nbgrader_config(root))
