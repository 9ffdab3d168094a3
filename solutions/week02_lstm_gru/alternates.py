# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# Week 2: correct answers in other styles. All must pass.

# %% alternate="lstm_step" name="gate-by-gate"
def lstm_step(x, h, c, w_ih, w_hh, b_ih, b_hh):
    H = h.shape[1]

    def gate(k):  # one product a gate
        rows = slice(k * H, (k + 1) * H)
        return F.linear(x, w_ih[rows], b_ih[rows]) + F.linear(h, w_hh[rows], b_hh[rows])

    c = gate(1).sigmoid() * c + gate(0).sigmoid() * gate(2).tanh()
    return gate(3).sigmoid() * c.tanh(), c


# %% alternate="lstm_step" name="one-matrix"
def lstm_step(x, h, c, w_ih, w_hh, b_ih, b_hh):
    both = torch.cat([x, h], dim=1) @ torch.cat([w_ih, w_hh], dim=1).T + (b_ih + b_hh)
    i, f, g, o = both.view(len(x), 4, -1).unbind(1)
    kept = c / (1 + torch.exp(-f))
    added = (2 * torch.sigmoid(2 * g) - 1) * torch.sigmoid(i)
    new = kept + added
    return torch.sigmoid(o) * torch.tanh(new), new


# %% alternate="gru_step" name="old-plus-change"
def gru_step(x, h, w_ih, w_hh, b_ih, b_hh):
    H = h.size(1)
    a, b = F.linear(x, w_ih, b_ih), F.linear(h, w_hh, b_hh)
    both = torch.sigmoid(a[:, : 2 * H] + b[:, : 2 * H])
    n = torch.tanh(a[:, 2 * H :] + both[:, :H] * b[:, 2 * H :])
    return n + both[:, H:] * (h - n)


# %% alternate="gru_step" name="split-weights"
def gru_step(x, h, w_ih, w_hh, b_ih, b_hh):
    (w_ir, w_iz, w_in), (w_hr, w_hz, w_hn) = w_ih.chunk(3), w_hh.chunk(3)
    (b_ir, b_iz, b_in), (b_hr, b_hz, b_hn) = b_ih.chunk(3), b_hh.chunk(3)
    r = torch.sigmoid(x @ w_ir.T + h @ w_hr.T + (b_ir + b_hr))
    take = torch.sigmoid(-(x @ w_iz.T + h @ w_hz.T + (b_iz + b_hz)))  # 1 - z
    n = torch.tanh(x @ w_in.T + b_in + r * (h @ w_hn.T + b_hn))
    return take * n + (1 - take) * h


# %% alternate="LSTM.forward" name="reversed-rows"
class LSTM(nn.Module):
    def __init__(self, input_size, hidden_size, num_layers=1, bidirectional=False, dropout=0.0):
        super().__init__()
        self.hidden_size, self.num_layers, self.dropout = hidden_size, num_layers, dropout
        self.num_directions = 2 if bidirectional else 1
        bound = hidden_size**-0.5
        for layer in range(num_layers):
            width = input_size if layer == 0 else self.num_directions * hidden_size
            for suffix in ("", "_reverse")[: self.num_directions]:
                for name, columns in (("weight_ih", width), ("weight_hh", hidden_size), ("bias_ih", 0), ("bias_hh", 0)):
                    shape = (4 * hidden_size, columns) if columns else (4 * hidden_size,)
                    parameter = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
                    self.register_parameter(f"{name}_l{layer}{suffix}", parameter)

    def weights_of(self, layer, direction):
        place = f"l{layer}_reverse" if direction else f"l{layer}"
        return [getattr(self, f"{name}_{place}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]

    def forward(self, x, lengths):
        # The backward direction turns each sequence's own part round, runs forwards, and turns the outputs back.
        B, T, _ = x.shape
        steps = torch.arange(T, device=x.device).expand(B, T)
        real = (steps < lengths[:, None])[:, :, None]
        turned = torch.where(real[:, :, 0], lengths[:, None] - 1 - steps, steps)
        rows = torch.arange(B, device=x.device)
        finals = []
        for layer in range(self.num_layers):
            parts = []
            for direction in range(self.num_directions):
                inputs = x[rows[:, None], turned] if direction else x
                h = c = torch.zeros(B, self.hidden_size, dtype=x.dtype, device=x.device)
                hs, cs = [], []
                for t in range(T):
                    h, c = lstm_step(inputs[:, t], h, c, *self.weights_of(layer, direction))
                    hs.append(h)
                    cs.append(c)
                hs, cs = torch.stack(hs, 1), torch.stack(cs, 1)
                finals.append((hs[rows, lengths - 1], cs[rows, lengths - 1]))
                parts.append(hs[rows[:, None], turned] if direction else hs)
            x = torch.cat(parts, -1) * real
            if layer + 1 < self.num_layers and self.training:
                x = F.dropout(x, self.dropout)
        return x, tuple(torch.stack(states) for states in zip(*finals, strict=True))


# %% alternate="LSTM.forward" name="one-by-one"
class LSTM(nn.Module):
    def __init__(self, input_size, hidden_size, num_layers=1, bidirectional=False, dropout=0.0):
        super().__init__()
        self.hidden_size, self.num_layers, self.dropout = hidden_size, num_layers, dropout
        self.num_directions = 2 if bidirectional else 1
        bound = hidden_size**-0.5
        for layer in range(num_layers):
            width = input_size if layer == 0 else self.num_directions * hidden_size
            for suffix in ("", "_reverse")[: self.num_directions]:
                for name, columns in (("weight_ih", width), ("weight_hh", hidden_size), ("bias_ih", 0), ("bias_hh", 0)):
                    shape = (4 * hidden_size, columns) if columns else (4 * hidden_size,)
                    parameter = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
                    self.register_parameter(f"{name}_l{layer}{suffix}", parameter)

    def weights_of(self, layer, direction):
        place = f"l{layer}_reverse" if direction else f"l{layer}"
        return [getattr(self, f"{name}_{place}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]

    def one(self, x, weights, backward):
        """outputs (T, H), h, c of one sequence (T, I)."""
        h = c = x.new_zeros(1, self.hidden_size)
        outputs = []
        for row in x.flip(0) if backward else x:
            h, c = lstm_step(row[None], h, c, *weights)
            outputs.append(h[0])
        outputs = torch.stack(outputs)
        return outputs.flip(0) if backward else outputs, h[0], c[0]

    def forward(self, x, lengths):
        T = x.shape[1]
        sequences = [row[:n] for row, n in zip(x, lengths.tolist(), strict=True)]
        h_n, c_n = [], []
        for layer in range(self.num_layers):
            if layer:
                sequences = [F.dropout(s, p=self.dropout, training=self.training) for s in sequences]
            new = [[] for _ in sequences]
            for direction in range(self.num_directions):
                made = [self.one(s, self.weights_of(layer, direction), direction == 1) for s in sequences]
                for parts, (outputs, _, _) in zip(new, made, strict=True):
                    parts.append(outputs)
                h_n.append(torch.stack([h for _, h, _ in made]))
                c_n.append(torch.stack([c for _, _, c in made]))
            sequences = [torch.cat(parts, 1) for parts in new]
        outputs = torch.stack([F.pad(s, (0, 0, 0, T - len(s))) for s in sequences])
        return outputs, (torch.stack(h_n), torch.stack(c_n))


# %% alternate="init_lstm_" name="gram-schmidt"
def init_lstm_(w_hh, b_ih, b_hh, noise):
    H = noise.shape[1]
    blocks = []
    for matrix in noise:
        columns = []
        for column in matrix.T:
            for _ in range(2):  # a second pass removes what rounding leaves
                for done in columns:
                    column = column - (done @ column) * done
            columns.append(column / column.norm())
        blocks.append(torch.stack(columns, dim=1))
    bias = torch.zeros_like(b_ih)
    bias[H : 2 * H] = 0.5  # half in each of the two
    w_hh.data.copy_(torch.cat(blocks))
    b_ih.data.copy_(bias)
    b_hh.data.copy_(bias)


# %% alternate="init_lstm_" name="batched"
@torch.no_grad()
def init_lstm_(w_hh, b_ih, b_hh, noise):
    q, r = torch.linalg.qr(noise)
    signs = torch.where(torch.diagonal(r, dim1=1, dim2=2) < 0, -1.0, 1.0).to(q.dtype)
    w_hh.copy_((q * signs.unsqueeze(1)).reshape(w_hh.shape))
    for bias, value in ((b_ih, 0.0), (b_hh, 1.0)):
        bias.fill_(0.0)
        bias.view(4, -1)[1] = value


# %% alternate="cell_gradient_path" name="loop"
def cell_gradient_path(forget):
    rows, product = [], torch.ones(forget.shape[1], dtype=forget.dtype)
    for gate in reversed(list(forget)):
        rows.append(product)
        product = product * gate
    return torch.stack(rows[::-1])


# %% alternate="cell_gradient_path" name="by-autograd"
def cell_gradient_path(forget):
    cells = [torch.zeros(forget.size(1), dtype=forget.dtype, requires_grad=True)]
    for gate in forget[1:]:
        cells.append(gate * cells[-1])
    return torch.stack(torch.autograd.grad(cells[-1].sum(), cells))


# %% alternate="bucket_batches" name="lists"
def bucket_batches(lengths, batch_size, draws):
    ranked = sorted(range(len(lengths)), key=lambda i: (int(lengths[i]), float(draws[i])))
    batches = [ranked[start : start + batch_size] for start in range(0, len(ranked), batch_size)]
    return sorted(batches, key=lambda batch: float(draws[batch[0]]))


# %% alternate="bucket_batches" name="from-the-longest"
def bucket_batches(lengths, batch_size, draws):
    # From the longest down: the batch that is not full has the shortest. The draws shuffle each batch as well.
    order = (lengths + draws).argsort(descending=True)
    batches = [batch[draws[batch].argsort()] for batch in order.split(batch_size)]
    return [batches[i] for i in torch.argsort(torch.stack([draws[batch].max() for batch in batches]))]


# %% alternate="masked_pool" name="row-by-row"
def masked_pool(outputs, mask, how):
    rows = []
    for row, real in zip(outputs, mask, strict=True):
        words = row[real]
        rows.append({"last": lambda w: w[-1], "mean": lambda w: w.mean(0), "max": lambda w: w.max(0).values}[how](words))
    return torch.stack(rows)


# %% alternate="masked_pool" name="one-hot"
def masked_pool(outputs, mask, how):
    weights = mask.to(outputs.dtype)
    if how == "max":
        floor = torch.finfo(outputs.dtype).min
        return torch.where(mask[..., None], outputs, torch.full_like(outputs, floor)).max(dim=1)[0]
    if how == "last":  # the one real position with no real one after it
        weights = weights * (weights.flip(1).cumsum(1).flip(1) == 1)
    return torch.einsum("bt,bth->bh", weights / weights.sum(1, keepdim=True), outputs)


# %% alternate="tagger_loss" name="selected"
def tagger_loss(logits, tags, mask):
    if not mask.any():
        return logits.sum() * 0.0
    return F.cross_entropy(logits[mask], tags[mask])


# %% alternate="tagger_loss" name="ignore-index"
def tagger_loss(logits, tags, mask):
    targets = torch.where(mask, tags, torch.tensor(-100))
    total = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="sum")
    return total / max(int(mask.sum()), 1)


# %% alternate="Tagger.forward" name="by-hand"
class Tagger(nn.Module):
    def __init__(self, vocab_size, num_tags, d_embed, hidden_size):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, d_embed)
        self.lstm = LSTM(d_embed, hidden_size, bidirectional=True)
        self.output = nn.Linear(2 * hidden_size, num_tags)

    def forward(self, tokens, lengths):
        real = torch.arange(tokens.shape[1]) < lengths[:, None]
        outputs = self.lstm(self.embedding.weight[tokens], lengths)[0]
        logits = outputs @ self.output.weight.T + self.output.bias
        return logits * real[:, :, None]  # zeros at padding are as good as anything
