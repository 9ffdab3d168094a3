"""What the modules of all weeks share; each says in WEEK which week it is about."""

from typing import Any

import matplotlib.pyplot as plt
import pytest
import torch
from torch import Tensor

from autograder.experiments import experiments
from autograder.week import Week

SEEDS = [0, 1, 2]
# Both sides compute the same sums in float64 in different orders: errors are a few units of 1e-16 per step.
CLOSE = {"rtol": 1e-10, "atol": 1e-12}


@pytest.fixture(scope="module")
def week(request: pytest.FixtureRequest) -> dict[str, Any]:
    return request.module.WEEK.namespace()


@pytest.fixture(params=SEEDS)
def rng(request: pytest.FixtureRequest) -> torch.Generator:
    return torch.Generator().manual_seed(request.param)


def run_experiments(week: Week, **given: Any) -> dict[str, Any]:
    """The names that all experiment cells leave, run as they stand in the current folder; `given` takes the place of names."""
    names = week.namespace()  # its functions look into this very dict
    names.update(given)
    for name, source in experiments(week):
        exec(compile(source, f"<experiment {name}>", "exec"), names)
        plt.close("all")
    return names


def normal(rng: torch.Generator, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=rng, dtype=dtype)


def cases_of(week: Week, exercise: str) -> list[dict]:
    """The inputs of an exercise's cases, drawn from seed 0."""
    return [inputs for _, inputs in week.exercise(exercise).cases(torch.Generator().manual_seed(0))]
