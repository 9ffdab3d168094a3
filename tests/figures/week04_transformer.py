from statistics import fmean

from tests.figures.claims import Claim, least_and_most, results
from tests.figures.spelled import in_halves, spelled

LECTURE = "course/week04_transformer/lecture.ipynb"
MASTER = "solutions/week04_transformer/week04_transformer.py"
README = "README.md"


def _course_translator(found: dict) -> dict[str, int]:
    return found["trained"]["its_sizes"]


def _minutes_trained(found: dict) -> float:
    return found["trained"]["its_training"]["seconds"] / 60


def _score(found: dict, search: str, figure: str = "BLEU") -> float:
    return found["trained_scores"]["trained_scores"][search][figure]


def _by_length(found: dict) -> list[float]:
    return [row["BLEU"] for row in found["by_length"]["by_length"]]


def _domain(found: dict, name: str, figure: str = "BLEU") -> float:
    return found["domains"]["domains"][name][figure]


def _compared(found: dict, name: str, figure: str) -> list[float]:
    """Of yours, the twin or the gru, one seed after the other."""
    return [run[figure] for run in found[f"compared_{name}"][f"compared_{name}"]]


def _translated(found: dict, english: str) -> str:
    """By the beam."""
    return next(sample["beam 4"] for sample in found["samples"]["samples"] if sample["English"] == english)


def _fits(found: dict) -> tuple[int, int, int]:
    return tuple(found["throughput"]["fits"][name] for name in ("yours", "torch.nn", "GRU"))


def _ratio(found: dict, name: str) -> list[float]:
    """How many times as many pieces a second ours made, in each round."""
    return found["throughput"]["ratio"][name]


def _row(found: dict, name: str) -> tuple[float, ...]:
    return tuple(figure for kind in ("bits per character", "BLEU", "chrF") for figure in _compared(found, name, kind))


def _difference(found: dict, other: str, figure: str) -> tuple[float, float, float]:
    difference = found["bootstrap"]["bootstrap"][f"yours - {other}, {figure}"]
    return difference["mean"], difference["low"], difference["high"]


def _range(found: dict, figure: str) -> float:
    return max(_compared(found, "yours", figure)) - min(_compared(found, "yours", figure))


def _bits(points: list[list[list[float]]]) -> list[float]:
    """On Persuasion, at the end of each seed's run."""
    return [seed[-1][3] for seed in points]


def _last_week(kind: str) -> list[float]:
    return _bits(results("week03_attention")["chars"]["chars_points"][kind])


ROW = "{:.2f}, {:.2f}, {:.2f} | {:.1f}, {:.1f}, {:.1f} | {:.1f}, {:.1f}, {:.1f} |"


CLAIMS = [
    Claim(
        LECTURE,
        """{} layers to read, {} to write, {} heads, {:,} word pieces, trained for {:.0f} minutes of one processor""",
        lambda found: (
            spelled(_course_translator(found)["num_encoder_layers"]),
            spelled(_course_translator(found)["num_decoder_layers"]),
            spelled(_course_translator(found)["num_heads"]),
            _course_translator(found)["vocab_size"],
            _minutes_trained(found),
        ),
    ),
    Claim(
        LECTURE,
        "BLEU {:.1f} with greedy search and {:.1f} with a beam of four.",
        lambda found: (_score(found, "greedy"), _score(found, "beam 4")),
    ),
    Claim(
        LECTURE,
        "*Returns the interest rate of a loan or an investment.* becomes *{}*",
        lambda found: (_translated(found, "Returns the interest rate of a loan or an investment."),),
    ),
    Claim(
        LECTURE,
        """by_length = {{"1-5": {:.1f}, "6-10": {:.1f}, "11-20": {:.1f}, "21-40": {:.1f}, "41-60": {:.1f},
        "61-100": {:.1f}}}""",
        lambda found: tuple(_by_length(found)),
    ),
    Claim(
        LECTURE,
        """by_domain = {{"LibreOffice": {:.1f}, "GNOME": {:.1f}, "Bible": {:.1f}}}""",
        lambda found: tuple(_domain(found, name) for name in ("LibreOffice", "GNOME", "Bible")),
    ),
    Claim(
        LECTURE,
        "With {} updates, {} minutes, it was not.",
        lambda found: (
            found["translation"]["translation_history"]["updates"],
            in_halves(found["translation"]["translation_history"]["seconds"] / 60),
        ),
    ),
    Claim(
        LECTURE,
        """{} seeds each at equal time: a GRU that looks back has a BLEU of {:.1f} to {:.1f}, the transformer {:.1f} to
        {:.1f}.""",
        lambda found: (
            spelled(len(_compared(found, "gru", "BLEU"))),
            *least_and_most(_compared(found, "gru", "BLEU")),
            *least_and_most(_compared(found, "yours", "BLEU")),
        ),
    ),
    Claim(
        MASTER,
        "In the time of {} updates of ours there was room for {} of torch.nn's and {} of the GRU's.",
        _fits,
    ),
    Claim(
        MASTER,
        "(Ours made {:.2f} times as many pieces a second as torch.nn's, from {:.2f} to {:.2f} in single rounds;",
        lambda found: (
            fmean(_ratio(found, "torch.nn")),
            *least_and_most(_ratio(found, "torch.nn")),
        ),
    ),
    Claim(
        MASTER,
        "and {:.2f} times as many as torch.nn's layers as they come,",
        lambda found: (fmean(_ratio(found, "torch.nn as it comes")),),
    ),
    Claim(MASTER, "| ours | " + ROW, lambda found: _row(found, "yours")),
    Claim(MASTER, "| torch.nn | " + ROW, lambda found: _row(found, "twin")),
    Claim(MASTER, "| GRU | " + ROW, lambda found: _row(found, "gru")),
    Claim(
        MASTER,
        "level: {:+.3f} bits, {:+.3f} to {:+.3f} in 95 % of the draws, and {:+.1f} BLEU, {:+.1f} to {:+.1f};",
        lambda found: (
            *_difference(found, "torch.nn", "bits per character"),
            *_difference(found, "torch.nn", "BLEU"),
        ),
    ),
    Claim(
        MASTER,
        "The GRU is far ahead: {:.1f} BLEU for ours, and {} draw of the bootstrap says otherwise.",
        lambda found: (
            _difference(found, "GRU", "BLEU")[0],
            spelled(1000 * found["bootstrap"]["bootstrap"]["yours - GRU, BLEU"]["above 0"]),
        ),
    ),
    Claim(
        MASTER,
        "In {} minutes a network that reads word after word",
        lambda found: (in_halves(found["translation"]["translation_history"]["seconds"] / 60),),
    ),
    Claim(
        MASTER,
        """all of it {:.2f} and {:.1f}; no positions {:.2f} and {:.1f}; one head {:.2f} and {:.1f}; no warm-up {:.2f} and
        {:.1f}; no smoothing {:.2f} and {:.1f}.""",
        lambda found: tuple(
            found["parts"]["parts"][name][figure]
            for name in ("all of it", "no positions", "one head", "no warm-up", "no smoothing")
            for figure in ("bits per character", "BLEU")
        ),
    ),
    Claim(
        MASTER,
        "{} seeds of the whole differed by {:.2f} bits and {:.1f} BLEU,",
        lambda found: (
            spelled(len(_compared(found, "yours", "BLEU"))).capitalize(),
            _range(found, "bits per character"),
            _range(found, "BLEU"),
        ),
    ),
    Claim(
        MASTER,
        "with more layers and {:.0f} minutes of one processor,",
        lambda found: (_minutes_trained(found),),
    ),
    Claim(
        MASTER,
        "{} layers to read, {} to write, {} wide, {} heads.",
        lambda found: (
            spelled(_course_translator(found)["num_encoder_layers"]),
            spelled(_course_translator(found)["num_decoder_layers"]),
            _course_translator(found)["d_model"],
            spelled(_course_translator(found)["num_heads"]),
        ),
    ),
    Claim(
        MASTER,
        "bits a character and this to {:.2f};",
        lambda found: (found["trained_scores"]["trained_scores"]["bits per character"],),
    ),
    Claim(
        MASTER,
        "On {} sentences it has a BLEU of {:.1f} (chrF {:.1f}), with a beam of four {:.1f} ({:.1f}) for {} times the seconds.",
        lambda found: (
            found["trained_scores"]["trained_scores"]["sentences"],
            *(_score(found, search, figure) for search in ("greedy", "beam 4") for figure in ("BLEU", "chrF")),
            spelled(_score(found, "beam 4", "seconds") / _score(found, "greedy", "seconds")),
        ),
    ),
    Claim(
        MASTER,
        "on words split at spaces says {:.1f} and {:.1f}:",
        lambda found: tuple(_score(found, search, "corpus_bleu of words") for search in ("greedy", "beam 4")),
    ),
    Claim(
        MASTER,
        "BLEU falls with length from {:.0f} to {:.0f}, and to {:.0f} on sentences that are longer",
        lambda found: (_by_length(found)[0], *_by_length(found)[-2:]),
    ),
    Claim(
        MASTER,
        "it also writes only {} words for three of the reference.",
        lambda found: (spelled(3 * found["by_length"]["by_length"][-1]["words"]),),
    ),
    Claim(
        MASTER,
        """GNOME's manual costs {:.2f} bits and has a BLEU of {:.0f}, the Bible {:.2f} bits, no fewer than letter pairs, and
        {:.1f}:""",
        lambda found: tuple(
            _domain(found, name, figure) for name in ("GNOME", "Bible") for figure in ("bits per character", "BLEU")
        ),
    ),
    Claim(
        MASTER,
        """There three layers of `x + attention(x)` came to {:.1f} and {:.1f} bits, hardly better than letter pairs, while a
        GRU of about the same size had {:.1f}.""",
        lambda found: (*sorted(_last_week("attention alone")), fmean(_last_week("GRU"))),
    ),
    Claim(
        MASTER,
        "The Transformer ({:,} weights) {:.2f} and {:.2f} bits, the GRU ({:,}) {:.2f} and {:.2f}, two seeds each",
        lambda found: tuple(
            figure
            for kind in ("Transformer", "GRU")
            for figure in (
                round(found["chars"]["chars_weights"][kind], -3),
                *_bits(found["chars"]["chars_points"][kind]),
            )
        ),
    ),
    Claim(
        MASTER,
        "last week's GRU had {:.2f} under another.",
        lambda found: (fmean(_last_week("GRU")),),
    ),
    Claim(
        MASTER,
        "from the attention of last week ({:.1f} and {:.1f} bits) to the GRU, but not all of it: after {} updates",
        lambda found: (
            *sorted(_last_week("attention alone")),
            found["chars"]["chars_points"]["GRU"][0][-1][0],
        ),
    ),
    Claim(
        README,
        "in {:.0f} minutes of one processor: BLEU {:.1f} (greedy) and {:.1f} (a beam of four) on {} held-out sentences.",
        lambda found: (
            _minutes_trained(found),
            _score(found, "greedy"),
            _score(found, "beam 4"),
            found["trained_scores"]["trained_scores"]["sentences"],
        ),
    ),
]
