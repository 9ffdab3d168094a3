# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # A small week for the tests of grading

# %%
import torch

from course.check import checks_for

check = checks_for("week01_rnn")


class NameClassifier(torch.nn.Module):
    def __init__(self, vocab_size, num_classes, d_embed, hidden_size):
        super().__init__()
        self.embedding = torch.nn.Embedding(vocab_size, d_embed)
        self.output = torch.nn.Linear(hidden_size, num_classes, bias=False)

    def forward(self, tokens, lengths):
        return self.output(self.embedding(tokens).sum(1))


# %% exercise="rnn_step"
def rnn_step(x, h, w_ih, w_hh, b_ih, b_hh):
    """One step."""
    ### BEGIN SOLUTION
    return torch.tanh(x @ w_ih.T + b_ih + h @ w_hh.T + b_hh)
    ### END SOLUTION


# %% check="rnn_step"
check("rnn_step")

# %% look="rnn_step"
raise RuntimeError("the grader runs no look cell")


# %% exercise="rnn_step_backward"
def rnn_step_backward(grad_h_next, x, h, h_next, w_ih, w_hh):
    """One step backward."""
    ### BEGIN SOLUTION
    grad_a = grad_h_next * (1 - h_next**2)
    grad_b = grad_a.sum(0)
    return grad_a @ w_ih, grad_a @ w_hh, grad_a.T @ x, grad_a.T @ h, grad_b, grad_b.clone()
    ### END SOLUTION


# %% check="rnn_step_backward"
check("rnn_step_backward")


# %% exercise="next_char_probs"
def next_char_probs(logits, temperature, top_k=None):
    """Probabilities of the next character."""
    ### BEGIN SOLUTION
    return torch.softmax(logits / temperature, dim=-1)
    ### END SOLUTION


# %% check="next_char_probs"
check("next_char_probs")

# %% [markdown] written="why_tanh" points=3
# *Your answer.*


# %% exercise="char_lm_loss"
def char_lm_loss(logits, tokens, lengths):
    """Bits per character."""
    ### BEGIN SOLUTION
    valid = torch.arange(1, tokens.size(1)) < lengths[:, None]
    losses = torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), tokens[:, 1:], reduction="none")
    return (losses * valid).sum() / valid.sum() / 0.6931471805599453
    ### END SOLUTION


# %% check="char_lm_loss"
check("char_lm_loss")

# %% experiment="names"
raise RuntimeError("the grader runs no experiment")

# %% check="names"
check("names")
