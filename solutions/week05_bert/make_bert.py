"""Pretrains the BERT that students fine-tune: `course/data/bert.safetensors`, with its word pieces.

    OMP_NUM_THREADS=1 python solutions/week05_bert/make_bert.py RUN [--seconds 1800] [--write]

RUN is a file in which an interrupted run is kept and from which it goes on. Seconds are the processor's. The learning
rate rises, and falls to zero over the last three fifths of the time. `--write` trains no more and writes the model as it is
in RUN; it is also written when the time is over.
"""

import argparse
import json
from pathlib import Path

import torch

from autograder.week import find_root, find_week
from course import data, train
from course.wordpiece import train_vocabulary

SIZES = {
    "vocab_size": 4000,
    "num_positions": 128,
    "d_model": 128,
    "num_heads": 4,
    "num_layers": 3,
    "d_ff": 512,
    "dropout": 0.0,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--seconds", type=float, default=1800)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    names = find_week(find_root(), "week05").namespace()

    texts, unseen = (names["pretraining_texts"](split) for split in ("train", "validation"))
    vocab = train_vocabulary([*texts[0], *texts[1]], SIZES["vocab_size"])
    encode = names["encoder"](vocab)
    learnt, watched = ([names["Corpus"](part, encode) for part in both] for both in (texts, unseen))
    games = names["Games"](watched, batches=3)

    kept = arguments.run.with_suffix(".marks")  # what a history has no place for

    def bits(model: torch.nn.Module) -> float:
        figure = games(model)
        print(f"{figure:.3f} bits", {name: round(value, 3) for name, value in games.marks[-1].items()}, flush=True)
        kept.write_text(json.dumps(games.marks))
        return figure

    torch.manual_seed(0)
    model = names["Bert"](**SIZES)
    history = train.resume(arguments.run, model) if arguments.run.exists() else train.History()
    if history.points:
        games.marks = json.loads(kept.read_text())[: len(history.points)]
    if arguments.write:
        history.points.append((history.updates, history.seconds, history.seen, bits(model.eval())))
    else:
        names["begin_with_frequencies"](model, learnt)
        history = names["pretrain"](
            model,
            names["game_batches"](learnt, 1024, seed=0),
            lambda history: history.seconds / arguments.seconds,
            falling=0.6,
            updates=1_000_000,
            evaluate=bits,
            every=250,
            seconds=arguments.seconds,
            checkpoint=arguments.run,
            label="pretraining",
        )
    if history.stopped != "interrupted":
        points = [
            {"update": update, "seconds": round(seconds, 1), "tokens": seen, "bits": round(figure, 4)} | mark
            for (update, seconds, seen, figure), mark in zip(history.points, games.marks, strict=True)
        ]
        training = {"seconds": round(history.seconds), "updates": history.updates, "points": points}
        data.save_trained(data.BERT, model, SIZES, training)
        data.BERT_VOCAB.write_text("".join(f"{piece}\n" for piece in vocab), "utf-8")


if __name__ == "__main__":
    main()
