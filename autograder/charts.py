"""The report's pictures: matplotlib figures as SVG that sits inside a page.

Text stays text, ids are the same in every run, and colours are the page's CSS variables, so that a picture follows the
light or dark scheme. Each picture is drawn twice, for wide and for narrow windows; the page shows the one that fits.
"""

import io
import re
import textwrap
from collections.abc import Callable, Sequence

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

WIDE, NARROW = 7.2, 3.4  # inches; at 100 dots an inch, the width of the page's column and of a phone

# What matplotlib draws in these colours is drawn in the page's variables of these names.
COLOURS = {
    "ink": "#010101",
    "muted": "#020202",
    "line": "#030303",
    "bar": "#040404",
    "right": "#050505",
    "given": "#0d0d0d",
    "named": "#060606",
    "follows": "#0c0c0c",
    "unnamed": "#070707",
    "error": "#080808",
    "withheld": "#090909",
    "missing": "#0a0a0a",
    "on-bar": "#0b0b0b",
}

STYLE = {
    "svg.fonttype": "none",
    "font.size": 9,
    "text.parse_math": False,
    "text.color": COLOURS["ink"],
    "axes.labelcolor": COLOURS["muted"],
    "axes.edgecolor": COLOURS["line"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": False,
    "xtick.color": COLOURS["muted"],
    "ytick.color": COLOURS["muted"],
    "xtick.labelcolor": COLOURS["ink"],
    "ytick.labelcolor": COLOURS["ink"],
    "grid.color": COLOURS["line"],
    "figure.dpi": 100,
}


def picture(name: str, alt: str, draw: Callable[[float], Figure]) -> Markup:
    """A figure drawn at both widths by `draw(width in inches)`, with `alt` as the text for those who cannot see it."""
    parts = [
        f'<div class="{kind}">{_svg(f"{name}-{kind}", alt, draw, width)}</div>'
        for kind, width in (("wide", WIDE), ("narrow", NARROW))
    ]
    return Markup("".join(parts))


def _svg(name: str, alt: str, draw: Callable[[float], Figure], width: float) -> str:
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        buffer = io.StringIO()
        draw(width).savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    for variable, colour in COLOURS.items():
        svg = svg.replace(colour, f"var(--{variable})")
    svg = svg.replace("'DejaVu Sans', 'Bitstream Vera Sans'", "system-ui, 'DejaVu Sans', 'Bitstream Vera Sans'")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(alt)}" ', 1)


def histogram(scores: Sequence[float], full: float, width: float) -> Figure:
    """How many students reached how many points: ten bins up to full marks, and one more for bonus points beyond."""
    step = full / 10 if full else 1.0
    beyond = any(score > full + 1e-9 for score in scores)
    counts = [0] * (11 if beyond else 10)
    for score in scores:
        counts[10 if score > full + 1e-9 else min(int(score / step + 1e-9), 9)] += 1
    figure = Figure(figsize=(width, 2.4), layout="constrained")
    axes = figure.add_subplot()
    bars = axes.bar([(i + 0.5) * step for i in range(len(counts))], counts, width=0.88 * step, color=COLOURS["bar"])
    axes.bar_label(bars, [str(count) if count else "" for count in counts], padding=2)
    axes.set_xlim(0, len(counts) * step)
    axes.set_ylim(0, max(counts, default=0) * 1.15 or 1)
    axes.xaxis.set_major_locator(MaxNLocator(8 if width == WIDE else 5, integer=True))
    axes.set_xlabel("points before a late penalty")
    axes.yaxis.set_visible(False)
    axes.spines["left"].set_visible(False)
    return figure


def stacked(
    labels: Sequence[str], counts: Sequence[dict[str, int]], legend: Sequence[tuple[str, str]], width: float
) -> Figure:
    """One bar a label, as wide as the class, divided by `counts`; `legend` gives the divisions in order with their words."""
    rows = len(labels)
    figure = Figure(
        figsize=(width, 0.42 * rows + 0.25 + 0.19 * len(legend) / (3 if width == WIDE else 1)), layout="constrained"
    )
    axes = figure.add_subplot()
    left = [0] * rows
    for key, words in legend:
        values = [count.get(key, 0) for count in counts]
        bars = axes.barh(range(rows), values, left=left, height=0.46, color=COLOURS[key], label=words)
        axes.bar_label(
            bars, [str(v) if v else "" for v in values], label_type="center", color=COLOURS["on-bar"], fontsize=8
        )
        left = [a + b for a, b in zip(left, values, strict=True)]
    _labels_above(axes, labels, 0.27)
    axes.set_xlim(0, max(left, default=0) or 1)
    axes.set_ylim(rows - 0.4, -0.75)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
    figure.legend(
        loc="outside lower left", ncols=3 if width == WIDE else 1, frameon=False, handlelength=1, columnspacing=1.2
    )
    return figure


def counted(labels: Sequence[str], values: Sequence[int], most: int, width: float) -> Figure:
    """One bar a label, with its text above it over as many lines as it needs; the axis ends at `most`."""
    characters = int(width * 15)
    wrapped = [textwrap.wrap(label, characters) or [""] for label in labels]
    tops, at = [], 0.0
    for lines in wrapped:
        tops.append(at)
        at += 0.17 * len(lines) + 0.36
    figure = Figure(figsize=(width, at + 0.1), layout="constrained")
    axes = figure.add_subplot()
    middles = [top + 0.17 * len(lines) + 0.12 for top, lines in zip(tops, wrapped, strict=True)]
    bars = axes.barh(middles, values, height=0.16, color=COLOURS["named"])
    axes.bar_label(bars, [str(value) for value in values], padding=3)
    for top, lines in zip(tops, wrapped, strict=True):
        axes.text(0, top, "\n".join(lines), va="top", ha="left", linespacing=1.25)
    axes.set_xlim(0, (most or 1) * 1.06)
    axes.set_ylim(at, -0.05)
    axes.axis("off")
    return figure


def _labels_above(axes: Axes, labels: Sequence[str], gap: float) -> None:
    for i, label in enumerate(labels):
        axes.text(0, i - gap, label, va="bottom", ha="left", family="monospace", fontsize=8.5)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
