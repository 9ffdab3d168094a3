from statistics import fmean

from course.window import window_of
from tests.figures.claims import Claim, results
from tests.figures.spelled import spelled
from tests.figures.windows import learned_by_all, most_updates, of_delay, seeds

LECTURE = "course/week03_attention/lecture.ipynb"
NOTEBOOK = "solutions/week03_attention/week03_attention.py"
PAGE = "README.md"


def _by_length(found: dict, kind: str) -> tuple[float, ...]:
    """BLEU, from the shortest sentences to the longest, one seed after the other."""
    return tuple(bleu for seed in found["translation_by_length"]["by_length"][kind] for bleu in seed)


def _mean_bleu(found: dict, kind: str, length: int) -> float:
    return fmean(seed[length] for seed in found["translation_by_length"]["by_length"][kind])


def _last(found: dict, kind: str) -> list[list[float]]:
    """Of each seed the last point while it trained: updates, seconds, words seen, bits per French word."""
    return [points[-1] for points in found["translation"]["histories"][kind]]


def _pointing(found: dict, source: str, word: str) -> float:
    """In how many percent of the scenes a word looks most at the thing."""
    pointing = found["picture_pointing"]
    return 100 * pointing["pointing"][source][pointing["order"].index(word)]


def _pictures(found: dict) -> tuple[float, ...]:
    return tuple(100 * share for share in found["artifacts"]["pictures"]["heldout"]["per_seed"])


def _another_picture(found: dict) -> float:
    return 100 * found["pictures"]["blind_history"]["points"][-1][3]


def _attention_runs(found: dict) -> list[dict]:
    return found["window"]["window_runs"]["attention"]


def _stuck(found: dict) -> list[dict]:
    """The runs of attention that learned less than they should, by delay."""
    return [run for run in _attention_runs(found) if not all(of_delay([run], run["delay"]))]


def _without_chrono(found: dict) -> tuple[int, int]:
    windows = results("week02_lstm_gru")["window"]["windows"]
    return windows["LSTM, default"], windows["GRU, default"]


CLAIMS = [
    Claim(
        LECTURE,
        "one_vector = torch.tensor([[{:.1f}, {:.1f}, {:.1f}, {:.1f}], [{:.1f}, {:.1f}, {:.1f}, {:.1f}]])",
        lambda found: _by_length(found, "one vector"),
    ),
    Claim(
        LECTURE,
        "looks_back = torch.tensor([[{:.1f}, {:.1f}, {:.1f}, {:.1f}], [{:.1f}, {:.1f}, {:.1f}, {:.1f}]])",
        lambda found: _by_length(found, "looks back"),
    ),
    Claim(
        LECTURE,
        """had the same {} updates. Looking back is better at every length: {:.0f} against {:.0f} on the shortest
        sentences, {:.1f} against {:.1f} on the longest, in the mean of the {} seeds.""",
        lambda found: (
            found["translation"]["history"]["updates"],
            _mean_bleu(found, "looks back", 0),
            _mean_bleu(found, "one vector", 0),
            _mean_bleu(found, "looks back", -1),
            _mean_bleu(found, "one vector", -1),
            spelled(len(found["translation_by_length"]["by_length"]["looks back"])),
        ),
    ),
    Claim(
        LECTURE,
        "{:.0f}, {:.0f} and {:.0f} % right ({} seeds), and {:.0f} % with another scene's picture.",
        lambda found: (*_pictures(found), spelled(len(_pictures(found))), _another_picture(found)),
    ),
    Claim(
        LECTURE,
        """in {:.0f} % of the scenes by the weights of the last layer, and in {:.0f} % when attention is followed back
        through both layers.""",
        lambda found: (_pointing(found, "last layer", "last"), _pointing(found, "rollout", "last")),
    ),
    Claim(
        LECTURE,
        """the longest distance that most of {} seeds learned, with up to {:,} updates. LSTM and GRU had biases set for the
        distance (last week: without, {} and {}).""",
        lambda found: (
            seeds(_attention_runs(found)),
            most_updates(_attention_runs(found)),
            *_without_chrono(found),
        ),
    ),
    Claim(
        LECTURE,
        """measured = {{"RNN": {}, "LSTM, chrono biases": {}, "GRU, chrono biases": {}, "attention": {}}}""",
        lambda found: tuple(
            window_of(found["window"]["window_runs"][kind])
            for kind in ("RNN", "LSTM, chrono", "GRU, chrono", "attention")
        ),
    ),
    Claim(
        LECTURE,
        "Trained on mixed distances up to 200, all {} seeds of the attention found the symbol at {:,}:",
        lambda found: (
            seeds(found["window_mixed"]["mixed_runs"]),
            learned_by_all(found["window_mixed"]["mixed_runs"], least=1.0),
        ),
    ),
    Claim(
        LECTURE,
        "({} of the {} seeds got stuck at {} and at {:,}, so even finding is not certain.)",
        lambda found: (
            seeds(_stuck(found)).capitalize(),
            seeds(_attention_runs(found)),
            *(run["delay"] for run in _stuck(found)),
        ),
    ),
]
