"""The instructor's side of the course: release, validate, grade, explain, report."""

import os
import sys
from pathlib import Path

from autograder.exercise import Artifact, Exercise, Mistake

__all__ = ["Artifact", "Exercise", "Mistake"]

# nbgrader runs `alembic` by its bare name. It lies beside the Python that runs this, also where nobody activated the
# virtual environment.
_bin = str(Path(sys.executable).parent)
if _bin not in os.environ.get("PATH", "").split(os.pathsep):
    os.environ["PATH"] = os.pathsep.join([_bin, *filter(None, [os.environ.get("PATH")])])
