import math
from collections.abc import Callable
from itertools import pairwise

from tests.figures.claims import Claim, least_and_most, minutes_of_all_cells, percent, results

LECTURE = "course/week06_gpt/lecture.ipynb"
MASTER = "solutions/week06_gpt/week06_gpt.py"
README = "README.md"


def _model(found: dict, name: str) -> dict:
    """A row of the table of large models: parameters, tokens, petaflop/s-days."""
    return next(row for row in found["big_models"]["big_models"] if row["model"] == name)


def _training_of_yours(found: dict) -> tuple[int, int, float]:
    """Parameters, tokens, seconds of one core."""
    yours = _model(found, "yours")
    return yours["parameters"], yours["tokens"], found["chars"]["chars_history"]["seconds"]


def _bits_of_week_2(found: dict) -> tuple[float]:
    """Per character, by the LSTM."""
    return (results("week02_lstm_gru")["artifacts"]["chars"]["seeds"]["0"]["bits per character"],)


def _accuracy(found: dict, *names: str) -> tuple[float, ...]:
    """Percent of the reviews that are right."""
    return percent(*(found["prompting"]["prompting"][name]["accuracy"] for name in names))


def _at_the_median(found: dict, *names: str) -> tuple[float, ...]:
    return percent(*(found["prompting"]["prompting"][name]["at the median"] for name in names))


def _smollm2(found: dict, measure: str) -> tuple[float, ...]:
    """Percent of the reviews that SmolLM2 has right, without an example and with four."""
    return percent(*(found["language_model"]["language_model"][f"{n} examples"][measure] for n in (0, 4)))


def _million_parameters_on_pairs(found: dict) -> float:
    """The model on characters, with the larger table of tokens (which is the output, too)."""
    shape, (characters, *_) = found["prompting"]["its_shape"], found["big_models"]["sizes_of"]["yours"][0]
    more = (shape["vocab_size"] - characters) * shape["d_model"]
    return (_model(found, "yours")["parameters"] + more) / 1e6


def _of_width(width: int) -> Callable[[dict], list[dict]]:
    return lambda found: [point for point in found["scaling"]["scaling"] if point["width"] == width]


def _nats(width: int) -> Callable[[dict], tuple]:
    return lambda found: tuple(point["nats"] for point in _of_width(width)(found))


def _law_at(found: dict, update: int) -> float:
    """What the line says of the longer run when it had made so many updates."""
    law, all_updates = found["scaling"]["law"], found["scaling"]["its_training"]["updates"]
    return law["a"] * (law["longer run"]["flops"] * update / all_updates) ** -law["alpha"]


def _seeds(found: dict) -> list[dict]:
    return list(found["artifacts"]["chars"]["seeds"].values())


def _first_sample_with(found: dict, word: str) -> int:
    return next(sample["update"] for sample in found["chars"]["samples"] if word in sample["text"].split())


def _last_sample_with(found: dict, *words: str) -> int:
    return next(s["update"] for s in found["chars"]["samples"][::-1] if {*words} <= {*s["text"].split()})


def _points(found: dict, name: str) -> list[list[float]]:
    """Updates, seconds, characters and bits of a model of the common curve."""
    return found["curve"]["curve"][name]


def _characters_for(points: list[list[float]], bits: float) -> float:
    """How many characters a model had seen when it reached so many bits, on straight lines between the points."""
    for (*_, fewer, above), (*_, more, below) in pairwise(points):
        if above >= bits >= below:
            return fewer + (above - bits) / (above - below) * (more - fewer)
    raise ValueError(f"never at {bits} bits")


def _characters_a_second(points: list[list[float]]) -> float:
    return points[-1][2] / points[-1][1]


def _milliseconds(width: int) -> Callable[[dict], tuple]:
    """Of a pass forward and backward: float32, bfloat16 fused, bfloat16 plain, and at width 128 compiled."""
    return lambda found: tuple(
        1000 * row["seconds"] for row in found["precision"]["precision"] if row["width"] == width
    )


def _written(found: dict, name: str, last: str) -> str:
    """What the model wrote after the beginning that it was given, up to a sign."""
    text = found["longer_samples"]["longer_samples"][name]["text"].partition("acknowledged, ")[2]
    return text[: text.index(last) + 1]


def _induction_scores(found: dict) -> list[float]:
    samples = found["longer_samples"]["longer_samples"].values()
    return [score for one in samples for layer in one["induction scores by layer and head"] for score in layer]


def _trainer(found: dict, name: str) -> tuple[float, float]:
    """Tokens a second of the processor, nats a character."""
    trainer = found["whole"]["training_loop"]["trainers"][name]
    return trainer["tokens a second of the processor"], trainer["held-out nats a character"]


CLAIMS = [
    # The lecture
    Claim(
        LECTURE,
        "laptop = 6 * {:_} * {:_} / {:.1f}",
        _training_of_yours,
    ),
    Claim(
        LECTURE,
        "week 6's GPT: {:,} parameters, {:,} tokens, {:.1f} s on one core (measured in this course)",
        _training_of_yours,
    ),
    Claim(
        LECTURE,
        '"week 6\'s GPT": {:.2f}e6',
        lambda found: (_model(found, "yours")["parameters"] / 1e6,),
    ),
    Claim(
        LECTURE,
        """([{:_}, 117e6, 1.5e9, 175e9], ["{:.1f} million", "117 million", "1.5 billion", "175 billion"])""",
        lambda found: (_model(found, "yours")["parameters"], _model(found, "yours")["parameters"] / 1e6),
    ),
    Claim(
        LECTURE,
        """([6 * {:_} * {:_} / petaflop_day, 0.96, {:.1f}, 3640], ["{:.1e}", "0.96", "{:.1f}", "3,640"])""",
        lambda found: (
            *_training_of_yours(found)[:2],
            _model(found, "GPT-2 (2019)")["petaflop/s-days"],
            _model(found, "yours")["petaflop/s-days"],
            _model(found, "GPT-2 (2019)")["petaflop/s-days"],
        ),
    ),
    Claim(
        LECTURE,
        """The rule of six operations for each parameter and token gives {:.1f} if one assumes {:.0f} billion tokens
        (week 6 of this course counts the parameters of a model of its size)""",
        lambda found: (
            _model(found, "GPT-2 (2019)")["petaflop/s-days"],
            _model(found, "GPT-2 (2019)")["tokens"] / 1e9,
        ),
    ),
    Claim(
        LECTURE,
        "(GPT-2's {:.1f} is the estimate from above.)",
        lambda found: (_model(found, "GPT-2 (2019)")["petaflop/s-days"],),
    ),
    *(
        Claim(LECTURE, f"{width}: [" + ", ".join(["{:.3f}"] * 8) + "],", _nats(width))  # at eight moments
        for width in (32, 64, 96, 128)
    ),
    Claim(
        LECTURE,
        "32: {:.3f}e10, 64: {:.3f}e10, 96: {:.3f}e11, 128: {:.3f}e11",
        lambda found: (
            *(_of_width(width)(found)[0]["flops"] / 1e10 for width in (32, 64)),
            *(_of_width(width)(found)[0]["flops"] / 1e11 for width in (96, 128)),
        ),
    ),
    Claim(
        LECTURE,
        "[{:.2f} * c**-{:.4f} for c in",
        lambda found: (found["scaling"]["law"]["a"], found["scaling"]["law"]["alpha"]),
    ),
    Claim(
        LECTURE,
        "ax.plot({:.2f}e13, {:.3f}, ",
        lambda found: (found["scaling"]["longer"]["flops"] / 1e13, found["scaling"]["longer"]["nats"]),
    ),
    Claim(
        LECTURE,
        "The line foretold {:.3f} for it, and {:.3f} came out.",
        lambda found: (found["scaling"]["longer"]["predicted"], found["scaling"]["longer"]["nats"]),
    ),
    Claim(
        LECTURE,
        "A GPT of {:.1f} million parameters, trained on novels for half a minute, cannot be prompted.",
        lambda found: (_million_parameters_on_pairs(found),),
    ),
    Claim(
        LECTURE,
        "without an example and with two: {:.1f} % right of",
        lambda found: _accuracy(found, "your GPT, 0 examples"),
    ),
    Claim(
        LECTURE,
        "always saying *good* has {:.1f} %. Fine-tuned on 2,000 labelled sentences it has {:.1f} %.",
        lambda found: _accuracy(found, "majority", "your GPT, fine-tuned on 2000"),
    ),
    Claim(
        LECTURE,
        "has {:.0f} % on {} of them without any training",
        lambda found: (_smollm2(found, "accuracy")[0], found["language_model"]["language_model"]["sentences"]),
    ),
    # The table of large models
    Claim(
        MASTER,
        "Week 1's recurrent network reached {:.2f} on *Persuasion*,",
        lambda found: (results("week01_rnn")["artifacts"]["chars"]["heldout"]["mean"],),
    ),
    Claim(
        MASTER,
        "GPT-3: {:,.1f} computed, {:,} published.",
        lambda found: (
            _model(found, "GPT-3 (2020)")["petaflop/s-days"],
            _model(found, "GPT-3 (2020)")["published petaflop/s-days"],
        ),
    ),
    Claim(
        MASTER,
        "T5: the rule gives {:.0f}, twice as much as published,",
        lambda found: (_model(found, "T5 (11 B)")["petaflop/s-days"],),
    ),
    Claim(
        MASTER,
        "half is {:.0f}, and {} with the {:.0f} billion that its table has instead of {:.1f}.",
        lambda found: (
            _model(found, "T5 (11 B)")["petaflop/s-days"] / 2,
            _model(found, "T5 (11 B)")["published petaflop/s-days"],
            _model(found, "T5 (11 B)")["published parameters"] / 1e9,
            _model(found, "T5 (11 B)")["parameters"] / 1e9,
        ),
    ),
    Claim(
        MASTER,
        "GPT: {:.2f} under the assumption, {:.2f} published,",
        lambda found: (
            _model(found, "GPT (2018)")["petaflop/s-days"],
            _model(found, "GPT (2018)")["published petaflop/s-days"],
        ),
    ),
    Claim(
        MASTER,
        "GPT-2: its paper says {:,.0f} million, the released model has {:,.1f} million, as yours has.",
        lambda found: (
            _model(found, "GPT-2 (2019)")["published parameters"] / 1e6,
            _model(found, "GPT-2 (2019)")["parameters"] / 1e6,
        ),
    ),
    # Sixteen bits, and a compiler
    Claim(
        MASTER,
        """at width 128 they took {:.1f} ms in float32,
        {:.1f} in bfloat16 with the fused attention and {:.1f} with the plain one;""",
        lambda found: _milliseconds(128)(found)[:3],
    ),
    Claim(MASTER, "at width 384 {:.0f}, {:.0f} and {:.0f} ms.", _milliseconds(384)),
    Claim(
        MASTER,
        "`torch.compile` took {:.0f} seconds by the clock and then {:.1f} ms for {:.1f}:",
        lambda found: (
            found["precision"]["found"]["compiling"],
            1000 * found["precision"]["found"]["seconds"],
            _milliseconds(128)(found)[0],
        ),
    ),
    # Your GPT, character by character
    Claim(
        MASTER,
        "The LSTM of week 2 had {:.1f} bits after a minute.",
        _bits_of_week_2,
    ),
    Claim(
        MASTER,
        "{:.2f}, {:.2f} and {:.2f} bits per character with three seeds after {:.0f} to {:.0f} seconds of one processor,",
        lambda found: (
            *(run["bits per character"] for run in _seeds(found)),
            *least_and_most([run["points"][-1][1] for run in _seeds(found)]),
        ),
    ),
    Claim(
        MASTER,
        "far from week 2's {:.1f} after a minute.",
        _bits_of_week_2,
    ),
    Claim(
        MASTER,
        "for {} updates hardly gets beyond {:.1f} bits,",
        lambda found: (
            found["chars"]["chars_history"]["points"][1][0],
            found["chars"]["chars_history"]["points"][1][3],
        ),
    ),
    Claim(
        MASTER,
        "At update {} there is a *the*, at {} words such as *she* and *now* among others",
        lambda found: (_first_sample_with(found, "the"), _last_sample_with(found, "she", "now")),
    ),
    Claim(
        MASTER,
        "where each prediction sees half a window or more, it has {:.2f} to {:.2f}.)",
        lambda found: least_and_most([run["heldout"] for run in _seeds(found)]),
    ),
    # Pairs of bytes
    Claim(
        MASTER,
        "a token has {:.2f} characters.",
        lambda found: (found["byte_pairs"]["byte_pairs"]["characters a token"],),
    ),
    Claim(
        MASTER,
        """After {} updates {:.2f} bits per character, in {:.0f} seconds; the model on characters had
        {:.2f} in {:.0f}.""",
        lambda found: (
            found["byte_pairs"]["history"]["updates"],
            found["byte_pairs"]["history"]["points"][-1][3],
            found["byte_pairs"]["history"]["seconds"],
            found["chars"]["chars_history"]["points"][-1][3],
            found["chars"]["chars_history"]["seconds"],
        ),
    ),
    Claim(
        MASTER,
        "At about half a million characters it is {:.2f} against {:.2f}.",
        lambda found: (
            found["byte_pairs"]["byte_pairs"]["points"][1][3],
            found["chars"]["chars_history"]["points"][-1][3],
        ),
    ),
    Claim(
        MASTER,
        "an update reads {:.1f} times as much text.",
        lambda found: (
            found["byte_pairs"]["byte_pairs"]["points"][-1][2] / found["chars"]["chars_history"]["points"][-1][2],
        ),
    ),
    Claim(
        MASTER,
        "the differences between seeds of the first model are {:.2f}.",
        lambda found: (
            max(run["bits per character"] for run in _seeds(found))
            - min(run["bits per character"] for run in _seeds(found)),
        ),
    ),
    # Loss against compute
    Claim(
        MASTER,
        "the smallest model, of {:,} parameters, is the best nearly everywhere:",
        lambda found: (found["scaling"]["frontier"][0]["parameters"],),
    ),
    Claim(
        MASTER,
        "points are its own, and one is of width {}.",
        lambda found: (found["scaling"]["frontier"][-1]["width"],),
    ),
    Claim(MASTER, "So the line (alpha {:.3f}, steeper than", lambda found: (found["scaling"]["law"]["alpha"],)),
    Claim(
        MASTER,
        "it says {:.2f} nats for the longer run, which has ten times the operations of any of these, and {:.2f} came out.",
        lambda found: (found["scaling"]["longer"]["predicted"], found["scaling"]["longer"]["nats"]),
    ),
    Claim(
        MASTER,
        "at a sixth of its operations the same run had {:.2f} nats, where the line says {:.2f}.",
        lambda found: (
            found["scaling"]["its_training"]["points"][0][3] * math.log(2),
            _law_at(found, found["scaling"]["its_training"]["points"][0][0]),
        ),
    ),
    # The common curve
    Claim(
        MASTER,
        "After a minute the LSTM is far ahead, at {:.2f} bits;",
        lambda found: (next(bits for _, at, _, bits in _points(found, "LSTM 256, longer") if at > 60),),
    ),
    Claim(
        MASTER,
        "After four minutes they are at {:.2f} and {:.2f}:",
        lambda found: (_points(found, "LSTM 256, longer")[-1][3], _points(found, "GPT, longer")[-1][3]),
    ),
    Claim(
        MASTER,
        "By the characters they do, between {:.1f} and {:.1f} million:",
        lambda found: (
            max(
                seen
                for _, _, seen, _ in _points(found, "GPT, longer")
                if seen < found["curve"]["crossings"]["characters"]
            )
            / 1e6,
            found["curve"]["crossings"]["characters"] / 1e6,
        ),
    ),
    Claim(
        MASTER,
        "and has at {:.1f} million what the LSTM has at {:.1f}.",
        lambda found: (
            _points(found, "GPT, longer")[-1][2] / 1e6,
            _characters_for(_points(found, "LSTM 256, longer"), _points(found, "GPT, longer")[-1][3]) / 1e6,
        ),
    ),
    Claim(
        MASTER,
        "the LSTM reads {:.1f} times as many a second on this processor.",
        lambda found: (
            _characters_a_second(_points(found, "LSTM 256, longer"))
            / _characters_a_second(_points(found, "GPT, longer")),
        ),
    ),
    # What they write, and whether a head copies
    Claim(
        MASTER,
        "On characters: *{}* On byte pairs: *{}* Both write",
        lambda found: (_written(found, "chars, longer", '"'), _written(found, "byte pairs", ".")),
    ),
    Claim(
        MASTER,
        "all induction scores lie between {:.2f} and {:.2f},",
        lambda found: least_and_most(_induction_scores(found)),
    ),
    # Prompting against fine-tuning
    Claim(
        MASTER,
        "sentences, of which {:.1f} % are praise;",
        lambda found: _accuracy(found, "majority"),
    ),
    Claim(
        MASTER,
        "the GPT says *bad* to everything ({:.1f} %),",
        lambda found: _accuracy(found, "your GPT, 0 examples"),
    ),
    Claim(
        MASTER,
        "it has {:.0f} % without an example and {:.0f} % with two: it cannot use them.",
        lambda found: _at_the_median(found, "your GPT, 0 examples", "your GPT, 2 examples"),
    ),
    Claim(
        MASTER,
        """Fine-tuned on 20 and 200 sentences it comes to {:.1f} and {:.1f} %, no better than saying *good* always,
        on 2,000 to {:.1f} %.""",
        lambda found: _accuracy(found, *(f"your GPT, fine-tuned on {count}" for count in (20, 200, 2000))),
    ),
    Claim(
        MASTER,
        "The same network from nothing has {:.1f} % on these 2,000 ({:.1f} % at the median).",
        lambda found: (
            *_accuracy(found, "from nothing, fine-tuned on 2000"),
            *_at_the_median(found, "from nothing, fine-tuned on 2000"),
        ),
    ),
    # A real small language model
    Claim(
        MASTER,
        """finds {:.0f} % without an example and {:.0f} % with four, {:.0f} and {:.0f} % at the median,
        on {} of the same sentences""",
        lambda found: (
            *_smollm2(found, "accuracy"),
            *_smollm2(found, "at the median"),
            found["language_model"]["language_model"]["sentences"],
        ),
    ),
    Claim(
        MASTER,
        "(a standard error is {:.1f} points): about what yours has",
        lambda found: percent(
            math.sqrt(
                found["language_model"]["language_model"]["0 examples"]["accuracy"]
                * (1 - found["language_model"]["language_model"]["0 examples"]["accuracy"])
                / found["language_model"]["language_model"]["sentences"]
            )
        ),
    ),
    Claim(
        MASTER,
        "its first sentences have a ROUGE-L of {:.2f}, the first three sentences of the page {:.2f}.",
        lambda found: (
            found["language_model"]["language_model"]["ROUGE-L, SmolLM2, prompted"],
            found["language_model"]["language_model"]["ROUGE-L, first three sentences"],
        ),
    ),
    # The page of the repository
    Claim(
        README,
        "those of week 6 took {:.0f} on a machine with other work;",
        minutes_of_all_cells,
    ),
    Claim(
        README,
        "batches of 12, {:,} updates)",
        lambda found: (found["whole"]["training_loop"]["updates"],),
    ),
    Claim(
        README,
        "*Persuasion*: {:,.0f} and {:.3f} with matrix products in bfloat16, {:,.0f} and {:.3f} in float32;",
        lambda found: (
            *_trainer(found, "autograder.gpt_speed:reference_bfloat16"),
            *_trainer(found, "autograder.gpt_speed:reference"),
        ),
    ),
    Claim(
        README,
        "without biases) had {:,.0f} and {:.3f}.",
        lambda found: _trainer(found, "autograder.plain_gpt:plain"),
    ),
]
