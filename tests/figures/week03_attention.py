from statistics import fmean

from course.window import window_of
from tests.figures.claims import Claim, minutes_of_all_cells, percent, results
from tests.figures.spelled import in_halves, spelled
from tests.figures.windows import delays, learned_by_all, most_updates, of_delay, seeds

LECTURE = "course/week03_attention/lecture.ipynb"
MASTER = "solutions/week03_attention/week03_attention.py"
README = "README.md"


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
    return percent(*found["artifacts"]["pictures"]["heldout"]["per_seed"])


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


def _chrono_updates(found: dict) -> list[int]:
    """Of LSTM and GRU, from the quickest run to the slowest."""
    return sorted(
        run["updates"] for kind in ("LSTM, chrono", "GRU, chrono") for run in found["window"]["window_runs"][kind]
    )


def _learned_updates(found: dict) -> list[int]:
    """Of attention, from the quickest run that learned its delay to the slowest."""
    return sorted(run["updates"] for run in _attention_runs(found) if all(of_delay([run], run["delay"])))


def _named_and_weightless(found: dict) -> tuple:
    """In the run that is stuck: symbols that are named right, symbols in all, symbols without weight."""
    named, weights = found["window_stuck"]["stuck"].values()
    return (
        spelled(sum(share > 0.5 for share in named)),
        spelled(len(named)),
        spelled(sum(weight < 0.05 for weight in weights)),
    )


def _bits(found: dict, kind: str) -> list[float]:
    return [points[-1][3] for points in found["chars"]["chars_points"][kind]]


def _minutes(found: dict, experiment: str) -> float:
    return found[experiment]["wall_seconds"] / 60


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
    Claim(
        MASTER,
        "attention up to 1,000. About {} minutes.",
        lambda found: (spelled(_minutes(found, "window")),),
    ),
    Claim(
        MASTER,
        "The recurrent network learned a delay of {} and neither {} nor {};",
        lambda found: (
            window_of(found["window"]["window_runs"]["RNN"]),
            *(
                delay
                for delay in delays(found["window"]["window_runs"]["RNN"])
                if not any(of_delay(found["window"]["window_runs"]["RNN"], delay))
            ),
        ),
    ),
    Claim(
        MASTER,
        "learned all that they were given, up to {}, in {} updates or fewer but for one run of {:,}.",
        lambda found: (
            min(learned_by_all(found["window"]["window_runs"][kind]) for kind in ("LSTM, chrono", "GRU, chrono")),
            *_chrono_updates(found)[-2:],
        ),
    ),
    Claim(
        MASTER,
        """Attention learned delays up to {:,}, mostly in {} updates or fewer, but {} of its {} seeds got stuck at {}
        ({:.0f} %) and at {:,} ({:.0f} %).""",
        lambda found: (
            window_of(_attention_runs(found)),
            _learned_updates(found)[-2],
            seeds(_stuck(found)),
            seeds(_attention_runs(found)),
            *(figure for run in _stuck(found) for figure in (run["delay"], 100 * run["accuracy"])),
        ),
    ),
    Claim(MASTER, "gives {} of the {} symbols their names and {} of them no weight at all", _named_and_weightless),
    Claim(
        MASTER,
        "Trained on the mixture, all {} seeds were at {:.0f} % at every delay, up to {:,}",
        lambda found: (
            seeds(found["window_mixed"]["mixed_runs"]),
            100 * min(run["accuracy"] for run in found["window_mixed"]["mixed_runs"]),
            max(delays(found["window_mixed"]["mixed_runs"])),
        ),
    ),
    Claim(
        MASTER,
        "{} seeds of each; {} minutes where it was measured, on one core.",
        lambda found: (
            spelled(len(found["translation"]["histories"]["looks back"])).capitalize(),
            in_halves(_minutes(found, "translation")),
        ),
    ),
    Claim(
        MASTER,
        "After {} updates ({:.0f} seconds for the one that looks back, {:.0f} for the other)",
        lambda found: (
            found["translation"]["history"]["updates"],
            fmean(point[1] for point in _last(found, "looks back")),
            fmean(point[1] for point in _last(found, "one vector")),
        ),
    ),
    Claim(
        MASTER,
        """the one that looks back had {:.1f} bits per word and a BLEU of {:.0f} and {:.0f}, the other {:.1f} bits and {:.0f}
        and {:.0f}.""",
        lambda found: tuple(
            figure
            for kind in ("looks back", "one vector")
            for figure in (
                fmean(point[3] for point in _last(found, kind)),
                *sorted(marks[-1] for marks in found["translation"]["bleus"][kind]),
            )
        ),
    ),
    Claim(
        MASTER,
        "BLEU falls from {:.0f} to {:.0f} with attention and from {:.0f} to {:.0f} without.",
        lambda found: tuple(
            _mean_bleu(found, kind, length) for kind in ("looks back", "one vector") for length in (0, -1)
        ),
    ),
    Claim(
        MASTER,
        """{} seeds: {:.0f}, {:.0f} and {:.0f} % right on the grader's scenes; with another scene's picture {:.0f} %""",
        lambda found: (
            spelled(len(_pictures(found))).capitalize(),
            *_pictures(found),
            _another_picture(found),
        ),
    ),
    Claim(
        MASTER,
        """the right one in {:.0f} % of the scenes, by the last layer's weights in {:.0f} %. The word that names the thing
        looks there in {:.0f} % and {:.0f} %.""",
        lambda found: tuple(
            _pointing(found, source, word)
            for word in ("last", "what it asks about")
            for source in ("rollout", "last layer")
        ),
    ),
    Claim(
        MASTER,
        "{} minutes where it was measured, on one core.",
        lambda found: (spelled(_minutes(found, "chars")).capitalize(),),
    ),
    Claim(
        MASTER,
        """The GRU {:.2f} and {:.2f} bits, the GRU that looks back {:.2f} and {:.2f}, attention alone {:.2f} and {:.2f}: after
        {} updates hardly more than letter pairs give ({:.2f}).""",
        lambda found: (
            *(bits for kind in ("GRU", "GRU that looks back", "attention alone") for bits in _bits(found, kind)),
            found["chars"]["chars_points"]["GRU"][0][-1][0],
            found["letter_pairs"]["letter_pairs"]["bits per character"],
        ),
    ),
    Claim(
        README,
        "the experiments of weeks 2 and 3 take {:.0f} minutes each on one core",
        minutes_of_all_cells,
    ),
]
