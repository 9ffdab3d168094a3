"""The site's page of results: what the experiments of each week measured, drawn from solutions/*/results.json.

Only figures leave solutions/. A week whose experiments have not been measured has no file, and no place on the page.
"""

import io
import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from course import plots
from course.drives import slug

Results = Mapping[str, dict[str, Any]]  # week's folder -> its results.json

INTRODUCTION = """\
# Results

What the course's own solutions reached, at the size `cpu` of every notebook: minutes on two cores. Each week's figures
are made by `python -m autograder.experiments WEEK`, which writes `results.json` with the machine beside it; the plots are
drawn from these files whenever the site is built. Machines differ from week to week, so that seconds of different weeks
cannot be compared to the last digit.
"""


def pages(solutions: Path, cases: Path) -> dict[Path, bytes]:
    """The page and its pictures by their paths. `cases` is course/cases; `solutions` may be missing."""
    results = {path.parent.name: json.loads(path.read_text()) for path in sorted(solutions.glob("week*/results.json"))}
    made: dict[Path, bytes] = {}
    text = [INTRODUCTION]
    for section, weeks in SECTIONS:
        if not set(weeks) <= results.keys():
            continue
        title, alt, words, figure = section(results)
        path = Path("results") / f"{section.__name__}.svg"
        made[path] = _svg(figure)
        text += [f"## {title}", f"![{alt}]({path.as_posix()})", words]
    text += [*_artifacts(results, cases), *_machines(results)]
    return {Path("results.md"): "\n\n".join(text).encode() + b"\n", **made}


def _svg(figure: Figure) -> bytes:
    """The same bytes for the same figure."""
    with mpl.rc_context({"svg.hashsalt": "results"}):
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return file.getvalue()


def _experiment(results: Results, week: str, name: str) -> dict[str, Any]:
    return results[week]["experiments"][name]


def _machines(results: Results) -> Iterable[str]:
    lines = ["| week | processor | cores | threads | PyTorch |", "|:--|:--|--:|--:|:--|"]
    for week, result in results.items():
        machine = result["machine"]
        lines.append(
            f"| {int(week[4:6])} | {machine['processor']} | {machine['cores']} | {machine['threads']} | {machine['torch']} |"
        )
    return ["## Machines", "\n".join(lines)] if results else []


def _artifacts(results: Results, cases: Path) -> Iterable[str]:
    lines = ["| week | model | figure | mean | by seed |", "|--:|:--|:--|--:|:--|"]
    for week, result in results.items():
        for name, artifact in result.get("artifacts", {}).items():
            heldout, released = artifact["heldout"], cases / week / f"{slug(name)}.goal.json"
            if not released.is_file():
                continue
            goal = json.loads(released.read_text())
            figure = f"{goal['figure']}{' (less is better)' if goal['lower_is_better'] else ''}"
            seeds = ", ".join(f"{value:.3f}" for value in heldout["per_seed"])
            lines.append(f"| {int(week[4:6])} | `{name}` | {figure} | {heldout['mean']:.3f} | {seeds} |")
    words = (
        "What students train, save and hand in is scored on data that only the grader has. These are the scores of the "
        "course's own models, from which the thresholds for points are computed."
    )
    return ["## Trained models that are graded", words, "\n".join(lines)] if len(lines) > 2 else []


# -------------------------------------------------------------------------------------------------------- sections

Section = tuple[str, str, str, Figure]  # title, alt text, words under the picture, picture


def common_curve(results: Results) -> Section:
    def first(week: str) -> list:
        return results[week]["artifacts"]["chars"]["seeds"]["0"]["points"]

    longer = _experiment(results, "week06_gpt", "curve")["curve"]
    models = {
        "RNN (week 1)": first("week01_rnn"),
        "LSTM (week 2)": first("week02_lstm_gru"),
        "GPT (week 6)": first("week06_gpt"),
        "LSTM (longer)": longer["LSTM 256, longer"],
        "GPT (longer)": longer["GPT, longer"],
    }
    figure = Figure((9.6, 3.8), layout="constrained")
    plots.common_curve(models, figure.subplots(1, 2, sharey=True))
    ends = "; ".join(f"{name} {points[-1][3]:.2f}" for name, points in models.items())
    return (
        "One novel for all models",
        f"Two panels of bits per character on Persuasion, by seconds trained and by characters seen. At the end: {ends}.",
        "Every language model of the course is scored on the same novel, *Persuasion*, which none of them is trained on, in "
        f"bits per character. At the end of training: {ends}. One seed each.",
        figure,
    )


def reference_window(results: Results) -> Section:
    gated = _experiment(results, "week02_lstm_gru", "window")["window_runs"]
    runs = {
        "RNN (week 1)": _experiment(results, "week01_rnn", "window")["window_runs"],
        "GRU (week 2)": gated["GRU, chrono"],
        "LSTM (week 2)": gated["LSTM, chrono"],
        "attention (week 3)": _experiment(results, "week03_attention", "window")["window_runs"]["attention"],
    }
    figure = Figure((7.2, 4), layout="constrained")
    plots.reference_window_plot(runs, figure.subplots())

    def medians(several: Sequence[Mapping[str, float]]) -> dict[float, float]:
        delays = sorted({run["delay"] for run in several})
        return {d: statistics.median(run["accuracy"] for run in several if run["delay"] == d) for d in delays}

    reached = {
        name: [delay for delay, accuracy in medians(several).items() if accuracy >= 0.9]
        for name, several in runs.items()
    }
    longest = "; ".join(f"{name} {max(delays, default=0)} steps" for name, delays in reached.items())
    return (
        "How far back a network remembers",
        f"Accuracy by delay for four networks. The longest delay at which the median reaches 90 percent: {longest}.",
        "A symbol is shown, noise follows, and the network is asked for the symbol. The longest delay that was tried at which "
        f"the median seed names it in nine cases of ten: {longest}. The gated networks start with chrono initialisation.",
        figure,
    )


def tags(results: Results) -> Section:
    shares = _experiment(results, "week02_lstm_gru", "tags_by_tag")["tag_shares"]
    yours, frequent = (
        {"punctuation" if tag == "." else tag: share for tag, share in shares[whose].items()}
        for whose in ("yours", "most frequent tag")
    )
    names = sorted(yours, key=lambda tag: yours[tag], reverse=True)
    figure = Figure((7.2, 3.6), layout="constrained")
    ax = figure.subplots()
    _bars(ax, names, {"LSTM in both directions": yours, "each word's most frequent tag": frequent})
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    ax.set(ylabel="accuracy", ylim=(0, 1.18))
    mean = results["week02_lstm_gru"]["artifacts"]["tags"]["heldout"]["mean"]
    most = max(names, key=lambda tag: yours[tag] - frequent[tag])
    told = f"{most} gains most, from {frequent[most]:.1%} to {yours[most]:.1%}"
    return (
        "Week 2: parts of speech",
        f"Bars of accuracy by tag, for the LSTM and for each word's most frequent tag. {told}.",
        f"An LSTM that reads in both directions tags {mean:.1%} of the words of held-out documents rightly. Against the tag "
        f"that each word has most often, {told}.",
        figure,
    )


def translation(results: Results) -> Section:
    found = _experiment(results, "week03_attention", "translation")
    figure = Figure((7.2, 3.6), layout="constrained")
    steps = [point[0] for point in found["points"]]
    ax = plots.curves(steps, found["bleus"], figure.subplots(), xlabel="updates", ylabel="BLEU")
    ax.set_ylim(bottom=0)
    ends = "; ".join(
        f"{name} {' and '.join(f'{run[-1]:.1f}' for run in several)}" for name, several in found["bleus"].items()
    )
    return (
        "Week 3: a translator that looks back",
        f"BLEU by updates for two translators. At the end, by seed: {ends}.",
        "The same recurrent translator, once with one vector for the whole sentence and once with attention over all of its "
        f"words. BLEU at the end, by seed: {ends}.",
        figure,
    )


def transformer(results: Results) -> Section:
    contenders = {
        name: _experiment(results, "week04_transformer", f"compared_{key}")[f"compared_{key}"]
        for name, key in (("yours", "yours"), ("torch.nn", "twin"), ("GRU with attention", "gru"))
    }
    figure = Figure((9.6, 3.6), layout="constrained")
    axes = figure.subplots(1, 2)
    shares = [25, 50, 75, 100]
    marks = {name: [[mark["BLEU"] for mark in run["marks"]] for run in runs] for name, runs in contenders.items()}
    plots.curves(
        shares, marks, axes[0], xlabel="percent of the updates", ylabel="BLEU", title="Equal time, three seeds"
    )
    axes[0].legend(frameon=False, fontsize="small", labels=list(marks), handles=axes[0].lines)
    parts = _experiment(results, "week04_transformer", "parts")["parts"]
    names = sorted(parts, key=lambda name: parts[name]["bits per character"], reverse=True)
    values = [parts[name]["bits per character"] for name in names]
    axes[1].barh(names, values, color=plots.COLOURS[0])
    axes[1].bar_label(axes[1].containers[0], fmt="%.2f", padding=3)
    axes[1].set(xlabel="bits per character of French", title="Parts taken out, one seed", xlim=(0, max(values) * 1.15))
    axes[1].spines[["top", "right"]].set_visible(False)
    means = "; ".join(f"{name} {statistics.mean(run['BLEU'] for run in runs):.1f}" for name, runs in contenders.items())
    without = "; ".join(f"{name} {value:.2f}" for name, value in zip(names, values, strict=True))
    best = _experiment(results, "week04_transformer", "trained_scores")["trained_scores"]
    minutes = _experiment(results, "week04_transformer", "trained")["its_training"]["seconds"] / 60
    return (
        "Week 4: a transformer",
        f"Left, BLEU over training; all test sentences at the end: {means}. Right, bits per character: {without}.",
        f"Trained for the same time, two to three minutes, the mean BLEU of three seeds is: {means}. So little training favours "
        f"the recurrent network. The same architecture trained for {minutes:.0f} minutes reaches {best['greedy']['BLEU']:.1f} "
        f"(greedy) and {best['beam 4']['BLEU']:.1f} (a beam of four); notebook 4 looks into that one. "
        f"With parts taken out, bits per character: {without}.",
        figure,
    )


def fine_tuning(results: Results) -> Section:
    week, shown = "week05_bert", {"sentiment": "accuracy", "spans": "F1", "choices": "accuracy"}
    figure, told = Figure((9.6, 3.4), layout="constrained"), []
    for ax, (task, measure) in zip(figure.subplots(1, 3), shown.items(), strict=True):
        cell = _experiment(results, week, task)
        runs, baselines = cell[f"{task}_found"][measure], cell[f"{task}_baselines"]
        counts = sorted(runs["fine-tuned"], key=int)  # JSON has them as texts
        for colour, marker, name in zip(plots.COLOURS, "os", ("fine-tuned", "from scratch"), strict=False):
            mean, low, high = np.array([runs[name][count] for count in counts]).T
            ax.errorbar(counts, mean, [mean - low, high - mean], fmt=f"{marker}-", color=colour, capsize=3, label=name)
        best, values = max(baselines.items(), key=lambda baseline: baseline[1][-1])
        ax.plot(counts, values * (len(counts) // len(values)), ":", color="0.4", label=best)
        ax.set(xlabel="labelled examples", ylabel=measure, title=task)
        ax.grid(alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, fontsize="x-small")
        ours, theirs = (runs[name][counts[-1]][0] for name in ("fine-tuned", "from scratch"))
        told.append(f"{task} {ours:.2f}, {theirs:.2f} from scratch, {values[-1]:.2f} by {best}")
    marks = _experiment(results, week, "corpus")["its_training"]
    return (
        "Week 5: what pretraining is worth",
        f"Three panels of scores by labelled examples, fine-tuned and from scratch. With the most: {'; '.join(told)}.",
        f"A BERT of three layers, pretrained for {marks['seconds'] / 60:.0f} minutes on presidents and Jane Austen, against the "
        f"same network from scratch, with intervals of 95 percent. With the most examples: {'; '.join(told)}. The baselines, "
        "which need no network, are ahead in all three.",
        figure,
    )


def scaling(results: Results) -> Section:
    found = _experiment(results, "week06_gpt", "scaling")
    law, longer = found["law"], found["longer"]
    figure = Figure((7.2, 3.8), layout="constrained")
    ax = figure.subplots()
    widths = sorted({run["width"] for run in found["scaling"]})
    for colour, marker, width in zip(plots.COLOURS, "os^D", widths, strict=False):
        runs = [run for run in found["scaling"] if run["width"] == width]
        x, y = [run["flops"] for run in runs], [run["nats"] for run in runs]
        ax.plot(x, y, color=colour, marker=marker, markersize=4, label=f"width {width}")
    ends = np.geomspace(min(run["flops"] for run in found["frontier"]), longer["flops"], 50)
    ax.plot(ends, law["a"] * ends ** -law["alpha"], color="0.3", linestyle="--", label="law fitted to the frontier")
    ax.plot(longer["flops"], longer["nats"], "*", color=plots.COLOURS[3], markersize=12, label="the longer run")
    ax.set(xscale="log", xlabel="floating-point operations in training", ylabel="nats per character, Persuasion")
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize="small")
    told = f"it foretells {longer['predicted']:.2f} nats for the longer run, which reached {longer['nats']:.2f}"
    return (
        "Week 6: sizes to scale",
        f"Loss by operations for {len(widths)} widths of GPT and a power law with the exponent {law['alpha']:.3f}; {told}.",
        f"GPTs of {len(widths)} widths, each scored as it trains. The law fitted to the best at each cost has the exponent "
        f"{law['alpha']:.3f}; {told}.",
        figure,
    )


def eight_bits(results: Results) -> Section:
    found = _experiment(results, "week07_compression", "eight_bits")["eight_bits"]
    figure = Figure((9.6, 3.2), layout="constrained")
    sizes, scores = figure.subplots(1, 2, sharey=True)
    names = list(found)[::-1]
    for ax, values, label, form in (
        (sizes, [found[name]["bytes"] / 1e6 for name in names], "megabytes", "%.1f"),
        (scores, [found[name]["BLEU"] for name in names], "BLEU", "%.1f"),
    ):
        ax.barh(names, values, color=plots.COLOURS[0])
        ax.bar_label(ax.containers[0], fmt=form, padding=3)
        ax.set(xlabel=label, xlim=(0, max(values) * 1.15))
        ax.spines[["top", "right"]].set_visible(False)
    told = "; ".join(
        f"{name} {one['times smaller']:.1f} times smaller, BLEU {one['BLEU']:.1f}" for name, one in found.items()
    )
    return (
        "Week 7: eight bits",
        f"Bars of size and of BLEU for a translator with its weights rounded in several ways: {told}.",
        f"Week 4's trained translator with its weights rounded, against float32: {told}.",
        figure,
    )


def lengths(results: Results) -> Section:
    found = _experiment(results, "week08_efficient", "scaling")
    figure = Figure((9.6, 3.8), layout="constrained")
    for ax, key, label in zip(figure.subplots(1, 2), ("seconds", "bytes"), ("seconds", "bytes allocated"), strict=True):
        for colour, marker, (name, points) in zip(plots.COLOURS, "os^Dv", found["scaling"].items(), strict=False):
            x, y = [point["length"] for point in points], [point[key] for point in points]
            ax.plot(x, y, color=colour, marker=marker, markersize=4, label=name)
        ax.set(xscale="log", yscale="log", xlabel="tokens", ylabel=label)
        ax.grid(alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(frameon=False, fontsize="small")
    exponents = found["exponents"].items()
    told = "; ".join(f"{name} {each['seconds']:.1f} and {each['bytes']:.1f}" for name, each in exponents)
    return (
        "Week 8: what length costs",
        f"Two panels, time and memory of five kinds of attention by length. Exponents of time and memory: {told}.",
        "One attention of each kind over ever longer sequences, on the processor. From 2,048 tokens on, time and memory grow "
        f"with these powers of the length: {told}.",
        figure,
    )


def hierarchies(results: Results) -> Section:
    runs = _experiment(results, "week08_efficient", "logic")["logic"]
    shares = {
        name: [run["right"] for run in runs if run["kind"] == name] for name in dict.fromkeys(r["kind"] for r in runs)
    }
    figure = Figure((7.2, 3.8), layout="constrained")
    operators = range(1, len(runs[0]["right"]) + 1)
    ax = plots.curves(operators, shares, figure.subplots(), xlabel="operators", ylabel="relations right")
    ax.axvline(6.5, ymax=0.75, color="0.5", linestyle=":")
    ax.axhline(1 / 7, color="0.5", linestyle=":")
    ax.set_ylim(0, 1.02)
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    ax.get_legend().set_loc("upper right")

    def mean(several: Sequence[Sequence[float]], part: slice) -> float:
        return statistics.fmean(share for run in several for share in run[part])

    told = "; ".join(
        f"{name} {mean(several, slice(6)):.1%} and {mean(several, slice(6, None)):.1%}"
        for name, several in shares.items()
    )
    return (
        "Week 8: logic",
        f"Relations that are right by the operators of a formula, for an LSTM and attention. Up to six, and beyond: {told}.",
        "Which of seven relations holds between two formulas, after training on up to six operators (the dotted line; the "
        f"other one is guessing)? Right up to six operators, and from seven to twelve: {told}. Beyond "
        "its training the LSTM falls less, as in Tran et al. (2018).",
        figure,
    )


# Each section and the weeks whose results it tells of.
SECTIONS: tuple[tuple[Callable[[Results], Section], tuple[str, ...]], ...] = (
    (common_curve, ("week01_rnn", "week02_lstm_gru", "week06_gpt")),
    (reference_window, ("week01_rnn", "week02_lstm_gru", "week03_attention")),
    (tags, ("week02_lstm_gru",)),
    (translation, ("week03_attention",)),
    (transformer, ("week04_transformer",)),
    (fine_tuning, ("week05_bert",)),
    (scaling, ("week06_gpt",)),
    (eight_bits, ("week07_compression",)),
    (lengths, ("week08_efficient",)),
    (hierarchies, ("week08_efficient",)),
)


def _bars(ax: Axes, names: Sequence[str], groups: Mapping[str, Mapping[str, float]]) -> None:
    places = np.arange(len(names))
    for i, (colour, (label, values)) in enumerate(zip(plots.COLOURS, groups.items(), strict=False)):
        shift = (i - (len(groups) - 1) / 2) * 0.4
        ax.bar(places + shift, [values[name] for name in names], 0.4, color=colour, label=label)
    ax.set_xticks(places, names, rotation=30, ha="right", rotation_mode="anchor")
    ax.legend(frameon=False, fontsize="small", ncols=2, loc="upper right")
    ax.spines[["top", "right"]].set_visible(False)
