"""A small course for the tests of grading: four exercises with the drives of week 1, a written question, an artifact."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from nbformat import NotebookNode
from nbgrader.api import Gradebook
from safetensors.torch import save_file

from autograder.gradebook import course_directory, released_path
from autograder.hidden import hidden_banks
from autograder.release import assignment_notebook, notebook_bytes
from autograder.submission import filled, write_submission
from autograder.week import Week
from tests.conftest import ROOT, WEEK

SMALL = Path(__file__).parent / "small"


@dataclass(frozen=True)
class SmallCourse:
    root: Path
    week: Week
    release: NotebookNode
    banks: Path

    @property
    def release_path(self) -> Path:
        return released_path(self.week)

    def solved(self, **sources: str) -> NotebookNode:
        """The released notebook with all solutions in it, but for the sources given by exercise name."""
        right = {exercise.name: self.week.solution(exercise.name) for exercise in self.week.exercises}
        return filled(self.release, {**right, **sources})

    def hand_in(self, folder: Path, notebook: NotebookNode, artifact: bool = True) -> Path:
        path = write_submission(folder, notebook, WEEK)
        if artifact:
            parity = torch.nn.functional.one_hot(torch.arange(8) % 2).float()
            save_file({"embedding.weight": parity, "output.weight": torch.eye(2)}, folder / "names.safetensors")
            (folder / "names.json").write_text('{"accuracy": 1.0}')
        return path


def make_small_course(target: Path) -> SmallCourse:
    shutil.copytree(SMALL, target, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(ROOT / "nbgrader_config.py", target / "nbgrader_config.py")
    week = Week(target / "solutions" / WEEK)
    release = assignment_notebook(week)
    path = released_path(week)
    path.parent.mkdir(parents=True)
    path.write_bytes(notebook_bytes(release))
    return SmallCourse(target, week, release, hidden_banks(week))


def rows_of(root: Path) -> dict:
    """Everything in the gradebook that a grade consists of, by student and cell."""
    found = {}
    with Gradebook(course_directory(root).db_url) as book:
        for submission in book.assignment_submissions(WEEK):
            for notebook in submission.notebooks:
                key = submission.student.id
                found[key] = (
                    submission.timestamp,
                    notebook.late_submission_penalty,
                    notebook.score,
                    notebook.max_score,
                )
                for grade in notebook.grades:
                    found[key, grade.name] = (
                        grade.auto_score,
                        grade.manual_score,
                        grade.extra_credit,
                        grade.needs_manual_grade,
                        grade.max_score,
                    )
                for comment in notebook.comments:
                    found[key, "comment", comment.name] = (comment.auto_comment, comment.manual_comment)
    return found


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallCourse:
    """The small course, released. For tests that write nothing into it."""
    return make_small_course(tmp_path_factory.mktemp("small") / "course")


@pytest.fixture
def class_course(small: SmallCourse, tmp_path: Path) -> SmallCourse:
    """A copy of the small course for a test that writes into it."""
    root = tmp_path / "course"
    shutil.copytree(small.root, root)
    week = Week(root / "solutions" / WEEK)
    return SmallCourse(root, week, small.release, root / small.banks.relative_to(small.root))
