"""The instructor's side of the course: release, validate, grade, explain, report."""

import atexit
import gc
import os
import sys
from pathlib import Path
from typing import Any

# jsonschema, which comes with nbformat, compiles a grammar of international addresses where this package is installed: two
# seconds at the start of every command, for a format that no notebook's schema has.
sys.modules.setdefault("rfc3987_syntax", None)

# Python looks for cycles of garbage after every 700 new objects, which a million imported ones make slow, and once more as it
# ends: together a second of every command.
gc.set_threshold(100_000)
atexit.register(gc.freeze)

__all__ = ["Artifact", "Exercise", "Mistake", "thresholds"]

# A course's own folder `course` may hold public cases and no code, as the demo's does. Where an editable install finds packages
# by a hook behind sys.path, and nbgrader has put the course on it, that folder would be taken for the package.
_root = Path(__file__).resolve().parents[1]
if (_root / "course" / "__init__.py").exists() and str(_root) not in sys.path:
    sys.path.append(str(_root))

# nbgrader runs `alembic` by its bare name. It lies beside the Python that runs this, also where nobody activated the
# virtual environment.
_bin = str(Path(sys.executable).parent)
if _bin not in os.environ.get("PATH", "").split(os.pathsep):
    os.environ["PATH"] = os.pathsep.join([_bin, *filter(None, [os.environ.get("PATH")])])

# Triton asks for this when it is imported, which parts of PyTorch do; week 8's kernel is graded by Triton's interpreter.
os.environ.setdefault("TRITON_INTERPRET", "1")


def __getattr__(name: str) -> Any:
    """What a week's exercises.py imports from here. Not before it does: it brings PyTorch, which no command waits for in vain."""
    if name in __all__:
        from autograder import exercise

        return getattr(exercise, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
