"""Exercises of the small week: the drives are those of the real week 1."""

import torch

from autograder import Artifact, Exercise, Mistake


def step_cases(rng):
    def normal(*shape):
        return torch.randn(shape, generator=rng)

    return [
        (
            f"a batch of {b}",
            {
                "x": normal(b, 3),
                "h": normal(b, 4),
                "w_ih": normal(4, 3),
                "w_hh": normal(4, 4),
                "b_ih": normal(4),
                "b_hh": normal(4),
                "upstream": normal(b, 4),
            },
        )
        for b in (2, 5)
    ]


def backward_cases(rng):
    x, h, w_ih, w_hh = (torch.randn(shape, generator=rng) for shape in ((2, 3), (2, 4), (4, 3), (4, 4)))
    h_next = torch.tanh(x @ w_ih.T + h @ w_hh.T)
    grad = torch.randn(2, 4, generator=rng)
    return [("a batch of 2", {"grad_h_next": grad, "x": x, "h": h, "h_next": h_next, "w_ih": w_ih, "w_hh": w_hh})]


def probs_cases(rng):
    return [
        (f"temperature {t}", {"logits": torch.randn(2, 5, generator=rng), "temperature": t, "top_k": None})
        for t in (0.5, 2.0)
    ]


def loss_cases(rng):
    tokens = torch.randint(5, (2, 4), generator=rng)
    logits = torch.randn(2, 4, 5, generator=rng)
    return [
        ("padded", {"logits": logits, "tokens": tokens, "lengths": torch.tensor([4, 2]), "upstream": torch.tensor(1.5)})
    ]


def heldout_names(folder):
    tokens = torch.arange(8)[:, None]
    return {"tokens": tokens, "lengths": torch.ones(8, dtype=torch.int64)}, tokens[:, 0] % 2


def accuracy(inputs, outputs, key):
    return (outputs["logits"].argmax(1) == key).float().mean()


EXERCISES = [
    Exercise(
        "rnn_step",
        5,
        step_cases,
        mistakes=[
            Mistake("no-tanh", "The tanh is missing.", "torch.tanh(", "("),
            Mistake("no-bias", "The input bias is left out.", " + b_ih", ""),
        ],
    ),
    Exercise(
        "rnn_step_backward",
        4,
        backward_cases,
        mistakes=[Mistake("no-derivative", "The derivative of tanh is missing.", " * (1 - h_next**2)", "")],
        forbid=["autograd"],
    ),
    Exercise(
        "next_char_probs",
        3,
        probs_cases,
        mistakes=[Mistake("multiplied", "The temperature multiplies.", "logits / temp", "logits * temp")],
        timeout=5,
    ),
    Exercise(
        "char_lm_loss",
        2,
        loss_cases,
        mistakes=[Mistake("nats", "The loss is in nats.", " / 0.6931471805599453", "")],
    ),
    Artifact(
        name="names",
        file="names.safetensors",
        thresholds=[(0.9, 4.0), (0.5, 2.0)],
        figure="accuracy",
        inputs=heldout_names,
        score=accuracy,
        where="names nobody has seen",
        max_bytes=100_000,
    ),
]
