# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# Week 4: correct answers in other styles. All must pass.

# %% [markdown]
# ## The model

# %% alternate="positional_encoding" name="filled-column-by-column"
def positional_encoding(length, d_model):
    if d_model % 2 != 0:
        raise ValueError("d_model must be even")
    encoding = torch.zeros(length, d_model)
    position = torch.arange(0, length, dtype=torch.float).unsqueeze(1)
    div_term = 10000 ** (torch.arange(0, d_model, 2).float() / d_model)
    encoding[:, 0::2] = torch.sin(position / div_term)
    encoding[:, 1::2] = torch.cos(position / div_term)
    return encoding


# %% alternate="positional_encoding" name="number-by-number"
def positional_encoding(length, d_model):
    if d_model & 1:
        raise ValueError(d_model)
    rows = []
    for t in range(length):
        row = []
        for i in range(d_model // 2):
            angle = t / 10000 ** (2 * i / d_model)
            row += [math.sin(angle), math.cos(angle)]
        rows.append(row)
    return torch.tensor(rows)


# %% alternate="LayerNorm.forward" name="torch-var"
class LayerNorm(nn.Module):
    """Layer normalisation (Ba et al. 2016), as torch.nn.LayerNorm over the last axis."""

    def __init__(self, d_model: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model))

    def forward(self, x):
        mean = x.mean(-1, keepdim=True)
        var = x.var(-1, keepdim=True, unbiased=False)
        return self.weight * (x - mean) * torch.rsqrt(var + self.eps) + self.bias


# %% alternate="LayerNorm.forward" name="sums"
class LayerNorm(nn.Module):
    """Layer normalisation (Ba et al. 2016), as torch.nn.LayerNorm over the last axis."""

    def __init__(self, d_model: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model))

    def forward(self, x):
        D = x.shape[-1]
        mu = (x.sum(dim=-1) / D)[..., None]
        sigma2 = (((x - mu) ** 2).sum(dim=-1) / D)[..., None]
        normed = (x - mu) / (sigma2 + self.eps) ** 0.5
        return torch.addcmul(self.bias, normed, self.weight)


# %% alternate="FeedForward.forward" name="functional"
class FeedForward(nn.Module):
    """The same two layers at each position (Vaswani et al. 2017, section 3.3)."""

    def __init__(self, d_model: int, d_ff: int):
        super().__init__()
        self.linear1 = nn.Linear(d_model, d_ff)
        self.linear2 = nn.Linear(d_ff, d_model)

    def forward(self, x):
        hidden = F.relu(x @ self.linear1.weight.T + self.linear1.bias)
        return F.linear(hidden, self.linear2.weight, self.linear2.bias)


# %% alternate="FeedForward.forward" name="maximum-with-zero"
class FeedForward(nn.Module):
    """The same two layers at each position (Vaswani et al. 2017, section 3.3)."""

    def __init__(self, d_model: int, d_ff: int):
        super().__init__()
        self.linear1 = nn.Linear(d_model, d_ff)
        self.linear2 = nn.Linear(d_ff, d_model)

    def forward(self, x):
        h = self.linear1(x).clamp(min=0)
        return self.linear2(h)


# %% alternate="EncoderLayer.forward" name="step-by-step"
class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward network, each with dropout, a residual and a norm (section 3.1)."""

    def __init__(self, d_model: int, num_heads: int, d_ff: int, dropout: float = 0.1, norm_first: bool = True):
        super().__init__()
        self.norm_first = norm_first
        self.self_attn, self.feed_forward = MultiHeadAttention(d_model, num_heads), FeedForward(d_model, d_ff)
        self.norm1, self.norm2 = LayerNorm(d_model), LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, mask):
        residual = x
        if self.norm_first:
            x = self.norm1(x)
        x = self.self_attn(x, x, mask)
        x = residual + self.dropout(x)
        if not self.norm_first:
            x = self.norm1(x)
        residual = x
        if self.norm_first:
            x = self.norm2(x)
        x = self.feed_forward(x)
        x = residual + self.dropout(x)
        if not self.norm_first:
            x = self.norm2(x)
        return x


# %% alternate="EncoderLayer.forward" name="functional-dropout"
class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward network, each with dropout, a residual and a norm (section 3.1)."""

    def __init__(self, d_model: int, num_heads: int, d_ff: int, dropout: float = 0.1, norm_first: bool = True):
        super().__init__()
        self.norm_first = norm_first
        self.self_attn, self.feed_forward = MultiHeadAttention(d_model, num_heads), FeedForward(d_model, d_ff)
        self.norm1, self.norm2 = LayerNorm(d_model), LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, mask):
        def drop(y):
            return F.dropout(y, self.dropout.p, training=self.training)

        mask = mask.expand(x.size(0), x.size(1), x.size(1))
        if self.norm_first:
            q = kv = self.norm1(x)
            middle = x + drop(self.self_attn(q, kv, mask))
            return drop(self.feed_forward(self.norm2(middle))) + middle
        middle = self.norm1(drop(self.self_attn(x, x, mask)) + x)
        return self.norm2(drop(self.feed_forward(middle)) + middle)


# %% alternate="DecoderLayer.forward" name="a-loop-over-sublayers"
class DecoderLayer(nn.Module):
    """Self-attention, attention to the encoder's memory, feed-forward (section 3.1)."""

    def __init__(self, d_model: int, num_heads: int, d_ff: int, dropout: float = 0.1, norm_first: bool = True):
        super().__init__()
        self.norm_first = norm_first
        self.self_attn, self.cross_attn = MultiHeadAttention(d_model, num_heads), MultiHeadAttention(d_model, num_heads)
        self.feed_forward = FeedForward(d_model, d_ff)
        self.norm1, self.norm2, self.norm3 = LayerNorm(d_model), LayerNorm(d_model), LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, memory, mask, memory_mask):
        sublayers = [
            (self.norm1, lambda y: self.self_attn(y, y, mask)),
            (self.norm2, lambda y: self.cross_attn(y, memory, memory_mask)),
            (self.norm3, self.feed_forward),
        ]
        for norm, sublayer in sublayers:
            x = x + self.dropout(sublayer(norm(x))) if self.norm_first else norm(x + self.dropout(sublayer(x)))
        return x


# %% alternate="DecoderLayer.forward" name="spelt-out"
class DecoderLayer(nn.Module):
    """Self-attention, attention to the encoder's memory, feed-forward (section 3.1)."""

    def __init__(self, d_model: int, num_heads: int, d_ff: int, dropout: float = 0.1, norm_first: bool = True):
        super().__init__()
        self.norm_first = norm_first
        self.self_attn, self.cross_attn = MultiHeadAttention(d_model, num_heads), MultiHeadAttention(d_model, num_heads)
        self.feed_forward = FeedForward(d_model, d_ff)
        self.norm1, self.norm2, self.norm3 = LayerNorm(d_model), LayerNorm(d_model), LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, memory, mask, memory_mask):
        if not self.norm_first:
            attended = self.self_attn(x, x, mask)
            x = self.norm1(x + self.dropout(attended))
            looked_up = self.cross_attn(x, memory, memory_mask)
            x = self.norm2(x + self.dropout(looked_up))
            thought = self.feed_forward(x)
            x = self.norm3(x + self.dropout(thought))
        else:
            query = self.norm1(x)
            x = x + self.dropout(self.self_attn(query, query.clone(), mask))
            query = self.norm2(x)
            x = x + self.dropout(self.cross_attn(query, memory, memory_mask))
            x = x + self.dropout(self.feed_forward(self.norm3(x)))
        return x


# %% alternate="Transformer.forward" name="masks-from-positions"
class Transformer(nn.Module):
    """A translator: encoder, decoder, and one embedding for source, target and output (sections 3.1 and 3.4)."""

    def __init__(
        self,
        vocab_size: int,
        d_model: int,
        num_heads: int,
        num_encoder_layers: int,
        num_decoder_layers: int,
        d_ff: int,
        dropout: float = 0.1,
        norm_first: bool = True,
    ):
        super().__init__()
        sizes = (d_model, num_heads, d_ff, dropout, norm_first)
        self.d_model = d_model
        self.embedding = nn.Embedding(vocab_size, d_model)
        nn.init.normal_(self.embedding.weight, std=d_model**-0.5)  # so that a scaled row has entries of size 1
        self.encoder = nn.ModuleList(EncoderLayer(*sizes) for _ in range(num_encoder_layers))
        self.decoder = nn.ModuleList(DecoderLayer(*sizes) for _ in range(num_decoder_layers))
        self.encoder_norm = LayerNorm(d_model) if norm_first else nn.Identity()
        self.decoder_norm = LayerNorm(d_model) if norm_first else nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def embed(self, tokens):
        vectors = self.embedding.weight[tokens] * self.d_model**0.5
        encoding = positional_encoding(tokens.shape[1], self.d_model).to(vectors.device, vectors.dtype)
        return self.dropout(vectors + encoding[None])

    def encode(self, source):
        memory_mask = source.ne(PAD)[:, None, :]
        memory = self.embed(source)
        for layer in self.encoder:
            memory = layer(memory, memory_mask)
        memory = self.encoder_norm(memory)
        return memory, memory_mask

    def decode(self, target, memory, memory_mask):
        at = torch.arange(target.shape[1], device=target.device)
        mask = (at[None, :] <= at[:, None])[None] & target.ne(PAD)[:, None, :]
        hidden = self.embed(target)
        for layer in self.decoder:
            hidden = layer(hidden, memory, mask, memory_mask)
        return self.decoder_norm(hidden) @ self.embedding.weight.T

    def forward(self, source, target):
        return self.decode(target[:, : target.shape[1] - 1], *self.encode(source))


# %% alternate="Transformer.forward" name="triangle-above"
class Transformer(nn.Module):
    """A translator: encoder, decoder, and one embedding for source, target and output (sections 3.1 and 3.4)."""

    def __init__(
        self,
        vocab_size: int,
        d_model: int,
        num_heads: int,
        num_encoder_layers: int,
        num_decoder_layers: int,
        d_ff: int,
        dropout: float = 0.1,
        norm_first: bool = True,
    ):
        super().__init__()
        sizes = (d_model, num_heads, d_ff, dropout, norm_first)
        self.d_model = d_model
        self.embedding = nn.Embedding(vocab_size, d_model)
        nn.init.normal_(self.embedding.weight, std=d_model**-0.5)  # so that a scaled row has entries of size 1
        self.encoder = nn.ModuleList(EncoderLayer(*sizes) for _ in range(num_encoder_layers))
        self.decoder = nn.ModuleList(DecoderLayer(*sizes) for _ in range(num_decoder_layers))
        self.encoder_norm = LayerNorm(d_model) if norm_first else nn.Identity()
        self.decoder_norm = LayerNorm(d_model) if norm_first else nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def embed(self, tokens):
        x = F.embedding(tokens, self.embedding.weight) * math.sqrt(self.d_model)
        x = x + positional_encoding(x.size(-2), x.size(-1)).to(x)
        return self.dropout(x)

    def encode(self, source):
        padding = source == PAD
        mask = ~padding.unsqueeze(-2)
        x = self.embed(source)
        for i in range(len(self.encoder)):
            x = self.encoder[i](x, mask)
        return self.encoder_norm(x), mask

    def decode(self, target, memory, memory_mask):
        B, T = target.shape
        future = torch.triu(torch.ones(T, T, device=target.device), diagonal=1).bool()
        hidden = future.unsqueeze(0).repeat(B, 1, 1) | (target == PAD).unsqueeze(1)
        x = self.embed(target)
        for layer in self.decoder:
            x = layer(x, memory, ~hidden, memory_mask)
        return torch.einsum("btd,vd->btv", self.decoder_norm(x), self.embedding.weight)

    def forward(self, source, target):
        memory, memory_mask = self.encode(source)
        logits = self.decode(target[:, :-1], memory, memory_mask)
        return logits


# %% [markdown]
# ## Loss, score and search

# %% alternate="label_smoothing_loss" name="kl-divergence-plus-entropy"
def label_smoothing_loss(logits, target, eps):
    V = logits.shape[-1]
    wanted = torch.full_like(logits, eps / (V - 2))
    wanted.scatter_(-1, target[..., None], 1 - eps)
    wanted[..., PAD] = 0.0
    real = target.ne(PAD)
    divergence = F.kl_div(F.log_softmax(logits, -1)[real], wanted[real], reduction="sum") / real.sum()
    return divergence + torch.special.entr(wanted[real]).sum() / real.sum()


# %% alternate="label_smoothing_loss" name="logsumexp"
def label_smoothing_loss(logits, target, eps):
    V = logits.size(-1)
    logits, target = logits.reshape(-1, V), target.reshape(-1)
    logits, target = logits[target != PAD], target[target != PAD]
    rows = torch.arange(len(target), device=target.device)
    share = eps / (V - 2)
    true = logits[rows, target]
    # The weights sum to 1, so the logarithm of the partition function enters once.
    wanted = (1 - eps) * true + share * (logits[:, :PAD].sum(1) + logits[:, PAD + 1 :].sum(1) - true)
    return (torch.logsumexp(logits, dim=1) - wanted).mean()


# %% alternate="label_smoothing_loss" name="cross-entropy-with-soft-labels"
def label_smoothing_loss(logits, target, eps):
    V = logits.size(-1)
    hard = F.one_hot(target, V).to(logits.dtype)
    soft = (1 - hard) * eps / (V - 2) + (1 - eps) * hard
    soft = torch.cat([torch.zeros_like(soft[..., :1]), soft[..., 1:]], dim=-1)  # PAD is token 0
    losses = F.cross_entropy(logits.flatten(0, 1), soft.flatten(0, 1), reduction="none")
    mask = (target != PAD).flatten().to(logits.dtype)
    return (losses * mask).sum() / mask.sum()


# %% alternate="corpus_bleu" name="defaultdict"
def corpus_bleu(hypotheses, references):
    from collections import defaultdict

    def grams(words, n):
        counts = defaultdict(int)
        for start in range(0, len(words) - n + 1):
            counts[" ".join(words[start : start + n])] += 1
        return counts

    product, c, r = 1.0, 0, 0
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        c += len(hypothesis)
        r += len(reference)
    for n in (1, 2, 3, 4):
        right = total = 0
        for hypothesis, reference in zip(hypotheses, references, strict=True):
            said, there = grams(hypothesis, n), grams(reference, n)
            for gram, count in said.items():
                right += min(count, there[gram])
                total += count
        if right == 0:
            return 0
        product *= right / total
    penalty = 1.0 if c >= r else math.exp(1 - r / c)
    return 100.0 * penalty * product**0.25


# %% alternate="corpus_bleu" name="crossed-off-a-list"
def corpus_bleu(hypotheses, references):
    right, total = torch.zeros(4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    for said, wanted in zip(hypotheses, references, strict=True):
        for n in range(4):
            left = list(zip(*(wanted[i:] for i in range(n + 1)), strict=False))
            for gram in zip(*(said[i:] for i in range(n + 1)), strict=False):
                total[n] += 1
                if gram in left:
                    left.remove(gram)  # each can be matched once
                    right[n] += 1
    if not right.all():
        return 0.0
    ratio = sum(map(len, references)) / sum(map(len, hypotheses))
    geometric = (right / total).log().mean().exp()
    return float(100 * geometric * min(1.0, math.exp(1 - ratio)))


# %% alternate="greedy_decode" name="lists"
def greedy_decode(next_log_probs, batch_size, longest):
    rows = [[BEGIN] for _ in range(batch_size)]
    for _ in range(longest):
        if all(END in row for row in rows):
            break
        best = next_log_probs(torch.tensor(rows)).max(dim=1).indices.tolist()
        for row, token in zip(rows, best, strict=True):
            row.append(PAD if END in row else token)
    return torch.tensor(rows)


# %% alternate="greedy_decode" name="filled-in-then-cut"
def greedy_decode(next_log_probs, batch_size, longest):
    tokens = torch.full((batch_size, longest + 1), PAD, dtype=torch.long)
    tokens[:, 0] = BEGIN
    running = torch.ones(batch_size, dtype=torch.bool)
    for t in range(longest):
        if not running.any():
            return tokens[:, : t + 1]
        choice = torch.argmax(next_log_probs(tokens[:, : t + 1]), dim=1)
        tokens[running, t + 1] = choice[running]
        running &= tokens[:, t + 1] != END
    return tokens


# %% alternate="beam_search" name="lists-and-a-heap"
def beam_search(next_log_probs, width, longest, alpha=0.6):
    import heapq

    beam, best, free = [(0.0, [BEGIN])], None, width
    while beam and free > 0:
        rows = next_log_probs(torch.tensor([tokens for _, tokens in beam])).tolist()
        candidates = (
            (log_p + extra, [*tokens, token])
            for (log_p, tokens), row in zip(beam, rows, strict=True)
            for token, extra in enumerate(row)
            if extra != -math.inf
        )
        beam = []
        for log_p, tokens in heapq.nlargest(free, candidates, key=lambda one: one[0]):  # equal ones stay in order
            n = len(tokens) - 1
            if tokens[-1] != END and n < longest:
                beam.append((log_p, tokens))
                continue
            free -= 1
            score = log_p * (6 / (5 + n)) ** alpha
            if best is None or score > best[1]:
                best = (tokens[1:], score)
    return best


# %% alternate="beam_search" name="always-as-many-rows"
def beam_search(next_log_probs, width, longest, alpha=0.6):
    # As many rows as slots from the beginning to the end; a row with minus infinity stands for an empty slot.
    prefixes = torch.full((width, 1), BEGIN)
    scores = torch.full((width,), -math.inf, dtype=torch.float64)
    scores[0] = 0.0
    best_tokens, best_score = [], -math.inf
    free = width
    for n in range(1, longest + 1):
        log_probs = next_log_probs(prefixes).double()
        V = log_probs.shape[-1]
        joint = scores[:, None] + log_probs
        order = torch.argsort(joint.reshape(-1), descending=True, stable=True)[:width]
        parent, token = torch.div(order, V, rounding_mode="floor"), torch.remainder(order, V)
        prefixes = torch.cat((prefixes.index_select(0, parent), token[:, None]), dim=1)
        scores = joint[parent, token]
        scores[free:] = -math.inf
        for i in range(width):
            if scores[i] > -math.inf and (token[i] == END or n == longest):
                score = scores[i].item() / ((5 + n) / 6) ** alpha
                if score > best_score:
                    best_tokens, best_score = prefixes[i, 1:].tolist(), score
                scores[i] = -math.inf
                free -= 1
        if torch.isinf(scores).all():
            break
    return best_tokens, best_score


# %% alternate="token_batches" name="from-the-longest"
def token_batches(lengths, max_tokens):
    order = torch.tensor(lengths).argsort(descending=True).tolist()
    batches = []
    while order:
        rows = max_tokens // lengths[order[0]]
        batches.append(order[:rows])
        order = order[rows:]
    return batches


# %% alternate="token_batches" name="a-batch-in-hand"
def token_batches(lengths, max_tokens):
    done, batch, longest = [], [], 0
    for length, index in sorted((length, index) for index, length in enumerate(lengths)):
        longest = max(longest, length)
        if longest * (len(batch) + 1) <= max_tokens:
            batch.append(index)
        else:
            done.append(batch)
            batch = [index]
    return [*done, batch]
