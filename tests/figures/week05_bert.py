from statistics import median

from tests.figures.claims import Claim, least_and_most, percent

LECTURE = "course/week05_bert/lecture.ipynb"
MASTER = "solutions/week05_bert/week05_bert.py"
README = "README.md"

LABELS = ("100", "300", "1000")


def _with_labels(found: dict, kind: str) -> list[float]:
    """The means of one kind of training, by the number of labelled examples."""
    return [found[kind][count][0] for count in LABELS]


def _runs(found: dict) -> list[dict]:
    """The networks that were pretrained in five minutes, by seed."""
    return list(found["artifacts"]["pretraining"]["seeds"].values())


def _at(run: dict, update: int) -> float:
    return next(bits for at, _, _, bits in run["points"] if at == update)


def _committed(found: dict) -> dict:
    """The last point of the network that comes with the course."""
    return found["corpus"]["its_training"]["points"][-1]


def _thousands_until_it_plays(found: dict) -> int:
    points = found["corpus"]["its_training"]["points"]
    return round(next(point["update"] for point in points if point["next"] > 0.7), -3)


CLAIMS = [
    Claim(
        LECTURE,
        """answers in the World Factbook found exactly, {:.0f} % against {:.0f} % from scratch;
        the next sentence of a novel among four, {:.0f} % against {:.0f}; praise or blame, {:.0f} % against {:.0f}.""",
        lambda found: percent(
            *(
                figures[kind]["1000"][0]
                for figures in (
                    found["spans"]["spans_found"]["exact match"],
                    found["choices"]["choices_found"]["accuracy"],
                    found["sentiment"]["sentiment_found"]["accuracy"],
                )
                for kind in ("fine-tuned", "from scratch")
            )
        ),
    ),
    # Pretraining
    Claim(
        MASTER,
        "for {:,} updates. Beside it stands the curve",
        lambda found: (found["pretraining"]["pretraining_history"]["updates"],),
    ),
    Claim(
        MASTER,
        """an accuracy of {:.0f} or {:.0f} percent, since every""",
        lambda found: (
            100 * found["corpus"]["knows_frequency"]["accuracy"] // 1,
            100 * found["corpus"]["knows_frequency"]["accuracy"] // 1 + 1,
        ),
    ),
    Claim(
        MASTER,
        """For 2,000 of the {:,} updates next to nothing seems to happen: from {:.2f} bits to {:.2f}, where frequencies
        alone have {:.2f}.""",
        lambda found: (
            found["pretraining"]["pretraining_history"]["updates"],
            _at(_runs(found)[0], 500),
            _at(_runs(found)[0], 2000),
            found["corpus"]["knows_frequency"]["bits"],
        ),
    ),
    Claim(MASTER, "and within a thousand updates it is {:.1f};", lambda found: (_at(_runs(found)[0], 3000),)),
    Claim(
        MASTER,
        "it is 7.9; {:.2f}, {:.2f} and {:.2f} bits at the end, with three seeds, in {:.0f} seconds of one processor.",
        lambda found: (
            *(run["bits a hidden piece"] for run in _runs(found)),
            median(run["seconds"] for run in _runs(found)),
        ),
    ),
    Claim(
        MASTER,
        "{:.0f} to {:.0f} hidden pieces of a hundred are named,",
        lambda found: percent(*least_and_most([run["marks"][-1]["accuracy"] for run in _runs(found)])),
    ),
    Claim(
        MASTER,
        "the right one is among {:.0f} to {:.0f} that are equally likely.",
        lambda found: least_and_most([run["marks"][-1]["perplexity"] for run in _runs(found)]),
    ),
    Claim(
        MASTER,
        "Next sentences: {:.0f} to {:.0f} % right,",
        lambda found: percent(*least_and_most([run["marks"][-1]["next"] for run in _runs(found)])),
    ),
    Claim(
        MASTER,
        "The committed network needs {:,} updates before it plays that game (70 %);",
        lambda found: (_thousands_until_it_plays(found),),
    ),
    Claim(
        MASTER,
        "after {:,}, half an hour, it has {:.2f} bits, {:.0f} % of the pieces and {:.0f} % of the next sentences.",
        lambda found: (
            found["corpus"]["its_training"]["updates"],
            _committed(found)["bits"],
            *percent(_committed(found)["accuracy"], _committed(found)["next"]),
        ),
    ),
    Claim(
        MASTER,
        "On the text that the grade asks for, the three seeds have {:.2f}, {:.2f} and {:.2f}.",
        lambda found: tuple(found["artifacts"]["pretraining"]["heldout"]["per_seed"]),
    ),
    Claim(
        MASTER,
        "*Millions* is the second guess for *ten ... of dollars*; the first, at {:.0f} %,",
        lambda found: percent(
            found["guesses"]["guesses"]["The balance in the Treasury on the 30th of June was ten * of dollars."][0][1]
        ),
    ),
    # What does it know?
    Claim(
        MASTER,
        "From the embeddings {:.1f} % of the tags are right, behind the first layer {:.1f}, then {:.1f} and {:.1f}.",
        lambda found: percent(*found["probe"]["probes"]["the committed one"]),
    ),
    Claim(
        MASTER,
        "Yours: {:.1f}, {:.1f}, {:.1f}, {:.1f}.",
        lambda found: percent(*found["probe"]["probes"]["yours"]),
    ),
    Claim(
        MASTER,
        "The untrained network gives {:.1f} % at the embeddings,",
        lambda found: percent(found["probe"]["probes"]["untrained"][0]),
    ),
    Claim(
        MASTER,
        "a table of each word's most frequent tag has {:.1f} % on the same words,",
        lambda found: percent(found["probe"]["probe_controls"]["table of words"]),
    ),
    Claim(
        MASTER,
        "({:.1f} % would be right if each word were a noun; {:,} words to learn from, {:,} to be tested on.)",
        lambda found: (
            100 * found["probe"]["probe_controls"]["most frequent tag"],
            found["probe"]["probe_controls"]["known words"],
            found["probe"]["probe_controls"]["unseen words"],
        ),
    ),
    # Fine-tuning
    Claim(
        MASTER,
        """With 100, 300 and 1,000 labels fine-tuning has {:.1f}, {:.1f} and {:.1f} % right,
        from scratch {:.1f}, {:.1f} and {:.1f};""",
        lambda found: percent(
            *_with_labels(found["sentiment"]["sentiment_found"]["accuracy"], "fine-tuned"),
            *_with_labels(found["sentiment"]["sentiment_found"]["accuracy"], "from scratch"),
        ),
    ),
    Claim(
        MASTER,
        """the differences are {:+.1f} ({:+.1f} to {:+.1f}), {:+.1f} ({:+.1f} to {:+.1f}) and
        {:+.1f} ({:+.1f} to {:+.1f}) points.""",
        lambda found: percent(
            *(
                figure
                for count in LABELS
                for figure in found["sentiment"]["sentiment_found"]["accuracy"]["difference"][count]
            )
        ),
    ),
    Claim(
        MASTER,
        "Naive Bayes on the same pieces beats both at each size: {:.1f}, {:.1f}, {:.1f}.",
        lambda found: percent(*found["sentiment"]["sentiment_baselines"]["naive Bayes"]),
    ),
    Claim(
        MASTER,
        """F1 with 100, 300 and 1,000 labels: {:.2f}, {:.2f} and {:.2f} fine-tuned,
        {:.2f}, {:.2f} and {:.2f} from scratch.""",
        lambda found: (
            *_with_labels(found["spans"]["spans_found"]["F1"], "fine-tuned"),
            *_with_labels(found["spans"]["spans_found"]["F1"], "from scratch"),
        ),
    ),
    Claim(
        MASTER,
        "Exact matches say more: {:.0f}, {:.0f} and {:.0f} % against {:.0f}, {:.0f} and {:.0f},",
        lambda found: percent(
            *_with_labels(found["spans"]["spans_found"]["exact match"], "fine-tuned"),
            *_with_labels(found["spans"]["spans_found"]["exact match"], "from scratch"),
        ),
    ),
    Claim(
        MASTER,
        "the difference at 1,000 is {:.0f} points ({:.0f} to {:.0f}, countries drawn again).",
        lambda found: percent(*found["spans"]["spans_found"]["exact match"]["difference"]["1000"]),
    ),
    Claim(
        MASTER,
        "But the lexical baseline has {:.2f}, {:.2f} and {:.2f}:",
        lambda found: tuple(found["spans"]["spans_baselines"]["lexical"]),
    ),
    Claim(
        MASTER,
        """With 100, 300 and 1,000 labels {:.1f}, {:.1f} and {:.1f} % are right fine-tuned,
        and {:.1f}, {:.1f} and {:.1f} from scratch, which is chance.""",
        lambda found: percent(
            *_with_labels(found["choices"]["choices_found"]["accuracy"], "fine-tuned"),
            *_with_labels(found["choices"]["choices_found"]["accuracy"], "from scratch"),
        ),
    ),
    Claim(
        MASTER,
        """The differences are {:.1f} ({:.1f} to {:.1f}), {:.1f} ({:.1f} to {:.1f}) and
        {:.1f} points ({:.1f} to {:.1f}),""",
        lambda found: percent(
            *(
                figure
                for count in LABELS
                for figure in found["choices"]["choices_found"]["accuracy"]["difference"][count]
            )
        ),
    ),
    Claim(
        MASTER,
        "rare ones counting more, have {:.1f} % and need no training.",
        lambda found: percent(found["choices"]["choices_baselines"]["shared words"][0]),
    ),
    # Does the next sentence help?
    Claim(
        MASTER,
        "In the same {:.0f} seconds the network without it makes {:,} updates for {:,}",
        lambda found: (
            found["next_sentence"]["without_history"]["seconds"],
            found["next_sentence"]["next_sentence_updates"]["without"],
            found["next_sentence"]["next_sentence_updates"]["with"],
        ),
    ),
    Claim(
        MASTER,
        "gets further with the hidden pieces: {:.2f} bits for {:.2f}, {:.0f} % for {:.0f}.",
        lambda found: (
            found["next_sentence"]["without_history"]["points"][-1][3],
            found["pretraining"]["pretraining_figures"]["bits a hidden piece"],
            *percent(
                found["next_sentence"]["next_sentence_marks"]["without"]["accuracy"],
                found["next_sentence"]["next_sentence_marks"]["with"]["accuracy"],
            ),
        ),
    ),
    Claim(
        MASTER,
        """with less without, sentiment {:+.1f} points ({:+.1f} to {:+.1f}), spans {:+.1f} points of F1
        ({:+.1f} to {:+.1f}), choices {:+.1f} ({:+.1f} to {:+.1f}).""",
        lambda found: percent(
            *(
                figure
                for task in ("sentiment", "spans", "choices")
                for figure in found["next_sentence"]["next_sentence_found"][task]["difference"]
            )
        ),
    ),
    Claim(
        MASTER,
        "After five minutes the game is hardly learnt ({:.0f} %),",
        lambda found: percent(found["next_sentence"]["next_sentence_marks"]["with"]["next"]),
    ),
    # The page of the repository
    Claim(
        README,
        "in {:.0f} minutes of one processor: {:,} updates, three layers of width {}.",
        lambda found: (
            found["corpus"]["its_training"]["seconds"] / 60,
            found["corpus"]["its_training"]["updates"],
            found["corpus"]["sizes"]["d_model"],
        ),
    ),
    Claim(
        README,
        "it names {:.0f} % of the hidden pieces ({:.2f} bits each; word frequencies alone need {:.2f} and name {:.0f} %),",
        lambda found: (
            100 * _committed(found)["accuracy"],
            _committed(found)["bits"],
            found["corpus"]["knows_frequency"]["bits"],
            100 * found["corpus"]["knows_frequency"]["accuracy"],
        ),
    ),
    Claim(
        README,
        "tells {:.0f} % of next sentences from others.",
        lambda found: percent(_committed(found)["next"]),
    ),
]
