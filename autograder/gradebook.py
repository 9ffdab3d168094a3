"""nbgrader's side of grading: its configuration, the registered weeks, and the one way results are written."""

import logging
import shutil
import tempfile
import warnings
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from nbformat import NotebookNode
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.converters import GenerateFeedback
from nbgrader.coursedir import CourseDirectory
from nbgrader.preprocessors import AssignLatePenalties, SaveCells
from nbgrader.utils import is_grade, is_locked, is_solution, parse_utc
from sqlalchemy import text
from sqlalchemy.exc import SAWarning, SQLAlchemyError
from traitlets.config import Config
from traitlets.config.loader import PyFileConfigLoader

from autograder.grade import Graded, read_release
from autograder.nbgrader_plugins import SaveVerdicts
from autograder.release import notebook_bytes
from autograder.settings import load_settings
from autograder.week import ROOT_MARK, CourseError, Week

QUIET = logging.getLogger("autograder.nbgrader")
QUIET.addHandler(logging.NullHandler())
QUIET.propagate = False
# nbgrader adds objects to a session one by one, which SQLAlchemy 2 remarks on.
warnings.filterwarnings("ignore", category=SAWarning, module="nbgrader")


def nbgrader_config(root: Path) -> Config:
    """nbgrader's configuration at the course's root, settings and wiring."""
    load_settings(root)  # says in a sentence what is wrong with the file
    return PyFileConfigLoader(ROOT_MARK, path=str(root)).load_config()


def course_directory(root: Path) -> CourseDirectory:
    return CourseDirectory(config=nbgrader_config(root))


def released_path(week: Week) -> Path:
    return week.root / "assignments" / week.name / f"{week.name}.ipynb"


def open_gradebook(root: Path) -> Gradebook:
    """The gradebook, made if need be. Raises CourseError where it cannot be read and written."""
    url = course_directory(root).db_url
    path = Path(url.removeprefix("sqlite:///"))
    try:
        gradebook = Gradebook(url)
        gradebook.db.execute(text("BEGIN IMMEDIATE"))
        gradebook.db.rollback()
    except (SQLAlchemyError, OSError) as error:
        why = str(getattr(error, "orig", None) or error)
        raise CourseError(f"The gradebook {path} cannot be written ({why}). Nothing was graded.") from error
    return gradebook


# ------------------------------------------------------------------------------------------------------- registering


def register(week: Week) -> None:
    """Makes the gradebook know the committed release: assignment, cells, points, due date. Does nothing if it does.

    Raises CourseError where there is no release, or where graded cells were added or removed after grading began.
    """
    path = released_path(week)
    released = read_release(path)
    url = course_directory(week.root).db_url
    due = load_settings(week.root).due_date(week.name)
    copy = week.root / "grading" / "source" / week.name / path.name
    with Gradebook(url) as gradebook:
        try:
            gradebook.update_or_create_assignment(week.name, **({"duedate": due} if due else {}))
        except ValueError as error:
            raise CourseError(
                f"{ROOT_MARK}: the due date of {week.name}, {due!r}, cannot be read ({error})."
            ) from error
        try:
            gradebook.find_notebook(week.name, week.name)
            if copy.exists() and copy.read_bytes() == path.read_bytes():
                return
            _renew_source_cells(gradebook, week, released)
        except MissingEntry:
            pass
    resources = {"nbgrader": {"notebook": week.name, "assignment": week.name, "db_url": url}}
    try:
        SaveCells().preprocess(released, resources)
    except RuntimeError as error:
        raise CourseError(
            f"The release of {week.name} has other graded cells than the one that was graded already ({error}). "
            f"Release the former one again, or forget all its grades: nbgrader db assignment remove {week.name} --force"
        ) from error
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_bytes(path.read_bytes())


def _renew_source_cells(gradebook: Gradebook, week: Week, released: NotebookNode) -> None:
    """Given code may change after grading began: no grade hangs on it, though nbgrader's SaveCells refuses."""
    notebook = gradebook.find_notebook(week.name, week.name)
    graded = {cell.name for cells in (notebook.grade_cells, notebook.solution_cells) for cell in cells}
    given = {
        cell.metadata.nbgrader["grade_id"]: cell
        for cell in released.cells
        if is_locked(cell) and not is_grade(cell) and not is_solution(cell)
    }
    for old in list(notebook.source_cells):
        if old.name not in given and old.name not in graded:
            gradebook.db.delete(old)
    for name, cell in given.items():
        facts = {"cell_type": cell.cell_type, "locked": True, "source": cell.source}
        gradebook.update_or_create_source_cell(name, week.name, week.name, **facts)
    gradebook.db.commit()


# ----------------------------------------------------------------------------------------------------------- writing


@dataclass(frozen=True)
class Row:
    """One student's line in the table after grading. `late` in seconds. `trouble`: a sentence, empty where all went well.

    `lost` is True where the submission could not be read, graded or written; an earlier grade then stands.
    """

    student: str
    points: float | None = None
    of: float | None = None
    late: float = 0.0
    trouble: str = ""
    lost: bool = False


def handed_in(folder: Path) -> datetime | None:
    """When a submission was handed in, from nbgrader's timestamp.txt. None where there is none, or none that makes sense."""
    path = folder / "timestamp.txt"
    try:
        return parse_utc(path.read_text(encoding="utf-8")[:200].strip()) if path.is_file() else None
    except Exception:  # dateutil raises what its many parsers raise
        return None


def save(week: Week, student: str, submitted: Path, graded: Graded, provenance: dict[str, str]) -> None:
    """Writes one graded submission: autograded notebook, gradebook, verdicts. `submitted` is the folder handed in.

    The notebook is written beside its place first and swapped in last, and the points are one transaction, so that
    whatever fails leaves the earlier grade standing. Raises OSError or SQLAlchemyError.
    """
    config = nbgrader_config(week.root)
    directory = CourseDirectory(config=config)
    target = Path(directory.format_path(directory.autograded_directory, student, week.name))
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{week.name}-", dir=target.parent))
    try:
        fresh.chmod(0o755)
        (fresh / f"{week.name}.ipynb").write_bytes(notebook_bytes(graded.notebook))
        moment = handed_in(submitted)
        if moment is not None:
            shutil.copyfile(submitted / "timestamp.txt", fresh / "timestamp.txt")
        with Gradebook(directory.db_url, directory.course_id) as gradebook:
            gradebook.update_or_create_student(student)
            gradebook.update_or_create_submission(week.name, student, **({"timestamp": moment} if moment else {}))
        resources = {
            "nbgrader": {
                "student": student,
                "assignment": week.name,
                "notebook": week.name,
                "db_url": directory.db_url,
                "root": str(week.root),
                "graded": graded,
                "provenance": provenance,
            }
        }
        for preprocessor in (SaveVerdicts(config=config), AssignLatePenalties(config=config)):
            preprocessor.log = QUIET
            preprocessor.preprocess(graded.notebook, resources)
        _swap(fresh, target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _swap(fresh: Path, target: Path) -> None:
    old = fresh.with_name(f"{fresh.name}-old")
    if target.exists():
        target.rename(old)
    fresh.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def row(gradebook: Gradebook, week: Week, student: str, trouble: str = "", lost: bool = False) -> Row:
    """The student's line, with what the gradebook says now: manual scores in, late penalty off."""
    try:
        submission = gradebook.find_submission(week.name, student)
    except MissingEntry:
        return Row(student, trouble=trouble, lost=lost)
    penalty = sum(notebook.late_submission_penalty or 0.0 for notebook in submission.notebooks)
    points = submission.score - penalty
    return Row(student, points, submission.max_score, submission.total_seconds_late, trouble, lost)


def write_feedback(week: Week, student: str = "*") -> None:
    """Feedback pages by nbgrader's own generate_feedback, for one student or for all that have been graded.

    Raises CourseError in nbgrader's words where it fails.
    """
    config = nbgrader_config(week.root)
    directory = CourseDirectory(config=config)
    directory.assignment_id, directory.student_id = week.name, student
    converter = GenerateFeedback(coursedir=directory, config=config, force=True)
    converter.log = directory.log = QUIET
    try:
        converter.start()
    except (Exception, SystemExit) as error:
        raise CourseError(f"The feedback of {week.name} could not be written: {error}") from error
