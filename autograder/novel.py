"""The course's common curve, graded: a character model of any week, scored on volume two of Persuasion."""

from pathlib import Path

from torch import Tensor

from autograder.exercise import Artifact, Inputs, thresholds
from course.data import encode_novels, read
from course.drives.week01_rnn import chars_windows, score_chars


def heldout_chars(heldout: Path) -> tuple[Inputs, Tensor]:
    """(inputs of a drive `chars`, where each window was changed) of volume two, which only the grader has."""
    return chars_windows(encode_novels(read(heldout / "persuasion.parquet")))


def chars_artifact(results: Path, points: float) -> Artifact:
    """The artifact `chars` of a week: its thresholds come from the runs that the week's results.json has of it."""
    return Artifact(
        name="chars",
        file="chars.safetensors",
        figure="bits per character",
        lower_is_better=True,
        thresholds=thresholds(results, "chars", points=points, lower_is_better=True),
        inputs=heldout_chars,
        score=score_chars,
        where="the held-out volume of Persuasion",
    )
