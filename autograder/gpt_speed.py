"""How fast and how well a GPT is trained at one configuration: week 6's own loop, and others beside it on the same cores.

    OMP_NUM_THREADS=1 python -m autograder.gpt_speed [--trainers MODULE:FUNCTION ...] [--updates 2000] [--write]

The configuration is nanoGPT's for a CPU, on characters of Austen's novels less *Persuasion*: 4 layers, 4 heads, width 128,
windows of 64, 12 of them in a batch, 2,000 updates with a learning rate of 1e-3 after 100 updates of warm-up, falling along a
cosine to 1e-4, AdamW with betas 0.9 and 0.99 and a weight decay of 0.1, gradients clipped at 1, no dropout.

A trainer is a function (setting, batch_at) -> logits_of. `batch_at(update)` gives the windows (12, 65) int64 of that update and
is called once for each; `logits_of` maps tokens (B, T) to logits (B, T, V), T <= 64. All trainers get the same batches and are
run in turn, so many updates at a time, so that whatever else the machine does hits them alike. Without `--trainers` the
course's loop is run in float32 and in bfloat16, beside `autograder.plain_gpt`, the same model of PyTorch's own parts.

Tokens a second are those of the updates, by the processor's time and by the clock; what is evaluated is not counted. The
held-out loss is that on volume one of *Persuasion*. `--write` puts the figures into week 6's results.json as `training_loop`.
"""

import argparse
import importlib
import json
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from autograder.experiments import machine, read_results, write_results
from autograder.week import Week, find_root, find_week
from course import data, train

LogitsOf = Callable[[Tensor], Tensor]
TURN = 20  # updates


@dataclass(frozen=True)
class Setting:
    """What every trainer trains."""

    vocab_size: int
    updates: int = 2000
    num_layers: int = 4
    num_heads: int = 4
    d_model: int = 128
    context: int = 64
    batch_size: int = 12
    peak: float = 1e-3
    lowest: float = 1e-4
    warmup: int = 100
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.1
    max_norm: float = 1.0
    seed: int = 0


Windows = Callable[[int], Tensor]
Trainer = Callable[[Setting, Windows], LogitsOf]


def reference(setting: Setting, batch_at: Windows, bfloat16: bool = False) -> LogitsOf:
    """The solution of week 6, trained by its `pretrain`."""
    names = find_week(find_root(), "week06").namespace()
    sizes = (setting.vocab_size, setting.context, setting.d_model, setting.num_heads, setting.num_layers)
    model = names["new_gpt"](*sizes, seed=setting.seed)
    settings = {"peak": setting.peak, "warmup": setting.warmup, "weight_decay": setting.weight_decay}
    names["pretrain"](model, lambda update: (batch_at(update),), setting.updates, bfloat16=bfloat16, **settings)
    return lambda tokens: model(tokens)[0]


def reference_bfloat16(setting: Setting, batch_at: Windows) -> LogitsOf:
    """The same with matrix products in bfloat16."""
    return reference(setting, batch_at, bfloat16=True)


class Turns:
    """Lets several trainers run in threads, one at a time; each asks for its batches here, and waits where it is not its turn.

    `seconds[i]` are the i-th trainer's: of the processor, and of the clock, from its first batch to its end.
    """

    def __init__(self, trainers: Sequence[Trainer], setting: Setting, batch_at: Windows):
        self.setting, self.batch_at = setting, batch_at
        self.seconds = [[0.0, 0.0] for _ in trainers]
        self.models: list[LogitsOf | None] = [None] * len(trainers)
        self.failed: list[BaseException] = []
        self._turn, self._changed = 0, threading.Condition()
        self._running = list(range(len(trainers)))
        self._threads = [
            threading.Thread(target=self._run, args=(i, trainer), daemon=True) for i, trainer in enumerate(trainers)
        ]

    def run(self) -> None:
        """Runs all to their end. Raises what a trainer raises."""
        for thread in self._threads:
            thread.start()
        for thread in self._threads:
            thread.join()
        if self.failed:
            raise self.failed[0]

    def _wait(self, i: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._turn == i)

    def _pass(self, i: int, over: bool = False) -> None:
        with self._changed:
            place = self._running.index(i)
            following = self._running[(place + 1) % len(self._running)]
            if over:
                self._running.remove(i)
            self._turn = following
            self._changed.notify_all()

    def _run(self, i: int, trainer: Trainer) -> None:
        began: list[float] = []

        def count() -> None:
            now = time.process_time(), time.perf_counter()
            if began:
                for j in range(2):
                    self.seconds[i][j] += now[j] - began[j]
            began[:] = now

        def batch_at(update: int) -> Tensor:
            if update and update % TURN == 0:
                count()
                self._pass(i)
                self._wait(i)
                began.clear()
            if not began:
                count()
            return self.batch_at(update)

        self._wait(i)
        try:
            self.models[i] = trainer(self.setting, batch_at)
        except BaseException as error:
            self.failed.append(error)
        finally:
            count()
            self._pass(i, over=True)


@torch.no_grad()
def heldout_loss(logits_of: LogitsOf, ids: Tensor, context: int) -> float:
    """Nats a character, over windows that lie side by side and are read each from its beginning: as in training."""
    windows = ids[: (len(ids) - 1) // context * context + 1].unfold(0, context + 1, context)  # (W, T + 1)
    nats = 0.0
    for rows in windows.split(64):
        logits = logits_of(rows[:, :-1]).float().transpose(1, 2)
        nats += float(torch.nn.functional.cross_entropy(logits, rows[:, 1:], reduction="sum"))
    return nats / windows[:, 1:].numel()


def compare(trainers: Sequence[Trainer], updates: int, characters: int | None = None) -> dict[str, Any]:
    """What each trainer came to, by its name. `characters`: how many held-out ones are scored; by default all."""
    novels, persuasion = (data.encode_novels(data.austen()[split]) for split in ("train", "validation"))
    persuasion = persuasion[:characters]
    setting = Setting(len(data.novel_alphabet()), updates)
    batch_at = train.text_batches(novels, setting.batch_size, setting.context, setting.seed)
    turns = Turns(trainers, setting, lambda update: batch_at(update)[0])
    turns.run()
    tokens = updates * setting.batch_size * setting.context
    found = {}
    for trainer, logits_of, (processor, clock) in zip(trainers, turns.models, turns.seconds, strict=True):
        nats = heldout_loss(logits_of, persuasion, setting.context)
        found[f"{trainer.__module__}:{trainer.__name__}"] = {
            "tokens a second of the processor": round(tokens / processor, 1),
            "tokens a second of the clock": round(tokens / clock, 1),
            "processor seconds": round(processor, 2),
            "clock seconds": round(clock, 2),
            "held-out nats a character": round(nats, 4),
            "held-out bits a character": round(nats / math.log(2), 4),
            "held-out bits a character, half a context at least": round(
                train.bits_per_character(logits_of, persuasion, setting.context), 4
            ),
        }
    return found


def trainer_of(path: str) -> Trainer:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def write(week: Week, found: dict[str, Any], updates: int) -> None:
    """Adds the figures to the week's results."""
    results = read_results(week)
    results["training_loop"] = {
        "command": f"python -m autograder.gpt_speed --updates {updates} --trainers {' '.join(found)} --write",
        "machine": machine(),
        "updates": updates,
        "trainers": found,
    }
    write_results(week, results)


DEFAULT = ("autograder.gpt_speed:reference_bfloat16", "autograder.gpt_speed:reference", "autograder.plain_gpt:plain")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trainers", nargs="+", default=DEFAULT, metavar="MODULE:FUNCTION")
    parser.add_argument("--updates", type=int, default=2000)
    parser.add_argument("--write", action="store_true", help="into week 6's results.json")
    arguments = parser.parse_args()
    # By its own name: run as a program this module is `__main__`.
    found = importlib.import_module("autograder.gpt_speed").compare(
        [trainer_of(path) for path in arguments.trainers], arguments.updates
    )
    print(json.dumps(found, indent=1))
    if arguments.write:
        write(find_week(find_root(), "week06"), found, arguments.updates)


if __name__ == "__main__":
    main()
