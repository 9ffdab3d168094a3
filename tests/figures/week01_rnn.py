from course.window import window_of
from tests.figures.claims import Claim, results
from tests.figures.spelled import spelled
from tests.figures.windows import learned_by_all, learned_by_none, most_updates, of_delay, seeds

LECTURE = "course/week01_rnn/lecture.ipynb"
MASTER = "solutions/week01_rnn/week01_rnn.py"


def _window(found: dict) -> tuple:
    runs = found["window"]["window_runs"]
    return (
        most_updates(runs),
        seeds(runs),
        learned_by_all(runs),
        seeds(runs),
        learned_by_none(runs),
        window_of(runs),
    )


def _failed_in_week_2(found: dict) -> tuple:
    learned = of_delay(results("week02_lstm_gru")["window_seeds"]["seed_runs"]["RNN, default"], 10)
    return spelled(learned.count(False)), spelled(len(learned))


def _caught_in_the_middle(found: dict) -> tuple:
    worst = min(found["window"]["window_runs"], key=lambda run: run["accuracy"])
    return worst["delay"], 100 * worst["accuracy"]


CLAIMS = [
    Claim(
        LECTURE,
        """with 256 units, {} updates and all of the exercises right, such a network comes to {:.2f} bits per character on
        the second volume of *Persuasion*, a novel that it never saw (the mean of {} seeds).""",
        lambda found: (
            found["chars"]["chars_history"]["updates"],
            found["artifacts"]["chars"]["heldout"]["mean"],
            spelled(len(found["artifacts"]["chars"]["heldout"]["per_seed"])),
        ),
    ),
    Claim(
        LECTURE,
        """with up to {:,} updates and {} seeds: a distance of {} is learned by all {}, {} by none. We call {} the
        **reference window** of this network.""",
        _window,
    ),
    Claim(LECTURE, "with other seeds most networks failed at 10 already, {} of {} in week 2.", _failed_in_week_2),
    Claim(
        LECTURE,
        "trained on distances from 1 to 200 mixed, names the symbol at {} every time.",
        lambda found: (learned_by_all(found["window_control"]["control_runs"], least=1.0),),
    ),
    Claim(
        MASTER,
        "{} minutes where it was measured, on two cores that were busy with other work.",
        lambda found: (spelled(found["window"]["wall_seconds"] / 60),),
    ),
    Claim(MASTER, "one run of ours with a delay of {} ended at {:.0f} %.", _caught_in_the_middle),
]
