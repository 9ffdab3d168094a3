"""What an exercise is: its points, its cases, and the mistakes that its checks must refuse and name."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from course.check import Goal
from course.drives import slug

Inputs = dict[str, Any]
CaseMaker = Callable[[torch.Generator], list[tuple[str, Inputs]]]


@dataclass(frozen=True)
class Mistake:
    """A wrong answer that students really give, as a small edit of the solution.

    `message` says in one or two plain sentences what was done: "The scores are not divided by sqrt(d)." `find` must occur
    exactly once in the exercise's solution cell, comments and docstrings apart, and is replaced by `replace`; more edits
    go into `also`, pairs of the same kind. A mistake that needs more than edits gives `source` instead: a whole cell.
    """

    name: str
    message: str
    find: str = ""
    replace: str = ""
    also: Sequence[tuple[str, str]] = ()
    source: str = ""

    @property
    def edits(self) -> list[tuple[str, str]]:
        return ([(self.find, self.replace)] if self.find else []) + list(self.also)


@dataclass(frozen=True)
class Exercise:
    """One function or method that students write.

    name      as students write it: `rnn_step`, `NameClassifier.forward`
    points    given for all cases right; 0 in an ungraded week
    cases     (rng) -> [(kind, inputs), ...]: `kind` says in a few words what is special about the case and is shown to
              students; `inputs` is what the drive gets. All randomness from rng. Cases stay away from ties and thresholds.
    mistakes  each must be refused by far and named as itself
    uses      earlier exercises that this one calls
    forbid    operators (profiler names) or "autograd" that would do the exercise for the student
    raises    names of exceptions that are the right answer to some case
    floor     least tolerance, relative to the largest value of each tensor; above the float32 noise of any correct answer
    timeout   seconds for all cases together
    stretch   beyond the core; its points are a bonus
    """

    name: str
    points: float
    cases: CaseMaker
    mistakes: Sequence[Mistake] = ()
    uses: Sequence[str] = ()
    forbid: Sequence[str] = ()
    raises: Sequence[str] = ()
    floor: float = 1e-5
    timeout: float = 20.0
    stretch: bool = False

    @property
    def slug(self) -> str:
        return slug(self.name)


@dataclass(frozen=True, kw_only=True)
class Artifact(Goal):
    """Something an experiment trains and saves beside the notebook, graded on data that only the grader has.

    inputs   (heldout folder) -> (inputs for the drive, key that only the grader keeps)
    score    (inputs, outputs, key) -> the figure by which points are given
    where    the held-out data in words, for the feedback: "names that nobody has seen"
    timeout  seconds
    """

    inputs: Callable[[Path], tuple[Inputs, Any]]
    score: Callable[[Inputs, Any, Any], float]
    where: str = "held-out data"
    timeout: float = 60.0
    stretch: bool = False

    @property
    def slug(self) -> str:
        return slug(self.name)


def thresholds(
    results: Path, name: str, points: float, lower_is_better: bool = False, early: float = 0.2
) -> list[tuple[float, float]]:
    """[(figure, points), ...] of a trained model, from the runs that a week's results.json has of it.

    Full points at the mean of the seeds on held-out data, less three standard deviations: whoever runs the experiment as
    it stands gets them. Half of them for what the same runs had reached, in the mean, after a share `early` of their updates: a
    network that learns, but was stopped early or hampered. There is no half where seeds differ so much that the early runs had
    reached the full figure. Before there are results, no figure is good enough.
    """
    measured = json.loads(results.read_text(encoding="utf-8"))["artifacts"].get(name) if results.exists() else None
    sign = -1.0 if lower_is_better else 1.0
    if measured is None:
        return [(sign * math.inf, points)]
    full = measured["heldout"]["mean"] - sign * 3 * measured["heldout"]["sd"]
    half = []
    for seed in measured["seeds"].values():
        updates = seed["points"][-1][0]
        half.append(next(figure for at, _, _, figure in seed["points"] if at >= early * updates))
    halfway = sum(half) / len(half)
    return [(full, points), (halfway, points / 2)] if sign * halfway < sign * full else [(full, points)]
