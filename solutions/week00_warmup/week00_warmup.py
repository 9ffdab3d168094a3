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
# # Week 0: warm-up
#
# Seven small functions that every later week leans on: broadcasting, masks, a stable softmax, cross-entropy, gradient
# descent, and two habits that find most bugs in a training loop. It takes 60 to 90 minutes and gives no points. It is
# also the place to learn how the notebooks of this course work, while nothing is at stake.
#
# You need Python, a little linear algebra, and the idea of a derivative. Nothing here is recurrent yet.

# %% [markdown]
# ## How an exercise works
#
# 1. **Read the specification.** It gives the shape of every input and output; letters name axes, and the same letter
#    always means the same length.
# 2. **Write your code** in place of `raise NotImplementedError()`, and run the cell.
# 3. **Open a hint** if you are stuck. Hints open one by one, and each gives away a little more than the one before.
# 4. **Run the check** under it. It works offline, on inputs that came with the course, as often as you like.
# 5. **Look.** The cell after the check draws something with your function.
#
# When a check fails, read it from the top: **which case** failed, **the first index that differs**, **both values
# there**, and last, if your answer is exactly what a known mistake gives, **the name of that mistake**. For example,
# the first exercise below, without its square root, is answered like this:
#
# ```text
# ✗ pairwise_distances: 0 of 3 cases right.
# First case that fails: 4 points and 3 points in 2 dimensions.
# At [0, 0]: 12 of 12 values differ.
#     yours     2.4034
#     expected  1.55029
# This is what you get from this mistake: The square root is missing: these are squared distances.
# ```
#
# So in row 0, column 0 the check expected another number than yours; all 12 of the 12 numbers are off, so it is not a
# matter of one special place; and the last line says why. That last line is missing when no known mistake fits: then
# the case and the index are your clues. Make the same small input by hand, print the shapes, and compare with what
# you would get on paper. A check that stops with an error shows the line of your code that raised it.
#
# **Handing in.** Two ways to work, the same notebook:
#
# - **JupyterLab**: the *Validate* button in the notebook's toolbar runs the whole notebook afresh and tells whether
#   every check passes. A function that only works because of a cell you have since deleted fails here, and would fail
#   when graded. To submit, open *Nbgrader → Assignment List*, find this week under *Downloaded assignments* and press
#   *Submit*. You may submit again; the last one counts.
# - **Colab**: run the first cell, which installs the course there. When you are done, run everything once more
#   (*Runtime → Restart session and run all*), download the notebook (*File → Download → Download .ipynb*) and hand in
#   the file the way your instructor asks for. Keep its name.
#
# Cells with checks are locked, and you need not change them. Add as many cells of your own as you like.

# %%
import math

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from course.check import checks_for

check = checks_for("week00_warmup")

# %% [markdown]
# ## 1. Shapes and broadcasting
#
# Two tensors of different shapes can be added, multiplied or compared if, **counted from the last axis backwards**,
# their lengths are equal, or one of them is 1, or one tensor has run out of axes. An axis of length 1 is repeated,
# without copying anything. So `(N, 1, D)` with `(M, D)` gives `(N, M, D)`.
#
# ### `pairwise_distances`
# `difficulty 1 of 5 · 10 min`
#
# Distances between all pairs of points come up whenever something nearest is looked for. Attention, later, is built
# in the same way: every query meets every key in one expression and no loop.
#
# - `x` $(N, D)$ and `y` $(M, D)$, floating point
# - returns $(N, M)$, where entry $[i, j]$ is the Euclidean distance $\sqrt{\sum_d (x_{id} - y_{jd})^2}$
#
# <details><summary>Hint 1</summary>The result needs one axis for the points of <code>x</code> and one for the points of
# <code>y</code>. Give each input an axis of length 1 where the other has its points.</details>
# <details><summary>Hint 2</summary><code>x.unsqueeze(1)</code> is (N, 1, D) and <code>y.unsqueeze(0)</code> is (1, M,
# D); their difference is (N, M, D).</details>
# <details><summary>Hint 3</summary>Square, sum over the last axis (<code>dim=-1</code>), take the root.</details>


# %% exercise="pairwise_distances"
def pairwise_distances(x: Tensor, y: Tensor) -> Tensor:
    """The Euclidean distance of every point of x (N, D) from every point of y (M, D), as (N, M)."""
    ### BEGIN SOLUTION
    difference = x.unsqueeze(1) - y.unsqueeze(0)  # (N, M, D)
    return difference.pow(2).sum(dim=-1).sqrt()
    ### END SOLUTION


# %% check="pairwise_distances"
check("pairwise_distances")

# %% [markdown]
# **Something to look at.** Five random centres. For each point of a grid, your function gives the distance to
# the nearest one; the colours say which centre that is.

# %% look="pairwise_distances"
axis = torch.linspace(-3, 3, 121)
grid = torch.cartesian_prod(axis, axis)  # (121 * 121, 2)
centres = 5 * torch.rand(5, 2, generator=torch.Generator().manual_seed(4)) - 2.5
nearest, which = pairwise_distances(grid, centres).min(dim=1)
fig, ax = plt.subplots(figsize=(4.5, 4.5))
ax.pcolormesh(axis, axis, which.view(121, 121).T, cmap="Pastel1", vmin=0, vmax=8)
ax.contour(axis, axis, nearest.view(121, 121).T, levels=8, colors="0.35", linewidths=0.7)
ax.plot(*centres.T, "k*", markersize=11)
ax.set(title="Distance to the nearest of five centres", xlabel="first coordinate", ylabel="second coordinate")
ax.set_aspect("equal")
plt.show()

# %% [markdown]
# ## 2. Masks
#
# Sequences of different lengths are put into one tensor by padding the short ones. What stands at the padding must
# never change an answer. **In this course a mask is True where a step counts.**
#
# ### `masked_mean`
# `difficulty 1 of 5 · 10 min`
#
# The mean over time of the steps that count, for each sequence of a padded batch.
#
# - `values` $(B, T, D)$, floating point; `mask` $(B, T)$, bool, True where the step counts, in any pattern
# - returns $(B, D)$, in the dtype of `values`; **zeros** for a sequence in which no step counts
#
# <details><summary>Hint 1</summary>A bool tensor becomes zeros and ones with <code>mask.to(values.dtype)</code>.
# Which shape does it need, to be multiplied with <code>values</code>?</details>
# <details><summary>Hint 2</summary><code>mask.unsqueeze(-1)</code> is (B, T, 1). Summed over <code>dim=1</code> it is
# the number of steps that count, as (B, 1).</details>
# <details><summary>Hint 3</summary>For a sequence without steps the sum is 0 and the count is 0. A count that is at
# least 1, <code>count.clamp(min=1)</code>, gives 0 / 1.</details>


# %% exercise="masked_mean"
def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean over T of values (B, T, D) where mask (B, T) is True, as (B, D); zeros where it never is."""
    ### BEGIN SOLUTION
    weights = mask.unsqueeze(-1).to(values.dtype)  # (B, T, 1)
    total = (values * weights).sum(dim=1)  # (B, D)
    return total / weights.sum(dim=1).clamp(min=1)
    ### END SOLUTION


# %% check="masked_mean"
check("masked_mean")

# %% [markdown]
# **Predict, then look.** 40 sequences of length 1 to 40, each padded with zeros to 40 steps. Their values scatter
# about 1. What will the plain mean over all 40 steps show for a sequence of length 10, and what will yours?

# %% look="masked_mean"
lengths = torch.arange(1, 41)
counted = torch.arange(40) < lengths.unsqueeze(1)  # (B, T)
noisy = 1 + 0.3 * torch.randn(40, 40, 1, generator=torch.Generator().manual_seed(1))
padded = noisy * counted.unsqueeze(-1)
fig, ax = plt.subplots(figsize=(6, 3.2))
ax.plot(lengths, padded.mean(dim=1), "o-", markersize=3, color="tab:orange", label="plain mean over T")
ax.plot(lengths, masked_mean(padded, counted), "o-", markersize=3, color="tab:blue", label="your masked_mean")
ax.axhline(1, color="0.5", linewidth=0.8)
ax.set(title="What padding does to a mean", xlabel="length of the sequence", ylabel="mean", ylim=(0, 2))
ax.legend()
plt.show()

# %% [markdown]
# ## 3. A mistake, worked through: `keepdim`
#
# A softmax turns each row of a table into probabilities: $p_{bc} = e^{z_{bc}} / \sum_k e^{z_{bk}}$. Written quickly:
#
# ```python
# e = logits.exp()
# p = e / e.sum(dim=-1)
# ```
#
# Take `logits` of shape `(2, 3)`. The sum has the shape `(2,)`: **the axis that was summed over is gone.**
# Broadcasting compares from the last axis backwards, so it lays these 2 numbers along the 3 columns, and Python stops
# with *The size of tensor a (3) must match the size of tensor b (2)*. That is the lucky case.
#
# Now take `(3, 3)`. The sums, one for each **row**, have the shape `(3,)`, and fit along the **columns**. Nothing
# stops; column $j$ is divided by the sum of row $j$, and rows no longer add up to 1. `keepdim=True` keeps the axis
# with length 1: `(3, 1)` fits along the rows only.
#
# Two lessons. A shape error is a gift. And a test on a square input alone proves little about a shape, nor
# does one on a non-square input alone find every wrong axis: the checks here use both.
#
# Run this cell, and say for each table which way it has been divided.

# %% look="keepdim"
e = torch.tensor([[1.0, 2.0, 3.0], [2.0, 2.0, 2.0], [0.0, 0.0, 4.0]]).exp()
fig, axes = plt.subplots(1, 2, figsize=(7, 3.9))
for ax, divisor, title in zip(axes, [e.sum(dim=-1), e.sum(dim=-1, keepdim=True)], ["without", "with"], strict=True):
    p = e / divisor
    ax.imshow(p, cmap="Blues", vmin=0, vmax=1.5)
    for i in range(3):
        for j in range(3):
            ax.text(j, i, f"{p[i, j]:.2f}", ha="center", va="center", color="white" if p[i, j] > 0.9 else "black")
    sums = ", ".join(f"{row:.2f}" for row in p.sum(dim=1))
    ax.set(title=f"{title} keepdim\ndivisor {tuple(divisor.shape)}\nrow sums {sums}", xticks=[], yticks=[])
plt.tight_layout()
plt.show()

# %% [markdown]
# ## 4. Cross-entropy by hand
#
# ### `log_softmax`
# `difficulty 2 of 5 · 10 min`
#
# A network answers with one number for each class, its *logits*; the loss needs the logarithms of their softmax.
# Taken in two steps, `exp` and then `log`, it breaks: in float32 `exp` of anything above 88.7 is infinite, and of
# anything below about -104 it is 0. The way out is an identity: a constant added to all logits of a row changes
# nothing,
#
# $$\log p_c = z_c - \log \sum_k e^{z_k} = (z_c - m) - \log \sum_k e^{z_k - m} \quad\text{for any } m.$$
#
# With $m = \max_k z_k$ no exponent is above 0, and one of them is 0, so the sum is at least 1.
#
# - `logits` $(B, C)$, floating point, of any size
# - returns $(B, C)$: the logarithm of the softmax of each row. Without `torch.log_softmax` and its relatives.
#
# <details><summary>Hint 1</summary>Each row has a maximum of its own:
# <code>logits.amax(dim=-1, keepdim=True)</code>.</details>
# <details><summary>Hint 2</summary>Call the shifted logits <code>shifted</code>. The answer is <code>shifted</code>
# less the logarithm of the row sums of <code>shifted.exp()</code>. Which shape do the row sums need?</details>


# %% exercise="log_softmax"
def log_softmax(logits: Tensor) -> Tensor:
    """The logarithm of the softmax of each row of logits (B, C), as (B, C); finite for large logits too."""
    ### BEGIN SOLUTION
    shifted = logits - logits.amax(dim=-1, keepdim=True)
    return shifted - shifted.exp().sum(dim=-1, keepdim=True).log()
    ### END SOLUTION


# %% check="log_softmax"
check("log_softmax")

# %% [markdown]
# **Predict, then look.** Two classes, one logit fixed at 0 and the other sinking from 0 to -200. Its log-probability
# is nearly the logit itself. Where will `exp` and then `log` give up?

# %% look="log_softmax"
sinking = torch.linspace(0, -200, 401)
rows = torch.stack([sinking, torch.zeros(401)], dim=1)  # (401, 2)
fig, ax = plt.subplots(figsize=(6, 3.2))
ax.plot(sinking, log_softmax(rows)[:, 0], color="tab:blue", label="your log_softmax")
ax.plot(sinking, rows.softmax(dim=1)[:, 0].log(), "--", color="tab:orange", linewidth=2.5, label="log of softmax")
ax.set(title="The logarithm of a small probability, in float32", xlabel="logit", ylabel="log-probability")
ax.invert_xaxis()
ax.legend()
plt.show()

# %% [markdown]
# ### `cross_entropy`
# `difficulty 2 of 5 · 10 min`
#
# The loss of a classifier, and of a language model: minus the logarithm of the probability that it gave to what
# really came, averaged over the examples. In *nats* here, that is with the natural logarithm; week 1 measures text in
# *bits*.
#
# - `logits` $(N, C)$, floating point; `targets` $(N,)$, int64, each in $0 \dots C-1$
# - returns a tensor without axes: $-\frac1N \sum_n \log p_{n,\,\text{target}_n}$. Without
#   `torch.nn.functional.cross_entropy`.
#
# <details><summary>Hint 1</summary>Use your <code>log_softmax</code>. Of each row of its result you need one
# entry.</details>
# <details><summary>Hint 2</summary><code>table.gather(1, index)</code> picks from each row the entries that
# <code>index</code>, of shape (N, 1), names. Or index with two tensors:
# <code>table[torch.arange(N), targets]</code>.</details>


# %% exercise="cross_entropy"
def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """The mean cross-entropy in nats of logits (N, C) at targets (N,), int64; a 0-d tensor."""
    ### BEGIN SOLUTION
    log_probs = log_softmax(logits)  # (N, C)
    chosen = log_probs.gather(1, targets.unsqueeze(1)).squeeze(1)  # (N,)
    return -chosen.mean()
    ### END SOLUTION


# %% check="cross_entropy"
check("cross_entropy")

# %% [markdown]
# **Something to look at.** The loss of one example by the probability that its class was given. Being sure and wrong is
# what costs; between 0.9 and 1 there is little left to win.

# %% look="cross_entropy"
given = torch.linspace(0.002, 0.998, 300)
losses = [cross_entropy(torch.stack([p.log(), (1 - p).log()]).unsqueeze(0), torch.tensor([0])) for p in given]
fig, ax = plt.subplots(figsize=(6, 3.2))
ax.plot(given, losses)
for num_classes in (2, 4, 18):
    ax.plot(1 / num_classes, math.log(num_classes), "o", color="tab:orange")
    ax.annotate(f"a blind guess among {num_classes}", (1 / num_classes + 0.02, math.log(num_classes) + 0.1))
ax.set(title="Cross-entropy of one example", xlabel="probability given to the right class", ylabel="loss (nats)")
plt.show()

# %% [markdown]
# ## 5. Gradient descent with autograd
#
# ### `gradient_descent`
# `difficulty 2 of 5 · 15 min`
#
# The loop under all training: predict, measure the loss, ask autograd for its gradient, step against it. The model is
# the smallest there is, $\hat y = Xw$, and the loss is the mean squared error.
#
# - `w` $(D,)$ the first weights; `x` $(N, D)$; `y` $(N,)$; all of one floating-point dtype. `lr` a float; `steps` an
#   int, 1 or more
# - in each step the loss is $\frac1N \sum_n (x_n \cdot w - y_n)^2$ and then $w \leftarrow w - \text{lr} \cdot
#   \nabla_w\,\text{loss}$
# - returns the weights after the last step, $(D,)$, and the losses as one tensor $(\text{steps},)$, each measured
#   **before** its step. The caller's `w` stays as it was.
#
# <details><summary>Hint 1</summary>Take a copy of <code>w</code>, and tell autograd to watch it:
# <code>.requires_grad_(True)</code>. <code>loss.backward()</code> then <b>adds</b> the gradient to <code>w.grad</code>.</details>
# <details><summary>Hint 2</summary>Change <code>w</code> inside <code>with torch.no_grad():</code>, so that the step
# is not itself recorded. Then set the gradient back: <code>w.grad.zero_()</code>.</details>
# <details><summary>Hint 3</summary>Collect <code>loss.detach()</code> in a list and return
# <code>torch.stack(losses)</code>.</details>


# %% exercise="gradient_descent"
def gradient_descent(w: Tensor, x: Tensor, y: Tensor, lr: float, steps: int) -> tuple[Tensor, Tensor]:
    """Weights (D,) after some steps of gradient descent on the mean squared error of x @ w, and the losses (steps,)."""
    ### BEGIN SOLUTION
    w = w.clone().requires_grad_(True)
    losses = []
    for _ in range(steps):
        loss = (x @ w - y).pow(2).mean()
        loss.backward()
        with torch.no_grad():
            w -= lr * w.grad
        w.grad.zero_()
        losses.append(loss.detach())
    return w.detach(), torch.stack(losses)
    ### END SOLUTION


# %% check="gradient_descent"
check("gradient_descent")

# %% [markdown]
# **Predict, then look.** Three learning rates on the same valley, which is steep one way and flat the other. Which
# one arrives, which one creeps, and which one overshoots?

# %% look="gradient_descent"
points = torch.randn(100, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([2.0, 0.7])
heights = points @ torch.tensor([1.0, 2.0])
start = torch.tensor([-1.5, -1.0])
side = torch.linspace(-3.5, 4.5, 81)
candidates = torch.cartesian_prod(side, side)  # (81 * 81, 2)
surface = (candidates @ points.T - heights).pow(2).mean(dim=1).view(81, 81).T
fig, axes = plt.subplots(1, 3, figsize=(10.5, 3.6), sharey=True)
for ax, lr in zip(axes, (0.01, 0.15, 0.3), strict=True):
    path = torch.stack([start] + [gradient_descent(start, points, heights, lr, steps)[0] for steps in range(1, 31)])
    ax.contour(side, side, surface, levels=torch.logspace(-1, 2, 9), colors="0.7", linewidths=0.8)
    ax.plot(*path.T, "o-", markersize=3, linewidth=1, color="tab:blue")
    ax.plot(1, 2, "*", color="tab:orange", markersize=12)
    ax.set(title=f"lr {lr}: 30 steps", xlabel="w[0]", xlim=(-3.5, 4.5), ylim=(-3.5, 4.5))
axes[0].set_ylabel("w[1]")
plt.tight_layout()
plt.show()

# %% [markdown]
# ## 6. What the loss should be before anything is learned
#
# ### `baseline_losses`
# `difficulty 2 of 5 · 10 min`
#
# Two numbers to know before training a classifier. **At the start** a sound network knows nothing and spreads its
# probability evenly over all $C$ classes: the loss is $\log C$. A first loss far above that says that the network is
# sure of something before it has seen anything: weights too large, or a mistake in the loss. **The best constant
# answer** gives every example the same probabilities, those with which the classes occur. A network whose loss stays
# at that value has not learned to look at its input.
#
# - `targets` $(N,)$, int64, each in $0 \dots C-1$; `num_classes` is $C$. Some classes may not occur.
# - returns two numbers, in nats: $\log C$, and the mean cross-entropy of the best constant answer,
#   $-\sum_c s_c \log s_c$ with $s_c$ the share of class $c$ among the targets; a class that does not occur adds 0
#
# <details><summary>Hint 1</summary><code>torch.bincount(targets, minlength=num_classes)</code> counts every
# class.</details>
# <details><summary>Hint 2</summary>0 · log 0 is NaN to a computer. <code>torch.xlogy(share, share)</code> takes it as
# 0; or leave out the classes that do not occur.</details>


# %% exercise="baseline_losses"
def baseline_losses(targets: Tensor, num_classes: int) -> tuple[float, Tensor]:
    """The loss of an even guess among num_classes, and that of the best constant answer to targets (N,), int64; nats."""
    ### BEGIN SOLUTION
    share = torch.bincount(targets, minlength=num_classes) / len(targets)  # (C,)
    return math.log(num_classes), -torch.xlogy(share, share).sum()
    ### END SOLUTION


# %% check="baseline_losses"
check("baseline_losses")

# %% [markdown]
# **Predict, then look.** One linear layer and 18 classes, nothing trained. Its weights are drawn ever larger, from
# 0.001 to 10 times a standard normal. From which size on will the first loss leave $\log 18$?

# %% look="baseline_losses"
draws = torch.Generator().manual_seed(2)
inputs = torch.randn(200, 32, generator=draws)
labels = torch.randint(18, (200,), generator=draws)
direction = torch.randn(32, 18, generator=draws)
scales = torch.logspace(-3, 1, 25)
first = [cross_entropy(inputs @ (scale * direction), labels) for scale in scales]
fig, ax = plt.subplots(figsize=(6, 3.2))
ax.loglog(scales, first, "o-", markersize=4, label="loss at the start")
ax.axhline(baseline_losses(labels, 18)[0], color="tab:orange", linestyle="--", label="log 18")
ax.set(title="Before any training", xlabel="size of the weights", ylabel="loss (nats)")
ax.legend()
plt.show()

# %% [markdown]
# ## 7. Overfit one batch
#
# ### `overfit_one_batch`
# `difficulty 2 of 5 · 15 min`
#
# Before a network is trained on all the data, it should be able to learn one small batch by heart. If it cannot,
# something is wrong with the model, the loss or the loop, and no amount of data will mend it. It takes seconds and
# finds most bugs.
#
# - `model` an `nn.Module` that maps $(N, D)$ to logits $(N, C)$; `x` $(N, D)$; `targets` $(N,)$, int64. `lr` a float;
#   `steps` an int, 1 or more
# - takes `steps` steps of plain `torch.optim.SGD` on the mean cross-entropy of the whole batch, always the same one
# - changes the model's weights, and returns the losses $(\text{steps},)$, each measured **before** its step
#
# <details><summary>Hint 1</summary>Make one <code>torch.optim.SGD</code> before the loop; it wants the model's
# parameters and <code>lr</code>.</details>
# <details><summary>Hint 2</summary>In each step: loss, <code>optimizer.zero_grad()</code>,
# <code>loss.backward()</code>, <code>optimizer.step()</code>, and keep <code>loss.detach()</code>.</details>


# %% exercise="overfit_one_batch"
def overfit_one_batch(model: nn.Module, x: Tensor, targets: Tensor, lr: float, steps: int) -> Tensor:
    """Trains the model on one batch, x (N, D) and targets (N,), by plain SGD; the losses (steps,), each before its step."""
    ### BEGIN SOLUTION
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    losses = []
    for _ in range(steps):
        loss = cross_entropy(model(x), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)
    ### END SOLUTION


# %% check="overfit_one_batch"
check("overfit_one_batch")

# %% [markdown]
# **Predict, then look.** The labels below are drawn at random: there is nothing to understand, only to learn by
# heart. 16 examples, 4 classes. Where will the curve begin? Will it come near 0?

# %% look="overfit_one_batch"
torch.manual_seed(0)
network = nn.Sequential(nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 4))
batch, random_labels = torch.randn(16, 10), torch.randint(4, (16,))
curve = overfit_one_batch(network, batch, random_labels, lr=0.5, steps=150)
fig, ax = plt.subplots(figsize=(6, 3.2))
ax.plot(curve, label="training loss on the one batch")
ax.axhline(baseline_losses(random_labels, 4)[0], color="tab:orange", linestyle="--", label="log 4: knows nothing")
ax.axhline(
    baseline_losses(random_labels, 4)[1], color="tab:green", linestyle=":", label="best constant: ignores its input"
)
ax.set(title="Learning 16 random labels by heart", xlabel="step", ylabel="loss (nats)", ylim=(0, None))
ax.legend()
plt.show()

# %% [markdown]
# ## Done
#
# Every check green? Validate, and hand the notebook in once, although nobody counts it, so that you know how next
# week. In week 1 the loop of section 5 meets a network that has a loop of its own.
