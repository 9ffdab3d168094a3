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
#
# How can a network with a fixed number of weights read a name of five letters, a novel of half a million, or a signal
# that never ends? By reading one item at a time and keeping a **state**: a vector that the network rewrites at each
# step, from the new item and from what the state was before. This week you write such a network from its one line of
# mathematics, work out its gradient by hand, train it on names and on novels, and measure how far back it remembers.

# %% [markdown]
# ## Where it comes from
#
# - **1986.** Rumelhart, Hinton and Williams, *Learning representations by back-propagating errors* (Nature 323): the
#   chain rule through layers. They note that a recurrent network is a deep one whose layers share their weights, one
#   layer a step.
# - **1990.** Elman, *Finding structure in time* (Cognitive Science 14): a network that gets its own last state as a
#   second input, reads letters and words, and groups them by meaning without being told. Yours is his, except that
#   the gradient goes all the way back.
# - **1990.** Werbos, *Backpropagation through time: what it does and how to do it* (Proceedings of the IEEE 78): the
#   algorithm of part 2.
# - **1994 and 2013.** Bengio, Simard and Frasconi, *Learning long-term dependencies with gradient descent is
#   difficult*; Pascanu, Mikolov and Bengio, *On the difficulty of training recurrent neural networks*: why the
#   gradient vanishes or explodes, and clipping against the latter.
# - **2011 and 2015.** Sutskever, Martens and Hinton, *Generating text with recurrent neural networks*; Karpathy, *The
#   unreasonable effectiveness of recurrent neural networks*: character by character, and what such a network writes.

# %% [markdown]
# ## How to work
#
# | part | what you write | minutes | points |
# |---|---|---|---|
# | 1. A network with a state | `rnn_step`, `rnn_forward` | 45 | 16 |
# | 2. Backpropagation through time | `rnn_step_backward`, `rnn_backward`, `clip_by_global_norm`, a written question | 100 | 36 |
# | 3. Where does a name come from? | `NameClassifier.forward`, an experiment | 45 | 16 |
# | 4. A novel, character by character | `char_lm_loss`, `next_char_probs`, `generate`, an experiment | 95 | 27 |
# | 5. How far back does it remember? | an experiment, a written question; stretch: `memory_horizon` | 40 | 5 |
#
# With half an hour of reading that makes about six hours for 100 points; `stretch` exercises come on top and earn
# bonus points.
#
# Each exercise has a specification, hints that open one by one, a **check** to run as often as you like (it works
# offline and names the mistake where it can), and then something to look at that your own code makes. Write your code
# in place of `raise NotImplementedError()`. The cells that draw something and the experiments are not run when you
# are graded; what an experiment trains is saved beside the notebook and handed in with it. Before you submit, restart
# the kernel and run everything down to the last check, or press *Validate*.
#
# **Letters** name axes, here and in all later weeks: `B` batch, `T` time, `I` input width, `H` hidden width (the size
# of the state), `V` vocabulary, `C` classes. `x (B, T, I)` is a tensor of that shape. Vectors are rows: a batch of
# states is `(B, H)`, and a weight that takes inputs to states is `(H, I)`, as in `torch.nn`. Everything you write
# follows the dtype and the device of its inputs.

# %%
import math

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course.check import checks_for

device = "cuda" if torch.cuda.is_available() else "cpu"
check = checks_for("week01_rnn")

# %% [markdown]
# ## 1. A network with a state
#
# $$h_t = \tanh(W_{ih}\, x_t + b_{ih} + W_{hh}\, h_{t-1} + b_{hh})$$
#
# That is all of it. The same four parameters serve every step, so the network can be as deep in time as its input is
# long. (Two biases where one would do: `torch.nn.RNN` has both, and your weights will load into it.)

# %% [markdown]
# ### `rnn_step`
#
# One step in time, for a whole batch: it takes each sequence's state and next input to its next state. Everything
# else this week is built on this line.
#
# `rnn_step(x, h, w_ih, w_hh, b_ih, b_hh) -> h_next`
#
# - `x (B, I)`, `h (B, H)`: inputs and states, one row a sequence
# - `w_ih (H, I)`, `w_hh (H, H)`, `b_ih (H,)`, `b_hh (H,)`
# - returns `h_next (B, H)`, the formula above in each row
# - `torch.nn.RNN` and `torch.nn.RNNCell` are not to be used here, nor in the exercises that build on this one
#
# difficulty 1 of 5 · 15 min


# %% exercise="rnn_step"
def rnn_step(x: Tensor, h: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    """One step of a recurrent network: h_next = tanh(W_ih x + b_ih + W_hh h + b_hh) (Elman 1990).

    x (B, I), h (B, H), w_ih (H, I), w_hh (H, H), b_ih (H,), b_hh (H,), all of one floating dtype. Returns h_next (B, H).
    """
    ### BEGIN SOLUTION
    return torch.tanh(x @ w_ih.T + b_ih + h @ w_hh.T + b_hh)
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Write the shapes under the formula. The formula multiplies a matrix by a column; here a state is a row. What has to
# happen to the matrix so that `(B, I)` times it gives `(B, H)`?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `(B, I) @ (I, H)` is `(B, H)`, and `.T` turns `(H, I)` into `(I, H)`. A bias `(H,)` is added to every row by
# broadcasting.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# The tanh goes around the sum of all four terms.
#
# </details>

# %% check="rnn_step"
check("rnn_step")

# %% [markdown]
# **Predict.** Two copies of one network read the same random inputs, but start from different states. Will their
# states become equal, stay apart, or drift further apart? What would it depend on? Say so before you run the cell: it
# tries four sizes of $W_{hh}$, whose *gain* is the factor by which it stretches a typical state.

# %% look="rnn_step"
rng = torch.Generator().manual_seed(1)
H, steps = 100, 60
w_ih, w_hh = torch.randn(H, 3, generator=rng) * 0.1, torch.randn(H, H, generator=rng) * H**-0.5
xs, zero = torch.randn(steps, 1, 3, generator=rng), torch.zeros(H)
starts = torch.randn(2, 1, H, generator=rng) * 0.5

fig, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
for gain in (0.5, 0.9, 1.1, 1.5):
    one, other = starts
    distances = [(one - other).norm().item()]
    for x in xs:
        one, other = (rnn_step(x, h, w_ih, gain * w_hh, zero, zero) for h in (one, other))
        distances.append((one - other).norm().item())
    ax.semilogy(range(steps + 1), distances, label=f"gain {gain}")
ax.set(
    title="Same inputs, different starts: does the state forget?", xlabel="steps", ylabel="distance of the two states"
)
ax.set_ylim(bottom=1e-7)
ax.legend(loc="lower left")
plt.show()

# %% [markdown]
# ### `rnn_forward`
#
# A batch holds sequences of different lengths, so the short ones are padded; what stands in the padding must change
# nothing. This is the whole forward pass of a recurrent layer, and everything you train this week goes through it.
#
# `rnn_forward(x, lengths, h0, w_ih, w_hh, b_ih, b_hh) -> (outputs, h_n)`
#
# - `x (B, T, I)`; sequence `b` is `x[b, :lengths[b]]`, the rest of its row is padding and may hold anything
# - `lengths (B,)` int64, each from 1 to `T`; the longest may be shorter than `T`
# - `h0 (B, H)`: the state before the first step; parameters as in `rnn_step`
# - returns `outputs (B, T, H)`: the state after each step, and zero at padding
# - and `h_n (B, H)`: each sequence's state after **its own** last step
# - gradients must flow back through it to every input
#
# difficulty 3 of 5 · 30 min


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


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Begin without lengths: a loop over `t`, a list of states, `torch.stack` at the end. Which dimension is time to be
# stacked on?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# At step `t` some sequences still run and some are over. A boolean column `(B, 1)` says which. A sequence that is
# over should keep the state it has.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `torch.where(condition, a, b)` takes `a` where the condition holds, `b` elsewhere, row by row if the condition is
# `(B, 1)`. You need it twice: once for the state that is carried on, once for the output of this step.
#
# </details>

# %% check="rnn_forward"
check("rnn_forward")

# %% [markdown]
# **Predict.** Five names go through one untrained network of 12 units, as one padded batch. In which of the columns
# below will the outputs of two names be equal, and why there? Look for them in the map.

# %% look="rnn_forward"
names = ["Rumelhart", "Hinton", "Elman", "Werbos", "Hin"]
rng = torch.Generator().manual_seed(2)
lengths = torch.tensor([len(name) for name in names])
x = torch.zeros(len(names), int(lengths.max()), 26)
for b, name in enumerate(names):
    for t, letter in enumerate(name.lower()):
        x[b, t, ord(letter) - ord("a")] = 1.0
H = 12
weights = torch.randn(H, 26, generator=rng), torch.randn(H, H, generator=rng) * H**-0.5, torch.zeros(H), torch.zeros(H)
outputs, h_n = rnn_forward(x, lengths, torch.zeros(len(names), H), *weights)

fig, axes = plt.subplots(1, len(names), figsize=(11, 3.4), sharey=True, layout="constrained")
for ax, name, states in zip(axes, names, outputs, strict=True):
    image = ax.imshow(states.T, cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
    ax.set_xticks(range(x.size(1)), list(name.ljust(x.size(1), "·")))
    ax.set(title=name, xlabel="character read (· padding)")
axes[0].set_ylabel("unit of the state")
fig.colorbar(image, label="output (white: 0)")
plt.show()

# %% [markdown]
# ## 2. Backpropagation through time
#
# Unrolled in time, the network is a deep one: `T` layers with the same weights. So its gradient is the chain rule's,
# from the last step to the first, and because each parameter is used at every step, its gradient is the sum of what
# every step contributes. In these two exercises `torch.autograd` is not to be used: you write what it does. From then
# on it may work for you.

# %% [markdown]
# ### `rnn_step_backward`
#
# The loss $L$ depends on `h_next`, and you are told how: `grad_h_next` is $\partial L / \partial h_\text{next}$. From
# it follow the gradients of all that went into the step.
#
# `rnn_step_backward(grad_h_next, x, h, h_next, w_ih, w_hh) -> (grad_x, grad_h, grad_w_ih, grad_w_hh, grad_b_ih,
# grad_b_hh)`
#
# - `grad_h_next (B, H)`; `x (B, I)`, `h (B, H)`, `w_ih (H, I)`, `w_hh (H, H)` as they went into `rnn_step`; `h_next
#   (B, H)` as it came out
# - returns six tensors, each of the shape of what it is the gradient of; `L` is one number for the whole batch, so a
#   parameter's gradient is the sum over the batch
# - autograd is forbidden
#
# difficulty 4 of 5 · 40 min


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


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Name the sum inside the tanh $a$, `(B, H)`, so that `h_next` is $\tanh(a)$. First get $\partial L/\partial a$: entry
# by entry, `grad_h_next` times the derivative of the tanh. That derivative can be written with `h_next` alone.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# $\tanh'(a) = 1 - \tanh(a)^2$. With `d` for $\partial L/\partial a$: in one row, $a_i = \sum_j W_{ij}\, x_j + \dots$,
# so $\partial L/\partial x_j = \sum_i d_i W_{ij}$ and $\partial L/\partial W_{ij} = d_i x_j$, added up over the rows.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Let the shapes lead you: from `d (B, H)` and `w_ih (H, I)` to `grad_x (B, I)`; from `d (B, H)` and `x (B, I)` to
# `grad_w_ih (H, I)`. Both biases enter the sum alike, so they have the same gradient.
#
# </details>

# %% check="rnn_step_backward"
check("rnn_step_backward")

# %% [markdown]
# There is a test for any gradient that needs no reference: move one number a little each way and see how the loss
# changes. Here each dot is one entry of one of your six gradients.

# %% look="rnn_step_backward"
rng = torch.Generator().manual_seed(3)
B, I, H = 4, 3, 5
shapes = {"x": (B, I), "h": (B, H), "w_ih": (H, I), "w_hh": (H, H), "b_ih": (H,), "b_hh": (H,)}
inputs = {name: torch.randn(*shape, generator=rng, dtype=torch.float64) for name, shape in shapes.items()}
upstream = torch.randn(B, H, generator=rng, dtype=torch.float64)
h_next = rnn_step(**inputs)
by_hand = rnn_step_backward(upstream, inputs["x"], inputs["h"], h_next, inputs["w_ih"], inputs["w_hh"])


def loss_at(name: str, index: int, change: float) -> float:
    """The loss sum(upstream * h_next) with one entry of one input changed."""
    moved = {key: value.clone() for key, value in inputs.items()}
    moved[name].view(-1)[index] += change
    return (upstream * rnn_step(**moved)).sum().item()


fig, ax = plt.subplots(figsize=(5.2, 4.6), layout="constrained")
for name, gradient in zip(shapes, by_hand, strict=True):
    nudged = [(loss_at(name, i, 1e-5) - loss_at(name, i, -1e-5)) / 2e-5 for i in range(gradient.numel())]
    ax.plot(nudged, gradient.flatten(), "o", ms=4, alpha=0.7, label=name)
ax.axline((0, 0), slope=1, color="grey", lw=0.8, zorder=0)
ax.set(title="Your gradient against a nudge", xlabel="change of the loss per nudge", ylabel="entry of your gradient")
ax.legend(title="gradient of")
plt.show()

# %% [markdown]
# ### `rnn_backward`
#
# Backpropagation through time: the backward pass of `rnn_forward` over all steps. A state matters twice, for its own
# output and for every later step, and both gradients meet in it.
#
# `rnn_backward(grad_outputs, x, h0, outputs, w_ih, w_hh) -> (grad_x, grad_h0, grad_w_ih, grad_w_hh, grad_b_ih,
# grad_b_hh)`
#
# - `grad_outputs (B, T, H)`: $\partial L/\partial$ `outputs`, where the later states are not yet counted: what
#   reaches each output directly
# - `x (B, T, I)`, `h0 (B, H)` as they went into `rnn_forward`, `outputs (B, T, H)` as they came out; all sequences
#   have length `T`
# - returns six tensors, each of the shape of what it is the gradient of
# - autograd is forbidden
#
# difficulty 4 of 5 · 40 min


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


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Go through the steps from the last to the first and carry one tensor `(B, H)`: the gradient that comes back from the
# future into the state you are at. What is it behind the last step?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# At step `t` the gradient of the state is what reaches its output directly plus what is carried. `rnn_step_backward`
# turns it into the step's six gradients; one of them is the carried gradient for step `t - 1`.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# The state before step `t` is `outputs[:, t - 1]`, but what is it at the first step? (Python's `-1` will not
# complain.) And what is left in your hands after the first step is a gradient that was asked for.
#
# </details>

# %% check="rnn_backward"
check("rnn_backward")

# %% [markdown]
# Now a network learns with your gradients alone. It reads random signs and is to say, at each step, the sign of
# **five steps ago**. In the control, the gradient is cut: the sequence is treated in pieces of 1, 2 or 5 steps, whose
# first state counts as given (*truncated* backpropagation).
#
# **Predict.** Which of the four will learn it? The forward pass is the same in all: even with pieces of one step, the
# state carries the past along.


# %% look="rnn_backward"
def learn_echo(piece: int, delay: int = 5, updates: int = 300, B: int = 32, T: int = 20, H: int = 16) -> list[float]:
    """Mean squared error of unit 0 against 0.8 times the sign read `delay` steps ago, at each update."""
    rng = torch.Generator().manual_seed(4)
    w_ih, w_hh = torch.randn(H, 1, generator=rng) * 0.5, torch.randn(H, H, generator=rng) * 0.9 * H**-0.5
    weights = [w_ih, w_hh, torch.zeros(H), torch.zeros(H)]
    errors = []
    for _ in range(updates):
        x = torch.randint(2, (B, T, 1), generator=rng) * 2.0 - 1.0
        outputs, _ = rnn_forward(x, torch.full((B,), T), torch.zeros(B, H), *weights)
        error = torch.zeros_like(outputs)
        error[:, delay:, 0] = outputs[:, delay:, 0] - 0.8 * x[:, :-delay, 0]
        count = B * (T - delay)
        errors.append((error**2).sum().item() / count)
        states = torch.cat([torch.zeros(B, 1, H), outputs], dim=1)  # states[:, t] is the state before step t
        for t in range(0, T, piece):
            part = slice(t, t + piece)
            _, _, *grads = rnn_backward(
                2 * error[:, part] / count, x[:, part], states[:, t], outputs[:, part], w_ih=weights[0], w_hh=weights[1]
            )
            total = grads if t == 0 else [a + b for a, b in zip(total, grads, strict=True)]
        scale = max(1.0, sum((grad**2).sum().item() for grad in total) ** 0.5)
        weights = [weight - grad / scale for weight, grad in zip(weights, total, strict=True)]
    return errors


fig, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
for piece in (1, 2, 5, 20):
    ax.semilogy(learn_echo(piece), label=f"{piece} steps" if piece > 1 else "1 step")
ax.axhline(0.64, color="grey", ls=":", label="always answering 0")
ax.set(title="Saying the sign of five steps ago", xlabel="updates", ylabel="mean squared error", ylim=(1e-4, 3))
fig.legend(title="gradient goes back", loc="outside right upper")
plt.show()

# %% [markdown]
# ### `clip_by_global_norm`
#
# Once in a while the gradient explodes, and a single update throws the network out of everything it has learned.
# Clipping keeps the gradient's direction and limits its length (Pascanu et al. 2013).
#
# `clip_by_global_norm(grads, max_norm) -> (clipped, norm)`
#
# - `grads`: a list of tensors of any shapes, with at least one; `max_norm` > 0
# - `norm`: a scalar, the Euclidean norm of all entries of all tensors, as if they were one long vector, before
#   clipping
# - `clipped`: a list of new tensors, each its gradient times `min(1, max_norm / (norm + 1e-6))`; the given ones stay
#   as they are
#
# difficulty 2 of 5 · 10 min


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


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# One norm, one factor for all. The norm is the root of the sum of squares over everything.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The `min` is what keeps small gradients as they are. A scalar tensor can be limited from above with
# `.clamp(max=...)`.
#
# </details>

# %% check="clip_by_global_norm"
check("clip_by_global_norm")

# %% [markdown]
# **Predict.** The arrows on the right are a gradient of two numbers, clipped in two ways: by the norm of both, as you
# do, and entry by entry. Which of the two points where the gradient points?

# %% look="clip_by_global_norm"
fig, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
direction = torch.tensor([0.6, 0.8])
lengths = torch.logspace(-2, 2, 80)
after = [clip_by_global_norm([length * direction], 1.0)[0][0].norm().item() for length in lengths]
left.loglog(lengths, after, label="clipped at 1")
left.loglog(lengths, lengths, ls=":", color="grey", label="not clipped")
left.set(title="Only what is too long is shortened", xlabel="norm of the gradient", ylabel="norm after clipping")
left.legend()

gradient = torch.tensor([0.8, 3.0])
arrows = {
    "the gradient": (gradient, "lightgrey"),
    "clipped by norm (yours)": (clip_by_global_norm([gradient], 1.0)[0][0], "C0"),
    "clipped entry by entry": (gradient.clamp(-1.0, 1.0), "C1"),
}
for label, (arrow, colour) in arrows.items():
    right.quiver(0, 0, *arrow, angles="xy", scale_units="xy", scale=1, color=colour, label=label, width=0.012)
right.set(
    xlim=(-0.5, 1.5), ylim=(-0.2, 3.2), xlabel="first entry", ylabel="second entry", title="Direction kept, or not"
)
right.set_aspect("equal")
right.legend(loc="center left", bbox_to_anchor=(1.05, 0.5))
plt.show()

# %% [markdown] written="why_clipping_is_not_enough" points=5
# ### Why one and not the other?
#
# *5 points · 10 min · answer in a few sentences*
#
# Going back from step $t$ to step $t - k$, the gradient is multiplied $k$ times by $W_{hh}^\top$ and by the
# derivative of the tanh.
#
# 1. Why does it therefore vanish or explode with $k$, and why does the tanh itself push towards vanishing?
# 2. Clipping cures the exploding gradient. Why is there no such cure for the vanishing one: why does it not help to
#    multiply a small gradient until its norm is 1?
#
# ### BEGIN SOLUTION
# **Rubric (5 points)**
#
# - 1 point: a product of $k$ like factors grows or shrinks geometrically; names the spectral norm or the largest
#   singular value of $W_{hh}$ (times the derivative) against 1. Only "many multiplications" without a rate: half a
#   point.
# - 1 point: $\tanh'$ is at most 1, and near 0 where a unit is saturated, so it can only shorten the gradient.
# - 1 point: an exploding gradient still points somewhere useful (at least its direction is that of descent), and only
#   its length is harmful; clipping mends the length.
# - 2 points: a parameter's gradient is a **sum** over steps. What has vanished is the distant steps' share of that
#   sum, next to the recent steps' share; scaling the sum scales both, so their proportion, and with it the direction,
#   stays that of the recent steps. One point for "there is no information left to scale up" or for noise and rounding
#   alone.
#
# A good answer in three sentences is enough. No points for naming the LSTM as a remedy: it is not the question.
# ### END SOLUTION

# %% [markdown]
# ## 3. Where does a name come from?
#
# *Rumelhart*, *Elman*, *Nakamura*, *Petrov*: you have never met them and yet you guess a language, from a few letters
# in a certain order. A network can, too. It reads the name letter by letter, and its last state goes through one
# linear layer to a score for each language.

# %% [markdown]
# ### `NameClassifier.forward`
#
# The whole model: an embedding that turns each character into a vector, your recurrent network, and a linear layer on
# the last state. `__init__` is given, so that everybody's parameters have the same names; write `forward`.
#
# `NameClassifier.forward(tokens, lengths) -> logits`
#
# - `tokens (B, T)` int64: the characters' numbers, padded; `lengths (B,)` int64, each from 1 to `T`
# - the state starts from zeros
# - returns `logits (B, C)`: the linear layer `self.output` of each name's last state, without softmax
#
# difficulty 2 of 5 · 15 min


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


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Three calls: `self.embedding`, `rnn_forward`, `self.output`. Write down the shape after each.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The initial state is `(B, H)`, of the embedding's dtype and device: `x.new_zeros(...)` makes one like that.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `rnn_forward` returns two things, and one of them is each name's own last state already.
#
# </details>

# %% check="NameClassifier.forward"
check("NameClassifier.forward")

# %% [markdown]
# Your network learns fifteen names of three languages by heart, which takes a few seconds. Then it reads four that
# are new to it, and says after every letter what it believes.
#
# **Predict.** Will its belief about *Yamanaka* settle letter by letter, or jump to and fro? Think of when it was
# asked for its opinion while it learned: only at the end of a name.

# %% look="NameClassifier.forward"
learned = {
    "Italian": ["Rossi", "Ferrari", "Esposito", "Bianchi", "Romano"],
    "Japanese": ["Tanaka", "Suzuki", "Yamamoto", "Nakamura", "Kobayashi"],
    "Russian": ["Ivanov", "Petrov", "Smirnov", "Volkov", "Sokolov"],
}


def as_tokens(names: list[str]) -> tuple[Tensor, Tensor]:
    """Letters a to z as 0 to 25, padded with 0: tokens (B, T) and lengths (B,)."""
    rows = [torch.tensor([ord(letter) - ord("a") for letter in name.lower()]) for name in names]
    return nn.utils.rnn.pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows])


tokens, lengths = as_tokens([name for names in learned.values() for name in names])
labels = torch.arange(3).repeat_interleave(5)
torch.manual_seed(5)
model = NameClassifier(26, 3, d_embed=8, hidden_size=24)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for _ in range(120):
    optimizer.zero_grad()
    F.cross_entropy(model(tokens, lengths), labels).backward()
    optimizer.step()

new = ["Bellini", "Yamanaka", "Pavlov", "Marino"]
fig, axes = plt.subplots(1, len(new), figsize=(12, 2.4), sharey=True, layout="constrained")
for ax, name in zip(axes, new, strict=True):
    row, length = as_tokens([name])
    prefixes = torch.arange(1, int(length) + 1)  # the same name, known up to each of its letters
    with torch.no_grad():
        beliefs = model(row.expand(len(prefixes), -1), prefixes).softmax(dim=1)
    image = ax.imshow(beliefs.T, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    ax.set_xticks(range(len(name)), list(name))
    ax.set_yticks(range(3), list(learned))
    ax.set(title=name, xlabel="read up to this letter")
fig.colorbar(image, label="probability")
plt.show()

# %% [markdown]
# ## Experiment: where does a name come from?
#
# *About 30 minutes.* Now with real data: names from 18 languages, some of them with far more names than others.
#
# **Predict**, before you run anything. Which languages will the network tell apart best, and which pairs will it
# confuse? Does a language with few names have to come off badly? And your network or `torch.nn.RNN` of the same size:
# will one be better, and by how much would they have to differ before you believed it?

# %%
from course import plots, train, window
from course.data import (
    austen,
    encode_novels,
    encode_surnames,
    novel_alphabet,
    surname_alphabet,
    surname_labels,
    surnames,
)

seed = 0  # of the models that you hand in
size = "gpu" if device == "cuda" else "cpu"

# %% [markdown]
# Two questions come before any training. Is the loss of the untrained network what it must be, $\ln 18$? And can it
# learn one batch by heart? A bug shows here in seconds. Then comes one minute of training; if you interrupt it, running
# the cell again goes on where it stopped. The model is saved as `names.safetensors` and `names.json`.


# %% experiment="names"
def names_loss(model: nn.Module, tokens: Tensor, lengths: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(model(tokens, lengths), labels)


hidden_size, updates = {"cpu": (128, 1500), "gpu": (256, 4000)}[size]
training, validation = ([part.to(device) for part in encode_surnames(surnames()[s])] for s in ("train", "validation"))
batches = train.padded_batches(*training, batch_size=64, seed=seed)

torch.manual_seed(seed)
classifier = NameClassifier(len(surname_alphabet()), len(surname_labels()), 64, hidden_size).to(device)
first_loss, expected = train.loss_at_start(classifier, batches(0), names_loss, num_classes=len(surname_labels()))
learned_by_heart = train.overfit(classifier, batches(0), names_loss)
print(f"loss at the start {first_loss:.2f}, ln 18 = {expected:.2f}; one batch by heart: {learned_by_heart[-1]:.4f}")


def validation_accuracy(model: nn.Module) -> float:
    return train.accuracy(model(*validation[:2]), validation[2])


settings = {"clip": clip_by_global_norm, "evaluate": validation_accuracy, "every": updates // 10}
names_history = train.fit(
    classifier, batches, names_loss, updates, checkpoint="names.checkpoint", label="names", **settings
)
train.save_artifact("names", classifier, {"accuracy": names_history.figure, "points": names_history.points})

# %% [markdown]
# The check below scores the saved model on the validation names, as a forecast: the grade uses names that nobody but the
# grader has. Whoever trains a right network as it stands here gets full points, half of them go to one that stopped early.

# %% check="names"
check("names")

# %% [markdown]
# **Compare** with what you predicted. Each row of the map is a language; the numbers are percent of its names.

# %% experiment="names_confusion"
with torch.no_grad():
    guesses = classifier(*validation[:2]).argmax(dim=1)
counts = train.confusion(guesses, validation[2], len(surname_labels())).cpu()
per_class = {
    label: (row[i] / row.sum()).item() for i, (label, row) in enumerate(zip(surname_labels(), counts, strict=True))
}
for label, share in sorted(per_class.items(), key=lambda item: -item[1]):
    known = int((training[2] == surname_labels().index(label)).sum())
    print(f"{label:12} {share:4.0%} right, {known:5} names to learn from")
plots.confusion_map(counts, surname_labels(), title=f"Surnames nobody trained on: {names_history.figure:.0%} right")
plt.show()


# %% [markdown]
# Now the same network with `torch.nn.RNN` in place of your `rnn_forward`: same size, same data in the same order, three
# seeds each. Both draw their first weights in the same order from the same distribution, so a seed gives both the same
# ones. If your network computes what PyTorch's computes, what must the two curves look like? And what is the band then:
# how much two networks differ, or how much luck does?


# %% experiment="names_level"
class TorchClassifier(nn.Module):
    """NameClassifier with PyTorch's own recurrent layer."""

    def __init__(self, vocab_size: int, num_classes: int, d_embed: int, hidden_size: int):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, d_embed)
        self.rnn = nn.RNN(d_embed, hidden_size, batch_first=True)
        self.output = nn.Linear(hidden_size, num_classes)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(self.embedding(tokens), lengths.cpu(), True, enforce_sorted=False)
        return self.output(self.rnn(packed)[1][0])


level = {"yours": [], "torch.nn.RNN": []}
for run in (1, 2, 3):
    for name, make in zip(level, (NameClassifier, TorchClassifier), strict=True):
        torch.manual_seed(run)
        model = make(len(surname_alphabet()), len(surname_labels()), 64, hidden_size).to(device)
        batches = train.padded_batches(*training, batch_size=64, seed=run)
        history = train.fit(model, batches, names_loss, updates, label=f"{name}, seed {run}", **settings)
        level[name].append([point[3] for point in history.points])
at = [point[0] for point in history.points]
plots.curves(at, level, xlabel="updates", ylabel="accuracy on validation names", title="The same network, twice")
plt.show()

# %% [markdown]
# ## 4. A novel, character by character
#
# A language model gives each next character a probability. If it gave $p$ to the one that comes, it is surprised by
# $-\log_2 p$ bits, and its mean surprise, in **bits per character**, is the common measure of this course: the same
# held-out novel, scored from this week's network to the last week's. `CharRNN` below is given. It is your
# `rnn_forward` with a linear layer on every state instead of the last alone.


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


# %% [markdown]
# ### `char_lm_loss`
#
# The loss by which a language model is trained and judged. Its subtleties are where papers go wrong: what is
# predicted by what, what counts, and in which unit.
#
# `char_lm_loss(logits, tokens, lengths) -> loss`
#
# - `logits (B, T, V)`; `tokens (B, T)` int64; `lengths (B,)` int64, each from 1 to `T`
# - `logits[:, t]` were made after reading `tokens[:, t]` and predict `tokens[:, t + 1]`: the **shift** is done here
# - a text of length `n` has `n - 1` predicted characters; its first is not predicted, its padding does not count
# - returns a scalar: the sum of $-\log_2 p$ over all predicted characters of the batch, divided by how many there
#   are; 0 if there are none
# - the gradient must reach the logits
#
# difficulty 3 of 5 · 25 min


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


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Which logits have something to predict, and which tokens are predicted by something? Cut both so that they have the
# same shape `(B, T - 1)` (and `V`).
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `F.cross_entropy` with `reduction="none"` gives one number for each character; it wants the classes in dimension 1.
# Then a boolean `(B, T - 1)` says which of them count.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `F.cross_entropy` measures in nats, with the natural logarithm. A bit is $\ln 2$ nats, so a value in nats is a
# larger number in bits.
#
# </details>
#
# <details><summary>Hint 4</summary>
#
# If nothing is predicted, the sum is 0 already; only the division has to be kept from 0 / 0.
#
# </details>

# %% check="char_lm_loss"
check("char_lm_loss")

# %% [markdown]
# Your loss scores three predictors that need no training, on the sentence they were counted on: every symbol alike;
# by how often it occurs; by what the symbol before it was.
#
# **Predict.** How many bits has the first (27 symbols)? Where in the sentence will the third be most surprised?

# %% look="char_lm_loss"
text = (
    "it is a truth universally acknowledged that a single man in possession of a good fortune must be in want of a wife"
)
symbols = "abcdefghijklmnopqrstuvwxyz "
tokens = torch.tensor([[symbols.index(symbol) for symbol in text]])
T, V = tokens.size(1), len(symbols)
pairs = torch.zeros(V, V).index_put((tokens[0, :-1], tokens[0, 1:]), torch.ones(T - 1), accumulate=True)
predictors = {
    "every symbol alike": torch.zeros(1, T, V),
    "how often it occurs": torch.log(tokens[0].bincount(minlength=V) + 1e-9).expand(1, T, V),
    "after the one before": torch.log(pairs + 1e-9)[tokens],
}
whole, one = torch.tensor([T]), torch.tensor([2])
surprise = [
    char_lm_loss(predictors["after the one before"][:, t : t + 2], tokens[:, t : t + 2], one) for t in range(T - 1)
]

fig, (left, right) = plt.subplots(1, 2, figsize=(13, 3.2), width_ratios=[1, 3], layout="constrained")
scores = [char_lm_loss(logits, tokens, whole).item() for logits in predictors.values()]
bars = left.barh(list(predictors), scores, color=["C7", "C1", "C0"])
left.bar_label(bars, fmt="%.2f", padding=3)
left.set(title="Three predictors", xlabel="bits per character", xlim=(0, 6))
left.invert_yaxis()
right.bar(range(T - 1), surprise, color="C0")
right.set_xticks(range(T - 1), list(text[1:].replace(" ", "␣")), fontsize=7)
right.set(
    title="The third, character by character", xlabel="predicted character", ylabel="surprise (bits)", xlim=(-1, T - 1)
)
plt.show()

# %% [markdown]
# ### `next_char_probs`
#
# A model gives logits; before a character is drawn from them, two dials are set. The temperature makes the
# distribution sharper (below 1) or flatter (above 1), and the top-k cut forbids all but the likeliest.
#
# `next_char_probs(logits, temperature, top_k=None) -> probs`
#
# - `logits (B, V)`; `temperature` > 0; `top_k` >= 1 or `None`
# - the logits are divided by the temperature
# - with `top_k`, a character stays if its logit is at least the `top_k`-th largest of its row: characters tied with
#   that one **all** stay; the others get probability 0; a `top_k` above `V` cuts nothing
# - returns `probs (B, V)`; each row sums to 1, also where logits are large
#
# difficulty 2 of 5 · 20 min


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


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Cut before the softmax, and the rest will sum to 1 by itself. Which logit gives probability 0?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `torch.topk(...).values` is sorted from the largest down; its last column is the least logit that stays, one for
# each row. Keep the dimension, so that it broadcasts.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Compare values with that threshold rather than using the indices of `topk`: indices would drop ties.
#
# </details>

# %% check="next_char_probs"
check("next_char_probs")

# %% [markdown]
# **Predict.** At which end is the arg-max, temperature near 0 or very high? And what is at the other end?

# %% look="next_char_probs"
letters = list("etaoinsh")
logits = torch.tensor([[2.4, 1.9, 1.6, 1.5, 1.2, 0.9, 0.3, -0.5]])
settings = {
    "temperature 0.3": (0.3, None),
    "temperature 1": (1.0, None),
    "temperature 3": (3.0, None),
    "temperature 1, top 3": (1.0, 3),
}
fig, ax = plt.subplots(figsize=(8, 3.4), layout="constrained")
for i, (label, (temperature, top_k)) in enumerate(settings.items()):
    places = torch.arange(len(letters)) + 0.2 * (i - 1.5)
    ax.bar(places, next_char_probs(logits, temperature, top_k)[0], width=0.2, label=label)
ax.set_xticks(range(len(letters)), letters)
ax.set(title="One set of logits, four distributions", xlabel="next character", ylabel="probability")
ax.legend()
plt.show()

# %% [markdown]
# ### `generate`
#
# Writing is reading one's own words: draw a character, give it to the model as its next input, draw again. The
# randomness is handed in: `draws` are numbers that somebody drew uniformly from [0, 1), so that the same draws always
# give the same text.
#
# `generate(model, prompt, draws, temperature, top_k=None) -> tokens`
#
# - `logits, h_n = model(tokens, h0)`: `tokens (B, T)` to `logits (B, T, V)` and the state after the last one `(B,
#   H)`; without `h0` it starts from the zero state
# - `prompt (B, T0)` int64, `T0` >= 1; `draws (B, N)`, where `N` may be 0
# - the n-th new character of a row is drawn from `next_char_probs` of the logits after everything before it: it is
#   the first `v` for which $p_0 + \dots + p_v$ is **greater** than `draws[:, n]` (inversion of the cumulative
#   distribution)
# - returns `tokens (B, T0 + N)` int64, the prompt first
#
# difficulty 3 of 5 · 20 min


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


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Read the whole prompt once. Which of its positions has the logits for the first new character? Which state is the
# next character read from?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `probs.cumsum(dim=1)` has the sums $p_0 + \dots + p_v$. They only rise, so the first `v` with a sum above the draw
# is the **number** of sums that are not above it.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# A new character goes into the model as `(B, 1)`, together with the state from the call before. Take care of
# rounding: the last sum may be 0.9999999.
#
# </details>

# %% check="generate"
check("generate")

# %% [markdown]
# A little model that was never trained: it has counted which letter follows which in the list of names above. Your
# `generate` makes new names of it.
#
# **Predict.** What will the names of temperature 0.2 have in common?


# %% look="generate"
class LetterPairs(nn.Module):
    """Logits for the next symbol from counts of pairs; it reads only the last symbol, so its state is empty."""

    def __init__(self, words: list[str], symbols: str):
        super().__init__()
        self.counts = torch.full((len(symbols), len(symbols)), 1e-3)
        for word in words:
            for one, other in zip("." + word, word + ".", strict=True):
                self.counts[symbols.index(one), symbols.index(other)] += 1

    def forward(self, tokens: Tensor, h0: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.counts[tokens].log(), torch.zeros(tokens.size(0), 0)


symbols = ".abcdefghijklmnopqrstuvwxyz"
pairs = LetterPairs([name.lower() for names in learned.values() for name in names], symbols)
draws = torch.rand(4, 36, generator=torch.Generator().manual_seed(6))
for temperature in (0.2, 0.6, 1.0, 2.0):
    rows = generate(pairs, torch.zeros(4, 1, dtype=torch.int64), draws, temperature)
    made = "".join(symbols[token] for row in rows for token in row).split(".")
    print(f"temperature {temperature}:  ", "  ".join(name.capitalize() for name in made if name)[:110])

# %% [markdown]
# ## Experiment: a novel, character by character
#
# *About 30 minutes.* The network reads novels by Jane Austen, all but *Persuasion*, and is scored on that one.
#
# **Predict**, before you run anything. How many bits per character had the predictor that gives every symbol alike,
# above, and how many the one that knows how often each occurs? Where will your network end, and what will its text
# look like there: letters, words, grammar, sense?

# %% [markdown]
# Your network reads windows of 128 characters, drawn at random from the five training novels. It is scored on volume one
# of *Persuasion* (volume two is kept for grading), in windows of 256 characters that overlap by half, so that all but the
# first predictions see 128 characters or more. The alphabet is that of the training novels, and `<unk>` for anything
# else. About three minutes; the model is saved as `chars.safetensors` and `chars.json`.


# %% experiment="chars"
def chars_loss(model: nn.Module, tokens: Tensor) -> Tensor:
    lengths = torch.full((len(tokens),), tokens.size(1), device=tokens.device)
    return char_lm_loss(model(tokens)[0], tokens, lengths)


def bits_on_persuasion(model: nn.Module) -> float:
    return train.bits_per_character(lambda tokens: model(tokens)[0], persuasion, context=256)


hidden_size, batch_size, updates = {"cpu": (256, 32, 600), "gpu": (512, 64, 4000)}[size]
novels, persuasion = (encode_novels(austen()[split]).to(device) for split in ("train", "validation"))
batches = train.text_batches(novels, batch_size, context=128, seed=seed)

torch.manual_seed(seed)
writer = CharRNN(len(novel_alphabet()), 64, hidden_size).to(device)
first_loss, expected = train.loss_at_start(writer, batches(0), chars_loss, num_classes=len(novel_alphabet()), base=2)
print(f"loss at the start {first_loss:.2f} bits, log2 {len(novel_alphabet())} = {expected:.2f}")
settings = {"clip": clip_by_global_norm, "evaluate": bits_on_persuasion, "every": updates // 5}
chars_history = train.fit(
    writer, batches, chars_loss, updates, checkpoint="chars.checkpoint", label="chars", **settings
)
train.save_artifact("chars", writer, {"bits per character": chars_history.figure, "points": chars_history.points})

# %% [markdown]
# The check scores the saved model on windows of volume one, as a forecast; the grade uses volume two. It also changes what
# comes after a character, and expects its prediction to stay.

# %% check="chars"
check("chars")

# %% [markdown]
# This is the first point of the course's **common curve**: bits per character on *Persuasion*, against the seconds
# trained and against the characters seen. Every language model of the later weeks will be put into this picture.

# %% experiment="chars_text"
plots.common_curve({"RNN, week 1": chars_history.points})
plt.show()

alphabet, rng = novel_alphabet(), torch.Generator().manual_seed(8)
prompt = alphabet.encode("Anne ").unsqueeze(0).to(device)
draws = torch.rand(1, 240, generator=rng).to(device)
for temperature in (0.3, 0.7, 1.0, 1.5):
    with torch.no_grad():
        text = alphabet.decode(generate(writer, prompt, draws, temperature)[0])
    print(f"--- temperature {temperature}\n{text}\n")

# %% [markdown]
# ## 5. How far back does it remember?

# %% [markdown]
# ### `memory_horizon`
#
# How much does the end still depend on the beginning? Take one number at the end, $v \cdot h_T$, and the length of
# its gradient with respect to each input: where that is zero, nothing can be learned about the input, however
# important it was.
#
# `memory_horizon(x, h0, v, w_ih, w_hh, b_ih, b_hh) -> norms`
#
# - `x (T, I)`: one sequence, `T` >= 1; `h0 (H,)`, `v (H,)`; parameters as in `rnn_step`
# - $h_T$ is the state after the last step
# - returns `norms (T,)`: $\lVert \partial (v \cdot h_T) / \partial x_t \rVert_2$, in the order of time
# - autograd is allowed here
#
# difficulty 3 of 5 · 20 min · **stretch**: 5 bonus points


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


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# By autograd: make `x` a leaf that records gradients (without changing the caller's tensor), run the network, and ask
# `torch.autograd.grad` for the gradient of one number.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# By hand: the gradient of $h_T$ is $v$, and you have written the step back. Its `grad_x` is what you need the norm
# of.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# One norm for each step: over the features of each row of the gradient `(T, I)`.
#
# </details>

# %% check="memory_horizon"
check("memory_horizon")

# %% [markdown]
# **Predict.** On a logarithmic scale, which shape has each curve: a line, a curve that levels off, a rise? Which of
# the four gains would you start training with?

# %% look="memory_horizon"
rng = torch.Generator().manual_seed(7)
H, I, T, runs = 64, 8, 60, 8
fig, ax = plt.subplots(figsize=(7, 3.8), layout="constrained")
for gain in (0.5, 0.9, 1.2, 2.0):
    curves = []
    for _ in range(runs):
        w_ih, w_hh = torch.randn(H, I, generator=rng) * 0.1, torch.randn(H, H, generator=rng) * gain * H**-0.5
        x, v = torch.randn(T, I, generator=rng), torch.randn(H, generator=rng) * H**-0.5
        curves.append(memory_horizon(x, torch.zeros(H), v, w_ih, w_hh, torch.zeros(H), torch.zeros(H)))
    middle = torch.stack(curves).clamp(min=1e-30).log10().mean(dim=0)
    ax.semilogy(range(T - 1, -1, -1), 10**middle, label=f"gain {gain}")
ax.set(
    title=f"Gradient at the end with respect to each input ({runs} random networks)",
    xlabel="steps before the end",
    ylabel="norm (geometric mean)",
    ylim=(1e-12, 1e3),
)
ax.legend()
plt.show()

# %% [markdown]
# ## Experiment: the reference window
#
# *About 30 minutes.* The network sees one symbol, then a number of distractors, then a query, and is to say which
# symbol it was. One network is trained for each number of distractors, and the **window** is the largest that it
# learns. Weeks 2 and 3 put their networks into the same picture.
#
# **Predict**, before you run anything. At 10, 20, 40, 80 and 120 steps: up to which delay will the network learn to
# name the symbol? Will it fail gradually, or all at once?

# %% [markdown]
# Eight symbols can be the answer, eight others distract; guessing gives 12.5 %. Each network has 1,500 updates of 32
# sequences (counted, so that the speed of your machine does not matter), Adam with 2e-3, clipping at 1, and stops
# early at 97 %. Three seeds for each delay; a delay counts as learned where most of them reach 90 %. This is the longest
# experiment: twelve minutes where it was measured, on two cores that were busy with other work. Interrupt it and it shows
# what it has.


# %% experiment="window"
def make_model(vocab_size: int, num_classes: int) -> nn.Module:
    return NameClassifier(vocab_size, num_classes, d_embed=32, hidden_size=64)


window_runs = window.reference_window(make_model, seeds=(0, 1, 2), clip=clip_by_global_norm, device=device)
print(f"reference window: {window.window_of(window_runs)} steps")
plots.reference_window_plot({"RNN, week 1": window_runs})
plt.show()

# %% [markdown]
# A dot far *below* chance is no error. A network that is caught in the middle of learning can tell the symbols apart and
# call each by another's name: one run of ours with a delay of 20 ended at 0 %. The protocol counts what is there at its
# end, so it counts as not learned.
#
# **The control.** One more network of the same size, trained on delays that change from batch to batch, from 1 to 200,
# short and long scales alike (the logarithm of the delay is uniform): 1,500 updates as before. **Predict:** at which of
# the delays will it do better than the networks that were trained on that one delay alone, and at which worse?

# %% experiment="window_control"
control_runs = [
    run for s in (0, 1, 2) for run in window.mixed_delays(make_model, s, clip=clip_by_global_norm, device=device)
]
plots.reference_window_plot(
    {"one delay": window_runs, "mixed delays": control_runs}, title="Trained on one delay, or on a mixture"
)
plt.show()

# %% [markdown] written="what_limits_the_window" points=5
# ### What limits the window?
#
# *5 points · 10 min · answer in a few sentences*
#
# The state of your network has room for one symbol many times over, and a network with suitable weights could keep it
# for as long as you like. And yet, beyond some delay, training fails.
#
# 1. What, then, is the limit, and why does it set in within a few tens of steps rather than after thousands?
# 2. Which measurement or picture in this notebook supports your answer? What would you measure to tell it from the
#    rival explanation that the network is just too small?
# 3. Trained on a mixture of short and long delays, the same network can learn the long ones too. Why does that fit
#    your answer?
#
# ### BEGIN SOLUTION
# **Rubric (5 points)**
#
# - 2 points: the limit is in **learning**, not in capacity: the gradient that links the answer with the symbol passes
#   once through $W_{hh}^\top$ and $\tanh'$ for each step and shrinks geometrically, so a delay longer by a fixed
#   number of steps costs another constant factor. One point if geometric decay is not mentioned.
# - 1 point: evidence from the notebook: the lines of `memory_horizon` on a logarithmic scale, the echo task with
#   truncated gradients (forward pass alike, learning not), or the failure at chance level in the experiment itself.
# - 1 point: a test against the rival: more units at the same delay (would help a small network, would not mend the
#   gradient), or the norm of the gradient at the symbol for trained and untrained networks, or weights set by hand
#   that solve the task.
# - 1 point: short delays give a gradient that arrives; what is learned on them (a state that holds the symbol, with a
#   gain near 1) is what long delays need, and it also carries the gradient farther. A curriculum, in short.
#
# Full points need the connection between the state's persistence and the gradient's; naming "vanishing gradient"
# alone earns one point in all.
# ### END SOLUTION

# %% [markdown]
# ## Before you submit
#
# Run the checks once more after a restart of the kernel, so that nothing depends on a cell you have deleted: *Kernel
# → Restart Kernel and Run All Cells* also trains the experiments again, so run the exercise and check cells alone if
# you have little time. The models you trained (`names`, `chars`) must lie beside the notebook with their `.json`
# files.
#
# **Further reading.** Karpathy's essay for what such networks write, Pascanu et al. for sections 2 and 3 on the
# geometry of exploding gradients, and Elman for the pleasure of it. Next week: a state that is added to instead of
# rewritten, so that the gradient no longer has to pass through the tanh.
