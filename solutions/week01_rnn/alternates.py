# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# Week 1: correct answers in other styles. All must pass.

# %% alternate="rnn_step" name="one-matrix"
def rnn_step(x, h, w_ih, w_hh, b_ih, b_hh):
    both = torch.cat([x, h], dim=1)  # one product with the two weights side by side
    return (both @ torch.cat([w_ih, w_hh], dim=1).T + (b_ih + b_hh)).tanh()


# %% alternate="rnn_step" name="from-exponentials"
def rnn_step(x, h, w_ih, w_hh, b_ih, b_hh):
    total = F.linear(h, w_hh, b_hh) + F.linear(x, w_ih, b_ih)
    return 2 * torch.sigmoid(2 * total) - 1


# %% alternate="rnn_forward" name="packed"
def rnn_forward(x, lengths, h0, w_ih, w_hh, b_ih, b_hh):
    # Sorted by length, so that the sequences still running are always the first rows.
    order = lengths.argsort(descending=True)
    x, h, sorted_lengths = x[order], h0[order], lengths[order]
    outputs = x.new_zeros(x.size(0), x.size(1), h0.size(1))
    for t in range(int(lengths.max())):
        count = int((sorted_lengths > t).sum())
        new = rnn_step(x[:count, t], h[:count], w_ih, w_hh, b_ih, b_hh)
        h = torch.cat([new, h[count:]])
        outputs[:count, t] = new
    back = order.argsort()
    return outputs[back], h[back]


# %% alternate="rnn_forward" name="gathered-at-the-end"
def rnn_forward(x, lengths, h0, w_ih, w_hh, b_ih, b_hh):
    # Runs on through the padding, then picks each last state and blanks the rest.
    h, states = h0, []
    for x_t in x.transpose(0, 1):
        h = rnn_step(x_t, h, w_ih, w_hh, b_ih, b_hh)
        states.append(h)
    outputs = torch.stack(states).transpose(0, 1)
    h_n = outputs[torch.arange(len(lengths)), lengths - 1]
    real = torch.arange(x.size(1))[None, :] < lengths[:, None]
    return outputs * real[:, :, None].to(outputs.dtype), h_n


# %% alternate="rnn_forward" name="one-by-one"
def rnn_forward(x, lengths, h0, w_ih, w_hh, b_ih, b_hh):
    outputs = torch.zeros(x.shape[0], x.shape[1], h0.shape[1], dtype=x.dtype)
    finals = []
    for b, length in enumerate(lengths.tolist()):
        h = h0[b]
        for t in range(length):
            h = torch.tanh(w_ih @ x[b, t] + b_ih + w_hh @ h + b_hh)
            outputs[b, t] = h
        finals.append(h)
    return outputs, torch.stack(finals)


# %% alternate="rnn_step_backward" name="einsum"
def rnn_step_backward(grad_h_next, x, h, h_next, w_ih, w_hh):
    d = grad_h_next - grad_h_next * h_next * h_next
    return (
        torch.einsum("bh,hi->bi", d, w_ih),
        torch.einsum("bh,hk->bk", d, w_hh),
        torch.einsum("bh,bi->hi", d, x),
        torch.einsum("bh,bk->hk", d, h),
        torch.einsum("bh->h", d),
        torch.einsum("bh->h", d),
    )


# %% alternate="rnn_step_backward" name="row-by-row"
def rnn_step_backward(grad_h_next, x, h, h_next, w_ih, w_hh):
    grad_x, grad_h = torch.empty_like(x), torch.empty_like(h)
    grad_w_ih, grad_w_hh = torch.zeros_like(w_ih), torch.zeros_like(w_hh)
    grad_b = torch.zeros_like(h[0])
    for b in range(x.size(0)):
        d = grad_h_next[b] * (1 - h_next[b]) * (1 + h_next[b])
        grad_x[b], grad_h[b] = w_ih.T @ d, w_hh.T @ d
        grad_w_ih += torch.outer(d, x[b])
        grad_w_hh += torch.outer(d, h[b])
        grad_b += d
    return grad_x, grad_h, grad_w_ih, grad_w_hh, grad_b, grad_b


# %% alternate="rnn_backward" name="stacked"
def rnn_backward(grad_outputs, x, h0, outputs, w_ih, w_hh):
    # Only the state's gradient needs the loop; the parameters' are products over batch and time at once.
    sums, carried = [], torch.zeros_like(h0)
    for t in range(x.shape[1] - 1, -1, -1):
        d = (grad_outputs[:, t] + carried) * (1 - outputs[:, t] ** 2)
        carried = d @ w_hh
        sums.insert(0, d)
    d = torch.stack(sums, dim=1)
    previous = torch.cat([h0[:, None], outputs[:, :-1]], dim=1)
    grad_b = d.sum((0, 1))
    return (
        d @ w_ih,
        carried,
        torch.einsum("bth,bti->hi", d, x),
        torch.einsum("bth,btk->hk", d, previous),
        grad_b,
        grad_b,
    )


# %% alternate="rnn_backward" name="in-place"
def rnn_backward(grad_outputs, x, h0, outputs, w_ih, w_hh):
    T = x.size(1)
    grad_x = x.clone()
    g_ih, g_hh = w_ih * 0, w_hh * 0
    b_ih, b_hh = h0[0] * 0, h0[0] * 0
    states = [h0, *outputs.unbind(1)]
    grad_h = h0 * 0
    for step in range(T):
        t = T - 1 - step
        parts = rnn_step_backward(grad_h + grad_outputs[:, t], x[:, t], states[t], states[t + 1], w_ih, w_hh)
        grad_x[:, t], grad_h = parts[0], parts[1]
        g_ih += parts[2]
        g_hh += parts[3]
        b_ih += parts[4]
        b_hh += parts[5]
    return grad_x, grad_h, g_ih, g_hh, b_ih, b_hh


# %% alternate="clip_by_global_norm" name="one-long-vector"
def clip_by_global_norm(grads, max_norm):
    norm = torch.cat([grad.reshape(-1) for grad in grads]).norm()
    factor = min(1.0, float(max_norm / (norm + 1e-6)))
    return [factor * grad for grad in grads], norm


# %% alternate="clip_by_global_norm" name="norm-of-norms"
def clip_by_global_norm(grads, max_norm):
    norm = torch.stack([torch.linalg.vector_norm(grad) for grad in grads]).norm()
    if norm + 1e-6 > max_norm:
        return [grad * max_norm / (norm + 1e-6) for grad in grads], norm
    return [grad.clone() for grad in grads], norm.item()


# %% alternate="NameClassifier.forward" name="last-output"
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

    def forward(self, tokens, lengths):
        batch = len(tokens)
        start = torch.zeros(batch, len(self.bias_hh), dtype=self.bias_hh.dtype)
        embedded = self.embedding.weight[tokens]
        outputs, _ = rnn_forward(embedded, lengths, start, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        return self.output(outputs[torch.arange(batch), lengths - 1])


# %% alternate="char_lm_loss" name="ignore-index"
def char_lm_loss(logits, tokens, lengths):
    B, T, V = logits.shape
    columns = torch.arange(T).expand(B, T)
    targets = tokens.masked_fill(columns >= lengths[:, None], -100)[:, 1:]
    count = max(1, int((lengths - 1).sum()))
    total = F.cross_entropy(logits[:, :-1].reshape(-1, V), targets.reshape(-1), ignore_index=-100, reduction="sum")
    return total / (count * math.log(2.0))


# %% alternate="char_lm_loss" name="gathered"
def char_lm_loss(logits, tokens, lengths):
    bits = (logits - logits.logsumexp(-1, keepdim=True)) / torch.log(torch.tensor(2.0, dtype=logits.dtype))
    total, count = logits.sum() * 0.0, 0
    for b, length in enumerate(lengths.tolist()):
        for t in range(length - 1):
            total = total - bits[b, t, tokens[b, t + 1]]
            count += 1
    return total / count if count else total


# %% alternate="next_char_probs" name="sorted"
def next_char_probs(logits, temperature, top_k=None):
    scaled = logits / temperature
    if top_k is not None and top_k < scaled.shape[1]:
        ordered, _ = scaled.sort(dim=1, descending=True)
        scaled = torch.where(scaled >= ordered[:, top_k - 1 : top_k], scaled, torch.tensor(float("-inf")).to(scaled))
    return F.softmax(scaled, dim=1)


# %% alternate="next_char_probs" name="renormalised"
def next_char_probs(logits, temperature, top_k=None):
    # The cut after the softmax is right too, if what is left is divided by its sum.
    weights = torch.exp((logits - logits.max(dim=1, keepdim=True).values) / temperature)
    if top_k is not None:
        larger = (logits[:, None, :] > logits[:, :, None]).sum(dim=2)  # how many beat each
        weights = weights * (larger < top_k)
    return weights / weights.sum(dim=1, keepdim=True)


# %% alternate="generate" name="searchsorted"
def generate(model, prompt, draws, temperature, top_k=None):
    out = [prompt]
    logits, h = model(prompt, None)
    for n in range(draws.size(1)):
        cdf = torch.cumsum(next_char_probs(logits[:, -1, :], temperature, top_k), dim=-1)
        new = torch.searchsorted(cdf, draws[:, n : n + 1].contiguous(), right=True).clamp_max(cdf.size(-1) - 1)
        out.append(new)
        logits, h = model(new, h)
    return torch.cat(out, dim=1)


# %% alternate="generate" name="read-again-each-time"
def generate(model, prompt, draws, temperature, top_k=None):
    tokens = prompt.clone()
    for n in range(draws.size(1)):
        logits, _ = model(tokens)  # from the beginning, with no state kept
        probs = next_char_probs(logits[:, -1], temperature, top_k)
        above = probs.cumsum(1) > draws[:, n, None]
        tokens = torch.cat([tokens, above.int().argmax(1, keepdim=True)], dim=1)
    return tokens


# %% alternate="memory_horizon" name="by-hand"
def memory_horizon(x, h0, v, w_ih, w_hh, b_ih, b_hh):
    states, h = [], h0
    for x_t in x:
        h = torch.tanh(w_ih @ x_t + b_ih + w_hh @ h + b_hh)
        states.append(h)
    grad, norms = v, []
    for h in reversed(states):
        grad = grad * (1 - h**2)
        norms.append((w_ih.T @ grad).norm())
        grad = w_hh.T @ grad
    return torch.stack(norms[::-1])


# %% alternate="memory_horizon" name="through-rnn-forward"
def memory_horizon(x, h0, v, w_ih, w_hh, b_ih, b_hh):
    x = x.clone().requires_grad_()
    _, h_n = rnn_forward(x[None], torch.tensor([len(x)]), h0[None], w_ih, w_hh, b_ih, b_hh)
    (h_n * v).sum().backward()
    return torch.sqrt((x.grad**2).sum(-1))
