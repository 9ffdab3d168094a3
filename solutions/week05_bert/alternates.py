# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# Week 5: correct answers in other styles. All must pass.

# %% alternate="wordpiece_encode" name="two-while-loops"
def wordpiece_encode(words, vocab, max_input_chars=100):
    unknown = vocab["[UNK]"]
    result = []
    for word in words:
        if len(word) > max_input_chars:
            result.append(unknown)
            continue
        start, found = 0, []
        while start < len(word):
            end = len(word)
            while end > start:
                piece = word[start:end] if start == 0 else "##" + word[start:end]
                if piece in vocab:
                    break
                end -= 1
            if end == start:
                found = [unknown]
                break
            found.append(vocab[piece])
            start = end
        result.extend(found)
    return result


# %% alternate="wordpiece_encode" name="recursive"
def wordpiece_encode(words, vocab, max_input_chars=100):
    def pieces(rest, mark):
        for end in range(len(rest), 0, -1):
            if mark + rest[:end] in vocab:
                return [mark + rest[:end]] + (pieces(rest[end:], "##") if rest[end:] else [])
        raise KeyError(rest)

    tokens = []
    for word in words:
        try:
            if len(word) > max_input_chars:
                raise KeyError(word)
            tokens.extend(vocab[piece] for piece in pieces(word, ""))
        except KeyError:
            tokens.append(vocab["[UNK]"])
    return tokens


# %% alternate="pack_pair" name="filled-tensors"
def pack_pair(a, b, max_length):
    alone = b is None
    b = [] if alone else b
    n, m = len(a), len(b)
    while n + m + (2 if alone else 3) > max_length:
        if n > m:
            n -= 1
        else:
            m -= 1
    tokens = torch.full((max_length,), PAD)
    segments = torch.zeros(max_length, dtype=torch.int64)
    tokens[0] = CLS
    tokens[1 : n + 1] = torch.tensor(a[:n], dtype=torch.int64)
    tokens[n + 1] = SEP
    if not alone:
        tokens[n + 2 : n + m + 2] = torch.tensor(b[:m], dtype=torch.int64)
        tokens[n + m + 2] = SEP
        segments[n + 2 : n + m + 3] = 1
    return tokens, segments, tokens != PAD


# %% alternate="pack_pair" name="one-list-of-pairs"
def pack_pair(a, b, max_length):
    a, b = a[:], (b[:] if b is not None else None)
    while len(a) + (len(b) + 1 if b is not None else 0) > max_length - 2:
        if b is None or len(a) > len(b):
            a = a[:-1]
        else:
            b = b[:-1]
    row = [(CLS, 0, True)] + [(token, 0, True) for token in a] + [(SEP, 0, True)]
    if b is not None:
        row += [(token, 1, True) for token in [*b, SEP]]
    while len(row) < max_length:
        row.append((PAD, 0, False))
    tokens, segments, mask = zip(*row, strict=True)
    return torch.tensor(tokens), torch.tensor(segments), torch.tensor(mask)


# %% alternate="mask_tokens" name="by-index"
def mask_tokens(tokens, choose, action, replacement, share=0.15):
    masked = tokens.clone()
    chosen = choose < share
    chosen[tokens < NUM_SPECIAL] = False
    labels = torch.full_like(tokens, IGNORE)
    labels[chosen] = tokens[chosen]
    masked[chosen & (action < 0.8)] = MASK
    exchanged = chosen & ~(action < 0.8) & (action < 0.9)
    masked[exchanged] = replacement[exchanged]
    return masked, labels


# %% alternate="mask_tokens" name="token-by-token"
def mask_tokens(tokens, choose, action, replacement, share=0.15):
    masked, labels = tokens.clone(), torch.full_like(tokens, IGNORE)
    for b in range(tokens.shape[0]):
        for t in range(tokens.shape[1]):
            if int(tokens[b, t]) in (PAD, UNKNOWN, CLS, SEP, MASK) or choose[b, t] >= share:
                continue
            labels[b, t] = tokens[b, t]
            if action[b, t] < 0.8:
                masked[b, t] = MASK
            elif action[b, t] < 0.9:
                masked[b, t] = replacement[b, t]
    return masked, labels


# %% alternate="next_sentence_pairs" name="pair-by-pair"
def next_sentence_pairs(documents, first, coin, other):
    numbers = documents.tolist()
    starts = [i for i in range(len(numbers) - 1) if numbers[i] == numbers[i + 1]]
    a, b, labels = [], [], []
    for u, c, w in zip(first.tolist(), coin.tolist(), other.tolist(), strict=True):
        i = starts[int(u * len(starts))]
        others = [j for j, document in enumerate(numbers) if document != numbers[i]]
        a.append(i)
        b.append(i + 1 if c < 0.5 else others[int(w * len(others))])
        labels.append(0 if c < 0.5 else 1)
    return torch.tensor(a), torch.tensor(b), torch.tensor(labels)


# %% alternate="next_sentence_pairs" name="sorted-by-document"
def next_sentence_pairs(documents, first, coin, other):
    followed = torch.nonzero(documents.diff() == 0).flatten()
    a = followed[torch.floor(first * followed.numel()).to(torch.int64)]
    elsewhere = documents[None, :] != documents[a][:, None]  # (M, N)
    k = torch.floor(other * elsewhere.sum(dim=1)).to(torch.int64)
    order = torch.argsort((~elsewhere).long(), dim=1, stable=True)  # the others first, in their order
    labels = (coin >= 0.5).to(torch.int64)
    return a, torch.where(labels == 0, a + 1, order.gather(1, k[:, None])[:, 0]), labels


# %% alternate="BertEmbeddings.forward" name="one-after-the-other"
class BertEmbeddings(nn.Module):
    """Word, position and segment, added up (Devlin et al. 2018, figure 2); parameters as in Hugging Face's BERT."""

    def __init__(self, vocab_size: int, num_positions: int, d_model: int, dropout: float = 0.1):
        super().__init__()
        self.word_embeddings = nn.Embedding(vocab_size, d_model, padding_idx=PAD)
        self.position_embeddings = nn.Embedding(num_positions, d_model)
        self.token_type_embeddings = nn.Embedding(2, d_model)
        self.LayerNorm = nn.LayerNorm(d_model, eps=1e-12)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens, segments):
        B, T = tokens.shape
        x = self.position_embeddings.weight[:T].expand(B, T, -1)
        x = x + self.token_type_embeddings(segments)
        x = x + self.word_embeddings(tokens)
        x = self.LayerNorm(x)
        return F.dropout(x, p=self.dropout.p, training=self.training)


# %% alternate="BertModel.forward" name="gelu-by-hand"
class BertModel(nn.Module):
    """Embeddings, a stack of encoders with the norm behind, and a pooler (Devlin et al. 2018, section 3)."""

    def __init__(
        self,
        vocab_size: int,
        num_positions: int,
        d_model: int,
        num_heads: int,
        num_layers: int,
        d_ff: int,
        dropout: float = 0.1,
    ):
        super().__init__()
        self.embeddings = BertEmbeddings(vocab_size, num_positions, d_model, dropout)
        self.layers = nn.ModuleList(BertLayer(d_model, num_heads, d_ff) for _ in range(num_layers))
        self.pooler = nn.Linear(d_model, d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens, segments, mask):
        hidden = self.embeddings(tokens, segments)
        pairs = mask[:, None, :].expand(-1, tokens.size(1), -1)  # (B, T, T)
        for layer in self.layers:
            attended = self.dropout(layer.attention(hidden, pairs))
            hidden = layer.norm1(attended + hidden)
            wide = layer.linear1(hidden)
            wide = 0.5 * wide * (1 + torch.erf(wide / math.sqrt(2)))
            hidden = layer.norm2(self.dropout(layer.linear2(wide)) + hidden)
        return hidden, self.pooler(hidden)[:, 0].tanh()


# %% alternate="pretraining_loss" name="all-positions-then-ignore"
def pretraining_loss(heads, word_embeddings, hidden, pooled, labels, next_labels):
    logits = heads.norm(F.gelu(heads.dense(hidden))) @ word_embeddings.T + heads.bias  # (B, T, V)
    losses = F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=IGNORE, reduction="none")  # (B, T)
    loss = losses.sum() / max(int((labels != IGNORE).sum()), 1)
    next_logits = heads.next_sentence(pooled)
    if next_labels is not None:
        loss = loss - next_logits.log_softmax(dim=-1)[torch.arange(len(pooled)), next_labels].mean()
    return loss, logits[labels != IGNORE], next_logits


# %% alternate="pretraining_loss" name="negative-log-likelihood"
def pretraining_loss(heads, word_embeddings, hidden, pooled, labels, next_labels):
    rows, places = torch.nonzero(labels != IGNORE, as_tuple=True)
    x = heads.dense(hidden[rows, places])
    x = heads.norm(x * 0.5 * (1.0 + torch.erf(x * 0.5**0.5)))
    word_logits = torch.einsum("md,vd->mv", x, word_embeddings) + heads.bias
    next_logits = heads.next_sentence(pooled)
    words = pairs = torch.zeros((), dtype=hidden.dtype)
    if len(rows) > 0:
        words = F.nll_loss(F.log_softmax(word_logits, dim=1), labels[rows, places])
    if next_labels is not None:
        pairs = F.nll_loss(F.log_softmax(next_logits, dim=1), next_labels)
    return words + pairs, word_logits, next_logits


# %% alternate="best_span" name="two-loops"
def best_span(start_logits, end_logits, allowed, max_length):
    starts, ends = [], []
    for b in range(start_logits.size(0)):
        best = None
        for s in range(start_logits.size(1)):
            for e in range(s, min(s + max_length, start_logits.size(1))):
                score = start_logits[b, s] + end_logits[b, e]
                if allowed[b, s] and allowed[b, e] and (best is None or score > best[0]):
                    best = (score, s, e)
        starts.append(best[1])
        ends.append(best[2])
    return torch.tensor(starts), torch.tensor(ends)


# %% alternate="best_span" name="length-by-length"
def best_span(start_logits, end_logits, allowed, max_length):
    B, T = start_logits.shape
    start_logits = start_logits.masked_fill(~allowed, -math.inf)
    end_logits = end_logits.masked_fill(~allowed, -math.inf)
    sums = torch.full((B, T, min(max_length, T)), -math.inf, dtype=start_logits.dtype)  # start, tokens beyond the first
    for more in range(sums.size(2)):
        sums[:, : T - more, more] = start_logits[:, : T - more] + end_logits[:, more:]
    best, more = sums.max(dim=2)  # the shortest of equals for each start
    starts = best.argmax(dim=1)
    return starts, starts + more[torch.arange(B), starts]


# %% alternate="squad_scores" name="as-published"
def squad_scores(prediction, answers):
    def normalise(text):
        text = text.lower().translate(str.maketrans("", "", string.punctuation))
        return [word for word in text.split() if word not in {"a", "an", "the"}]

    guess = normalise(prediction)
    exact = f1 = 0.0
    for answer in answers:
        truth = normalise(answer)
        exact = max(exact, float(" ".join(guess) == " ".join(truth)))
        same = sum((Counter(guess) & Counter(truth)).values())
        total = len(guess) + len(truth)
        f1 = max(f1, float(guess == truth) if not guess or not truth else 2.0 * same / total)
    return exact, f1


# %% alternate="MultipleChoice.forward" name="views"
class MultipleChoice(nn.Module):
    """One number for each choice, from its pooled vector (Devlin et al. 2018, section 4.4)."""

    def __init__(self, bert: nn.Module, d_model: int, dropout: float = 0.1):
        super().__init__()
        self.bert = bert
        self.dropout = nn.Dropout(dropout)
        self.score = nn.Linear(d_model, 1)

    def forward(self, tokens, segments, mask):
        B, C, T = tokens.shape
        pooled = self.bert(tokens.reshape(B * C, T), segments.reshape(B * C, T), mask.reshape(B * C, T))[1]
        return self.score(self.dropout(pooled)).view(B, C)


# %% alternate="MultipleChoice.forward" name="choice-by-choice"
class MultipleChoice(nn.Module):
    """One number for each choice, from its pooled vector (Devlin et al. 2018, section 4.4)."""

    def __init__(self, bert: nn.Module, d_model: int, dropout: float = 0.1):
        super().__init__()
        self.bert = bert
        self.dropout = nn.Dropout(dropout)
        self.score = nn.Linear(d_model, 1)

    def forward(self, tokens, segments, mask):
        scores = []
        for c in range(tokens.size(1)):
            _, pooled = self.bert(tokens[:, c], segments[:, c], mask[:, c])
            scores.append(self.score(self.dropout(pooled)))
        return torch.cat(scores, dim=-1)
