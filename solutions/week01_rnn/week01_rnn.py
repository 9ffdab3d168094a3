# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Week 1: recurrent networks (1986)

# %%
import math

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course.check import checks_for

check = checks_for("week01_rnn")

# %% [markdown]
# ## 1. A network with a state


# %% exercise="rnn_step"
def rnn_step(x: Tensor, h: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    """One step of a recurrent network: h_next = tanh(W_ih x + b_ih + W_hh h + b_hh) (Elman 1990).

    x (B, I), h (B, H), w_ih (H, I), w_hh (H, H), b_ih (H,), b_hh (H,), all of one floating dtype. Returns h_next (B, H).
    """
    ### BEGIN SOLUTION
    return torch.tanh(x @ w_ih.T + b_ih + h @ w_hh.T + b_hh)
    ### END SOLUTION


# %% check="rnn_step"
check("rnn_step")


# %% exercise="rnn_forward"
def rnn_forward(
    x: Tensor, lengths: Tensor, h0: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> tuple[Tensor, Tensor]:
    """A recurrent network over a padded batch: sequence b is x[b, :lengths[b]], what follows is padding.

    x (B, T, I), lengths (B,) int64 with 1 <= lengths <= T, h0 (B, H), parameters as in `rnn_step`.
    Returns outputs (B, T, H), the state after each step, zero at padding; and h_n (B, H), each sequence's state after its
    own last step.
    """
    ### BEGIN SOLUTION
    h, outputs = h0, []
    for t in range(x.size(1)):
        running = (t < lengths).unsqueeze(1)  # (B, 1)
        h_next = rnn_step(x[:, t], h, w_ih, w_hh, b_ih, b_hh)
        h = torch.where(running, h_next, h)  # a sequence that is over keeps its last state
        outputs.append(torch.where(running, h_next, 0.0))
    return torch.stack(outputs, dim=1), h
    ### END SOLUTION


# %% check="rnn_forward"
check("rnn_forward")

# %% [markdown]
# ## 2. Backpropagation through time


# %% exercise="rnn_step_backward"
def rnn_step_backward(
    grad_h_next: Tensor, x: Tensor, h: Tensor, h_next: Tensor, w_ih: Tensor, w_hh: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The backward pass of `rnn_step`, by hand: from dL/dh_next to the gradients of everything that went in.

    grad_h_next (B, H); x (B, I), h (B, H) and the parameters as they went into the step; h_next (B, H) as it came out.
    Returns (grad_x, grad_h, grad_w_ih, grad_w_hh, grad_b_ih, grad_b_hh), each with the shape of what it belongs to.
    """
    ### BEGIN SOLUTION
    grad_sum = grad_h_next * (1 - h_next**2)  # (B, H): tanh' is 1 - tanh^2, and h_next is the tanh
    grad_x = grad_sum @ w_ih
    grad_h = grad_sum @ w_hh
    grad_w_ih = grad_sum.T @ x
    grad_w_hh = grad_sum.T @ h
    grad_b = grad_sum.sum(dim=0)
    return grad_x, grad_h, grad_w_ih, grad_w_hh, grad_b, grad_b.clone()
    ### END SOLUTION


# %% check="rnn_step_backward"
check("rnn_step_backward")


# %% exercise="rnn_backward"
def rnn_backward(
    grad_outputs: Tensor, x: Tensor, h0: Tensor, outputs: Tensor, w_ih: Tensor, w_hh: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Backpropagation through time (Rumelhart, Hinton and Williams 1986; Werbos 1990), by hand, without padding.

    grad_outputs (B, T, H) is dL/d outputs; x (B, T, I), h0 (B, H) went into `rnn_forward`, outputs (B, T, H) came out.
    Returns (grad_x, grad_h0, grad_w_ih, grad_w_hh, grad_b_ih, grad_b_hh), each with the shape of what it belongs to.
    """
    ### BEGIN SOLUTION
    grad_x, grad_h = torch.zeros_like(x), torch.zeros_like(h0)
    bias = w_hh.new_zeros(w_hh.size(0))
    totals = [torch.zeros_like(w_ih), torch.zeros_like(w_hh), bias, bias]
    for t in reversed(range(x.size(1))):
        h = outputs[:, t - 1] if t > 0 else h0
        grad_h_next = grad_outputs[:, t] + grad_h  # from this step's output, and from all that comes later
        grad_x[:, t], grad_h, *grads = rnn_step_backward(grad_h_next, x[:, t], h, outputs[:, t], w_ih, w_hh)
        totals = [total + grad for total, grad in zip(totals, grads, strict=True)]
    return grad_x, grad_h, *totals
    ### END SOLUTION


# %% check="rnn_backward"
check("rnn_backward")


# %% exercise="clip_by_global_norm"
def clip_by_global_norm(grads: list[Tensor], max_norm: float) -> tuple[list[Tensor], Tensor]:
    """Scales gradients down so that all of them together have at most norm max_norm (Pascanu et al. 2013).

    grads: a list of tensors of any shapes; max_norm > 0. The norm is that of all entries of all tensors in one long
    vector. Returns (clipped, norm): a list of new tensors, each multiplied by min(1, max_norm / (norm + 1e-6)), and the
    norm before clipping, a scalar. The given tensors stay as they are.
    """
    ### BEGIN SOLUTION
    norm = torch.sqrt(sum((grad**2).sum() for grad in grads))
    factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    return [grad * factor for grad in grads], norm
    ### END SOLUTION


# %% check="clip_by_global_norm"
check("clip_by_global_norm")

# %% [markdown]
# ## 3. Where does a name come from?


# %% exercise="NameClassifier.forward"
class NameClassifier(nn.Module):
    """Reads a name character by character and says from its last state which class it belongs to."""

    def __init__(self, vocab_size: int, num_classes: int, d_embed: int, hidden_size: int):
        super().__init__()
        bound = hidden_size**-0.5  # as in torch.nn.RNN
        self.embedding = nn.Embedding(vocab_size, d_embed)
        self.weight_ih = nn.Parameter(torch.empty(hidden_size, d_embed).uniform_(-bound, bound))
        self.weight_hh = nn.Parameter(torch.empty(hidden_size, hidden_size).uniform_(-bound, bound))
        self.bias_ih = nn.Parameter(torch.empty(hidden_size).uniform_(-bound, bound))
        self.bias_hh = nn.Parameter(torch.empty(hidden_size).uniform_(-bound, bound))
        self.output = nn.Linear(hidden_size, num_classes)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """tokens (B, T) int64, lengths (B,) int64 with 1 <= lengths <= T. Returns logits (B, num_classes)."""
        ### BEGIN SOLUTION
        x = self.embedding(tokens)  # (B, T, I)
        h0 = x.new_zeros(x.size(0), self.weight_hh.size(0))  # (B, H)
        _, h_n = rnn_forward(x, lengths, h0, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        return self.output(h_n)
        ### END SOLUTION


# %% check="NameClassifier.forward"
check("NameClassifier.forward")

# %% [markdown]
# ## 4. A novel, character by character


# %%
class CharRNN(nn.Module):
    """A recurrent language model over characters: `logits, h_n = model(tokens, h0)`."""

    def __init__(self, vocab_size: int, d_embed: int, hidden_size: int):
        super().__init__()
        bound = hidden_size**-0.5
        self.embedding = nn.Embedding(vocab_size, d_embed)
        self.weight_ih = nn.Parameter(torch.empty(hidden_size, d_embed).uniform_(-bound, bound))
        self.weight_hh = nn.Parameter(torch.empty(hidden_size, hidden_size).uniform_(-bound, bound))
        self.bias_ih = nn.Parameter(torch.empty(hidden_size).uniform_(-bound, bound))
        self.bias_hh = nn.Parameter(torch.empty(hidden_size).uniform_(-bound, bound))
        self.output = nn.Linear(hidden_size, vocab_size)

    def forward(self, tokens: Tensor, h0: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """tokens (B, T) int64, h0 (B, H), zeros if None. Returns logits (B, T, V) and the last state h_n (B, H)."""
        B, T = tokens.shape
        if h0 is None:
            h0 = self.weight_hh.new_zeros(B, self.weight_hh.size(0))
        lengths = torch.full((B,), T, device=tokens.device)  # no padding
        weights = self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh
        outputs, h_n = rnn_forward(self.embedding(tokens), lengths, h0, *weights)
        return self.output(outputs), h_n


# %% exercise="char_lm_loss"
def char_lm_loss(logits: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
    """Mean surprise of a language model at the characters it predicts, in bits per character.

    logits (B, T, V), tokens (B, T) int64, lengths (B,) int64 with 1 <= lengths <= T. logits[:, t] predict tokens[:, t + 1],
    so sequence b has lengths[b] - 1 predicted characters: all but its first, and none of its padding. Returns a scalar:
    the sum of -log2 p over all predicted characters of the batch, divided by their number; 0 if there are none.
    """
    ### BEGIN SOLUTION
    targets = tokens[:, 1:]  # (B, T - 1)
    nats = F.cross_entropy(logits[:, :-1].transpose(1, 2), targets, reduction="none")  # (B, T - 1)
    positions = torch.arange(targets.size(1), device=tokens.device)
    predicted = positions < (lengths - 1).unsqueeze(1)  # (B, T - 1)
    return (nats * predicted).sum() / predicted.sum().clamp(min=1) / math.log(2)
    ### END SOLUTION


# %% check="char_lm_loss"
check("char_lm_loss")


# %% exercise="next_char_probs"
def next_char_probs(logits: Tensor, temperature: float, top_k: int | None = None) -> Tensor:
    """The distribution from which the next character is drawn.

    logits (B, V), temperature > 0, top_k >= 1 or None. The logits are divided by the temperature; if top_k is given, only
    characters whose logit is at least the row's top_k-th largest keep a probability (ties with it all stay), and the
    others get 0. Returns probs (B, V), each row summing to 1. A top_k above V cuts nothing.
    """
    ### BEGIN SOLUTION
    logits = logits / temperature
    if top_k is not None:
        k = min(top_k, logits.size(-1))
        kth_largest = logits.topk(k, dim=-1).values[:, -1:]  # (B, 1)
        logits = logits.masked_fill(logits < kth_largest, -math.inf)
    return torch.softmax(logits, dim=-1)
    ### END SOLUTION


# %% check="next_char_probs"
check("next_char_probs")


# %% exercise="generate"
def generate(model: nn.Module, prompt: Tensor, draws: Tensor, temperature: float, top_k: int | None = None) -> Tensor:
    """Continues each prompt by sampling one character after another from the model.

    `logits, h_n = model(tokens, h0)` with tokens (B, T) gives logits (B, T, V) and the state after the last token; without
    h0 it starts from the zero state. prompt (B, T0) int64 with T0 >= 1; draws (B, N), uniform in [0, 1): draws[:, n] picks
    the n-th new character, the first v for which p_0 + ... + p_v > draw. Returns tokens (B, T0 + N) int64, the prompt first.
    """
    ### BEGIN SOLUTION
    tokens = prompt
    logits, h = model(prompt)
    for draw in draws.unbind(dim=1):  # (B,)
        probs = next_char_probs(logits[:, -1], temperature, top_k)
        cumulative = probs.cumsum(dim=-1)  # (B, V)
        token = (cumulative <= draw.unsqueeze(1)).sum(dim=1, keepdim=True)  # (B, 1)
        token = token.clamp(max=probs.size(1) - 1)  # rounding may leave the last sum just below 1
        tokens = torch.cat([tokens, token], dim=1)
        logits, h = model(token, h)
    return tokens
    ### END SOLUTION


# %% check="generate"
check("generate")

# %% [markdown]
# ## 5. How far back does it remember?


# %% exercise="memory_horizon"
def memory_horizon(x: Tensor, h0: Tensor, v: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    """How much each input still matters at the end: norms[t] = || d (v . h_T) / d x_t ||.

    x (T, I), one sequence; h0 (H,), v (H,), parameters as in `rnn_step`; h_T is the state after the last step. Returns
    norms (T,), the Euclidean norm of each input's gradient, in the order of time. Autograd is allowed.
    """
    ### BEGIN SOLUTION
    x = x.detach().requires_grad_(True)
    h = h0.unsqueeze(0)  # (1, H)
    for x_t in x:
        h = rnn_step(x_t.unsqueeze(0), h, w_ih, w_hh, b_ih, b_hh)
    (grad_x,) = torch.autograd.grad(h[0] @ v, x)  # (T, I)
    return grad_x.norm(dim=1)
    ### END SOLUTION


# %% check="memory_horizon"
check("memory_horizon")
