# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# Week 6: correct answers in other styles. All must pass.

# %% alternate="bpe_train" name="sorted-and-in-place"
def bpe_train(counts, num_merges):
    pieces = [(list(piece), n) for piece, n in counts.items()]
    merges = []
    for step in range(num_merges):
        seen = {}
        for tokens, n in pieces:
            for a, b in pairwise(tokens):
                seen[a, b] = seen.get((a, b), 0) + n
        if len(seen) == 0:
            return merges
        most = max(seen.values())
        pair = sorted(pair for pair, n in seen.items() if n == most)[0]
        merges.append(pair)
        for tokens, _ in pieces:
            tokens[:] = merge_pair(tokens, pair, 256 + step)
    return merges


# %% alternate="bpe_train" name="only-pieces-that-change"
def bpe_train(counts, num_merges):
    # The counts of pairs are kept, and changed only where a piece has the pair that was merged.
    words = {piece: tuple(piece) for piece in counts}
    pairs = Counter()
    for piece, tokens in words.items():
        for pair in pairwise(tokens):
            pairs[pair] += counts[piece]
    merges = []
    while len(merges) < num_merges and any(n > 0 for n in pairs.values()):
        best = max(pairs, key=lambda pair: (pairs[pair], -pair[0], -pair[1]))
        new = 256 + len(merges)
        merges.append(best)
        for piece, tokens in words.items():
            if best in set(pairwise(tokens)):
                for pair in pairwise(tokens):
                    pairs[pair] -= counts[piece]
                words[piece] = tokens = tuple(merge_pair(tokens, best, new))
                for pair in pairwise(tokens):
                    pairs[pair] += counts[piece]
    return merges


# %% alternate="bpe_encode" name="merge-after-merge"
def bpe_encode(piece, merges):
    # A pair with a merged token in it was learned after that token: once through the list is enough.
    tokens = list(piece)
    for rank, pair in enumerate(merges):
        tokens = merge_pair(tokens, tuple(pair), 256 + rank)
    return tokens


# %% alternate="bpe_encode" name="one-place-at-a-time"
def bpe_encode(piece, merges):
    numbers = {tuple(pair): 256 + i for i, pair in enumerate(merges)}
    tokens = [int(byte) for byte in piece]
    while True:
        found = [(numbers[pair], i) for i, pair in enumerate(pairwise(tokens)) if pair in numbers]
        if not found:
            return tokens
        new, i = min(found)
        tokens[i : i + 2] = [new]


# %% alternate="bpe_decode" name="by-recursion"
def bpe_decode(tokens, merges):
    def data(token):
        if token < 256:
            return [token]
        left, right = merges[token - 256]
        return data(left) + data(right)

    return bytes(byte for token in tokens for byte in data(token))


# %% alternate="bpe_decode" name="from-the-last-merge"
def bpe_decode(tokens, merges):
    tokens = list(tokens)
    for number in reversed(range(len(merges))):
        taken = []
        for token in tokens:
            taken.extend(merges[number] if token == 256 + number else [token])
        tokens = taken
    return bytes(tokens)


# %% alternate="CausalSelfAttention.forward" name="by-hand"
class CausalSelfAttention(nn.Module):
    def __init__(self, d_model: int, num_heads: int):
        super().__init__()
        if d_model % num_heads:
            raise ValueError(f"a width of {d_model} cannot be split into {num_heads} heads")
        self.num_heads = num_heads
        self.c_attn = nn.Linear(d_model, 3 * d_model)
        self.c_proj = nn.Linear(d_model, d_model)

    def forward(self, x, cache=None):
        B, T, D = x.shape
        H, K = self.num_heads, D // self.num_heads
        q, k, v = self.c_attn(x).view(B, T, 3, H, K).permute(2, 0, 3, 1, 4)
        if cache is not None:
            k = torch.cat((cache[0], k), dim=-2)
            v = torch.cat((cache[1], v), dim=-2)
        S = k.shape[-2]
        at = torch.arange(S - T, S, device=x.device)
        allowed = torch.arange(S, device=x.device)[None, :] <= at[:, None]
        scores = (q @ k.mT / K**0.5).masked_fill(~allowed, float("-inf"))
        out = F.softmax(scores, dim=-1) @ v
        return self.c_proj(out.permute(0, 2, 1, 3).reshape(B, T, D)), (k, v)


# %% alternate="CausalSelfAttention.forward" name="position-by-position"
class CausalSelfAttention(nn.Module):
    def __init__(self, d_model: int, num_heads: int):
        super().__init__()
        if d_model % num_heads:
            raise ValueError(f"a width of {d_model} cannot be split into {num_heads} heads")
        self.num_heads = num_heads
        self.c_attn = nn.Linear(d_model, 3 * d_model)
        self.c_proj = nn.Linear(d_model, d_model)

    def forward(self, x, cache=None):
        D = x.shape[-1]
        q, k, v = self.c_attn(x).split(D, dim=-1)
        q, k, v = (torch.stack(part.chunk(self.num_heads, dim=-1), dim=1) for part in (q, k, v))
        before = 0
        if cache is not None:
            before = cache[0].shape[2]
            k, v = torch.cat([cache[0], k], 2), torch.cat([cache[1], v], 2)
        outputs = []
        for t in range(x.shape[1]):
            seen = before + t + 1
            outputs.append(F.scaled_dot_product_attention(q[:, :, t : t + 1], k[:, :, :seen], v[:, :, :seen]))
        out = torch.cat(outputs, dim=2)  # (B, H, T, K)
        return self.c_proj(torch.cat(out.unbind(dim=1), dim=-1)), (k, v)


# %% alternate="Block.forward" name="formula-of-the-gelu"
class Block(nn.Module):
    def __init__(self, d_model: int, num_heads: int):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.attn = CausalSelfAttention(d_model, num_heads)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(d_model, 4 * d_model), "c_proj": nn.Linear(4 * d_model, d_model)})

    def forward(self, x, cache=None):
        a, new_cache = self.attn(self.ln_1(x), cache=cache)
        x = x + a
        z = self.mlp["c_fc"](self.ln_2(x))
        z = 0.5 * z * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))
        return x + self.mlp["c_proj"](z), new_cache


# %% alternate="Block.forward" name="sum-at-the-end"
class Block(nn.Module):
    def __init__(self, d_model: int, num_heads: int):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.attn = CausalSelfAttention(d_model, num_heads)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(d_model, 4 * d_model), "c_proj": nn.Linear(4 * d_model, d_model)})

    def forward(self, x, cache=None):
        first, cache = self.attn(self.ln_1(x), cache)
        network = nn.Sequential(self.ln_2, self.mlp.c_fc, nn.GELU("tanh"), self.mlp.c_proj)
        second = network(x + first)
        return x + first + second, cache


# %% alternate="GPT.forward" name="a-list-of-nones"
class GPT(nn.Module):
    def __init__(self, vocab_size: int, context: int, d_model: int, num_heads: int, num_layers: int):
        super().__init__()
        self.context = context
        self.wte = nn.Embedding(vocab_size, d_model)
        self.wpe = nn.Embedding(context, d_model)
        self.h = nn.ModuleList(Block(d_model, num_heads) for _ in range(num_layers))
        self.ln_f = nn.LayerNorm(d_model)

    def forward(self, tokens, cache=None):
        caches = [None] * len(self.h) if cache is None else cache
        before = 0 if cache is None else cache[-1][1].shape[-2]
        T = tokens.shape[1]
        x = self.wte(tokens) + self.wpe.weight[before : before + T][None]
        kept = []
        for block, old in zip(self.h, caches, strict=True):
            x, pair = block(x, old)
            kept.append(pair)
        return self.ln_f(x) @ self.wte.weight.T, kept


# %% alternate="GPT.forward" name="positions-for-each-row"
class GPT(nn.Module):
    def __init__(self, vocab_size: int, context: int, d_model: int, num_heads: int, num_layers: int):
        super().__init__()
        self.context = context
        self.wte = nn.Embedding(vocab_size, d_model)
        self.wpe = nn.Embedding(context, d_model)
        self.h = nn.ModuleList(Block(d_model, num_heads) for _ in range(num_layers))
        self.ln_f = nn.LayerNorm(d_model)

    def forward(self, tokens, cache=None):
        positions = torch.ones_like(tokens).cumsum(dim=1) - 1
        if cache:
            positions = positions + cache[0][0].size(2)
        x, new = self.wpe(positions) + F.embedding(tokens, self.wte.weight), []
        for number in range(len(self.h)):
            x, c = self.h[number](x, cache[number] if cache else None)
            new += [c]
        return torch.einsum("btd,vd->btv", self.ln_f(x), self.wte.weight), new


# %% alternate="init_weights_" name="by-module"
def init_weights_(model, draws):
    layers = len(model.h)
    for where, module in model.named_modules():
        if isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            module.weight.data = draws[f"{where}.weight"] * 0.02
        elif isinstance(module, nn.Linear):
            scale = 0.02 * (2 * layers) ** -0.5 if where.endswith("c_proj") else 0.02
            module.weight.data.copy_(draws[f"{where}.weight"].mul(scale))
            module.bias.data.zero_()


# %% alternate="init_weights_" name="as-a-state"
def init_weights_(model, draws):
    state = {}
    for name, draw in draws.items():
        if "ln_" in name:
            state[name] = torch.ones_like(draw) if name.endswith("weight") else torch.zeros_like(draw)
        else:
            state[name] = torch.zeros_like(draw) if name.endswith("bias") else draw / 50
    for i in range(len(model.h)):
        for part in ("attn", "mlp"):
            state[f"h.{i}.{part}.c_proj.weight"] /= (2 * len(model.h)) ** 0.5
    model.load_state_dict(state)


# %% alternate="lm_loss" name="log-softmax-and-gather"
def lm_loss(logits, tokens):
    logp = torch.log_softmax(logits[:, :-1], dim=-1)
    return -logp.gather(-1, tokens[:, 1:, None]).squeeze(-1).mean()


# %% alternate="lm_loss" name="position-after-position"
def lm_loss(logits, tokens):
    T = tokens.shape[1]
    losses = [F.cross_entropy(logits[:, t], tokens[:, t + 1]) for t in range(T - 1)]
    return sum(losses) / (T - 1)


# %% alternate="top_k_top_p" name="row-by-row"
def top_k_top_p(logits, temperature=1.0, k=None, p=None):
    out = torch.zeros_like(logits)
    for row, scores in zip(out, logits / temperature, strict=True):
        likeliest = sorted(range(len(scores)), key=lambda i: (-scores[i].item(), i))[:k]
        probs = torch.softmax(scores[likeliest], dim=0)
        if p is not None:
            total, kept = 0.0, 0
            while kept < len(likeliest) and total < p:
                total += probs[kept].item()
                kept += 1
            likeliest, probs = likeliest[:kept], probs[:kept]
        row[likeliest] = probs / probs.sum()
    return out


# %% alternate="top_k_top_p" name="masks-of-what-is-left"
def top_k_top_p(logits, temperature=1.0, k=None, p=None):
    scaled = logits / temperature
    order = scaled.argsort(dim=-1, descending=True, stable=True)
    rank = order.argsort(dim=-1)  # the place of each token among the likeliest
    if k is not None:
        scaled = torch.where(rank < k, scaled, torch.full_like(scaled, float("-inf")))
    if p is not None:
        probs = F.softmax(scaled, dim=-1)
        sums = probs.gather(-1, order).cumsum(dim=-1).gather(-1, rank)
        scaled = scaled.masked_fill(sums - probs >= p, float("-inf"))
    return F.softmax(scaled, dim=-1)


# %% alternate="generate" name="searchsorted"
@torch.no_grad()
def generate(model, tokens, uniforms, temperature=1.0, k=None, p=None):
    text, reading, cache = [tokens], tokens, None
    for n in range(uniforms.shape[1]):
        logits, cache = model(reading, cache)
        sums = torch.cumsum(top_k_top_p(logits[:, -1, :], temperature, k, p), dim=-1)
        u = uniforms[:, n : n + 1] * sums[:, -1:]
        reading = torch.searchsorted(sums, u.contiguous(), right=True)
        text.append(reading)
    return torch.cat(text, dim=1)


# %% alternate="generate" name="first-that-is-larger"
@torch.no_grad()
def generate(model, tokens, uniforms, temperature=1.0, k=None, p=None):
    cache, B = None, tokens.size(0)
    out = torch.cat([tokens, tokens.new_zeros(B, uniforms.size(1))], dim=1)
    start, end = 0, tokens.size(1)
    while end < out.size(1):
        logits, cache = model(out[:, start:end], cache)
        sums = top_k_top_p(logits[:, -1], temperature=temperature, k=k, p=p).cumsum(-1)
        larger = sums > uniforms[:, [end - tokens.size(1)]] * sums[:, -1:]
        out[:, end] = larger.int().argmax(dim=-1)
        start, end = end, end + 1
    return out


# %% alternate="count_parameters" name="seen-before"
def count_parameters(model, embeddings=True):
    seen, total = [], 0
    if not embeddings:
        seen = [p for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()]
    for _, p in model.named_parameters(remove_duplicate=False):
        if not any(p is other for other in seen):
            seen.append(p)
            total += math.prod(p.shape)
    return total


# %% alternate="count_parameters" name="difference-of-sets"
def count_parameters(model, embeddings=True):
    every = set(model.parameters())
    if not embeddings:
        for module in model.modules():
            if type(module) is nn.Embedding:
                every -= set(module.parameters())
    return sum(p.nelement() for p in every)


# %% alternate="training_flops" name="forward-and-backward"
def training_flops(model, num_tokens):
    forward = 2 * count_parameters(model, embeddings=True) * num_tokens
    backward = 2 * forward
    return float(forward + backward)


# %% alternate="fit_scaling_law" name="lstsq"
def fit_scaling_law(compute, loss):
    x, y = torch.log(compute.double()), torch.log(loss.double())
    columns = torch.stack([torch.ones_like(x), x], dim=1)
    (intercept,), (slope,) = torch.linalg.lstsq(columns, y[:, None]).solution.tolist()
    return math.exp(intercept), -slope


# %% alternate="fit_scaling_law" name="to-base-ten"
def fit_scaling_law(compute, loss):
    x, y = compute.double().log10(), loss.double().log10()
    n = len(x)
    slope = (n * (x * y).sum() - x.sum() * y.sum()) / (n * (x**2).sum() - x.sum() ** 2)
    a = 10 ** ((y.sum() - slope * x.sum()) / n)
    return a.item(), -slope.item()


# %% alternate="accumulate_gradients" name="by-places"
def accumulate_gradients(loss_of, tokens, size):
    B, parts = tokens.shape[0], []
    for start in range(0, B, size):
        rows = tokens[start : start + size]
        share = rows.shape[0] / B
        loss = loss_of(rows)
        (loss * share).backward()
        parts.append(loss.detach() * share)
    return torch.stack(parts).sum()


# %% alternate="accumulate_gradients" name="weight-as-upstream-gradient"
def accumulate_gradients(loss_of, tokens, size):
    mean = torch.zeros(())
    for rows in torch.split(tokens, size):
        loss = loss_of(rows)
        weight = torch.tensor(len(rows) / len(tokens), dtype=loss.dtype)
        loss.backward(gradient=weight)
        mean = mean + loss.item() * weight
    return mean


# %% alternate="induction_score" name="two-loops"
def induction_score(weights, tokens):
    T, found = len(tokens), []
    for t in range(T):
        after = [j for j in range(1, t + 1) if tokens[j - 1] == tokens[t]]
        if after:
            found.append(weights[..., t, after].sum(dim=-1))
    return torch.stack(found).mean(dim=0)


# %% alternate="induction_score" name="shifted-match"
def induction_score(weights, tokens):
    same = (tokens[:, None] == tokens[None, :]).to(weights).tril()
    after = F.pad(same, (1, 0))[:, :-1].tril()  # one to the right
    rows = after.sum(-1) > 0
    return torch.einsum("...ts,ts->...", weights, after) / rows.sum()


# %% alternate="rouge_l" name="two-rows"
def rouge_l(candidate, reference):
    before = [0] * (len(reference) + 1)
    for mine in candidate:
        row = [0]
        for j in range(len(reference)):
            row.append(before[j] + 1 if mine == reference[j] else max(row[-1], before[j + 1]))
        before = row
    if before[-1] == 0:
        return 0.0
    precision, recall = before[-1] / len(candidate), before[-1] / len(reference)
    return 2 * precision * recall / (precision + recall)


# %% alternate="rouge_l" name="by-recursion"
def rouge_l(candidate, reference):
    known = {}

    def length(i, j):
        if i == 0 or j == 0:
            return 0
        if (i, j) not in known:
            if candidate[i - 1] == reference[j - 1]:
                known[i, j] = length(i - 1, j - 1) + 1
            else:
                known[i, j] = max(length(i - 1, j), length(i, j - 1))
        return known[i, j]

    m, n = len(candidate), len(reference)
    return 2.0 * length(m, n) / (m + n) if m and n else 0.0
