"""Week 6's solutions against twins from outside: tokenizers' byte pairs, transformers' GPT-2, published counts, identities."""

import math
from collections import Counter
from itertools import combinations, pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.generation.logits_process import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from autograder.week import Week
from course.data import austen
from course.drives import Student, drive_of
from tests.course.drives.conftest import CLOSE, cases_of, normal

WEEK = Week(Path(__file__).parents[3] / "solutions" / "week06_gpt")
# float32: a unit in the last place is 6e-8 of the value, and sums here have fewer than a thousand terms of size 1.
SINGLE = {"rtol": 1e-4, "atol": 1e-5}


# ----------------------------------------------------------------------------------------------- pairs of bytes


def byte_letters() -> dict[int, str]:
    """GPT-2's letter for each byte, as `tokenizers` has it: printable ones are themselves, the others come from 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


def twin_of(merges: list[tuple[int, int]], split: bool = True) -> Tokenizer:
    """tokenizers' byte-level BPE with the same merges and the same numbers; `split` by GPT-2's own pattern."""
    letters = [byte_letters()[byte] for byte in range(256)]
    for left, right in merges:
        letters.append(letters[left] + letters[right])
    vocabulary = {text: i for i, text in enumerate(letters)}
    assert len(vocabulary) == len(letters)
    twin = Tokenizer(models.BPE(vocab=vocabulary, merges=[(letters[left], letters[right]) for left, right in merges]))
    twin.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split)
    twin.decoder = decoders.ByteLevel()
    return twin


@pytest.fixture(scope="module")
def chapter() -> str:
    text = next(row["text"] for row in austen()["train"] if row["novel"] == "Pride and Prejudice")
    return text[:30_000]


@pytest.fixture(scope="module")
def merges(week: dict, chapter: str) -> list[tuple[int, int]]:
    return week["bpe_train"](Counter(week["pieces_of"](chapter)), 150)


STRANGE = "naïve “quotes”, £5,000 — 東京 🙂 don't we'll  two  spaces\n\n\tend  "


def test_pieces_are_gpt2s(week: dict, chapter: str):
    for text in (chapter[:5000], STRANGE):
        mine = ["".join(byte_letters()[byte] for byte in piece) for piece in week["pieces_of"](text)]
        theirs = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True).pre_tokenize_str(text)
        assert mine == [piece for piece, _ in theirs]
        assert b"".join(week["pieces_of"](text)).decode() == text


def test_tokens_are_those_of_tokenizers_on_the_same_merges(week: dict, chapter: str, merges: list):
    twin = twin_of(merges)
    for text in (chapter[10_000:16_000], STRANGE):
        mine = [token for piece in week["pieces_of"](text) for token in week["bpe_encode"](piece, merges)]
        assert mine == twin.encode(text).ids
        assert week["bpe_decode"](mine, merges).decode() == text == twin.decode(mine)


def test_tokens_of_random_merges_are_those_of_tokenizers(week: dict, rng: torch.Generator):
    """Merges that no text would teach, in an order that is not that of length or of frequency."""
    tokens, merges, texts = list(b"abc"), [], {"a", "b", "c"}
    meaning = {token: chr(token) for token in tokens}
    while len(merges) < 15:
        left, right = (tokens[i] for i in torch.randint(len(tokens), (2,), generator=rng).tolist())
        if meaning[left] + meaning[right] not in texts and len(meaning[left] + meaning[right]) < 7:
            merges.append((left, right))
            tokens.append(255 + len(merges))
            meaning[tokens[-1]] = meaning[left] + meaning[right]
            texts.add(meaning[tokens[-1]])
    twin = twin_of(merges, split=False)
    for _ in range(40):
        text = "".join("abc"[i] for i in torch.randint(3, (20,), generator=rng).tolist())
        assert week["bpe_encode"](text.encode(), merges) == twin.encode(text).ids


def test_any_bytes_come_back(week: dict, rng: torch.Generator, merges: list):
    for length in (0, 1, 2, 50, 300):
        data = bytes(torch.randint(256, (length,), generator=rng).tolist())
        assert week["bpe_decode"](week["bpe_encode"](data, merges), merges) == data


def test_merges_are_those_that_tokenizers_learns(week: dict, chapter: str):
    """On words of small letters, whose order is the same in both; equal counts are then broken alike."""
    words = ["".join(c for c in word.lower() if "a" <= c <= "z") for word in chapter[:12_000].split()]
    words = [word for word in words if word]
    mine = week["bpe_train"](Counter(word.encode() for word in words), 120)
    twin = Tokenizer(models.BPE())
    twin.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(vocab_size=120 + len(set("".join(words))), show_progress=False)
    twin.train_from_iterator([" ".join(words)], trainer)
    vocabulary = sorted(twin.get_vocab().items(), key=lambda item: item[1])
    learned = [text for text, _ in vocabulary if len(text) > 1]
    meaning = [bytes([byte]) for byte in range(256)]
    for left, right in mine:
        meaning.append(meaning[left] + meaning[right])
    assert [text.decode() for text in meaning[256:]] == learned


def test_training_ends_where_nothing_is_left_to_merge(week: dict):
    assert week["bpe_train"]({b"ab": 3, b"c": 1}, 10) == [(97, 98)]
    assert week["bpe_train"]({}, 10) == [] == week["bpe_train"]({b"abc": 1}, 0)


# ----------------------------------------------------------------------------------------------------- the model


def gpt_and_twin(
    week: dict, rng: torch.Generator, sizes: tuple[int, ...], dtype: torch.dtype = torch.float64
) -> tuple[nn.Module, nn.Module]:
    """A student's model and a GPT2LMHeadModel from a random configuration, never downloaded, with the same random weights."""
    vocab, context, width, heads, layers = sizes
    config = GPT2Config(
        vocab_size=vocab,
        n_positions=context,
        n_embd=width,
        n_head=heads,
        n_layer=layers,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
    )
    twin = GPT2LMHeadModel(config).to(dtype)
    for name, parameter in twin.named_parameters():
        scale = 0.3 if parameter.ndim > 1 else 0.2
        parameter.data = scale * normal(rng, *parameter.shape, dtype=dtype) + ("ln_" in name and "weight" in name)
    mine = week["GPT"](*sizes).to(dtype)
    mine.load_state_dict(week["weights_from_gpt2"](twin.state_dict()))
    return mine, twin


def random_sizes(rng: torch.Generator) -> tuple[int, ...]:
    heads, layers = (int(torch.randint(1, 4, (), generator=rng)) for _ in range(2))
    vocab, context = (int(torch.randint(12, 30, (), generator=rng)) for _ in range(2))
    return vocab, context, 4 * heads, heads, layers


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_gpt_is_gpt2_forward_and_backward(week: dict, rng: torch.Generator, dtype: torch.dtype):
    mine, twin = gpt_and_twin(week, rng, random_sizes(rng), dtype)
    tokens = torch.randint(mine.wte.num_embeddings, (3, 11), generator=rng)
    logits, _ = mine(tokens)
    expected = twin(tokens, labels=tokens)
    close = CLOSE if dtype == torch.float64 else SINGLE
    torch.testing.assert_close(logits, expected.logits, **close)
    loss = week["lm_loss"](logits, tokens)
    torch.testing.assert_close(loss.float(), expected.loss, **SINGLE)  # transformers' own loss is in float32 always
    shifted = F.cross_entropy(expected.logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    torch.testing.assert_close(loss, shifted, **close)
    loss.backward()
    shifted.backward()
    theirs = week["weights_from_gpt2"]({name: p.grad for name, p in twin.named_parameters()})
    own = {name: parameter.grad for name, parameter in mine.named_parameters()}
    assert own.keys() == theirs.keys()
    for name, gradient in own.items():
        torch.testing.assert_close(gradient, theirs[name], **close, msg=lambda text, name=name: f"{name}: {text}")


def test_the_cache_is_gpt2s(week: dict, rng: torch.Generator):
    mine, twin = gpt_and_twin(week, rng, (13, 20, 12, 3, 2))
    tokens = torch.randint(13, (2, 9), generator=rng)
    _, cache = mine(tokens[:, :6])
    theirs = twin(tokens[:, :6], use_cache=True).past_key_values
    logits, longer = mine(tokens[:, 6:], cache)
    expected = twin(tokens[:, 6:], past_key_values=theirs, use_cache=True)
    torch.testing.assert_close(logits, expected.logits, **CLOSE)
    for (k, v), layer in zip(longer, expected.past_key_values.layers, strict=True):
        torch.testing.assert_close(k, layer.keys, **CLOSE)
        torch.testing.assert_close(v, layer.values, **CLOSE)


@pytest.mark.parametrize("parts", [(9,), (1,) * 9, (4, 5), (3, 1, 5), (8, 1)])
def test_with_the_cache_is_without(week: dict, rng: torch.Generator, parts: tuple[int, ...]):
    mine, _ = gpt_and_twin(week, rng, (13, 20, 12, 3, 2))
    tokens = torch.randint(13, (2, 9), generator=rng)
    whole, kept = mine(tokens)
    cache, logits = None, []
    for part in tokens.split(parts, dim=1):
        out, cache = mine(part, cache)
        logits.append(out)
    torch.testing.assert_close(torch.cat(logits, dim=1), whole, **CLOSE)
    for one, two in zip(cache, kept, strict=True):
        torch.testing.assert_close(one, two, **CLOSE)


def test_no_logit_depends_on_later_tokens(week: dict, rng: torch.Generator):
    mine, _ = gpt_and_twin(week, rng, (13, 20, 12, 3, 2))
    tokens = torch.randint(13, (1, 8), generator=rng)
    whole, _ = mine(tokens)
    for t in range(1, 8):
        torch.testing.assert_close(mine(tokens[:, :t])[0], whole[:, :t], **CLOSE)


def test_first_weights_have_gpt2s_spread(week: dict, rng: torch.Generator):
    """Against transformers' own initialisation: the same standard deviations, parameter by parameter, to 5 %."""
    sizes = (200, 150, 128, 4, 3)
    model = week["GPT"](*sizes)
    draws = {name: normal(rng, *p.shape, dtype=torch.float32) for name, p in model.named_parameters()}
    week["init_weights_"](model, draws)
    names = ("vocab_size", "n_positions", "n_embd", "n_head", "n_layer")
    torch.manual_seed(0)
    config = GPT2Config(**dict(zip(names, sizes, strict=True)), bos_token_id=0, eos_token_id=0)
    theirs = week["weights_from_gpt2"](GPT2LMHeadModel(config).state_dict())
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            torch.testing.assert_close(parameter.std(), theirs[name].std(), rtol=0.05, atol=0.0)
        else:
            assert torch.equal(parameter, theirs[name])


# -------------------------------------------------------------------------------------------------------- text


def nucleus(logits: Tensor, temperature: float, k: int | None, p: float | None) -> Tensor:
    """What is left of one row, by the definition: the smallest set, from the likeliest on, whose share reaches p."""
    weights = {i: math.exp(x / temperature) for i, x in enumerate(logits.tolist())}
    order = sorted(weights, key=lambda i: (-logits[i].item(), i))[:k]
    for size in range(1, len(order) + 1):
        if p is None:
            continue
        if sum(weights[i] for i in order[:size]) >= p * sum(weights[i] for i in order):
            order = order[:size]
            break
    total = sum(weights[i] for i in order)
    return torch.tensor([weights[i] / total if i in order else 0.0 for i in range(len(logits))], dtype=torch.float64)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.8])
@pytest.mark.parametrize(
    ("k", "p"), [(None, None), (3, None), (50, None), (None, 0.9), (None, 0.01), (6, 0.7), (1, 0.5)]
)
def test_what_is_left_is_the_nucleus(
    week: dict, rng: torch.Generator, temperature: float, k: int | None, p: float | None
):
    logits = 2 * normal(rng, 20, 12)
    mine = week["top_k_top_p"](logits, temperature, k, p)
    expected = torch.stack([nucleus(row, temperature, k, p) for row in logits])
    torch.testing.assert_close(mine, expected, **CLOSE)
    scores = TemperatureLogitsWarper(temperature)(None, logits)
    scores = TopKLogitsWarper(k)(None, scores) if k else scores
    scores = TopPLogitsWarper(p)(None, scores) if p else scores
    torch.testing.assert_close(mine, scores.softmax(dim=-1), **CLOSE)


def test_of_equal_logits_the_smaller_number_stays(week: dict):
    probs = week["top_k_top_p"](torch.tensor([[1.0, 2.0, 2.0, 2.0, 0.0]]), k=2)
    assert probs.tolist() == [[0.0, 0.5, 0.5, 0.0, 0.0]]
    probs = week["top_k_top_p"](torch.zeros(1, 4), p=0.6)
    torch.testing.assert_close(probs, torch.tensor([[1 / 3, 1 / 3, 1 / 3, 0.0]]))


@pytest.mark.parametrize("setting", [{}, {"temperature": 0.7, "k": 5}, {"temperature": 1.5, "p": 0.8}])
def test_writing_with_the_cache_is_writing_without(week: dict, rng: torch.Generator, setting: dict):
    mine, twin = gpt_and_twin(week, rng, (13, 30, 12, 3, 2))
    tokens, uniforms = torch.randint(13, (3, 4), generator=rng), torch.rand(3, 20, generator=rng, dtype=torch.float64)
    written = week["generate"](mine, tokens, uniforms, **setting)
    expected = tokens
    for n in range(
        20
    ):  # transformers' model, read anew each time, and the inverse of the distribution function row by row
        probs = week["top_k_top_p"](twin(expected).logits[:, -1].detach(), **setting)
        drawn = []
        for row, u in zip(probs, uniforms[:, n].tolist(), strict=True):
            total = 0.0
            for token, prob in enumerate(row.tolist()):
                total += prob
                if total > u:
                    drawn.append([token])
                    break
        expected = torch.cat([expected, torch.tensor(drawn)], dim=1)
    assert torch.equal(written, expected)


def test_draws_have_the_models_distribution(week: dict, rng: torch.Generator):
    """10,000 evenly spaced numbers draw each token as often as its probability says, to one in 10,000."""
    logits = normal(rng, 7)
    rows = 10_000
    u = (torch.arange(rows, dtype=torch.float64) + 0.5) / rows
    written = week["generate"](
        lambda tokens, cache: (logits.expand(len(tokens), 1, 7), cache), torch.zeros(rows, 1).long(), u.unsqueeze(1)
    )
    counts = torch.bincount(written[:, 1], minlength=7)
    assert bool(((counts - rows * logits.softmax(dim=0)).abs() <= 1).all())


def test_numbers_at_both_ends_draw_tokens_that_are_left(week: dict):
    def model(tokens: Tensor, cache: None) -> tuple[Tensor, None]:
        return torch.tensor([[[0.0, 5.0, 4.0, 0.0]]]), cache

    for u, token in ((0.0, 1), (1 - 2**-24, 2)):
        assert week["generate"](model, torch.zeros(1, 1).long(), torch.tensor([[u]]), k=2)[0, 1] == token


# ------------------------------------------------------------------------------------------- arithmetic of size


@pytest.mark.parametrize(
    ("sizes", "published"),
    [
        ((50257, 1024, 768, 12, 12), 124_439_808),
        ((50257, 1024, 1024, 16, 24), 354_823_168),
        ((50257, 1024, 1280, 20, 36), 774_030_080),
        ((50257, 1024, 1600, 25, 48), 1_557_611_200),
    ],
)
def test_parameters_are_those_of_the_released_gpt2(week: dict, sizes: tuple[int, ...], published: int):
    with torch.device("meta"):
        model = week["GPT"](*sizes)
    assert week["count_parameters"](model) == published


def test_gpt3_is_that_of_its_paper(week: dict):
    """Brown et al. 2020, table D.1: 174,600 M parameters, 300 B tokens, 3.14e23 operations, 3.64e3 petaflop/s-days."""
    with torch.device("meta"):
        model = week["GPT"](50257, 2048, 12288, 96, 96)
    assert round(week["count_parameters"](model) / 1e6, -2) == 174_600
    flops = week["training_flops"](model, 300 * 10**9)
    assert f"{flops:.2e}" == "3.14e+23" and f"{flops / 8.64e19:.2e}" == "3.64e+03"
    assert int(flops / 8.64e19) == 3637


def test_t5_is_that_of_its_release(week: dict):
    with torch.device("meta"):
        model = week["t5_11b"]()
    assert week["count_parameters"](model) == 11_307_321_344


def test_counts_are_transformers_own(week: dict, rng: torch.Generator):
    mine, twin = gpt_and_twin(week, rng, random_sizes(rng))
    assert week["count_parameters"](mine) == week["count_parameters"](twin) == twin.num_parameters()
    without = twin.num_parameters(exclude_embeddings=True)
    assert (
        week["count_parameters"](mine, embeddings=False) == week["count_parameters"](twin, embeddings=False) == without
    )


def test_the_rule_of_six_is_what_matrices_take(week: dict):
    """PyTorch's own counter on the forward and backward pass of linear layers without biases."""
    from torch.utils.flop_counter import FlopCounterMode

    layers = nn.Sequential(*(nn.Linear(24, 24, bias=False) for _ in range(3)))
    x = torch.randn(10, 24, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        layers(x).sum().backward()
    assert counter.get_total_flops() == week["training_flops"](layers, 10)


def test_law_is_numpys_line(week: dict, rng: torch.Generator):
    import numpy

    compute = 10 ** (15 + 3 * torch.rand(9, generator=rng, dtype=torch.float64))
    loss = 30 * compute**-0.07 * (1 + 0.05 * normal(rng, 9))
    slope, intercept = numpy.polyfit(compute.log().numpy(), loss.log().numpy(), 1)
    a, alpha = week["fit_scaling_law"](compute, loss)
    assert a == pytest.approx(math.exp(intercept), rel=1e-8) and alpha == pytest.approx(-slope, rel=1e-8)
    a, alpha = week["fit_scaling_law"](compute, 30 * compute**-0.07)
    assert a == pytest.approx(30, rel=1e-9) and alpha == pytest.approx(0.07, rel=1e-9)


# ------------------------------------------------------------------------------------------------------ further


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10])
def test_a_large_batch_is_accumulated_ones(week: dict, rng: torch.Generator, size: int):
    mine, _ = gpt_and_twin(week, rng, (13, 20, 8, 2, 2))
    tokens = torch.randint(13, (7, 9), generator=rng)
    expected = F.cross_entropy(mine(tokens)[0][:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    gradients = torch.autograd.grad(expected, list(mine.parameters()))
    before = [normal(rng, *parameter.shape) for parameter in mine.parameters()]
    for parameter, gradient in zip(mine.parameters(), before, strict=True):
        parameter.grad = gradient.clone()
    loss = week["accumulate_gradients"](lambda rows: week["lm_loss"](mine(rows)[0], rows), tokens, size)
    torch.testing.assert_close(loss, expected.detach(), **CLOSE)
    for parameter, old, new in zip(mine.parameters(), before, gradients, strict=True):
        torch.testing.assert_close(parameter.grad, old + new, **CLOSE)


def test_a_head_that_copies_scores_one_and_even_attention_what_chance_gives(week: dict):
    tokens = torch.tensor([5, 3, 8, 1, 5, 3, 8, 1])
    copying, even = torch.zeros(8, 8), torch.ones(8, 8).tril() / torch.arange(1, 9).unsqueeze(1)
    copying[:4, 0], copying[range(4, 8), range(1, 5)] = 1.0, 1.0
    score = week["induction_score"](torch.stack([copying, even]), tokens)
    torch.testing.assert_close(score, torch.tensor([1.0, sum(1 / n for n in range(5, 9)) / 4]))


def test_rouge_is_the_best_of_all_subsequences(week: dict, rng: torch.Generator):
    """Every way to leave words out is tried."""
    for _ in range(20):
        one, two = (["abcd"[i] for i in torch.randint(4, (n,), generator=rng).tolist()] for n in (6, 5))
        kept = {tuple(words) for size in range(6) for words in combinations(two, size)}
        longest = max(size for size in range(6) if any(words in kept for words in combinations(one, size)))
        expected = 0.0 if not longest else 2 / (6 / longest + 5 / longest)
        assert week["rouge_l"](one, two) == pytest.approx(expected, abs=1e-12)


# ---------------------------------------------------------------------------------------- given, and the drives


def test_the_learning_rate_rises_and_falls(week: dict):
    rates = [week["cosine_lr"](step, 2.0, 10, 110) for step in range(130)]
    assert rates[0] == pytest.approx(0.2) and rates[9] == rates[10] == 2.0
    assert rates[60] == pytest.approx(1.1) and rates[110] == rates[-1] == pytest.approx(0.2)
    assert all(one >= two for one, two in pairwise(rates[10:]))


def test_matrices_decay_and_vectors_do_not(week: dict):
    model = week["GPT"](13, 8, 8, 2, 2)
    decayed, others = week["param_groups"](model, 0.1)
    assert decayed["weight_decay"] == 0.1 and others["weight_decay"] == 0.0
    assert {p.ndim for p in decayed["params"]} == {2} and {p.ndim for p in others["params"]} == {1}
    assert len(decayed["params"]) + len(others["params"]) == len(list(model.parameters()))


def test_weights_that_are_looked_at_are_those_of_the_attention(week: dict, rng: torch.Generator):
    attention = week["CausalSelfAttention"](6, 2).double()
    x = normal(rng, 2, 5, 6)
    weights = week["attention_weights"](attention, x)
    output, (_, v) = attention(x)
    torch.testing.assert_close(attention.c_proj((weights @ v).transpose(1, 2).flatten(-2)), output, **CLOSE)


@pytest.mark.parametrize("exercise", [exercise.name for exercise in WEEK.exercises])
def test_drives_leave_their_inputs_as_they_were(week: dict, exercise: str):
    def flat(value: object) -> list:
        if isinstance(value, dict):
            return [leaf for key in sorted(value) for leaf in flat(value[key])]
        return [leaf for item in value for leaf in flat(item)] if isinstance(value, list | tuple) else [value]

    for inputs in cases_of(WEEK, exercise):
        before = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in flat(inputs)]
        drive_of(WEEK.name, exercise)(Student(week), inputs)
        for old, new in zip(before, flat(inputs), strict=True):
            assert torch.equal(old, new) if isinstance(old, Tensor) else old == new
