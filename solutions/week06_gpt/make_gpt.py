"""Trains the language models that students look into in week 6: `course/data/novelist_KIND.safetensors`.

    OMP_NUM_THREADS=1 python solutions/week06_gpt/make_gpt.py KIND RUN [--seconds 240] [--write]

KIND is `chars` (a GPT on characters) or `lstm` (an LSTM of 256 units on characters).
RUN is a file in which an interrupted run is kept and from which it goes on. Seconds are the processor's; the learning rate
falls along a cosine over them. (The `chars` that is committed was meant for 480 seconds until its 900th update.) `--write`
trains no more and writes the model as it is in RUN.
"""

import argparse
import functools
import math
import time
from pathlib import Path

import torch

from autograder.week import find_root, find_week
from course import data, train

WATCHED = 40_000  # characters of Persuasion, as in the notebook
GPT_SIZES = {"context": 128, "d_model": 128, "num_heads": 4, "num_layers": 4}
LSTM_SIZES = {"d_embed": 64, "hidden_size": 256}
PEAK, BATCH = {"chars": 3e-3, "lstm": 5e-3}, {"chars": 12, "lstm": 32}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=("chars", "lstm"))
    parser.add_argument("run", type=Path)
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    kind, names = arguments.kind, find_week(find_root(), "week06").namespace()
    sizes = {"vocab_size": len(data.novel_alphabet()), **(LSTM_SIZES if kind == "lstm" else GPT_SIZES)}
    torch.manual_seed(0)
    model = names["CharLSTM" if kind == "lstm" else "new_gpt"](**sizes)
    watched = data.austen()["validation"]["text"][0][:WATCHED]
    tokens = data.novel_alphabet().encode(watched)
    bits = functools.partial(names["bits_of"], tokens=tokens, text=watched, context=GPT_SIZES["context"])
    if arguments.write:
        history = train.resume(arguments.run, model)
        history.points.append((history.updates, history.seconds, history.seen, bits(model.eval())))
    else:
        novels = data.encode_novels(data.austen()["train"])

        def rate(history: train.History) -> float:
            done = min(history.seconds / arguments.seconds, 1.0)
            cosine = 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * done))
            return PEAK[kind] * min((history.updates + 1) / 100, 1.0) * cosine

        def loss(model: torch.nn.Module, tokens: torch.Tensor) -> torch.Tensor:
            if kind == "lstm":
                return names["next_token_loss"](model, tokens)
            with names["mixed_precision"]("cpu"):
                return names["next_token_loss"](model, tokens)

        def optimizer(model: torch.nn.Module) -> torch.optim.Optimizer:
            decay = 0.0 if kind == "lstm" else 0.1
            return torch.optim.AdamW(names["param_groups"](model, decay), betas=(0.9, 0.99), fused=True)

        def evaluate(model: torch.nn.Module) -> float:
            figure = bits(model)
            print(f"{figure:.4f} bits per character", flush=True)
            return figure

        history = train.fit(
            model,
            train.text_batches(novels, BATCH[kind], GPT_SIZES["context"], seed=0),
            loss,
            updates=1_000_000,
            lr=rate,
            optimizer=optimizer,
            evaluate=evaluate,
            every_seconds=arguments.seconds / 12,
            seconds=arguments.seconds,
            clock=time.process_time,
            checkpoint=arguments.run,
            label=kind,
        )
    if history.stopped != "interrupted":
        points = [
            (update, round(seconds, 1), seen, round(figure, 4)) for update, seconds, seen, figure in history.points
        ]
        training = {"seconds": round(history.seconds), "updates": history.updates, "points": points}
        data.save_trained(data.DATA / f"novelist_{kind}.safetensors", model, sizes, training)


if __name__ == "__main__":
    main()
