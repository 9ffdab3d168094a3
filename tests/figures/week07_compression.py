from collections.abc import Iterator

from tests.figures.claims import Claim, least_and_most, percent, results

LECTURE = "course/week07_compression/lecture.ipynb"
MASTER = "solutions/week07_compression/week07_compression.py"

BITS = "bits per character"


def _gpt() -> dict:
    """The GPT on characters that comes with the course: its bytes in float32, its points of seconds and characters."""
    return results("week08_efficient")["curve"]["curve"]["GPT, longer"]


def _eight_bits(found: dict, name: str) -> dict:
    return found["eight_bits"]["eight_bits"][name]


def _translator(found: dict) -> dict:
    return found["translator"]["translator_figures"]


def _pruned(found: dict, name: str) -> dict:
    return found["pruning_controls"]["pruning_controls"][name]


def _low_and_high(pruned: dict, measure: str = "BLEU") -> list[float]:
    """The interval of what was lost."""
    return pruned["lost"][measure][1:]


def _lost(pruned: dict, measure: str = "BLEU") -> Iterator[float]:
    """What was lost, as a loss: mean, least, most."""
    mean, low, high = pruned["lost"][measure]
    return iter((-mean, -high, -low))


def _more_bits(found: dict, bits: float) -> float:
    """Percent more than the whole translator needs."""
    return 100 * (bits / _translator(found)[BITS] - 1)


def _untrained(found: dict, order: str, gone: int) -> float:
    """Percent more bits with so many heads taken out and no training."""
    return _more_bits(found, dict(found["pruning_controls"]["untrained"][order])[gone])


def _novelist(found: dict, curve: str, gone: int) -> float:
    """Bits of the GPT with so many heads taken out, at the end of its training."""
    return dict(found["novelist"]["novelist_curves"][curve])[gone]


def _around(found: dict, factor: float) -> tuple[int, int]:
    """The numbers of heads between which the bits without training grow by the factor."""
    curve = found["novelist"]["novelist_curves"]["no training"]
    more = [gone for gone, bits in curve if bits > factor * curve[0][1]]
    return max(gone for gone, _ in curve if gone < more[0]), more[0]


def _heads_gone(found: dict, gone: int) -> list[float]:
    """Accuracy, difference, its low and high end, of the transformer on reviews."""
    curve = found["warning"]["warning"]["heads gone, accuracy, difference, low, high"]
    return next(figures for count, *figures in curve if count == gone)


def _student(found: dict, name: str) -> dict:
    return found["distillation"]["distillation"][name]


def _asked(found: dict) -> dict:
    """The bag and SmolLM2, on the same few sentences."""
    return found["specialised"]["specialised"]


def _review_reader(found: dict, name: str) -> dict:
    return found["pareto"]["pareto"]["reviews"][name]


def _translating(found: dict, name: str) -> dict:
    return found["pareto"]["pareto"]["translation"][name]


def _neighbours(found: dict) -> list[float]:
    """The CKA of each two layers that follow each other, from the words themselves on."""
    alike = found["why"]["why"]["alike"]["as it was"]
    return [alike[i][i + 1] for i in range(len(alike) - 1)]


def _before_and_after(found: dict) -> list[float]:
    """The CKA of each layer with itself before the heads went; the words themselves are left out."""
    alike = found["why"]["why"]["alike"]["before and after"]
    return [alike[i][i] for i in range(1, len(alike))]


CLAIMS = [
    # The lecture
    Claim(
        LECTURE,
        "The patient is the course's own GPT, {:.1f} million parameters,",
        lambda found: (_gpt()["bytes"] / 4e6,),
    ),
    Claim(LECTURE, "the teacher read {:.1f} million.", lambda found: (_gpt()["points"][-1][2] / 1e6,)),
    Claim(
        LECTURE,
        """a student {:.0f} times smaller than its teacher, week 5's network fine-tuned to tell praise from blame,
        is better than it, {:.1f} % against {:.1f}.""",
        lambda found: (
            _student(found, "times smaller"),
            100 * _student(found, "distilled")["accuracy"],
            100 * _student(found, "teacher")["accuracy"],
        ),
    ),
    Claim(
        LECTURE,
        "the same student on the labels, without a teacher, has {:.1f} %.",
        lambda found: percent(_student(found, "labels")["accuracy"]),
    ),
    Claim(
        LECTURE,
        "of the {} encoder heads of week 4's translator {} can go, {:.0f} %,",
        lambda found: (
            found["pruning_controls"]["gone"][-1],
            found["longer_pruning"]["longer_stages"][-1],
            100 * found["longer_pruning"]["longer_stages"][-1] / found["pruning_controls"]["gone"][-1],
        ),
    ),
    Claim(
        LECTURE,
        "the BLEU is {:.1f} for {:.1f} (difference from {:+.1f} to {:+.1f}).",
        lambda found: (
            found["longer_pruning"]["longer_pruning"]["BLEU"],
            _translator(found)["BLEU"],
            *_low_and_high(found["longer_pruning"]["longer_pruning"]),
        ),
    ),
    Claim(
        LECTURE,
        "The finer measure sees a loss: {:.1f} % more bits per character.",
        lambda found: (_more_bits(found, found["longer_pruning"]["longer_pruning"][BITS]),),
    ),
    Claim(
        LECTURE,
        "And with all {} gone the BLEU is still {:.0f}:",
        lambda found: (found["pruning_controls"]["gone"][-1], _pruned(found, "all taken out")["BLEU"]),
    ),
    # Eight bits
    Claim(
        MASTER,
        "On {} sentences: yours is {:.2f} times smaller, {:.2f} MB for {:.2f},",
        lambda found: (
            _translator(found)["sentences"],
            _eight_bits(found, "int8, yours")["times smaller"],
            _eight_bits(found, "int8, yours")["bytes"] / 1e6,
            _eight_bits(found, "float32")["bytes"] / 1e6,
        ),
    ),
    Claim(
        MASTER,
        "only {:.1f} times smaller than what `float16` gives for nothing.",
        lambda found: (
            _eight_bits(found, "float16, computed in float32")["bytes"] / _eight_bits(found, "int8, yours")["bytes"],
        ),
    ),
    Claim(
        MASTER,
        """It has a BLEU of {:.2f} for {:.2f} (difference from {:+.2f} to {:+.2f}) and {:.4f} bits per character
        for {:.4f} (from {:+.5f} to {:+.4f}):""",
        lambda found: (
            _eight_bits(found, "int8, yours")["BLEU"],
            _eight_bits(found, "float32")["BLEU"],
            *_low_and_high(_eight_bits(found, "int8, yours")),
            _eight_bits(found, "int8, yours")[BITS],
            _eight_bits(found, "float32")[BITS],
            *_low_and_high(_eight_bits(found, "int8, yours"), BITS),
        ),
    ),
    Claim(
        MASTER,
        "With one scale for each matrix the bits rise by {:.4f}, and here the interval ({:.5f} to {:.4f}) just leaves 0 out.",
        lambda found: tuple(_eight_bits(found, "int8, one scale")["lost"][BITS]),
    ),
    Claim(
        MASTER,
        "One thread needed {:.1f} ms for a sentence in float32 and {:.1f} ms in yours:",
        lambda found: (_eight_bits(found, "float32")["ms"], _eight_bits(found, "int8, yours")["ms"]),
    ),
    Claim(
        MASTER,
        "torch.ao, whose product of `int8` is, took {:.1f} ms:",
        lambda found: (_eight_bits(found, "torch.ao")["ms"],),
    ),
    Claim(
        MASTER,
        "It is {:.2f} times smaller, since it leaves the word vectors.",
        lambda found: (_eight_bits(found, "torch.ao")["times smaller"],),
    ),
    Claim(
        MASTER,
        "torchao (0.18) is {:.2f} times smaller and took {:.1f} ms:",
        lambda found: (_eight_bits(found, "torchao")["times smaller"], _eight_bits(found, "torchao")["ms"]),
    ),
    # Heads of the translator
    Claim(
        MASTER,
        """With **24 of 32** heads gone, three quarters, the BLEU is {:.2f} for {:.2f} (difference from {:+.2f} to {:+.2f})
        and the bits {:.4f} for {:.4f} (from {:+.4f} to {:+.4f}):""",
        lambda found: (
            found["fewer_heads"]["fewer_heads"]["24 of 32"]["BLEU"],
            _translator(found)["BLEU"],
            *_low_and_high(found["fewer_heads"]["fewer_heads"]["24 of 32"]),
            found["fewer_heads"]["fewer_heads"]["24 of 32"][BITS],
            _translator(found)[BITS],
            *_low_and_high(found["fewer_heads"]["fewer_heads"]["24 of 32"], BITS),
        ),
    ),
    Claim(
        MASTER,
        "With **26**, four fifths, it is {:.2f} (from {:+.2f} to {:+.2f}): a loss.",
        lambda found: (
            _pruned(found, "four fifths, by importance")["BLEU"],
            *_low_and_high(_pruned(found, "four fifths, by importance")),
        ),
    ),
    Claim(
        MASTER,
        "In int8 that is {:.2f},",
        lambda found: (_pruned(found, "four fifths, by importance, in int8")["BLEU"],),
    ),
    Claim(
        MASTER,
        """With {:,} updates, six minutes of one processor, {} heads of {} are gone at a BLEU of **{:.2f}** for {:.2f}:
        the difference, from {:+.2f} to {:+.2f}, has 0 in its interval,""",
        lambda found: (
            found["longer_pruning"]["longer_pruning"]["points"][-1][0],
            found["longer_pruning"]["longer_stages"][-1],
            found["pruning_controls"]["gone"][-1],
            found["longer_pruning"]["longer_pruning"]["BLEU"],
            _translator(found)["BLEU"],
            *_low_and_high(found["longer_pruning"]["longer_pruning"]),
        ),
    ),
    Claim(
        MASTER,
        "The bits see more than BLEU on {} sentences: {:.4f} for {:.4f}, {:.4f} more ({:.4f} to {:.4f}),",
        lambda found: (
            _translator(found)["sentences"],
            found["longer_pruning"]["longer_pruning"][BITS],
            _translator(found)[BITS],
            *found["longer_pruning"]["longer_pruning"]["lost"][BITS],
        ),
    ),
    Claim(
        MASTER,
        "of which the last head alone took {:.3f}.",
        lambda found: (
            found["longer_pruning"]["longer_pruning"]["points"][-1][3]
            - found["longer_pruning"]["longer_pruning"]["points"][-2][3],
        ),
    ),
    # The controls
    Claim(
        MASTER,
        "with nothing taken out the same updates end at {:.2f}.",
        lambda found: (_pruned(found, "nothing taken out")["BLEU"],),
    ),
    Claim(
        MASTER,
        "by chance 26 heads cost {:.1f} points (from {:+.2f} to {:+.2f}).",
        lambda found: (
            -_pruned(found, "four fifths, by chance")["lost"]["BLEU"][0],
            *_low_and_high(_pruned(found, "four fifths, by chance")),
        ),
    ),
    Claim(
        MASTER,
        "before the decoder looks, the BLEU is still {:.1f}, a loss of {:.1f} ({:.1f} to {:.1f}).",
        lambda found: (_pruned(found, "all taken out")["BLEU"], *_lost(_pruned(found, "all taken out"))),
    ),
    Claim(
        MASTER,
        "The encoder's heads were worth {:.1f} points to begin with;",
        lambda found: (next(_lost(_pruned(found, "all taken out"))),),
    ),
    Claim(
        MASTER,
        """the first 24 by importance cost {:.1f} % of the bits, 26 cost {:.1f} %, and all 32 cost {:.0f} %;
        by chance 8 cost {:.1f} %.""",
        lambda found: (
            *(_untrained(found, "importance", gone) for gone in (24, 26, 32)),
            _untrained(found, "chance", 8),
        ),
    ),
    # A GPT
    Claim(
        MASTER,
        """Without training the bits go from {:.3f} to {:.3f} with 4 of the 16 heads gone and to {:.3f} with 6;
        trained on, they are {:.3f} with 4, {:.3f} with 8, {:.3f} with 12, and {:.3f} with none left,""",
        lambda found: (
            *(_novelist(found, "no training", gone) for gone in (0, 4, 6)),
            *(_novelist(found, "trained on", gone) for gone in (4, 8, 12, 16)),
        ),
    ),
    Claim(
        MASTER,
        "With nothing taken out the same 60 updates end at {:.3f}.",
        lambda found: (_novelist(found, "trained on, nothing taken out", 0),),
    ),
    Claim(
        MASTER,
        "So a twentieth more is reached between {} and {} heads,",
        lambda found: _around(found, 1.05),
    ),
    # Praise or blame, a warning
    Claim(
        MASTER,
        "sentences, {:.1f} % of them praise.",
        lambda found: percent(found["warning"]["warning"]["majority"]),
    ),
    Claim(
        MASTER,
        """Twelve of the 16 heads go without any training for {:.1f} points (from {:.1f} lost to {:.1f} won),
        from {:.1f} % to {:.1f} %.""",
        lambda found: percent(
            *(-_heads_gone(found, 12)[1], -_heads_gone(found, 12)[2], _heads_gone(found, 12)[3]),
            *(_heads_gone(found, 0)[0], _heads_gone(found, 12)[0]),
        ),
    ),
    Claim(
        MASTER,
        """But the bag, with {:.0f} kB for {:.2f} MB and not a single head, has {:.1f} %, **{:.1f} points more** than the
        transformer ({:.1f} to {:.1f}).""",
        lambda found: (
            found["warning"]["warning"]["bag"]["bytes"] / 1e3,
            found["warning"]["warning"]["transformer"]["bytes"] / 1e6,
            100 * found["warning"]["warning"]["bag"]["accuracy"],
            *percent(*found["warning"]["warning"]["bag less transformer"]),
        ),
    ),
    # Distillation
    Claim(
        MASTER,
        """The distilled bag is {:.0f} times smaller than the teacher and has {:.0f} % of its lead over
        *always the same* ({:.0f} to {:.0f}): {:.1f} % for {:.1f} %, with {:.1f} % for always the same.""",
        lambda found: (
            _student(found, "times smaller"),
            *percent(
                *_student(found, "distilled")["share of the teacher's lead"],
                _student(found, "distilled")["accuracy"],
                _student(found, "teacher")["accuracy"],
                found["warning"]["warning"]["majority"],
            ),
        ),
    ),
    Claim(
        MASTER,
        "**same student on the labels** has {:.1f} %, {:.1f} points more ({:.1f} to {:.1f}) and naive Bayes {:.1f} %.",
        lambda found: percent(
            _student(found, "labels")["accuracy"],
            *(-_student(found, "distilled")["less labels"][i] for i in (0, 2, 1)),
            _student(found, "naive Bayes")["accuracy"],
        ),
    ),
    Claim(
        MASTER,
        "its bare decisions, with which the student has {:.1f} %;",
        lambda found: percent(_student(found, "teacher's decisions")["accuracy"]),
    ),
    Claim(
        MASTER,
        "the teacher takes {:.2f} ms for a sentence, the bag {:.2f}, and that is {:.1f} times.",
        lambda found: (
            *(_student(found, "ms")[name] for name in ("teacher", "student")),
            _student(found, "times faster"),
        ),
    ),
    Claim(
        MASTER,
        "the teacher takes {:.2f} ms, as before, and the student {:.3f}: **{:.0f} times** as fast, not {:.1f}.",
        lambda found: (
            found["in_a_row"]["in_a_row"]["teacher"],
            found["in_a_row"]["in_a_row"]["student"],
            found["in_a_row"]["in_a_row"]["teacher"] / found["in_a_row"]["in_a_row"]["student"],
            _student(found, "times faster"),
        ),
    ),
    Claim(
        MASTER,
        "The teacher has {:.1f} MB of weights to read in any case.",
        lambda found: (_student(found, "teacher")["bytes"] / 1e6,),
    ),
    # A small specialised network, and a large general one
    Claim(
        MASTER,
        "The bag has {:,} numbers. Which of the two",
        lambda found: (round(found["warning"]["warning"]["bag"]["bytes"] // 4, -3),),
    ),
    Claim(
        MASTER,
        "{} of the sentences. SmolLM2 finds {:.1f} % as it is, and {:.1f} % with the threshold at the median,",
        lambda found: (
            _asked(found)["sentences"],
            *percent(*(_asked(found)["accuracy"][name] for name in ("SmolLM2", "SmolLM2, threshold at the median"))),
        ),
    ),
    Claim(
        MASTER,
        "the bag on labels has {:.1f} % of the same ones.",
        lambda found: percent(_asked(found)["accuracy"]["labels"]),
    ),
    Claim(
        MASTER,
        """The differences go from {:.1f} points lost to {:.1f} won, and from {:.1f} lost to {:.1f} won:
        {} sentences do not tell the two apart.""",
        lambda found: (
            -100 * _asked(found)["bag less SmolLM2"][1],
            100 * _asked(found)["bag less SmolLM2"][2],
            -100 * _asked(found)["bag less SmolLM2, threshold at the median"][1],
            100 * _asked(found)["bag less SmolLM2, threshold at the median"][2],
            _asked(found)["sentences"],
        ),
    ),
    Claim(
        MASTER,
        """The rest they do: {:.2f} ms for {:.0f}, {:.0f} times as fast, and {:.0f} kB for a file of {:.0f} MB,
        or {:.0f} MB as its state lies in memory""",
        lambda found: (
            _asked(found)["ms"]["bag"],
            _asked(found)["ms"]["SmolLM2"],
            round(_asked(found)["ms"]["SmolLM2"] / _asked(found)["ms"]["bag"], -1),
            found["warning"]["warning"]["bag"]["bytes"] / 1e3,
            _asked(found)["file"] / 1e6,
            _asked(found)["SmolLM2 bytes"] / 1e6,
        ),
    ),
    # What is worth having
    Claim(
        MASTER,
        "with an error that the {} sentences cannot tell from it,",
        lambda found: (_asked(found)["sentences"],),
    ),
    Claim(
        MASTER,
        "makes it {:.1f} times smaller (its word vectors stay)",
        lambda found: (
            _review_reader(found, "BERT, fine-tuned")["bytes"]
            / _review_reader(found, "its linear layers in int8")["bytes"],
        ),
    ),
    Claim(
        MASTER,
        "three quarters of its heads out, without training, cost {:.1f} points.",
        lambda found: percent(
            _review_reader(found, "three quarters of its heads gone")["loss"]
            - _review_reader(found, "BERT, fine-tuned")["loss"]
        ),
    ),
    Claim(
        MASTER,
        "one took {:.3f} ms and the other, called right after it, {:.3f}: caches again.",
        lambda found: tuple(_review_reader(found, name)["ms"] for name in ("bag, distilled", "bag, on labels")),
    ),
    Claim(
        MASTER,
        "Heads save {:.0f} % of the bytes and {:.0f} % of the time for {:.1f} % more bits:",
        lambda found: (
            *(
                100 * (1 - _translating(found, "26 of 32 heads gone")[what] / _translating(found, "float32")[what])
                for what in ("bytes", "ms")
            ),
            _more_bits(found, _translating(found, "26 of 32 heads gone")["loss"]),
        ),
    ),
    Claim(
        MASTER,
        "Pruning alone is on the front for {:.2f} ms.",
        lambda found: (_translating(found, "float32")["ms"] - _translating(found, "26 of 32 heads gone")["ms"],),
    ),
    # Why it works
    Claim(
        MASTER,
        """look at the word before with {:.0f} % of their attention, those that went with {:.0f} %, and they are a
        little less even ({:.2f} for {:.2f}).""",
        lambda found: (
            *percent(*(found["why"]["why"][name]["one before"] for name in ("stayed", "went"))),
            *(found["why"]["why"][name]["evenness"] for name in ("stayed", "went")),
        ),
    ),
    Claim(
        MASTER,
        "their CKA is {:.2f} to {:.2f}, apart from the first ({:.2f}).",
        lambda found: (*least_and_most(_neighbours(found)[1:]), _neighbours(found)[0]),
    ),
    Claim(
        MASTER,
        "From the words themselves to the last layer it is {:.2f}.",
        lambda found: (found["why"]["why"]["alike"]["as it was"][0][-1],),
    ),
    Claim(
        MASTER,
        "With {} heads gone each layer still has {:.2f} to {:.2f} of what it had before.",
        lambda found: (
            found["longer_pruning"]["longer_stages"][-1],
            *least_and_most(_before_and_after(found)),
        ),
    ),
]
