from tests.figures.claims import Claim
from tests.figures.spelled import in_halves, spelled

LECTURE = "course/week04_transformer/lecture.ipynb"
NOTEBOOK = "solutions/week04_transformer/week04_transformer.py"
PAGE = "README.md"


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
            min(_compared(found, "gru", "BLEU")),
            max(_compared(found, "gru", "BLEU")),
            min(_compared(found, "yours", "BLEU")),
            max(_compared(found, "yours", "BLEU")),
        ),
    ),
]
