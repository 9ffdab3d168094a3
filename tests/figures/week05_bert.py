from tests.figures.claims import Claim

LECTURE = "course/week05_bert/lecture.ipynb"


def _percent(found: dict, kind: str, labels: str = "1000") -> float:
    return 100 * found[kind][labels][0]


CLAIMS = [
    Claim(
        LECTURE,
        """answers in the World Factbook found exactly, {:.0f} % against {:.0f} % from scratch;
        the next sentence of a novel among four, {:.0f} % against {:.0f}; praise or blame, {:.0f} % against {:.0f}.""",
        lambda found: tuple(
            _percent(figures, kind)
            for figures in (
                found["spans"]["spans_found"]["exact match"],
                found["choices"]["choices_found"]["accuracy"],
                found["sentiment"]["sentiment_found"]["accuracy"],
            )
            for kind in ("fine-tuned", "from scratch")
        ),
    ),
]
