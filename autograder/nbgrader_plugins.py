"""What nbgrader calls: thin preprocessors around `grade_notebook`, so that its own commands grade as ours do.

nbgrader_config.py names them: `nbgrader autograde` and formgrader's button run CourseAutograde and SaveVerdicts, and
`nbgrader generate_feedback` makes its pages with `autograder.feedback.FeedbackExporter`.
"""

from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from nbgrader.api import Gradebook
from nbgrader.preprocessors import NbGraderPreprocessor

from autograder import verdicts
from autograder.grade import Graded, grade_notebook, timed
from autograder.gradebook import register, released_path, set_points
from autograder.hidden import hidden_banks, provenance_of
from autograder.journal import Entry
from autograder.settings import load_settings
from autograder.week import find_root, find_week


def register_assignment(assignment: str, **facts: Any) -> None:
    """nbgrader's hook before it converts: the committed release is in the gradebook from here on."""
    register(find_week(find_root(), assignment))


class CourseAutograde(NbGraderPreprocessor):
    """Takes the submitted notebook to the graded one; the verdicts travel in the resources."""

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        submission = Path(resources["metadata"]["path"]) / f"{resources['metadata']['name']}.ipynb"
        root = find_root(submission.parent)
        week = find_week(root, resources["nbgrader"]["assignment"])
        settings = load_settings(root)
        release, banks = released_path(week), hidden_banks(week)
        graded = timed(grade_notebook, submission, release, week, banks, settings.isolation, **settings.grading())
        facts = {"root": str(root), "graded": graded, "provenance": provenance_of(week, settings.isolation)}
        resources["nbgrader"].update(facts)
        return graded.notebook, resources


class SaveVerdicts(NbGraderPreprocessor):
    """Points, comments and late penalty into the gradebook, all in one transaction, and the verdicts beside it."""

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        facts = resources["nbgrader"]
        graded: Graded = facts["graded"]
        root, assignment, student = Path(facts["root"]), facts["assignment"], facts["student"]
        with Gradebook(facts["db_url"]) as gradebook:
            set_points(gradebook.find_submission(assignment, student), graded, load_settings(root))
            gradebook.db.commit()
        verdicts.write(root, assignment, student, Entry(graded, facts["provenance"]).record)
        return nb, resources
