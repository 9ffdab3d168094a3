"""The training loop, its sanity checks, bits per character, saving, and the reference window's task and runner."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course import train, window
from course.check import Goal


def regression(seed=0):
    """A model, batches and a loss of a small problem that can be learned."""
    torch.manual_seed(seed)
    model = nn.Linear(3, 1)

    def batch_at(update):
        x = torch.randn(16, 3, generator=torch.Generator().manual_seed(update))
        return x, x.sum(dim=1, keepdim=True)

    return model, batch_at, lambda model, x, y: F.mse_loss(model(x), y)


# ------------------------------------------------------------------------------------------------------ batches


def test_text_batches_are_windows_of_the_text_and_depend_on_update_and_seed_only():
    ids = torch.arange(100)
    batch_at = train.text_batches(ids, batch_size=500, context=10, seed=3)
    (tokens,) = batch_at(7)
    assert tokens.shape == (500, 11)
    assert bool((tokens.diff(dim=1) == 1).all())
    assert (int(tokens.min()), int(tokens.max())) == (0, 99)  # the first and the last character are reached
    assert torch.equal(tokens, train.text_batches(ids, 500, 10, seed=3)(7)[0])
    assert not torch.equal(tokens, batch_at(8)[0])
    assert not torch.equal(tokens, train.text_batches(ids, 500, 10, seed=4)(7)[0])


def test_padded_batches_visit_each_row_once_an_epoch_and_cut_the_padding():
    lengths = torch.tensor([1, 2, 3, 4, 5, 6])
    tokens = torch.arange(6).unsqueeze(1).expand(6, 9)
    batch_at = train.padded_batches(tokens, lengths, torch.arange(6) * 10, batch_size=2, seed=0)
    for epoch in range(3):
        seen = []
        for update in range(3 * epoch, 3 * epoch + 3):
            batch, n, labels = batch_at(update)
            assert batch.size(1) == int(n.max())
            assert torch.equal(batch[:, 0] * 10, labels) and torch.equal(lengths[batch[:, 0]], n)
            seen += batch[:, 0].tolist()
        assert sorted(seen) == list(range(6))


def pairs_of(lengths):
    """Sources and targets whose first token says which pair it is; a source is one shorter, where it can be."""
    targets = [[i + 1] * n for i, n in enumerate(lengths)]
    return [row[: max(1, len(row) - 1)] for row in targets], targets


def test_pair_batches_keep_pairs_together_fit_and_depend_on_update_and_seed_only():
    lengths = [int(n) for n in torch.randint(1, 30, (200,), generator=torch.Generator().manual_seed(1))]
    batch_at = train.pair_batches(*pairs_of(lengths), max_tokens=90, seed=3)
    for update in range(200):
        source, target = batch_at(update)
        assert torch.equal(source[:, 0], target[:, 0])
        assert max(source.numel(), target.numel()) <= 90
        real = [int((row != 0).sum()) for row in target]
        assert real == [lengths[int(i) - 1] for i in target[:, 0]]
        assert max(real) == target.size(1) and max(real) - min(real) <= 3  # neighbours in length
    assert all(torch.equal(a, b) for a, b in zip(batch_at(7), batch_at(7), strict=True))
    assert not torch.equal(batch_at(7)[1][:, 0], train.pair_batches(*pairs_of(lengths), 90, seed=4)(7)[1][:, 0])


def test_pair_batches_show_long_pairs_as_often_as_short_ones():
    lengths = [4] * 300 + [20] * 300
    batch_at = train.pair_batches(*pairs_of(lengths), max_tokens=100, seed=0)
    times = torch.zeros(600)
    for update in range(2000):
        times[batch_at(update)[1][:, 0] - 1] += 1
    assert float(times[:300].mean() / times[300:].mean()) == pytest.approx(1, abs=0.1)


def test_a_pair_that_is_longer_than_a_batch_comes_alone():
    batch_at = train.pair_batches(*pairs_of([5, 50]), max_tokens=20, seed=0)
    assert {batch_at(update)[1].size(1) for update in range(50)} <= {5, 50}
    assert all(len(batch_at(update)[1]) == 1 for update in range(50) if batch_at(update)[1].size(1) == 50)


# ----------------------------------------------------------------------------------------------------- training


def test_fit_learns_and_counts():
    model, batch_at, loss = regression()
    history = train.fit(model, batch_at, loss, 300, lr=0.05, evaluate=lambda m: float(m.bias.detach()), every=100)
    assert history.losses[-1] < 1e-3 < history.losses[0]
    assert [(update, seen) for update, _, seen, _ in history.points] == [(100, 4800), (200, 9600), (300, 14400)]
    assert history.figure == pytest.approx(float(model.bias.detach()))
    assert not history.stopped and not model.training


def test_fit_uses_the_given_clip():
    model, batch_at, loss = regression()
    before, norms = model.weight.clone(), []

    def clip(grads, max_norm):
        norms.append(max_norm)
        return [torch.zeros_like(grad) for grad in grads], torch.zeros(())

    train.fit(model, batch_at, loss, 5, clip=clip, max_norm=0.7)
    assert norms == [0.7] * 5
    assert torch.equal(model.weight, before)


def test_clip_in_place_is_by_the_global_norm():
    grads = [torch.tensor([3.0]), torch.tensor([[4.0]])]
    clipped, norm = train.clip_in_place([grad.clone() for grad in grads], 1.0)
    assert float(norm) == 5.0
    assert [round(float(grad), 4) for grad in clipped] == [0.6, 0.8]
    assert [float(grad) for grad in train.clip_in_place(grads, 10.0)[0]] == [3.0, 4.0]


def test_fit_follows_a_schedule_and_the_betas(monkeypatch):
    model, batch_at, loss = regression()
    used = []

    class Spy(torch.optim.Adam):
        def step(self):
            used.append((self.param_groups[0]["lr"], self.param_groups[0]["betas"]))
            super().step()

    monkeypatch.setattr(torch.optim, "Adam", Spy)
    train.fit(model, batch_at, loss, 3, lr=lambda history: 0.1 * (history.updates + 1), betas=(0.9, 0.98))
    train.fit(model, batch_at, loss, 1, lr=0.7)
    assert [rate for rate, _ in used] == pytest.approx([0.1, 0.2, 0.3, 0.7])
    assert [betas for _, betas in used] == [(0.9, 0.98)] * 3 + [(0.9, 0.999)]


def test_fit_counts_seconds_by_the_given_clock_and_stops_when_they_are_over():
    model, batch_at, loss = regression()
    ticks = iter(range(10**6))  # each update reads the clock twice: it takes a second
    settings = {"clock": lambda: next(ticks), "seconds": 10, "every_seconds": 4}
    history = train.fit(model, batch_at, loss, 100, evaluate=lambda m: 0.0, **settings)
    assert (history.updates, history.seconds, history.stopped) == (10, 10, "out of time")
    assert [update for update, *_ in history.points] == [4, 8, 10]


def test_fit_stops_at_the_figure():
    model, batch_at, loss = regression()
    figures = iter([0.5, 0.98, 0.99])
    history = train.fit(model, batch_at, loss, 100, evaluate=lambda m: next(figures), every=10, stop_at=0.97)
    assert (history.updates, history.figure, history.stopped) == (20, 0.98, "reached")


def test_an_interrupted_run_returns_and_resumes_to_the_same_weights(tmp_path):
    whole, batch_at, loss = regression()
    train.fit(whole, batch_at, loss, 40)

    part, _, _ = regression()
    checkpoint = tmp_path / "part.checkpoint"

    def interrupted(update):
        if update == 25:
            raise KeyboardInterrupt
        return batch_at(update)

    history = train.fit(part, interrupted, loss, 40, checkpoint=checkpoint)
    assert (history.updates, history.stopped) == (25, "interrupted")
    fresh, _, _ = regression(seed=1)
    history = train.fit(fresh, batch_at, loss, 40, checkpoint=checkpoint)
    assert (history.updates, history.stopped) == (40, "")
    assert torch.equal(fresh.weight, whole.weight) and torch.equal(fresh.bias, whole.bias)
    assert not checkpoint.exists()


def test_fit_says_where_the_loss_is_lost():
    model, batch_at, _ = regression()
    with pytest.raises(FloatingPointError, match="nan at update 1"):
        train.fit(model, batch_at, lambda model, x, y: model(x).sum() * math.nan, 5)


# ------------------------------------------------------------------------------------------------ sanity checks


def test_loss_at_start_beside_log_c():
    model = nn.Linear(4, 8)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    batch = torch.randn(5, 4), torch.arange(5)
    measured, expected = train.loss_at_start(model, batch, lambda m, x, y: F.cross_entropy(m(x), y), 8)
    assert measured == pytest.approx(math.log(8)) == expected
    in_bits = train.loss_at_start(model, batch, lambda m, x, y: F.cross_entropy(m(x), y) / math.log(2), 8, base=2)
    assert in_bits == (pytest.approx(3.0), pytest.approx(3.0))


def test_overfit_goes_to_nothing_and_leaves_the_model_alone():
    model, batch_at, loss = regression()
    before = model.weight.clone()
    losses = train.overfit(model, batch_at(0), loss, updates=400, lr=0.05)
    assert losses[-1] < 1e-4 < losses[0]
    assert torch.equal(model.weight, before)


# ---------------------------------------------------------------------------------------------------- measuring


def test_target_bits_are_those_of_each_target_whatever_stands_beside_it():
    sources, targets = pairs_of([3, 9, 1, 5, 2])
    targets = [[2, *row] for row in targets]
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(8, 8, generator=generator)

    def logits_of(source, target):
        assert torch.equal(source[:, 0], target[:, 1])
        return table[target[:, :-1]] + source[:, :1, None] * table[target[:, :-1]].cos()

    alone = [train.target_bits(logits_of, [s], [t]) for s, t in zip(sources, targets, strict=True)]
    together = train.target_bits(logits_of, sources, targets, batch_size=2)
    assert together.dtype == torch.float64
    torch.testing.assert_close(together, torch.cat(alone))
    log_probs = torch.log_softmax(logits_of(torch.tensor([sources[1]]), torch.tensor([targets[1]])), dim=-1)[0]
    by_hand = -sum(float(row[token]) for row, token in zip(log_probs, targets[1][1:], strict=True)) / math.log(2)
    assert float(together[1]) == pytest.approx(by_hand, rel=1e-5)


V = 7


def test_bits_of_a_model_that_knows_nothing():
    ids = torch.randint(V, (301,))
    bits = train.bits_per_character(lambda tokens: torch.zeros(*tokens.shape, V), ids, context=32)
    assert bits == pytest.approx(math.log2(V))


@pytest.mark.parametrize(("length", "context"), [(2, 8), (5, 8), (9, 8), (10, 8), (13, 8), (14, 8), (200, 8), (200, 7)])
def test_bits_score_each_prediction_once_with_the_context_that_is_promised(length, context):
    ids = torch.randint(V, (length,), generator=torch.Generator().manual_seed(length))
    table = torch.randn(context + 1, V, V, generator=torch.Generator().manual_seed(0))

    def logits_of(tokens):  # depends on how much context a prediction has, and on the last token
        assert tokens.size(1) <= context
        return torch.stack([table[t][tokens[:, t]] for t in range(tokens.size(1))], dim=1)

    # by hand: windows at half the distance, the last at the end; each prediction by the first window that has it
    last = max(length - 1 - context, 0)
    starts = [*range(0, last, max(context // 2, 1)), last]
    bits = 0.0
    for target in range(1, length):
        start = next(s for s in starts if s < target <= s + context)
        seen = target - start
        assert start == 0 or seen > context // 2
        bits -= float(torch.log_softmax(table[seen - 1][ids[target - 1]], dim=-1)[ids[target]]) / math.log(2)
    assert train.bits_per_character(logits_of, ids, context, batch_size=3) == pytest.approx(
        bits / (length - 1), rel=1e-5
    )


def test_bits_are_divided_by_the_characters_given():
    ids = torch.randint(V, (41,))
    bits = train.bits_per_character(lambda tokens: torch.zeros(*tokens.shape, V), ids, 8, characters=120)
    assert bits == pytest.approx(40 * math.log2(V) / 120)


def test_accuracy_and_confusion():
    logits = torch.eye(3)[[0, 1, 1, 2]]
    labels = torch.tensor([0, 1, 2, 2])
    assert train.accuracy(logits, labels) == 0.75
    assert train.confusion(logits.argmax(dim=1), labels, 3).tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 1]]


def test_saved_artifacts_are_what_a_goal_loads(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = nn.Linear(2, 3)
    train.save_artifact("small", model, {"accuracy": 0.5, "points": [[1, 2.0]]})
    saved = Goal(name="small", file="small.safetensors", thresholds=[(0.5, 1)]).load(tmp_path)
    assert saved["figures"] == {"accuracy": 0.5, "points": [[1, 2.0]]}
    assert saved["weights"].keys() == {"weight", "bias"}
    assert torch.equal(saved["weights"]["weight"], model.weight)


# ------------------------------------------------------------------------------------------ the reference window


class Recalls(nn.Module):
    """Knows the answer: the first symbol. Its one parameter changes nothing."""

    def __init__(self, vocab_size, num_classes):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.num_classes = num_classes

    def forward(self, tokens, lengths):
        assert bool((lengths == tokens.size(1)).all())
        return 9 * F.one_hot(tokens[:, 0], self.num_classes) + 0 * self.scale


class Guesses(Recalls):
    def forward(self, tokens, lengths):
        return super().forward(tokens, lengths) * 0


def test_the_task_holds_its_answer_once_and_first():
    tokens, lengths, answers = window.recall(20, 400, torch.Generator().manual_seed(0))
    assert tokens.shape == (400, 22) and lengths.tolist() == [22] * 400
    assert torch.equal(tokens[:, 0], answers)
    assert set(answers.tolist()) == set(range(window.NUM_ANSWERS))
    assert set(tokens[:, 1:-1].flatten().tolist()) == set(range(window.NUM_ANSWERS, window.QUERY))
    assert set(tokens[:, -1].tolist()) == {window.QUERY} == {window.VOCAB_SIZE - 1}


def test_a_delay_is_learned_or_given_up():
    assert window.learn_delay(Recalls, 10, 1) == {"delay": 10, "seed": 1, "accuracy": 1.0, "updates": 50}
    run = window.learn_delay(Guesses, 10, 1, updates=120)
    assert run["updates"] == 120 and run["accuracy"] < 0.25


def test_the_window_is_the_largest_delay_that_most_seeds_reach():
    def runs(delay, *figures):
        return [{"delay": delay, "seed": i, "accuracy": figure, "updates": 1} for i, figure in enumerate(figures)]

    assert window.window_of(runs(10, 1.0, 0.95, 0.1) + runs(20, 0.9, 0.2, 0.1)) == 10
    assert window.window_of(runs(10, 0.9, 0.9, 0.1) + runs(20, 0.9, 0.8, 0.97)) == 20
    assert window.window_of(runs(10, 1.0, 0.1)) == 0  # half is not most
    assert window.window_of([]) == 0


def test_reference_window_runs_every_delay_and_seed_and_can_be_interrupted(capsys):
    made = []

    def make_model(vocab_size, num_classes):
        made.append((vocab_size, num_classes))
        if len(made) > 5:
            raise KeyboardInterrupt
        return Recalls(vocab_size, num_classes)

    runs = window.reference_window(make_model, delays=(3, 5), seeds=(0, 1))
    assert [(run["delay"], run["seed"]) for run in runs] == [(3, 0), (3, 1), (5, 0), (5, 1)]
    assert made == [(17, 8)] * 4
    assert len(window.reference_window(make_model, delays=(3, 5), seeds=(0, 1))) == 1
    assert "interrupted after 1 runs" in capsys.readouterr().out


def test_mixed_delays_are_tested_one_by_one():
    lengths = set()

    class Watched(Recalls):
        def forward(self, tokens, lengths_):
            lengths.add(tokens.size(1) - 2)
            return super().forward(tokens, lengths_)

    runs = window.mixed_delays(Watched, 0, updates=200, longest=60, delays=(10, 300))
    assert [(run["delay"], run["accuracy"], run["updates"]) for run in runs] == [(10, 1.0, 200), (300, 1.0, 200)]
    trained = lengths - {300}
    assert min(trained) == 1 and 50 < max(trained) <= 60


def test_saved_curves_are_read_from_the_weeks_that_lie_beside_this_one(tmp_path, monkeypatch):
    for week in ("week01_rnn", "week02_lstm_gru"):
        (tmp_path / week).mkdir()
    monkeypatch.chdir(tmp_path / "week01_rnn")
    train.save_artifact("chars", nn.Linear(2, 3), {"points": [(100, 12.0, 5000, 3.0)]})
    monkeypatch.chdir(tmp_path / "week02_lstm_gru")
    found = train.saved_curves({"RNN, week 1": "week01_rnn", "never trained": "week03_attention"})
    assert found == {"RNN, week 1": [[100, 12.0, 5000, 3.0]]}
