"""Right answers to the warm-up's exercises, written in other ways. All of them must pass."""


# %% alternate="pairwise_distances" name="expanded"
def pairwise_distances(x: Tensor, y: Tensor) -> Tensor:
    """By |x - y|^2 = |x|^2 + |y|^2 - 2 x.y, without the (N, M, D) table."""
    squares = x.pow(2).sum(dim=1, keepdim=True) + y.pow(2).sum(dim=1) - 2 * x @ y.T
    return squares.clamp(min=0).sqrt()


# %% alternate="pairwise_distances" name="loop"
def pairwise_distances(x: Tensor, y: Tensor) -> Tensor:
    return torch.stack([torch.stack([torch.linalg.vector_norm(a - b) for b in y]) for a in x])


# %% alternate="masked_mean" name="filled"
def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    total = values.masked_fill(~mask[:, :, None], 0.0).sum(dim=1)
    return total / mask.sum(dim=1, keepdim=True).clamp(min=1)


# %% alternate="masked_mean" name="loop"
def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    rows = []
    for row, counts in zip(values, mask, strict=True):
        rows.append(row[counts].mean(dim=0) if counts.any() else torch.zeros_like(row[0]))
    return torch.stack(rows)


# %% alternate="log_softmax" name="logsumexp"
def log_softmax(logits: Tensor) -> Tensor:
    return logits - logits.logsumexp(dim=-1, keepdim=True)


# %% alternate="log_softmax" name="loop"
def log_softmax(logits: Tensor) -> Tensor:
    rows = []
    for row in logits:
        row = row - row.max()
        rows.append(row - torch.log(torch.exp(row).sum()))
    return torch.stack(rows)


# %% alternate="cross_entropy" name="one_hot"
def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    chosen = torch.nn.functional.one_hot(targets, logits.size(1)).to(logits.dtype)
    return -(chosen * log_softmax(logits)).sum() / len(targets)


# %% alternate="cross_entropy" name="indexed"
def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return -log_softmax(logits)[torch.arange(len(targets)), targets].mean()


# %% alternate="gradient_descent" name="autograd_grad"
def gradient_descent(w: Tensor, x: Tensor, y: Tensor, lr: float, steps: int) -> tuple[Tensor, Tensor]:
    losses = torch.zeros(steps, dtype=w.dtype)
    for step in range(steps):
        w = w.detach().requires_grad_(True)
        error = x @ w - y
        loss = error @ error / len(y)
        (gradient,) = torch.autograd.grad(loss, w)
        losses[step] = loss.detach()
        w = w - lr * gradient
    return w, losses


# %% alternate="gradient_descent" name="optimizer"
def gradient_descent(w: Tensor, x: Tensor, y: Tensor, lr: float, steps: int) -> tuple[Tensor, Tensor]:
    w = w.clone().requires_grad_(True)
    optimizer = torch.optim.SGD([w], lr=lr)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(torch.mv(x, w), y)
        loss.backward()
        optimizer.step()
        losses.append(loss)
    return w, torch.stack(losses)


# %% alternate="baseline_losses" name="counted"
def baseline_losses(targets: Tensor, num_classes: int) -> tuple[float, Tensor]:
    constant = 0.0
    for label in range(num_classes):
        share = (targets == label).sum().item() / len(targets)
        if share > 0:
            constant -= share * math.log(share)
    return -math.log(1 / num_classes), constant


# %% alternate="baseline_losses" name="by_example"
def baseline_losses(targets: Tensor, num_classes: int) -> tuple[float, Tensor]:
    share = torch.bincount(targets, minlength=num_classes) / len(targets)
    return torch.tensor(num_classes).log(), -share[targets].log().mean()


# %% alternate="overfit_one_batch" name="by_hand"
def overfit_one_batch(model: nn.Module, x: Tensor, targets: Tensor, lr: float, steps: int) -> Tensor:
    losses = []
    for _ in range(steps):
        loss = cross_entropy(model(x), targets)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter -= lr * gradient
        losses.append(loss.item())
    return torch.tensor(losses, dtype=x.dtype)


# %% alternate="overfit_one_batch" name="zeroed_last"
def overfit_one_batch(model: nn.Module, x: Tensor, targets: Tensor, lr: float, steps: int) -> Tensor:
    optimizer = torch.optim.SGD(model.parameters(), lr)
    losses = torch.empty(steps, dtype=x.dtype)
    for step in range(steps):
        loss = cross_entropy(model(x), targets)
        losses[step] = loss.detach()
        loss.backward()
        optimizer.step()
        model.zero_grad()
    return losses
