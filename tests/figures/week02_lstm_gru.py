from statistics import fmean

from tests.figures.claims import Claim, least_and_most, minutes_of_all_cells, percent, results
from tests.figures.spelled import in_halves, spelled
from tests.figures.windows import learned_by_all, most_updates, of_delay, seeds

LECTURE = "course/week02_lstm_gru/lecture.ipynb"
MASTER = "solutions/week02_lstm_gru/week02_lstm_gru.py"
README = "README.md"


def _differences(found: dict) -> list[tuple[float, float]]:
    """GRU minus LSTM and the half width of its interval, in points, for each size of the training set."""
    return [
        (100 * row["mean"], 100 * row["half width of the 95 % interval"])
        for row in found["reviews"]["review_difference"]
    ]


def _intervals_with_0(found: dict) -> str:
    return "Every" if all(abs(mean) < half for mean, half in _differences(found)) else "Not every"


def _review_accuracy(found: dict, kind: str, size: int) -> float:
    """In percent, the mean of the seeds, for one of the sizes."""
    return 100 * fmean(run[size] for run in found["reviews"]["review_figures"][kind])


def _sentiment(found: dict, *kinds: str) -> tuple[float, ...]:
    """In percent, the seeds of each kind after each other."""
    return percent(*(share for kind in kinds for share in found["sentiment"]["sentiment_figures"][kind]["all"]))


def _tags(found: dict, kind: str) -> float:
    return 100 * found["tags_by_tag"]["tag_shares"][kind]["all"]


def _tagger_seconds(found: dict) -> float:
    return fmean(run["points"][-1][1] for run in found["artifacts"]["tags"]["seeds"].values())


def _recurrent_parameters(found: dict) -> float:
    """To the nearest hundred."""
    return round(fmean(kind["parameters"] for kind in found["window_sanity"]["sanity"].values()), -2)


def _window_runs(found: dict) -> list[dict]:
    return [run for runs in found["window"]["window_runs"].values() for run in runs]


def _learned(found: dict, kind: str, delay: int) -> str:
    """How many of the seven seeds."""
    return spelled(sum(of_delay(found["window_seeds"]["seed_runs"][kind], delay)))


def _updates_at(found: dict, delay: int, *kinds: str) -> tuple[int, int]:
    """The fewest and the most."""
    runs = [run for kind in kinds for run in found["window"]["window_runs"][kind] if run["delay"] == delay]
    return least_and_most([run["updates"] for run in runs])


def _plain_network(found: dict) -> tuple:
    last_week = results("week01_rnn")["window"]["window_runs"]
    here = found["window"]["window_runs"]["RNN, default"]
    return learned_by_all(last_week), seeds(last_week), spelled(sum(of_delay(here, 10))), seeds(here)


def _mixed(found: dict) -> list[list[dict]]:
    return list(found["window_mixed"]["mixed_runs"].values())


def _longest_lstm(found: dict) -> tuple:
    _updates, seconds, _characters, bits = results("week06_gpt")["curve"]["curve"]["LSTM 256, longer"][-1]
    return seconds, bits


def _last_week_bits(found: dict) -> float:
    """On volume one of Persuasion, the mean of the seeds."""
    return fmean(run["bits per character"] for run in results("week01_rnn")["artifacts"]["chars"]["seeds"].values())


def _bits(found: dict) -> tuple[float, ...]:
    return tuple(run["bits per character"] for run in found["artifacts"]["chars"]["seeds"].values())


def _halfway(found: dict) -> tuple:
    """Last week's network at the third of its five looks."""
    looks = [run["points"][2] for run in results("week01_rnn")["artifacts"]["chars"]["seeds"].values()]
    return looks[0][0], fmean(look[3] for look in looks)


def _share_of_the_time(found: dict) -> float:
    return found["tags_level"]["level_seconds"]["torch.nn.LSTM"] / found["tags_level"]["level_seconds"]["yours"]


CLAIMS = [
    Claim(
        LECTURE,
        "{} networks with about {:,.0f} recurrent parameters each, {} seeds for each distance, {:,} updates at most.",
        lambda found: (
            spelled(len(found["window"]["windows"])),
            _recurrent_parameters(found),
            seeds(_window_runs(found)),
            most_updates(_window_runs(found)),
        ),
    ),
    Claim(
        LECTURE,
        """measured = {{ "RNN": {}, "LSTM": {}, "GRU": {}, "RNN, orthogonal start": {}, "LSTM, chrono biases": {},
        "GRU, chrono biases": {}, }}""",
        lambda found: tuple(
            found["window"]["windows"][kind]
            for kind in (
                "RNN, default",
                "LSTM, default",
                "GRU, default",
                "RNN, orthogonal",
                "LSTM, chrono",
                "GRU, chrono",
            )
        ),
    ),
    Claim(
        LECTURE,
        "Trained on distances from 1 to {} mixed, all {} networks, the plain one too, named every symbol.",
        lambda found: (min(learned_by_all(runs, least=1.0) for runs in _mixed(found)), spelled(len(_mixed(found)))),
    ),
    Claim(
        LECTURE,
        "The plain network learned {} steps on all {} seeds last week and on {} of {} here",
        _plain_network,
    ),
    Claim(
        LECTURE,
        "{} seeds on film and product reviews say",
        lambda found: (spelled(len(found["reviews"]["review_figures"]["GRU"])),),
    ),
    Claim(
        LECTURE,
        "sentences = ({}, {}, {}, {}, {})",
        lambda found: tuple(row["sentences"] for row in found["reviews"]["review_difference"]),
    ),
    Claim(
        LECTURE,
        "difference, half_width = ({:.1f}, {:.1f}, {:.1f}, {:.1f}, {:.1f}), ({:.1f}, {:.1f}, {:.1f}, {:.1f}, {:.1f})",
        lambda found: tuple(figure for figures in zip(*_differences(found), strict=True) for figure in figures),
    ),
    Claim(LECTURE, "{} interval contains 0.", lambda found: (_intervals_with_0(found),)),
    Claim(
        LECTURE,
        """is right for {:.1f} % of the words of unseen documents; a small LSTM in both directions, {:.0f} seconds of
        training, for {:.1f} % ({:.1f} % on the grader's documents, the mean of {} seeds).""",
        lambda found: (
            _tags(found, "most frequent tag"),
            _tagger_seconds(found),
            _tags(found, "yours"),
            100 * found["artifacts"]["tags"]["heldout"]["mean"],
            spelled(len(found["artifacts"]["tags"]["seeds"])),
        ),
    ),
    Claim(
        LECTURE,
        """always *praise* {:.0f} %, the mean of the words' vectors without any network {:.0f} and {:.0f} %, an LSTM that
        answers from its last output {:.0f} and {:.0f} %, from the mean of its outputs {:.0f} and {:.0f} %.""",
        lambda found: _sentiment(found, "always praise", "the mean of the words, no layer", "LSTM, last", "LSTM, mean"),
    ),
    Claim(
        LECTURE,
        """trained on the five novels for {:.0f} seconds of a processor: {:.2f} bits per character at the beginning of
        *Persuasion*.""",
        _longest_lstm,
    ),
    Claim(
        LECTURE,
        """after {} updates, the LSTM of your assignment has {:.2f} bits per character on the second volume of *Persuasion*
        and last week's network {:.2f}:""",
        lambda found: (
            found["chars"]["chars_history"]["updates"],
            found["artifacts"]["chars"]["heldout"]["mean"],
            results("week01_rnn")["artifacts"]["chars"]["heldout"]["mean"],
        ),
    ),
    Claim(
        MASTER,
        "This time there are {}, all with about {:,.0f} recurrent parameters:",
        lambda found: (spelled(len(found["window"]["windows"])), _recurrent_parameters(found)),
    ),
    Claim(
        MASTER,
        "{} minutes where it was measured, on one core.",
        lambda found: (in_halves(found["window"]["wall_seconds"] / 60).capitalize(),),
    ),
    Claim(
        MASTER,
        "As PyTorch makes them: RNN {} steps ({} seed of {} learned the delay of 10), LSTM {}, GRU {}.",
        lambda found: (
            found["window"]["windows"]["RNN, default"],
            *_plain_network(found)[2:],
            found["window"]["windows"]["LSTM, default"],
            found["window"]["windows"]["GRU, default"],
        ),
    ),
    Claim(
        MASTER,
        "The orthogonal RNN: {}, on {} seeds of {}, and 10 after only {} to {} updates.",
        lambda found: (
            found["window"]["windows"]["RNN, orthogonal"],
            spelled(sum(of_delay(found["window"]["window_runs"]["RNN, orthogonal"], 20))),
            seeds(found["window"]["window_runs"]["RNN, orthogonal"]),
            *_updates_at(found, 10, "RNN, orthogonal"),
        ),
    ),
    Claim(
        MASTER,
        "With chrono initialisation LSTM and GRU both learned {} steps, the longest tried, in {} to {} updates.",
        lambda found: (
            min(found["window"]["windows"][kind] for kind in ("LSTM, chrono", "GRU, chrono")),
            *_updates_at(found, 120, "LSTM, chrono", "GRU, chrono"),
        ),
    ),
    Claim(
        MASTER,
        "The plain network learned the delay of 10 on {} of {} seeds, and that of 20 on {}",
        lambda found: (
            _learned(found, "RNN, default", 10),
            seeds(found["window_seeds"]["seed_runs"]["RNN, default"]),
            _learned(found, "RNN, default", 20),
        ),
    ),
    Claim(MASTER, "Last week's {1} seeds all learned {0}:", _plain_network),
    Claim(
        MASTER,
        "The orthogonal one learned 10 on all {} seeds, and 20 on {}.",
        lambda found: (_learned(found, "RNN, orthogonal", 10), _learned(found, "RNN, orthogonal", 20)),
    ),
    Claim(
        MASTER,
        "All {} networks, on all {} seeds, named every symbol at every delay up to {}, the plain one too.",
        lambda found: (
            spelled(len(_mixed(found))),
            seeds(_mixed(found)[0]),
            min(learned_by_all(runs, least=1.0) for runs in _mixed(found)),
        ),
    ),
    Claim(
        MASTER,
        """The most frequent tag is right for {:.1f} % of the validation words, the tagger for {:.1f} %; on held-out
        documents {} seeds reached {:.1f} to {:.1f} %.""",
        lambda found: (
            _tags(found, "most frequent tag"),
            _tags(found, "yours"),
            spelled(len(found["artifacts"]["tags"]["seeds"])),
            *percent(*least_and_most(found["artifacts"]["tags"]["heldout"]["per_seed"])),
        ),
    ),
    Claim(
        MASTER,
        "the accuracies were the same to the last digit, in {} thirds of the time.",
        lambda found: (spelled(3 * _share_of_the_time(found)),),
    ),
    Claim(MASTER, "Always saying *praise* is right for {:.0f} %.", lambda found: _sentiment(found, "always praise")),
    Claim(
        MASTER,
        """the bag of words got {:.0f} and {:.0f} %, the LSTM {:.0f} and {:.0f} % with its last output, {:.0f} and {:.0f} %
        with the mean, {:.0f} and {:.0f} % with the maximum.""",
        lambda found: _sentiment(found, "the mean of the words, no layer", "LSTM, last", "LSTM, mean", "LSTM, max"),
    ),
    Claim(
        MASTER,
        """with 95 % intervals over {} seeds: {:+.1f} ± {:.1f} with 500 sentences, {:+.1f} ± {:.1f} with 1,000,
        {:+.1f} ± {:.1f} with 2,000, {:+.1f} ± {:.1f} with 5,000, {:+.1f} ± {:.1f} with 10,000.""",
        lambda found: (
            spelled(len(found["reviews"]["review_figures"]["GRU"])),
            *(figure for both in _differences(found) for figure in both),
        ),
    ),
    Claim(MASTER, "{} interval contains 0: no difference was shown", lambda found: (_intervals_with_0(found),)),
    Claim(
        MASTER,
        """from {:.0f} and {:.0f} % with 500 sentences to {:.0f} % with 10,000, where always saying *praise* gets {:.0f} %:
        words are learned from nothing, and {} updates""",
        lambda found: (
            _review_accuracy(found, "GRU", 0),
            _review_accuracy(found, "LSTM", 0),
            fmean(_review_accuracy(found, kind, -1) for kind in ("GRU", "LSTM")),
            *_sentiment(found, "always praise"),
            found["reviews"]["history"]["updates"],
        ),
    ),
    Claim(
        MASTER,
        "Last week's network reached about {:.2f} bits per character in {} updates.",
        lambda found: (_last_week_bits(found), results("week01_rnn")["chars"]["chars_history"]["updates"]),
    ),
    Claim(
        MASTER,
        "{:.2f}, {:.2f} and {:.2f} bits per character with {} seeds.",
        lambda found: (*_bits(found), spelled(len(_bits(found)))),
    ),
    Claim(
        MASTER,
        """After {} updates it was about where last week's network was ({:.1f}), and at the end it is no better than that
        one's {:.2f}:""",
        lambda found: (*_halfway(found), _last_week_bits(found)),
    ),
    Claim(
        README,
        "the experiments of weeks 2 and 3 take {:.0f} minutes each on one core",
        minutes_of_all_cells,
    ),
]
