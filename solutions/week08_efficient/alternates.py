# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# Week 8: correct answers in other styles. All must pass.

# %% alternate="attention_cost" name="products-listed"
def attention_cost(kind, T, K, size=0):
    products = {
        "full": [(T, K, T), (T, T, K)],
        "online": [(T, K, T), (T, T, K)],
        "sparse": [(T, K, size), (T, size, K)],
        "linformer": [(size, T, K), (size, T, K), (T, K, size), (T, size, K)],
        "performer": [(T, K, size), (T, K, size), (size, T, K), (T, size, K), (T, size, 1)],
    }
    kept = {
        "full": [(T, T)],
        "online": [(T, size)],
        "sparse": [(T, size)],
        "linformer": [(size, K), (size, K), (T, size)],
        "performer": [(T, size), (T, size), (size, K), (size, 1)],
    }
    if kind not in products:
        raise ValueError(kind)
    return sum(2 * a * b * c for a, b, c in products[kind]), sum(4 * a * b for a, b in kept[kind])


# %% alternate="online_softmax_attention" name="first-block-by-itself"
def online_softmax_attention(q, k, v, block_size, is_causal=False):
    # The first block is a softmax of its own; what follows is merged with it.
    q = q / q.shape[-1] ** 0.5
    position = torch.arange(q.shape[-2])
    state = None
    for first, (keys, values) in enumerate(zip(k.split(block_size, -2), v.split(block_size, -2), strict=True)):
        s = torch.einsum("...td,...sd->...ts", q, keys)
        if is_causal:
            hidden = position[first * block_size :][: keys.shape[-2]][None, :] > position[:, None]
            s = s.masked_fill(hidden, float("-inf"))
        m = s.max(-1, keepdim=True).values
        if state is None:
            w = torch.exp(s - m)
            state = (m, w.sum(-1, keepdim=True), w @ values)
            continue
        old, total, out = state
        top = torch.where(m > old, m, old)
        w = (s - top).exp()
        keep = (old - top).exp()
        state = (top, total * keep + w.sum(-1, keepdim=True), out * keep + w @ values)
    return state[2] / state[1]


# %% alternate="online_softmax_attention" name="normalised-all-along"
def online_softmax_attention(q, k, v, block_size, is_causal=False):
    # The output is kept divided: as FlashAttention 1 does it.
    T, S = q.size(-2), k.size(-2)
    m = torch.full(q.shape[:-1], -torch.inf, dtype=q.dtype, device=q.device)
    total = torch.zeros_like(m)
    out = torch.zeros(*q.shape[:-1], v.size(-1), dtype=q.dtype, device=q.device)
    for start in range(0, S, block_size):
        end = min(S, start + block_size)
        scores = torch.matmul(q, k[..., start:end, :].mT) * q.size(-1) ** -0.5
        if is_causal:
            allowed = torch.arange(T)[:, None] >= torch.arange(start, end)
            scores = torch.where(allowed, scores, -torch.inf)
        new = torch.maximum(m, scores.amax(-1))
        weights = torch.exp(scores - new[..., None])
        old = total * torch.exp(m - new)
        total = old + weights.sum(-1)
        out = out * (old / total)[..., None] + (weights / total[..., None]) @ v[..., start:end, :]
        m = new
    return out


# %% alternate="window_mask" name="a-band"
def window_mask(N, window):
    return torch.ones(N, N, dtype=torch.bool).tril(window).triu(-window)


# %% alternate="window_mask" name="loops"
def window_mask(N, window):
    mask = torch.zeros((N, N)).bool()
    for i in range(N):
        mask[i, max(0, i - window) : i + window + 1] = True
    return mask


# %% alternate="global_mask" name="rows-and-columns-written"
def global_mask(N, positions):
    mask = torch.zeros(N, N, dtype=torch.bool)
    mask[positions] = True
    mask[:, positions] = True
    return mask


# %% alternate="random_mask" name="row-by-row"
def random_mask(draws, taken, r):
    mask = torch.zeros(len(draws), len(draws), dtype=torch.bool)
    for i in range(len(draws)):
        free = [j for j in range(len(draws)) if not taken[i, j]]
        for j in sorted(free, key=lambda j: float(draws[i, j]))[:r]:
            mask[i, j] = True
    return mask


# %% alternate="random_mask" name="ranks"
def random_mask(draws, taken, r):
    ranks = torch.where(taken, 2.0, draws.double()).argsort(1).argsort(1)
    return (ranks < r).logical_and(~taken)


# %% alternate="bigbird_attention" name="slices"
def bigbird_attention(q, k, v, pattern, block_size):
    keys, values = k.split(block_size, dim=-2), v.split(block_size, dim=-2)
    pieces = []
    for i, queries in enumerate(q.split(block_size, dim=-2)):
        chosen = pattern[i].nonzero().flatten().tolist()
        some_k = torch.cat([keys[j] for j in chosen], dim=-2)
        some_v = torch.cat([values[j] for j in chosen], dim=-2)
        weights = torch.softmax(queries @ some_k.mT * q.shape[-1] ** -0.5, dim=-1)
        pieces.append(weights @ some_v)
    return torch.cat(pieces, dim=-2)


# %% alternate="bigbird_attention" name="block-after-block-online"
def bigbird_attention(q, k, v, pattern, block_size):
    outputs = []
    for i, start in enumerate(range(0, q.size(-2), block_size)):
        rows = q[..., start : start + block_size, :] / q.size(-1) ** 0.5
        scores = {
            j: rows @ k[..., j * block_size : (j + 1) * block_size, :].transpose(-1, -2)
            for j in range(pattern.size(1))
            if pattern[i, j]
        }
        top = torch.stack([s.amax(-1, keepdim=True) for s in scores.values()]).amax(0)
        weights = {j: torch.exp(s - top) for j, s in scores.items()}
        total = sum(w.sum(-1, keepdim=True) for w in weights.values())
        outputs.append(sum(w @ v[..., j * block_size : (j + 1) * block_size, :] for j, w in weights.items()) / total)
    return torch.cat(outputs, -2)


# %% alternate="bigbird_attention" name="all-blocks-at-once"
def bigbird_attention(q, k, v, pattern, block_size):
    # Every row of the pattern is filled up to the longest one; what is too much is hidden, and set to 0 where it is NaN.
    T, N = q.size(-2), pattern.size(0)
    counts = pattern.sum(1)
    chosen = pattern.int().argsort(dim=1, descending=True, stable=True)[:, : int(counts.max())]  # (N, C)
    wanted = torch.arange(chosen.size(1)) < counts[:, None]
    columns = (chosen[..., None] * block_size + torch.arange(block_size)).flatten(1)  # (N, C block_size)
    seen = wanted.repeat_interleave(block_size, 1) & (columns < T)
    columns = columns.clamp(max=T - 1)
    rows = F.pad(q, (0, 0, 0, N * block_size - T)).unflatten(-2, (N, block_size))
    keys = torch.where(seen[..., None], k[..., columns, :], 0.0)
    values = torch.where(seen[..., None], v[..., columns, :], 0.0)
    scores = (rows @ keys.mT / q.size(-1) ** 0.5).masked_fill(~seen[:, None, :], -torch.inf)
    return (scores.softmax(-1) @ values).flatten(-3, -2)[..., :T, :]


# %% alternate="linformer_attention" name="einsum"
def linformer_attention(q, k, v, e, f):
    shorter = torch.einsum("ps,...sk->...pk", e, k)
    weights = torch.softmax(torch.einsum("...tk,...pk->...tp", q, shorter) * q.shape[-1] ** -0.5, dim=-1)
    return torch.einsum("...tp,ps,...sf->...tf", weights, f, v)


# %% alternate="orthogonal_projections" name="gram-schmidt"
def orthogonal_projections(draws):
    M, K = draws.shape
    rows = []
    for m in range(M):
        row = draws[m].clone()
        for before in rows[m - m % K :]:
            row = row - (row @ before) * before  # one after the other: more exact than all at once
        rows.append(row / row.norm())
    return torch.stack(rows) * draws.norm(dim=1, keepdim=True)


# %% alternate="orthogonal_projections" name="cholesky"
def orthogonal_projections(draws):
    out = []
    for block in torch.split(draws, draws.shape[1]):
        lower = torch.linalg.cholesky((block @ block.T).double())
        out.append(
            torch.linalg.solve_triangular(lower, block.double(), upper=False).to(draws.dtype)
            * block.norm(dim=1)[:, None]
        )
    return torch.cat(out, dim=0)


# %% alternate="performer_features" name="two-branches"
def performer_features(x, projection, is_query):
    M, K = projection.shape
    u = x * K**-0.25
    h = torch.einsum("...k,mk->...m", u, projection) - 0.5 * (u**2).sum(-1)[..., None]
    with torch.no_grad():
        c = h.max(-1, keepdim=True).values if is_query else h.flatten(-2).max(-1).values[..., None, None]
    return (h - c).exp() * M**-0.5


# %% alternate="performer_attention" name="ones-beside-the-values"
def performer_attention(q, k, v, projection):
    phi_q = performer_features(q, projection, True)
    phi_k = performer_features(k, projection, False)
    with_ones = torch.cat([v, torch.ones_like(v[..., :1])], dim=-1)
    both = phi_q @ torch.einsum("...sm,...sf->...mf", phi_k, with_ones)
    return both[..., :-1] / both[..., -1:]


# %% alternate="causal_performer_attention" name="a-loop-over-time"
def causal_performer_attention(q, k, v, projection):
    phi_q = performer_features(q, projection, is_query=True)
    phi_k = performer_features(k, projection, is_query=False)
    state, total, outputs = 0.0, 0.0, []
    for t in range(q.size(-2)):
        state = state + phi_k[..., t, :, None] * v[..., t, None, :]
        total = total + phi_k[..., t, :]
        above = (phi_q[..., t, None, :] @ state).squeeze(-2)
        outputs.append(above / (phi_q[..., t, :] * total).sum(-1, keepdim=True))
    return torch.stack(outputs, dim=-2)


# %% alternate="flash_kernel" name="keys-loaded-transposed"
def flash_kernel(q, k, v, out, T, S, K: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr):
    block, h = tl.program_id(0), tl.program_id(1)
    t = block * BLOCK_T + tl.arange(0, BLOCK_T)
    c = tl.arange(0, K)
    inside = t < T
    x = tl.load(q + h * T * K + t[:, None] * K + c[None, :], mask=inside[:, None], other=0.0)
    m = tl.zeros([BLOCK_T], dtype=tl.float32) - 1e30
    l = tl.zeros([BLOCK_T], dtype=tl.float32)
    o = tl.zeros([BLOCK_T, K], dtype=tl.float32)
    for i in range(0, tl.cdiv(S, BLOCK_S)):
        s = i * BLOCK_S + tl.arange(0, BLOCK_S)
        kt = tl.load(k + h * S * K + s[None, :] * K + c[:, None], mask=s[None, :] < S, other=0.0)
        p = tl.dot(x, kt, input_precision="ieee") / (K**0.5)
        p = tl.where(s[None, :] < S, p, -1e30)
        top = tl.maximum(m, tl.max(p, 1))
        p = tl.exp(p - top[:, None])
        a = tl.exp(m - top)
        l = l * a + tl.sum(p, 1)
        y = tl.load(v + h * S * K + s[:, None] * K + c[None, :], mask=s[:, None] < S, other=0.0)
        o = o * a[:, None] + tl.dot(p, y, input_precision="ieee")
        m = top
    o = o / l[:, None]
    tl.store(out + h * T * K + t[:, None] * K + c[None, :], o, mask=inside[:, None])


# %% alternate="flex_mask" name="distance-between-0-and-window"
def flex_mask(document, window):
    def mask_mod(b, h, q_idx, kv_idx):
        distance = q_idx - kv_idx
        return (distance >= 0) & (distance <= window) & (document[q_idx] == document[kv_idx])

    return mask_mod


# %% alternate="rotary" name="rotate-half"
def rotary(x, positions, base=10000.0, factor=1.0):
    # As in Hugging Face's Llama: each angle twice, and the halves exchanged.
    K = x.shape[-1]
    inverse = 1.0 / (base ** (torch.arange(0, K, 2).to(x) / K)) / factor
    angles = torch.outer(positions.to(x), inverse)
    angles = torch.cat((angles, angles), dim=-1)
    turned = torch.cat((-x[..., K // 2 :], x[..., : K // 2]), dim=-1)
    return x * angles.cos() + turned * angles.sin()


# %% alternate="rotary" name="complex-numbers"
def rotary(x, positions, base=10000.0, factor=1.0):
    half = x.size(-1) // 2
    number = torch.complex(x[..., :half].double(), x[..., half:].double())
    speeds = torch.tensor([base ** (-2 * i / (2 * half)) for i in range(half)], dtype=torch.float64)
    angles = positions.double()[:, None] * speeds / factor
    turned = number * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([turned.real, turned.imag], dim=-1).to(x.dtype)
