"""nbgrader, wired to this course: its own commands, formgrader and the validate button work from this folder.

Below are the settings that a course changes; what follows them is wiring. For one year's values, write them here.
"""

from pathlib import Path

c = get_config()  # noqa: F821  traitlets defines it

# ------------------------------------------------------------------------------------------------------- settings

c.CourseDirectory.course_id = "rnn-to-transformers"

# Where Google Colab installs the course from: "https://github.com/owner/course". Released notebooks have it in them, and the
# site has buttons for it.
c.Course.repository = None

# Due dates by week: {"week01": "2026-10-05 23:59 Europe/Berlin"}
c.Course.due = {}

# What lateness costs: "none", "zero", or "percent": so much of the points earned for each day begun.
c.Course.late_policy = "none"
c.Course.late_percent = 10.0

# Whether an exercise that is right given a named mistake in an earlier one, which it calls, keeps its points.
c.Course.follow_through = True

# How students' code is kept apart ("bubblewrap"; "process" is no sandbox), and how many are graded at a time.
c.Course.isolation = "bubblewrap"
c.Course.jobs = 2

# --------------------------------------------------------------------------------------------------------- wiring

root = Path(__file__).resolve().parent
grading = root / "grading"
grading.mkdir(exist_ok=True)  # nbgrader makes the gradebook, but not the folder it lies in

# assignments/ is what students get. Everything that grading makes is below grading/, which git ignores.
c.CourseDirectory.root = str(root)
c.CourseDirectory.db_url = f"sqlite:///{grading / 'gradebook.db'}"
c.CourseDirectory.source_directory = "grading/source"  # copies of what is registered, for formgrader's list
c.CourseDirectory.release_directory = "assignments"
c.CourseDirectory.submitted_directory = "grading/submitted"
c.CourseDirectory.autograded_directory = "grading/autograded"
c.CourseDirectory.feedback_directory = "grading/feedback"
c.Exchange.root = str(grading / "exchange")
c.Exchange.assignment_dir = str(grading / "work")  # where JupyterLab's assignment list puts what it fetches

# A week is released by `autograder release`; formgrader's button must not rebuild assignments/ from a copy of itself.
c.GenerateAssignment.preprocessors = ["nbgrader.preprocessors.SaveCells", "nbgrader.preprocessors.CheckCellMetadata"]

# `nbgrader autograde` and formgrader's button grade as `autograder grade` does.
c.Autograde.pre_convert_hook = "autograder.nbgrader_plugins.register_assignment"
c.Autograde.sanitize_preprocessors = []
c.Autograde.autograde_preprocessors = [
    "autograder.nbgrader_plugins.CourseAutograde",
    "autograder.nbgrader_plugins.SaveVerdicts",
    "nbgrader.preprocessors.CheckCellMetadata",
]

# The same pages as nbconvert's own exporter makes, in a fraction of the time.
c.GenerateFeedback.exporter_class = "autograder.feedback.FeedbackExporter"
