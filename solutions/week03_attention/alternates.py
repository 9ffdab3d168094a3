# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# Week 3: correct answers in other styles. All must pass.

# %% alternate="soft_lookup" name="by-hand"
def soft_lookup(query, keys, values, temperature):
    scores = (keys * query).sum(dim=1) / temperature
    exps = torch.exp(scores - scores.max())
    weights = exps / exps.sum()
    return (weights[:, None] * values).sum(0), weights


# %% alternate="soft_lookup" name="as-attention-of-one-query"
def soft_lookup(query, keys, values, temperature):
    weights = F.softmax(query[None] @ keys.T * (1.0 / temperature), dim=-1)
    return (weights @ values)[0], weights[0]


# %% alternate="masked_softmax" name="exponentials"
def masked_softmax(scores, mask):
    mask = mask.expand(scores.shape)
    largest = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).amax(-1, keepdim=True).detach()
    exps = torch.where(mask, torch.exp(torch.where(mask, scores - largest, torch.zeros_like(scores))), 0.0)
    total = exps.sum(-1, keepdim=True)
    return exps / torch.where(total > 0, total, torch.ones_like(total))


# %% alternate="masked_softmax" name="infinity-then-zeros"
def masked_softmax(scores, mask):
    # The NaN of an empty row is filled with 0, and masked_fill lets no gradient through at hidden positions.
    weights = scores.masked_fill(~mask, float("-inf")).softmax(-1)
    return weights.masked_fill(~mask, 0.0)


# %% alternate="masked_softmax" name="empty-rows-apart"
def masked_softmax(scores, mask):
    mask = torch.broadcast_to(mask, scores.shape)
    empty = ~mask.any(dim=-1, keepdim=True)
    weights = F.softmax(scores.masked_fill(~mask & ~empty, -math.inf), dim=-1)
    return torch.where(empty, torch.zeros_like(weights), weights)


# %% alternate="additive_attention" name="einsum"
def additive_attention(query, keys, values, mask, w_q, w_k, v):
    hidden = torch.einsum("bq,aq->ba", query, w_q)[:, None] + torch.einsum("bse,ae->bsa", keys, w_k)
    scores = torch.einsum("bsa,a->bs", hidden.tanh(), v)
    weights = masked_softmax(scores, mask)
    return torch.einsum("bs,bsf->bf", weights, values), weights


# %% alternate="additive_attention" name="one-matrix"
def additive_attention(query, keys, values, mask, w_q, w_k, v):
    # Query and key side by side, the two weights side by side: one product.
    pairs = torch.cat([query.unsqueeze(1).expand(-1, keys.size(1), -1), keys], dim=2)
    scores = (torch.tanh(pairs @ torch.cat([w_q, w_k], dim=1).T) * v).sum(-1)
    weights = masked_softmax(scores, mask)
    return (weights[..., None] * values).sum(dim=1), weights


# %% alternate="scaled_dot_product_attention" name="einsum"
def scaled_dot_product_attention(q, k, v, mask=None):
    scores = torch.einsum("...tk,...sk->...ts", q, k) * k.shape[-1] ** -0.5
    weights = F.softmax(scores, dim=-1) if mask is None else masked_softmax(scores, mask)
    return torch.einsum("...ts,...sd->...td", weights, v), weights


# %% alternate="scaled_dot_product_attention" name="scaled-first"
def scaled_dot_product_attention(q, k, v, mask=None):
    # The query is divided instead of the scores: fewer divisions, the same numbers.
    scores = (q / q.shape[-1] ** 0.5) @ k.mT
    if mask is None:
        mask = torch.tensor(True, device=q.device)
    weights = masked_softmax(scores, mask)
    return torch.matmul(weights, v), weights


# %% alternate="causal_mask" name="triangle"
def causal_mask(T, S, device=None):
    return torch.ones(T, S, dtype=torch.bool, device=device).tril(diagonal=S - T)


# %% alternate="causal_mask" name="last-rows"
def causal_mask(T, S, device=None):
    return ~torch.triu(torch.ones(S, S, device=device), diagonal=1).bool()[S - T :]


# %% alternate="padding_mask" name="row-by-row"
def padding_mask(lengths, S):
    mask = torch.zeros(len(lengths), 1, S, dtype=torch.bool, device=lengths.device)
    for b, length in enumerate(lengths.tolist()):
        mask[b, 0, :length] = True
    return mask


# %% alternate="padding_mask" name="axes-by-none"
def padding_mask(lengths, S):
    return lengths[:, None, None] > torch.arange(S, device=lengths.device)[None, None, :]


# %% alternate="decoder_mask" name="logical-and"
def decoder_mask(lengths, T):
    return torch.logical_and(padding_mask(lengths, T), causal_mask(T, T, lengths.device)[None])


# %% alternate="decoder_mask" name="from-scratch"
def decoder_mask(lengths, T):
    at = torch.arange(T, device=lengths.device)
    return (at[None, None, :] <= at[None, :, None]) & (at < lengths[:, None])[:, None]


# %% alternate="MultiHeadAttention.forward" name="head-by-head"
class MultiHeadAttention(nn.Module):
    """Attention with several heads (Vaswani et al. 2017, section 3.2.2); parameters as in torch.nn.MultiheadAttention."""

    def __init__(self, d_model: int, num_heads: int):
        super().__init__()
        if d_model % num_heads:
            raise ValueError(f"a width of {d_model} cannot be split into {num_heads} heads")
        self.num_heads = num_heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * d_model, d_model))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * d_model))
        self.out_proj = nn.Linear(d_model, d_model)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, query, key, value, mask=None):
        D = query.shape[-1]
        projected = [
            x @ self.in_proj_weight[i * D : (i + 1) * D].T + self.in_proj_bias[i * D : (i + 1) * D]
            for i, x in enumerate((query, key, value))
        ]
        outputs, weights = [], []
        for q, k, v in zip(*(x.chunk(self.num_heads, dim=-1) for x in projected), strict=True):
            output, attended = scaled_dot_product_attention(q, k, v, mask)
            outputs.append(output)
            weights.append(attended)
        return self.out_proj(torch.cat(outputs, dim=-1)), torch.stack(weights, dim=1)


# %% alternate="MultiHeadAttention.forward" name="views-and-permutes"
class MultiHeadAttention(nn.Module):
    """Attention with several heads (Vaswani et al. 2017, section 3.2.2); parameters as in torch.nn.MultiheadAttention."""

    def __init__(self, d_model: int, num_heads: int):
        super().__init__()
        if d_model % num_heads:
            raise ValueError(f"a width of {d_model} cannot be split into {num_heads} heads")
        self.num_heads = num_heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * d_model, d_model))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * d_model))
        self.out_proj = nn.Linear(d_model, d_model)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, query, key, value, mask=None):
        B, T, D = query.shape
        S, H = key.shape[1], self.num_heads
        weight, bias = self.in_proj_weight.view(3, D, D), self.in_proj_bias.view(3, D)
        q = (query @ weight[0].T + bias[0]).view(B, T, H, D // H).permute(0, 2, 1, 3)
        k = (key @ weight[1].T + bias[1]).view(B, S, H, D // H).permute(0, 2, 1, 3)
        v = (value @ weight[2].T + bias[2]).view(B, S, H, D // H).permute(0, 2, 1, 3)
        if mask is not None:
            mask = mask.expand(B, T, S)[:, None]
        output, weights = scaled_dot_product_attention(q, k, v, mask)
        return self.out_proj(output.permute(0, 2, 1, 3).reshape(B, T, D)), weights


# %% alternate="AttentionDecoder.step" name="linear-layers-spelt-out"
class AttentionDecoder(nn.Module):
    """A recurrent decoder that attends to the source before each word (after Bahdanau et al. 2014)."""

    def __init__(self, vocab_size: int, d_embed: int, hidden_size: int, d_memory: int, d_attn: int):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, d_embed)
        self.w_q = nn.Parameter(torch.randn(d_attn, hidden_size) * hidden_size**-0.5)
        self.w_k = nn.Parameter(torch.randn(d_attn, d_memory) * d_memory**-0.5)
        self.v = nn.Parameter(torch.randn(d_attn) * d_attn**-0.5)
        self.cell = nn.GRUCell(d_embed + d_memory, hidden_size)
        self.output = nn.Linear(hidden_size + d_memory, vocab_size)

    def step(self, tokens, state, memory, mask):
        context, weights = additive_attention(state, memory, memory, mask, self.w_q, self.w_k, self.v)
        inputs = torch.cat((self.embedding.weight[tokens], context), 1)
        new = self.cell(inputs, state)
        H = new.size(1)
        logits = new @ self.output.weight[:, :H].T + context @ self.output.weight[:, H:].T + self.output.bias
        return logits, new, weights


# %% alternate="patchify" name="unfold"
def patchify(images, P):
    return F.unfold(images, kernel_size=P, stride=P).transpose(1, 2)


# %% alternate="patchify" name="two-loops"
def patchify(images, P):
    patches = []
    for top in range(0, images.shape[2], P):
        for left in range(0, images.shape[3], P):
            patches.append(images[:, :, top : top + P, left : left + P].reshape(images.shape[0], -1))
    return torch.stack(patches, dim=1)


# %% alternate="attention_rollout" name="from-the-last-layer"
def attention_rollout(weights):
    mixed = (weights.mean(dim=2) + torch.eye(weights.shape[-1]).to(weights)) / 2  # (L, B, N, N)
    product = mixed[-1]
    for layer in reversed(mixed[:-1]):
        product = product @ layer
    return product


# %% alternate="attention_rollout" name="multi-dot"
def attention_rollout(weights):
    N = weights.size(-1)
    rollouts = []
    for b in range(weights.size(1)):
        total = torch.eye(N, dtype=weights.dtype)
        for layer in weights[:, b]:
            mixed = layer.sum(dim=0) / (2 * layer.size(0))
            mixed = mixed + torch.diag(torch.full((N,), 0.5, dtype=weights.dtype))
            total = torch.matmul(mixed, total)
        rollouts.append(total)
    return torch.stack(rollouts)
