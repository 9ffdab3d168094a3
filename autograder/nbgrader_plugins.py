"""What nbgrader calls: thin preprocessors around `grade_notebook`, so that its own commands grade as ours do.

nbgrader_config.py names them: `nbgrader autograde` and formgrader's button run CourseAutograde, SaveVerdicts and nbgrader's
AssignLatePenalties with LatePolicy; `autograder grade` runs the last three on what its workers graded.
"""

from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from nbgrader.api import Gradebook
from nbgrader.plugins import BasePlugin
from nbgrader.preprocessors import NbGraderPreprocessor, SaveAutoGrades
from nbgrader.utils import compute_checksum, determine_grade, is_grade, is_solution, is_task

from autograder import verdicts
from autograder.grade import Graded, grade_notebook
from autograder.hidden import hidden_banks, provenance_of
from autograder.repair import exercise, role
from autograder.settings import Course, load_settings
from autograder.week import find_root, find_week


def register_assignment(assignment: str, **facts: Any) -> None:
    """nbgrader's hook before it converts: the committed release is in the gradebook from here on."""
    from autograder.gradebook import register

    register(find_week(find_root(), assignment))


class CourseAutograde(NbGraderPreprocessor):
    """Takes the submitted notebook to the graded one; the verdicts travel in the resources."""

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        submission = Path(resources["metadata"]["path"]) / f"{resources['metadata']['name']}.ipynb"
        root = find_root(submission.parent)
        week = find_week(root, resources["nbgrader"]["assignment"])
        settings = load_settings(root)
        graded = grade_notebook(
            submission,
            root / "assignments" / week.name / f"{week.name}.ipynb",
            week,
            hidden_banks(week),
            settings.isolation,
            settings.cell_timeout,
        )
        facts = {"root": str(root), "graded": graded, "provenance": provenance_of(week, settings.isolation)}
        resources["nbgrader"].update(facts)
        return graded.notebook, resources


class SaveVerdicts(SaveAutoGrades):
    """Points from the verdicts, never from a cell's output; all of a submission in one transaction.

    Manual scores, extra credit and comments are other columns of the gradebook and stay what they are.
    """

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        facts = resources["nbgrader"]
        graded: Graded = facts["graded"]
        by_name = {verdict.exercise: verdict for verdict in graded.verdicts}
        where = (facts["notebook"], facts["assignment"], facts["student"])
        with Gradebook(facts["db_url"]) as gradebook:
            for cell in nb.cells:
                if is_grade(cell):
                    grade = gradebook.find_grade(cell.metadata["nbgrader"]["grade_id"], *where)
                    if role(cell) == "check":
                        verdict = by_name[exercise(cell)]
                        grade.auto_score = min(verdict.points, grade.max_score)
                        undecided = verdict.status == "forbidden"
                    else:
                        grade.auto_score, _ = determine_grade(cell, self.log)
                        undecided = grade.auto_score is None
                    grade.needs_manual_grade = undecided or grade.manual_score is not None
                if is_solution(cell) or is_task(cell):
                    comment = gradebook.find_comment(cell.metadata["nbgrader"]["grade_id"], *where)
                    untouched = cell.metadata.nbgrader.get("checksum") == compute_checksum(cell) and not is_task(cell)
                    comment.auto_comment = "No response." if untouched else None
            gradebook.db.commit()
        record = verdicts.Record(graded.verdicts, graded.repairs, facts["provenance"], graded.failed)
        verdicts.write(Path(facts["root"]), facts["assignment"], facts["student"], record)
        return nb, resources


class LatePolicy(BasePlugin):
    """Late penalties as the course's settings have them (`autograder.settings.Course.penalty`)."""

    def late_submission_penalty(self, student_id: str, score: float, total_seconds_late: float) -> float:
        return Course(config=self.config).penalty(score, total_seconds_late)
