"""Every week there is keeps DESIGN's promises: `autograder validate` finds nothing to complain about."""

from pathlib import Path

import pytest

from autograder.validate import validate
from autograder.week import find_week, weeks_of

ROOT = Path(__file__).parents[1]
LEAST_MISTAKES = {
    "week00_warmup": 15,
    "week01_rnn": 25,
    "week02_lstm_gru": 40,
    "week03_attention": 40,
    "week04_transformer": 35,
    "week05_bert": 40,
    "week06_gpt": 45,
    "week07_compression": 150,
    "week08_efficient": 120,
}


@pytest.mark.parametrize("name", [week.name for week in weeks_of(ROOT)])
def test_week(name: str):
    proof = validate(find_week(ROOT, name))
    assert proof.all_problems == []
    numbers = proof.as_json()
    assert numbers["passed"] and numbers["leaks"] == 0
    assert numbers["solution_points"] == numbers["points"] and numbers["template_points"] == 0
    assert numbers["mistakes"] == numbers["refused"] == numbers["named"] >= LEAST_MISTAKES[name]
    assert numbers["alternates"] == numbers["accepted"] >= numbers["exercises"]
