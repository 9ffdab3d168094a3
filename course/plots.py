"""Plots that several notebooks share. Each takes data and, if you like, axes to draw into, and returns the axes.

Colours are those of Okabe and Ito (2008), told apart with every common kind of colour blindness.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator, PercentFormatter, ScalarFormatter
from torch import Tensor

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#F0E442")
LINES = ("-", "--", ":", "-.") * 2  # so that curves that lie on each other can both be seen


def _axes(ax: Axes | None, width: float, height: float) -> Axes:
    return plt.subplots(figsize=(width, height), layout="constrained")[1] if ax is None else ax


def _light(ax: Axes) -> None:
    ax.grid(alpha=0.25, linewidth=0.6)
    ax.spines[["top", "right"]].set_visible(False)


def loss_curve(losses: Sequence[float], ax: Axes | None = None, title: str = "", unit: str = "") -> Axes:
    """Losses by update: each one pale, and a running mean over the last fiftieth of the run, at least ten updates."""
    ax = _axes(ax, 6, 2.8)
    values = np.asarray(losses, dtype=float)
    width = max(10, len(values) // 50)
    ax.plot(np.arange(1, len(values) + 1), values, color=COLOURS[0], alpha=0.25, linewidth=0.8)
    if len(values) >= width:
        mean = np.convolve(values, np.ones(width) / width, mode="valid")
        ax.plot(np.arange(width, len(values) + 1), mean, color=COLOURS[0], label=f"mean of {width} updates")
        ax.legend(frameon=False)
    ax.set(xlabel="updates", ylabel=f"training loss{f' ({unit})' if unit else ''}", title=title)
    _light(ax)
    return ax


def curves(
    x: Sequence[float],
    runs: Mapping[str, Sequence[Sequence[float]]],
    ax: Axes | None = None,
    *,
    xlabel: str,
    ylabel: str,
    title: str = "",
) -> Axes:
    """One curve for each name: the mean over its runs, each as long as x, in a band from the worst run to the best."""
    ax = _axes(ax, 6, 3.6)
    for colour, line, (name, values) in zip(COLOURS, LINES, runs.items(), strict=False):
        table = np.asarray(values, dtype=float)  # (seeds, points)
        count = f" ({len(table)} seeds: mean, and from worst to best)" if len(table) > 1 else ""
        ax.plot(x, table.mean(axis=0), line, color=colour, marker="o", markersize=3.5, label=name + count)
        ax.fill_between(x, table.min(axis=0), table.max(axis=0), color=colour, alpha=0.2, linewidth=0)
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
    ax.legend(frameon=False, fontsize="small")
    _light(ax)
    return ax


def confusion_map(counts: Tensor, labels: Sequence[str], ax: Axes | None = None, title: str = "") -> Axes:
    """Which class is taken for which: counts (C, C), rows the true class, columns the guess. Each row is shown as shares."""
    ax = _axes(ax, 7.6, 6.8)
    shares = counts.double() / counts.sum(dim=1, keepdim=True).clamp(min=1)
    image = ax.imshow(shares.numpy(), cmap="cividis", vmin=0, vmax=1)
    ticks = range(len(labels))
    ax.set_xticks(ticks, labels, rotation=55, ha="right", rotation_mode="anchor")
    ax.set_yticks(ticks, [f"{label} ({int(n)})" for label, n in zip(labels, counts.sum(dim=1), strict=True)])
    for i, j in torch.nonzero(shares >= 0.1).tolist():
        colour = "black" if shares[i, j] > 0.55 else "white"
        ax.text(j, i, f"{100 * shares[i, j]:.0f}", ha="center", va="center", fontsize=7.5, color=colour)
    ax.set(xlabel="the model's guess", ylabel="true class (number of examples)", title=title)
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.8, format=PercentFormatter(1.0))
    bar.set_label("share of the true class (numbers: percent, from 10)")
    return ax


def reference_window_plot(
    runs: Mapping[str, Sequence[Mapping[str, float]]],
    ax: Axes | None = None,
    *,
    chance: float = 1 / 8,
    reached: float = 0.9,
    title: str = "The reference window",
) -> Axes:
    """Accuracy by delay for each network: one dot a seed, a line through their medians.

    runs: name -> runs as `course.window.learn_delay` returns them.
    """
    ax = _axes(ax, 6.4, 3.8)
    every = sorted({run["delay"] for several in runs.values() for run in several})
    styles = zip(COLOURS, ("o", "s", "^", "D", "v", "P", "X", "*"), runs.items(), strict=False)
    for i, (colour, marker, (name, several)) in enumerate(styles):
        delays = sorted({run["delay"] for run in several})
        groups = [[run["accuracy"] for run in several if run["delay"] == delay] for delay in delays]
        shift = 1 + 0.025 * (i - (len(runs) - 1) / 2)  # so that curves at the same height can be told apart
        ax.plot([d * shift for d in delays], [float(np.median(g)) for g in groups], color=colour, linewidth=1.6)
        for delay, group in zip(delays, groups, strict=True):
            label = name if delay == delays[0] else None
            ax.plot([delay * shift] * len(group), group, marker, color=colour, alpha=0.75, linestyle="", label=label)
    ax.axhline(reached, color="0.4", linestyle="--", linewidth=1)
    ax.axhline(chance, color="0.4", linestyle=":", linewidth=1)
    for height, text in ((reached, f"{reached:.0%}: reached"), (chance, "chance")):
        ax.annotate(text, (1, height), (4, 0), ("axes fraction", "data"), "offset points", va="center", fontsize=8)
    ax.set_xscale("log")
    ax.set_xticks(every, _apart(every))
    ax.minorticks_off()
    ax.set(xlabel="delay (steps between the symbol and the query)", ylabel="accuracy", ylim=(-0.04, 1.05), title=title)
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    ax.legend(frameon=False, loc="best", title="dots: seeds; line: median")
    _light(ax)
    return ax


def _apart(ticks: Sequence[float]) -> list[str]:
    """Labels of ascending ticks on a logarithmic axis; none for a tick whose label would run into the one before it."""
    labels, last = [], 0.0
    least = (ticks[-1] / ticks[0]) ** 0.06  # a label takes up about so much of the axis
    for tick in ticks:
        labels.append(f"{tick:g}" if tick >= last * least else "")
        last = tick if labels[-1] else last
    return labels


def common_curve(models: Mapping[str, Sequence[Sequence[float]]], axes: Sequence[Axes] | None = None) -> Sequence[Axes]:
    """The course's common curve, in two panels: bits per character on `Persuasion` by seconds trained and by characters seen.

    models: name -> points (update, seconds, characters seen, bits per character), as `History.points` has them.
    """
    if axes is None:
        axes = plt.subplots(1, 2, figsize=(9.6, 3.6), sharey=True, layout="constrained")[1]
    for ax, column, label in zip(axes, (1, 2), ("seconds trained", "characters seen in training"), strict=True):
        lowest = min(points[-1][3] for points in models.values())
        for colour, (name, points) in zip(COLOURS, models.items(), strict=False):
            x, y = [point[column] for point in points], [point[3] for point in points]
            ax.plot(x, y, color=colour, marker="o", markersize=4, label=name)
            where = (
                -13 if len(models) > 1 and y[-1] == lowest else 6
            )  # below the last point, so that two neighbours can be read
            ax.annotate(f"{y[-1]:.2f}", (x[-1], y[-1]), (0, where), textcoords="offset points", ha="center", fontsize=8)
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set(xlabel=label)
        ax.margins(y=0.08)
        _light(ax)
    axes[0].set(ylabel="bits per character, Persuasion")
    axes[0].yaxis.set_major_formatter(ScalarFormatter(useOffset=False))
    axes[1].legend(frameon=False)
    return axes


def attention_map(
    weights: Tensor, rows: Sequence[object], columns: Sequence[object], ax: Axes | None = None, title: str = ""
) -> Axes:
    """Who looks where: weights (T, S) from 0 (white) to 1. One row a query, one column a key, with their labels."""
    ax = _axes(ax, 1.6 + 0.34 * len(columns), 1.2 + 0.3 * len(rows))
    ax.imshow(weights.detach().cpu().numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    ax.set_xticks(range(len(columns)), [str(label) for label in columns])
    ax.set_yticks(range(len(rows)), [str(label) for label in rows])
    if max((len(str(label)) for label in columns), default=0) > 3:
        ax.tick_params(axis="x", rotation=55)
    ax.set(title=title)
    return ax


STILL = "COURSE_STILL"  # set in the environment where no one can move a slider: on the course's site, and in its tests


def slider(
    draw: Callable[[Axes, Any], None], name: str, values: Sequence, *, start: Any = None, size: tuple[float, float]
) -> None:
    """A picture with a slider: `draw(ax, value)` draws one of the `values`, first `start`, else the first.

    size: width and height of one picture in inches. Where nobody can move a slider (no ipywidgets, or the environment has
    COURSE_STILL), up to four of the values stand side by side instead, the first and the last among them.
    """
    try:
        import ipywidgets
    except ImportError:
        ipywidgets = None
    if ipywidgets is None or os.environ.get(STILL):
        count = min(4, len(values))
        chosen = [values[round(i * (len(values) - 1) / max(1, count - 1))] for i in range(count)]
        columns = 1 if size[0] > 6 else 2
        rows = -(-count // columns)
        figsize = (columns * size[0], rows * size[1])
        axes = plt.subplots(rows, columns, figsize=figsize, layout="constrained", squeeze=False)[1].flatten()
        for ax in axes[count:]:
            ax.remove()
        for ax, value in zip(axes, chosen, strict=False):
            draw(ax, value)
            ax.set_title(f"{name} = {value}")
        plt.show()
        return

    def picture(value: Any) -> None:
        draw(plt.subplots(figsize=size, layout="constrained")[1], value)
        plt.show()

    style = {"description_width": "initial"}
    moved = ipywidgets.SelectionSlider(
        options=list(values), value=values[0] if start is None else start, description=name, style=style
    )
    ipywidgets.interact(picture, value=moved)
