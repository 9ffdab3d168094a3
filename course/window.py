"""The reference window: over how many steps can a network learn to remember one symbol?

The first symbol of a sequence is the answer, then come distractors, which are never answers, and a query last. One model
is trained for each delay, from scratch, with no curriculum and a fixed number of updates. Weeks 1 to 3 measure it for the
recurrent network, the gated ones and attention.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course.train import Clip, accuracy, clip_in_place, fit

DELAYS = (10, 20, 40, 80, 120)
NUM_ANSWERS = 8
NUM_DISTRACTORS = 8
QUERY = NUM_ANSWERS + NUM_DISTRACTORS
VOCAB_SIZE = QUERY + 1

UPDATES = 1500
BATCH_SIZE = 32
EVERY = 50  # updates between two looks at the accuracy
TEST_SIZE = 512
LEARNED = 0.97  # a run stops here
REACHED = 0.90  # a seed counts as having reached a delay

MakeModel = Callable[[int, int], nn.Module]  # (vocab_size, num_classes) -> model(tokens (B, T), lengths (B,)) -> (B, C)


def recall(delay: int, batch_size: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Sequences of the task: tokens (B, delay + 2) int64, lengths (B,), answers (B,) in 0 .. NUM_ANSWERS - 1."""
    answers = torch.randint(NUM_ANSWERS, (batch_size,), generator=generator)
    distractors = torch.randint(NUM_ANSWERS, QUERY, (batch_size, delay), generator=generator)
    query = torch.full((batch_size, 1), QUERY)
    tokens = torch.cat([answers.unsqueeze(1), distractors, query], dim=1)
    return tokens, torch.full((batch_size,), delay + 2), answers


def _loss(model: nn.Module, tokens: Tensor, lengths: Tensor, answers: Tensor) -> Tensor:
    return F.cross_entropy(model(tokens, lengths), answers)


def _test(delay: int, seed: int, device: torch.device) -> Callable[[nn.Module], float]:
    """model -> accuracy on fresh sequences; the batches of training never come from these seeds."""
    generator = torch.Generator().manual_seed(2**40 + seed)
    tokens, lengths, answers = (part.to(device) for part in recall(delay, TEST_SIZE, generator))
    return lambda model: accuracy(model(tokens, lengths), answers)


def learn_delay(
    make_model: MakeModel,
    delay: int,
    seed: int,
    *,
    updates: int = UPDATES,
    clip: Clip = clip_in_place,
    device: torch.device | str = "cpu",
) -> dict[str, float]:
    """Trains one model for one delay: batch 32, Adam 2e-3, clip 1, at most `updates` updates, stops at 97 %.

    Returns {"delay", "seed", "accuracy" on 512 fresh sequences, "updates" used}.
    """
    device = torch.device(device)
    torch.manual_seed(seed)
    model = make_model(VOCAB_SIZE, NUM_ANSWERS).to(device)

    def batch_at(update: int) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + update)
        return tuple(part.to(device) for part in recall(delay, BATCH_SIZE, generator))

    history = fit(
        model,
        batch_at,
        _loss,
        updates,
        clip=clip,
        evaluate=_test(delay, seed, device),
        every=EVERY,
        stop_at=LEARNED,
        label=f"delay {delay}, seed {seed}",
    )
    if history.stopped == "interrupted":
        raise KeyboardInterrupt
    return {"delay": delay, "seed": seed, "accuracy": history.figure, "updates": history.updates}


def reference_window(
    make_model: MakeModel,
    delays: Sequence[int] = DELAYS,
    seeds: Sequence[int] = (0, 1, 2),
    *,
    updates: int = UPDATES,
    clip: Clip = clip_in_place,
    device: torch.device | str = "cpu",
) -> list[dict[str, float]]:
    """`learn_delay` for every delay and seed. Interrupting it returns the runs that are complete."""
    runs: list[dict[str, float]] = []
    try:
        for delay in delays:
            for seed in seeds:
                runs.append(learn_delay(make_model, delay, seed, updates=updates, clip=clip, device=device))
    except KeyboardInterrupt:
        print(f"interrupted after {len(runs)} runs")
    return runs


def window_of(runs: Sequence[dict[str, float]]) -> int:
    """The reference window: the largest delay at which more than half of the seeds reach 90 %; 0 if there is none."""
    by_delay: dict[int, list[bool]] = {}
    for run in runs:
        by_delay.setdefault(int(run["delay"]), []).append(run["accuracy"] >= REACHED)
    return max((delay for delay, reached in by_delay.items() if 2 * sum(reached) > len(reached)), default=0)


def mixed_delays(
    make_model: MakeModel,
    seed: int,
    *,
    longest: int = 200,
    updates: int = UPDATES,
    clip: Clip = clip_in_place,
    device: torch.device | str = "cpu",
    delays: Sequence[int] = (*DELAYS, 200),
) -> list[dict[str, float]]:
    """The control: one model, every batch with a delay of its own up to `longest`; then tested at each of `delays`.

    The logarithm of the delay is uniform, so that delays of 2, 20 and 200 are about equally likely. Short delays teach the
    network to hold a symbol, and what holds it for ten steps may hold it for two hundred: a curriculum in disguise, which
    is why the reference window does without one. Returns runs as `learn_delay` does.
    """
    device = torch.device(device)
    torch.manual_seed(seed)
    model = make_model(VOCAB_SIZE, NUM_ANSWERS).to(device)

    def batch_at(update: int) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + update)
        delay = round(longest ** torch.rand((), generator=generator).item())
        return tuple(part.to(device) for part in recall(delay, BATCH_SIZE, generator))

    history = fit(model, batch_at, _loss, updates, clip=clip, label=f"mixed delays up to {longest}, seed {seed}")
    with torch.no_grad():
        figures = {delay: _test(delay, seed, device)(model) for delay in delays}
    return [
        {"delay": delay, "seed": seed, "accuracy": figure, "updates": history.updates}
        for delay, figure in figures.items()
    ]
