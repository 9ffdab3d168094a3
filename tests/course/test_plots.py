"""The shared plots draw what they are given, with units, into the axes they are given."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pytest
import torch

from course import plots


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture
def ax():
    return plt.subplots()[1]


def test_loss_curve(ax):
    assert plots.loss_curve([3.0, 2.0, 1.0] * 20, ax, title="names", unit="bits") is ax
    assert (ax.get_title(), ax.get_xlabel(), ax.get_ylabel()) == ("names", "updates", "training loss (bits)")
    each, mean = ax.lines
    assert len(each.get_xdata()) == 60 and len(mean.get_xdata()) == 51
    assert mean.get_ydata()[0] == pytest.approx(2.1)


def test_curves_show_the_mean_within_worst_and_best(ax):
    plots.curves([1, 2], {"one": [[0.0, 1.0], [1.0, 3.0]]}, ax, xlabel="updates", ylabel="accuracy")
    assert ax.lines[0].get_ydata().tolist() == [0.5, 2.0]
    band = ax.collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == (0.0, 3.0)
    assert "2 seeds" in ax.get_legend().get_texts()[0].get_text()


def test_confusion_map_shows_shares_of_rows(ax):
    plots.confusion_map(torch.tensor([[3, 1], [0, 0]]), ["Czech", "Dutch"], ax)
    assert ax.images[0].get_array().tolist() == [[0.75, 0.25], [0.0, 0.0]]
    assert [text.get_text() for text in ax.texts] == ["75", "25"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["Czech (4)", "Dutch (0)"]


def test_reference_window_plot_has_a_dot_a_seed_and_a_line_of_medians(ax):
    runs = [
        {"delay": d, "seed": s, "accuracy": a} for d, s, a in [(10, 0, 1.0), (10, 1, 0.9), (10, 2, 0.2), (40, 0, 0.1)]
    ]
    plots.reference_window_plot({"RNN": runs}, ax)
    assert ax.lines[0].get_ydata().tolist() == [0.9, 0.1]
    assert sum(len(line.get_xdata()) for line in ax.lines if line.get_marker() == "o") == 4


def test_reference_window_plot_leaves_out_labels_that_would_overlap(ax):
    runs = [{"delay": delay, "seed": 0, "accuracy": 1.0} for delay in (10, 160, 200, 10_000)]
    plots.reference_window_plot({"attention": runs}, ax)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["10", "160", "", "10000"]


def test_common_curve_has_a_panel_for_each_budget():
    time, seen = plots.common_curve({"RNN": [(100, 12.0, 5000, 3.0), (200, 25.0, 10000, 2.5)]})
    assert (time.get_xlabel(), seen.get_xlabel()) == ("seconds trained", "characters seen in training")
    assert time.lines[0].get_xdata().tolist() == [12.0, 25.0]
    assert seen.lines[0].get_xdata().tolist() == [5000, 10000]
    assert time.lines[0].get_ydata().tolist() == seen.lines[0].get_ydata().tolist() == [3.0, 2.5]


def test_a_slider_that_nobody_can_move_shows_four_of_its_values(monkeypatch):
    drawn = []
    monkeypatch.setenv(plots.STILL, "1")
    plots.slider(lambda ax, value: drawn.append(value), "heads", [1, 2, 3, 4, 5, 6, 7], size=(3, 2))
    assert drawn == [1, 3, 5, 7]
    assert [ax.get_title() for ax in plt.gcf().axes] == ["heads = 1", "heads = 3", "heads = 5", "heads = 7"]


def test_a_slider_draws_its_start_first_and_then_what_it_is_moved_to(monkeypatch):
    widgets = pytest.importorskip("ipywidgets")
    drawn, made = [], []
    monkeypatch.delenv(plots.STILL, raising=False)
    monkeypatch.setattr(widgets, "interact", lambda picture, value: made.append((picture, value)))
    plots.slider(lambda ax, value: drawn.append(value), "heads", ["a", "b", "c"], start="b", size=(3, 2))
    [(picture, moved)] = made
    picture(moved.value)
    moved.value = "c"
    picture(moved.value)
    assert drawn == ["b", "c"] and moved.description == "heads"
