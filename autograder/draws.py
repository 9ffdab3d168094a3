"""Random tensors for the cases of exercises, all of them from the generator that a case maker is handed."""

import torch
from torch import Generator, Tensor


def normal(rng: Generator, *shape: int, scale: float = 1.0, mean: float = 0.0) -> Tensor:
    """Normal numbers, float32, with standard deviation `scale`."""
    return mean + scale * torch.randn(*shape, generator=rng)


def uniform(rng: Generator, *shape: int) -> Tensor:
    """Numbers drawn evenly from [0, 1), float32."""
    return torch.rand(*shape, generator=rng)


def integers(rng: Generator, high: int, *shape: int) -> Tensor:
    """Integers from 0 to `high` - 1, int64."""
    return torch.randint(high, shape, generator=rng)
