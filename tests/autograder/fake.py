"""A grader without kernels, for what happens around grading: it reads the submission, and is as deterministic as the real one."""

import hashlib
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from autograder.grade import Graded, read_release, ungraded
from autograder.repair import Unreadable, find_notebook, read_notebook, repair
from autograder.week import Week
from course.drives import slug
from tests.conftest import WEEK

MARK = "# fake:"  # `# fake: sleep 0.2`, `# fake: die` or `# fake: die once` in a notebook


def grade(folder: Path, release: Path, week: Path, banks: Path, isolation: str, **settings: Any) -> Graded:
    """An exercise is right whose solution cell has no "wrong" in it; its words depend on every byte of that cell."""
    released = read_release(release)
    path = find_notebook(folder, WEEK)
    if path is None:
        return ungraded(released, Week(week), "There is no notebook.")
    try:
        notebook = repair(read_notebook(path), released).notebook
    except Unreadable as error:
        return ungraded(released, Week(week), str(error))
    _obey(folder, path.read_text())
    result = ungraded(notebook, Week(week), "")
    sources = {cell.id: cell.source for cell in notebook.cells}
    verdicts = []
    for verdict in result.verdicts:
        source = sources.get(slug(verdict.exercise), "")
        right = bool(source) and "wrong" not in source and "NotImplementedError" not in source
        words = hashlib.sha256(source.encode()).hexdigest()
        points = verdict.max_points if right else 0.0
        status = "passed" if right else "wrong"
        verdicts.append(replace(verdict, status=status, passed=3 * right, total=3, points=points, message=words))
    return replace(result, verdicts=verdicts, began="2026-10-05T00:00:00+00:00", seconds=0.5)


def _obey(folder: Path, text: str) -> None:
    for line in text.splitlines():
        _, mark, order = line.partition(MARK)
        words = order.split("\\n")[0].split('"')[0].split()
        if not mark:
            continue
        if words[0] == "sleep":
            time.sleep(float(words[1]))
        elif words[0] == "die":
            once = folder.parent.parent.parent / f"died-{folder.parent.name}"
            if words[1:] != ["once"] or not once.exists():
                once.touch()
                os._exit(1)
