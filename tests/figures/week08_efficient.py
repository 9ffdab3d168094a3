from statistics import fmean

from tests.figures.claims import Claim, least_and_most, percent

LECTURE = "course/week08_efficient/lecture.ipynb"
MASTER = "solutions/week08_efficient/week08_efficient.py"

FOUR_KINDS = (
    "full",
    "window, global, random",
    "Linformer",
    "Performer",
)  # as the runs call them; the second is BigBird


def _exponents(found: dict, what: str, *kinds: str) -> tuple[float, ...]:
    return tuple(found["scaling"]["exponents"][kind][what] for kind in kinds)


def _of_length(found: dict, kind: str, length: int) -> dict:
    """Seconds and bytes of one kind of attention on so many positions."""
    return next(point for point in found["scaling"]["scaling"][kind] if point["length"] == length)


def _milliseconds(found: dict, length: int, *kinds: str) -> tuple[float, ...]:
    return tuple(1000 * _of_length(found, kind, length)["seconds"] for kind in kinds)


def _short(figure: float) -> str:
    """2.4e-7, without the zero that Python writes into the exponent."""
    return f"{figure:.1e}".replace("e-0", "e-")


def _seconds_by_length(found: dict) -> list[float]:
    """Of each training of the cell, all kinds and all sets of BigBird's parts."""
    cell = found["retrieval_by_length"]
    return [run["seconds"] for run in (*cell["retrieved"].values(), *cell["by_part"])]


def _lengths_all_found(found: dict, *kinds: str) -> list[int]:
    """The lengths at which every one of these kinds finds every fact."""
    cell = found["retrieval_by_length"]
    shares = zip(*(cell["retrieved"][kind]["by length"] for kind in kinds), strict=True)
    return [length for length, those in zip(cell["lengths"], shares, strict=True) if min(those) == 1]


def _by_part(found: dict, kind: str) -> tuple[float, float]:
    """What the reader found with these parts, and what the pattern reaches, guesses included."""
    cell = found["retrieval_by_length"]
    return next(
        (run["found"], bound) for run, bound in zip(cell["by_part"], cell["bound"], strict=True) if run["kind"] == kind
    )


def _known_messages(found: dict) -> list[float]:
    """Shares of the messages of training that were right, by the four kinds on the long texts."""
    runs = found["party"]["party_runs"]
    return [run["train"] for run in runs if run["kind"] in FOUR_KINDS and run["words"] > 128]


def _party(found: dict, *names: str) -> tuple[float, ...]:
    return percent(*(found["party"]["party"][name] for name in names))


def _runs(cell: list[dict], kind: str) -> list[dict]:
    return [run for run in cell if run["kind"] == kind]


def _updates(found: dict, kind: str) -> tuple[int, int]:
    """The fewest and the most of any seed."""
    return least_and_most([run["updates"] for run in _runs(found["logic"]["logic"], kind)])


def _logic(found: dict, lengths: range, *kinds: str) -> tuple[float, ...]:
    """Relations that are right over these lengths, and over seeds; the first length is of one operator."""
    runs = {kind: _runs(found["logic"]["logic"], kind) for kind in kinds}
    return percent(*(fmean(run["right"][i] for run in runs[kind] for i in lengths) for kind in kinds))


def _each_seed_agrees(found: dict) -> bool:
    """Whether every encoder is ahead of every LSTM up to six operators, and behind from seven on."""
    shares = {
        kind: [(fmean(run["right"][:6]), fmean(run["right"][6:])) for run in _runs(found["logic"]["logic"], kind)]
        for kind in ("attention", "LSTM")
    }
    return all(
        known > other_known and new < other_new
        for known, new in shares["attention"]
        for other_known, other_new in shares["LSTM"]
    )


def _lists(found: dict, lengths: str) -> tuple[float, ...]:
    """Lists of such lengths that are right, by the LSTM and by the encoder."""
    cell = found["listops"]["listops"]
    return percent(*(fmean(run["right"][lengths] for run in _runs(cell, kind)) for kind in ("LSTM", "attention")))


def _model(found: dict, name: str, what: str) -> float:
    return found["curve"]["curve"][name][what]


def _megabytes(found: dict, *names: str) -> tuple[float, ...]:
    return tuple(_model(found, name, "bytes") / 1e6 for name in names)


RNN, LSTM, GPT = "RNN, week 1, the course's run", "LSTM, longer", "GPT, longer"
TWICE = "attention, twice as long"
GPT_OF_WEEK_6 = "GPT, week 6, the course's run"

CLAIMS = [
    # The lecture
    Claim(
        LECTURE,
        """Measured in this course, from {:,} to {:,} tokens on one thread: the time grows with the length to the power of
        {:.2f} for full attention and {:.2f} for a fused one, and {:.2f}, {:.2f} and {:.2f} for BigBird, Linformer and
        Performer;""",
        lambda found: (
            found["scaling"]["lengths"][found["scaling"]["fitted"][0]],
            found["scaling"]["lengths"][-1],
            *_exponents(found, "seconds", "full", "fused", "BigBird", "Linformer", "Performer"),
        ),
    ),
    Claim(
        LECTURE,
        "their memory with a power of {:.2f} or less, where full attention has {:.2f}.",
        lambda found: (
            max(_exponents(found, "bytes", "BigBird", "Linformer", "Performer")),
            *_exponents(found, "bytes", "full"),
        ),
    ),
    # Time and memory against length
    Claim(
        MASTER,
        """Exponents of time from {:,} positions on: full {:.2f}, fused {:.2f}, BigBird {:.2f}, Linformer {:.2f},
        Performer {:.2f}.""",
        lambda found: (
            found["scaling"]["lengths"][found["scaling"]["fitted"][0]],
            *_exponents(found, "seconds", "full", "fused", "BigBird", "Linformer", "Performer"),
        ),
    ),
    Claim(
        MASTER,
        "Of memory: {:.2f}, then {:.2f} for the fused one (its fixed share still counts at these lengths),",
        lambda found: _exponents(found, "bytes", "full", "fused"),
    ),
    Claim(
        MASTER,
        "still counts at these lengths), {:.2f}, {:.2f} and {:.2f}.",
        lambda found: _exponents(found, "bytes", "BigBird", "Linformer", "Performer"),
    ),
    Claim(
        MASTER,
        "At 16,384 positions full attention takes {:.2f} s and {:.0f} GB, the fused one {:.2f} s and {:.1f} MB,",
        lambda found: (
            _of_length(found, "full", 16384)["seconds"],
            _of_length(found, "full", 16384)["bytes"] / 1e9,
            _of_length(found, "fused", 16384)["seconds"],
            _of_length(found, "fused", 16384)["bytes"] / 1e6,
        ),
    ),
    Claim(
        MASTER,
        "BigBird {:.0f} ms, Performer {:.0f} and Linformer {:.0f}.",
        lambda found: _milliseconds(found, 16384, "BigBird", "Performer", "Linformer"),
    ),
    Claim(
        MASTER,
        "At 512 BigBird is the slowest of all, at {:.2f} ms; full attention has {:.2f} and Linformer {:.2f}.",
        lambda found: _milliseconds(found, 512, "BigBird", "full", "Linformer"),
    ),
    Claim(
        MASTER,
        "the kernel's stand-in and PyTorch's attention differ by at most {} here,",
        lambda found: (_short(found["gpu"]["gpu"]["kernel: off by at most"]),),
    ),
    # A fact, planted far back
    Claim(
        MASTER,
        "with two random partners it is all of it at 8 blocks, {:.0f} % at 32 and {:.0f} % at 128;",
        lambda found: percent(*(found["patterns"]["reach"]["window, random"][blocks] for blocks in ("32", "128"))),
    ),
    Claim(
        MASTER,
        "The reader, after {:.0f} seconds of one thread:",
        lambda found: (found["retrieval"]["finder_history"]["seconds"],),
    ),
    Claim(
        MASTER,
        "new facts it finds {:.0f}, {:.0f} and {:.0f} % with three seeds.",
        lambda found: percent(*found["artifacts"]["retrieval"]["heldout"]["per_seed"]),
    ),
    # By length, and by part
    Claim(
        MASTER,
        "One seed, {:.1f} to {:.1f} seconds of one thread each,",
        lambda found: least_and_most(_seconds_by_length(found)),
    ),
    Claim(
        MASTER,
        "Full attention, BigBird and Performer find every fact, among {} tokens and still among {:,}.",
        lambda found: least_and_most(_lengths_all_found(found, "full", "BigBird", "Performer")),
    ),
    Claim(
        MASTER,
        "Linformer finds {:.0f} %, no more than by guessing: its sequences had grown to {} tokens",
        lambda found: (
            100 * found["retrieval_by_length"]["retrieved"]["Linformer"]["found"],
            found["retrieval_by_length"]["retrieved"]["Linformer"]["learnt up to"],
        ),
    ),
    Claim(
        MASTER,
        """with a window alone {:.0f} % ({:.0f} % if everything is guessed), with random blocks beside it {:.0f} %
        ({:.0f} by the pattern),""",
        lambda found: percent(*_by_part(found, "window"), *_by_part(found, "window, random")),
    ),
    Claim(
        MASTER,
        "with a global block {:.0f} %, with all three {:.0f} %.",
        lambda found: percent(_by_part(found, "window, global")[0], _by_part(found, "window, global, random")[0]),
    ),
    # Which party?
    Claim(
        MASTER,
        """Of {} messages by other presidents full attention has {:.0f} % right, BigBird {:.0f} %, Linformer {:.0f} % and
        Performer {:.0f} %,""",
        lambda found: (
            len(found["party"]["nearest"]),
            *_party(found, "full", "BigBird", "Linformer", "Performer"),
        ),
    ),
    Claim(
        MASTER,
        "while they know {:.0f} to {:.0f} % of every third message",
        lambda found: percent(*least_and_most(_known_messages(found))),
    ),
    Claim(
        MASTER,
        """The first 128 words alone have {:.0f} %, no attention {:.0f} %, the year alone {:.0f} %, and whoever always says
        *Republican* {:.0f} %.""",
        lambda found: _party(found, "first 128 words", "no attention", "year only", "the more frequent party"),
    ),
    Claim(
        MASTER,
        "A standard error is {:.0f} points:",  # of one in two
        lambda found: percent((0.25 / len(found["party"]["nearest"])) ** 0.5),
    ),
    # Logic, and what is nested in what
    Claim(
        MASTER,
        "in which the LSTM makes {:,} to {:,} updates and the encoder {:,} to {:,}.",
        lambda found: (*_updates(found, "LSTM"), *_updates(found, "attention")),
    ),
    Claim(
        MASTER,
        """Up to six operators the encoder is ahead, {:.1f} % for {:.1f} (of one operator it knows {}, the LSTM {:.0f} %). From
        seven on it is behind, {:.1f} % for {:.1f}; at twelve {:.0f} for {:.0f}. {} says otherwise.""",
        lambda found: (
            *_logic(found, range(6), "attention", "LSTM"),
            "everything" if _logic(found, range(1), "attention")[0] > 99 else "not everything",
            *_logic(found, range(1), "LSTM"),
            *_logic(found, range(6, 12), "attention", "LSTM"),
            *_logic(found, range(11, 12), "attention", "LSTM"),
            "No seed" if _each_seed_agrees(found) else "Some seed",
        ),
    ),
    Claim(
        MASTER,
        "Twice the time, {} updates than the LSTM had, takes it to {:.1f} % up to six, and to {:.1f} from seven on:",
        lambda found: (
            "more" if _updates(found, TWICE)[0] > _updates(found, "LSTM")[1] else "hardly more",
            *_logic(found, range(6), TWICE),
            *_logic(found, range(6, 12), TWICE),
        ),
    ),
    Claim(
        "course/week06_gpt/lecture.ipynb",
        """an encoder gives {:.1f} % of the relations right and an LSTM {:.1f} %, on more operators {:.1f} and {:.1f} %;
        with twice the time the encoder comes to {:.1f} and {:.1f} %.""",
        lambda found: (
            *_logic(found, range(6), "attention", "LSTM"),
            *_logic(found, range(6, 12), "attention", "LSTM"),
            *_logic(found, range(6), TWICE),
            *_logic(found, range(6, 12), TWICE),
        ),
    ),
    Claim(
        MASTER,
        """Of lists of up to 10 tokens the LSTM has {:.0f} % right and the encoder {:.0f}, of those of 31 to 40 tokens {:.0f} and
        {:.0f} %.""",
        lambda found: (*_lists(found, "4 to 10"), *_lists(found, "31 to 40")),
    ),
    Claim(
        MASTER,
        "here it also made {:.1f} times as many updates",
        lambda found: (
            sum(run["updates"] for run in _runs(found["listops"]["listops"], "LSTM"))
            / sum(run["updates"] for run in _runs(found["listops"]["listops"], "attention")),
        ),
    ),
    # The common curve, complete
    Claim(
        MASTER,
        "{:.2f} bits with {:.1f} MB and {:.2f} ms a character.",
        lambda found: (
            _model(found, LSTM, "bits"),
            *_megabytes(found, LSTM),
            _model(found, LSTM, "ms per character"),
        ),
    ),
    Claim(
        MASTER,
        "The RNN of week 1 is the fastest ({:.2f} ms, {:.2f} bits, {:.1f} MB),",
        lambda found: (
            _model(found, RNN, "ms per character"),
            _model(found, RNN, "bits"),
            *_megabytes(found, RNN),
        ),
    ),
    Claim(
        MASTER,
        "worse than that longer LSTM in everything here: {:.1f} and {:.1f} MB,",
        lambda found: _megabytes(found, GPT_OF_WEEK_6, GPT),
    ),
    *(
        Claim(
            MASTER, "MB, {:.1f} ms with a cache,", lambda found, name=name: (_model(found, name, "ms per character"),)
        )
        for name in (GPT_OF_WEEK_6, GPT)
    ),
    Claim(
        MASTER,
        "and {:.2f} bits after half a minute or {:.2f} after four.",
        lambda found: (_model(found, GPT_OF_WEEK_6, "bits"), _model(found, GPT, "bits")),
    ),
]
