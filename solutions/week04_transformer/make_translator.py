"""Trains the translator that students look into: `course/data/translator.safetensors`.

    OMP_NUM_THREADS=1 python solutions/week04_transformer/make_translator.py RUN [--seconds 4900] [--write]

RUN is a file in which an interrupted run is kept and from which it goes on. Seconds are the processor's. The learning rate
rises, stays, and falls to zero over the last three fifths of the time, so a run may be given another length until it is over.
(The run that is committed was meant for 6000 seconds until its 8217th update.)
`--write` trains no more and writes the model as it is in RUN; it is also written when the time is over.
"""

import argparse
import time
from pathlib import Path

import torch

from autograder.week import find_root, find_week
from course import data, train

SIZES = {
    "vocab_size": 4000,
    "d_model": 128,
    "num_heads": 8,
    "num_encoder_layers": 4,
    "num_decoder_layers": 3,
    "d_ff": 512,
}
LONGEST, MAX_TOKENS, SMOOTHING, PEAK, WARMUP = 60, 2000, 0.1, 3e-3, 800


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--seconds", type=float, default=4900)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    names = find_week(find_root(), "week04").namespace()

    def rate(history: train.History) -> float:
        left = max(1 - history.seconds / arguments.seconds, 0.0)
        return PEAK * min((history.updates + 1) / WARMUP, 1.0, left / 0.6)

    def loss(model: torch.nn.Module, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return names["label_smoothing_loss"](model(source, target), target[:, 1:], SMOOTHING)

    watched = data.libreoffice()["validation"]
    watched = watched.select(range(0, len(watched), 10))
    sources, targets = data.encode_pairs(watched)
    characters = sum(len(text) for text in watched["fr"])

    def bits_per_character(model: torch.nn.Module) -> float:
        figure = float(train.target_bits(model, sources, targets).sum()) / characters
        print(f"{figure:.4f} bits per character", flush=True)
        return figure

    torch.manual_seed(0)
    model = names["Transformer"](**SIZES)
    if arguments.write:
        history = train.resume(arguments.run, model)
        history.points.append((history.updates, history.seconds, history.seen, bits_per_character(model.eval())))
    else:
        batches = train.pair_batches(*data.encode_pairs(data.libreoffice()["train"], LONGEST), MAX_TOKENS, seed=0)
        history = train.fit(
            model,
            batches,
            loss,
            updates=1_000_000,
            lr=rate,
            betas=(0.9, 0.98),
            evaluate=bits_per_character,
            every_seconds=300,
            seconds=arguments.seconds,
            clock=time.process_time,
            checkpoint=arguments.run,
            label="translator",
        )
    if history.stopped != "interrupted":
        points = [(update, round(seconds), round(figure, 4)) for update, seconds, _, figure in history.points]
        training = {"seconds": round(history.seconds), "updates": history.updates, "points": points}
        data.save_trained(data.TRANSLATOR, model, SIZES, training)


if __name__ == "__main__":
    main()
