"""Week 6's experiments run as they stand at a tiny size, and its training loop runs beside another one."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from autograder import experiments, gpt_speed, plain_gpt
from autograder.week import find_week
from course import data, train
from course.drives import Student
from course.drives import week06_gpt as drives
from tests.course.drives.conftest import run_experiments

WEEK = find_week(Path(__file__).parents[3], "week06_gpt")


def test_every_cell_runs_at_a_tiny_size(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run_experiments(WEEK, size="tiny", device="cpu", clock=lambda: 0.0)
    assert len(names["samples"]) == len(names["chars_history"].points) == 5
    assert (tmp_path / "chars.safetensors").exists()
    gpt3 = next(row for row in names["big_models"] if row["model"] == "GPT-3 (2020)")
    assert gpt3["petaflop/s-days"] == pytest.approx(3637, abs=1)
    artifact = WEEK.artifacts[0]
    found = experiments.score(WEEK, artifact, names, tmp_path)
    assert 4 < found < math.log2(82) + 1  # ten updates teach a little
    assert all(0 <= found["accuracy"] <= 1 for found in names["prompting"].values())


def test_a_model_with_a_short_context_is_read_in_windows():
    torch.manual_seed(0)
    model = WEEK.namespace()["GPT"](11, 6, 8, 2, 1).eval()
    tokens = torch.randint(11, (2, 17))
    with torch.no_grad():
        whole = drives._read(model, tokens, 6)
        assert whole.shape == (2, 17, 11)
        # each prediction sees the three tokens up to it at least, the last ones of a window all six
        for start in (0, 3, 6, 9, 11):
            torch.testing.assert_close(whole[:, start + 5], model(tokens[:, start : start + 6])[0][:, -1])
        torch.testing.assert_close(drives._read(model, tokens[:, :5], 6), model(tokens[:, :5])[0])
    weights = {name: value.detach().clone() for name, value in model.named_parameters()}
    changed = torch.cat([tokens[:, :12], (tokens[:, 12:] + 1) % 11], dim=1)
    inputs = {"weights": weights, "figures": {"num_heads": 2}, "tokens": tokens, "changed": changed}
    answer = drives.chars(Student(WEEK.namespace()), inputs)
    torch.testing.assert_close(answer["logits"], whole[:, 7:])
    assert torch.equal(answer["logits"][:, :5], answer["logits on changed"][:, :5])


def test_the_loss_asks_nothing_of_the_last_position():
    names = WEEK.namespace()
    model = names["new_gpt"](11, 6, 8, 2, 1)
    tokens = torch.randint(11, (3, 7), generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.cross_entropy(model(tokens[:, :-1])[0].flatten(0, 1), tokens[:, 1:].flatten())
    torch.testing.assert_close(names["next_token_loss"](model, tokens), expected)


def test_sixteen_bits_make_nearly_the_same_gradients():
    names = WEEK.namespace()
    tokens = torch.randint(11, (3, 17), generator=torch.Generator().manual_seed(0))
    grads = []
    for sixteen in (False, True):
        model, kept = names["new_gpt"](11, 16, 32, 2, 2), []
        with names["mixed_precision"]("cpu") if sixteen else torch.enable_grad():
            loss = names["next_token_loss"](model, tokens)
        loss.backward()
        kept = [parameter.grad.flatten() for parameter in model.parameters()]
        assert all(grad.dtype == torch.float32 for grad in kept)
        grads.append(torch.cat(kept))
    assert 0 < float((grads[0] - grads[1]).norm() / grads[0].norm()) < 0.05  # bfloat16 has three digits


# ------------------------------------------------------------------------------------------ trainers side by side


def test_trainers_take_turns_on_the_same_batches(monkeypatch):
    monkeypatch.setattr(gpt_speed, "TURN", 2)
    asked: list[tuple[str, int, Tensor]] = []

    def trainer(name: str):
        def train_it(setting: gpt_speed.Setting, batch_at):
            for update in range(setting.updates):
                asked.append((name, update, batch_at(update)))
            return name

        return train_it

    turns = gpt_speed.Turns(
        [trainer("a"), trainer("b")], gpt_speed.Setting(11, 5), lambda update: torch.tensor([update])
    )
    turns.run()
    assert [(name, update) for name, update, _ in asked] == [
        (name, update) for first in (0, 2, 4) for name in "ab" for update in range(first, min(first + 2, 5))
    ]
    assert all(int(batch) == update for _, update, batch in asked)
    assert turns.models == ["a", "b"] and all(min(seconds) >= 0 for seconds in turns.seconds)


def test_a_trainer_that_fails_is_told():
    def fails(setting, batch_at):
        raise ValueError("no such thing")

    turns = gpt_speed.Turns([lambda setting, batch_at: batch_at(0), fails], gpt_speed.Setting(11, 1), lambda update: 1)
    with pytest.raises(ValueError, match="no such thing"):
        turns.run()


def test_the_courses_loop_and_the_plain_one_are_compared():
    found = gpt_speed.compare([gpt_speed.reference, plain_gpt.plain], updates=3, characters=500)
    assert list(found) == ["autograder.gpt_speed:reference", "autograder.plain_gpt:plain"]
    for figures in found.values():
        bits, nats = figures["held-out bits a character"], figures["held-out nats a character"]
        assert bits == pytest.approx(nats / math.log(2), abs=1e-3) and 5 < bits < 7.5
        assert figures["tokens a second of the processor"] > 0


def test_held_out_loss_is_that_of_every_window():
    logits = torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
    ids = torch.randint(5, (22,), generator=torch.Generator().manual_seed(1))
    found = gpt_speed.heldout_loss(lambda tokens: logits[tokens], ids, context=4)
    expected = torch.nn.functional.cross_entropy(logits[ids[:20]], ids[1:21])
    assert found == pytest.approx(float(expected), rel=1e-5)


def test_a_novelist_comes_back(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "DATA", tmp_path)
    model = WEEK.namespace()["new_gpt"](11, 6, 8, 2, 1)
    data.save_trained(tmp_path / "novelist_chars.safetensors", model, {"d_model": 8}, {"points": [[1, 2.0, 3, 0.5]]})
    sizes, weights, training = data.novelist("chars")
    assert sizes == {"d_model": 8} and training == {"points": [[1, 2.0, 3, 0.5]]}
    torch.testing.assert_close(weights["wte.weight"], model.wte.weight.detach(), rtol=1e-3, atol=1e-6)


def test_an_optimizer_of_ones_own_is_used():
    model = torch.nn.Linear(1, 1, bias=False)
    history = train.fit(
        model,
        lambda update: (torch.ones(1, 1),),
        lambda model, x: model(x).sum(),
        2,
        lr=0.5,
        optimizer=lambda model: torch.optim.SGD(model.parameters()),
    )
    assert history.losses[1] == pytest.approx(history.losses[0] - 0.5, abs=1e-5)
