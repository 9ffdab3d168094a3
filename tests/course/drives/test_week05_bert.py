"""Week 5's solutions against twins from outside: tokenizers' word pieces, Hugging Face's BERT, SQuAD's rules, and counts."""

import math
import re
import string
from collections import Counter
from itertools import product
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autograder.week import Week
from course import wordpiece
from course.data import sotu
from course.drives import Student, Tripwire, drive_of
from course.drives import week05_bert as drives
from tests.course.drives.conftest import CLOSE, cases_of, normal

WEEK = Week(Path(__file__).parents[3] / "solutions" / "week05_bert")
# float32: a unit in the last place is 6e-8 of the value; what leaves a norm is of size 1, sums have a hundred terms or so.
SINGLE = {"rtol": 1e-5, "atol": 1e-5}
DRAWS = 200_000
FAR = 5.0  # standard deviations by which a count may be off: 6 in ten million by chance, and the seeds are fixed


def gradients(outputs: list[Tensor], upstream: list[Tensor], inputs: list[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(outputs, inputs, upstream)


# ------------------------------------------------------------------------------------------------- text to tokens


@pytest.fixture(scope="module")
def vocab() -> dict[str, int]:
    """1,500 pieces of a few presidents' messages."""
    return wordpiece.train_vocabulary(sotu()["train"]["text"][-12:], 1500)


def library(vocab: dict[str, int], longest: int):
    """The library's tokenizer with this vocabulary."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    model = models.WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=longest)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


ODD = (
    "Antidisestablishmentarianism, incomprehensibilities; (re)unconstitutional! Don't—“quote” naïve Ærø 1,000.50% "
    "日本語 🙂 x🙂y U.S.A. \t\n $5.00 ##ing a##b " + "z" * 130
)


@pytest.mark.parametrize("longest", [100, 7, 3])
def test_pieces_are_those_of_the_library_on_unseen_text(week: dict, vocab: dict, longest: int):
    tokenizer, kinds = library(vocab, longest), set()
    for text in [ODD, *(text[:20_000] for text in sotu()["validation"]["text"][::6])]:
        mine = week["wordpiece_encode"](wordpiece.split_words(text), vocab, longest)
        assert mine == tokenizer.encode(text, add_special_tokens=False).ids
        kinds |= {("##" if piece.startswith("##") else "") for piece in tokenizer.encode(text).tokens}
        assert vocab["[UNK]"] in mine or text is not ODD
    assert kinds == {"", "##"}


@pytest.mark.parametrize(("n", "m", "length"), list(product([0, 1, 4, 9], [None, 0, 1, 5, 9], [3, 4, 8, 12, 30])))
def test_a_packed_pair_has_its_parts_in_order_and_loses_no_more_than_it_must(week: dict, n: int, m: int, length: int):
    a, b = list(range(10, 10 + n)), None if m is None else list(range(30, 30 + m))
    tokens, segments, mask = week["pack_pair"](a, b, length)
    assert tokens.dtype == segments.dtype == torch.int64 and mask.dtype == torch.bool
    assert tokens.shape == segments.shape == mask.shape == (length,)
    assert torch.equal(mask, tokens != week["PAD"]) and not bool(segments[~mask].any())
    row = tokens[mask].tolist()
    ends = [i for i, token in enumerate(row) if token == week["SEP"]]
    assert row[0] == week["CLS"] and ends[-1] == len(row) - 1 and len(ends) == (1 if b is None else 2)
    one, two = row[1 : ends[0]], row[ends[0] + 1 : -1] if b is not None else []
    assert one == a[: len(one)] and two == (b or [])[: len(two)]
    assert segments[mask].tolist() == [0] * (ends[0] + 1) + [1] * (len(row) - ends[0] - 1)
    assert len(row) == length or (one, two) == (a, b or [])  # nothing is lost while there is room
    if len(one) < n:  # only the longer part has lost anything, so the two have met
        assert len(one) >= len(two)
    if len(two) < (m or 0):
        assert len(two) >= len(one) - 1


def test_a_packed_pair_that_fits_is_hugging_faces(week: dict):
    """Tokens and segments of the library's own post-processor for BERT."""
    from tokenizers import Tokenizer, models, processors
    from tokenizers.pre_tokenizers import WhitespaceSplit

    vocab = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, **{f"w{i}": 5 + i for i in range(20)}}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_padding(length=16, pad_id=0, pad_token="[PAD]")
    for second in (None, "w3 w9"):
        found = tokenizer.encode("w1 w2 w7", second) if second else tokenizer.encode("w1 w2 w7")
        tokens, segments, mask = week["pack_pair"]([6, 7, 12], [8, 14] if second else None, 16)
        assert (tokens.tolist(), segments.tolist()) == (found.ids, found.type_ids)
        assert mask.long().tolist() == found.attention_mask


# ------------------------------------------------------------------------------------------------------ two games


def drawn(week: dict, rng: torch.Generator, share: float) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, masked and labels of many draws; every tenth token is special."""
    tokens = torch.randint(5, 1000, (DRAWS // 100, 100), generator=rng)
    tokens[:, ::10] = torch.randint(5, tokens[:, ::10].shape, generator=rng)
    replacement = torch.randint(1000, 2000, tokens.shape, generator=rng)
    draws = (torch.rand(tokens.shape, generator=rng) for _ in range(2))
    return tokens, *week["mask_tokens"](tokens, *draws, replacement, share)


def expect(count: Tensor, of: int, share: float) -> None:
    assert abs(int(count) - of * share) <= FAR * math.sqrt(of * share * (1 - share))


@pytest.mark.parametrize("share", [0.15, 0.4])
def test_hidden_exchanged_and_unchanged_tokens_are_as_many_as_they_should_be(
    week: dict, rng: torch.Generator, share: float
):
    tokens, masked, labels = drawn(week, rng, share)
    chosen, could = labels != week["IGNORE"], int((tokens >= 5).sum())
    expect(chosen.sum(), could, share)
    expect((masked == week["MASK"]).sum() - (tokens == week["MASK"]).sum(), could, 0.8 * share)
    expect((masked >= 1000).sum(), could, 0.1 * share)
    expect((chosen & (masked == tokens)).sum(), could, 0.1 * share)


def test_special_tokens_are_never_touched_and_labels_are_what_stood_there(week: dict, rng: torch.Generator):
    tokens, masked, labels = drawn(week, rng, 0.4)
    chosen, special = labels != week["IGNORE"], tokens < week["NUM_SPECIAL"]
    assert not bool(chosen[special].any()) and torch.equal(masked[~chosen], tokens[~chosen])
    assert torch.equal(labels[chosen], tokens[chosen])
    assert torch.equal(torch.where(chosen, labels, masked), tokens)  # nothing is lost


def test_the_default_share_is_fifteen_percent(week: dict):
    tokens, choose = torch.full((1, 4), 7), torch.tensor([[0.149, 0.151, 0.0, 0.9]])
    masked, labels = week["mask_tokens"](tokens, choose, torch.zeros(1, 4), tokens)
    assert masked.tolist() == [[4, 7, 4, 7]] and labels.tolist() == [[7, -100, 7, -100]]


@pytest.mark.parametrize("sizes", [[2, 1], [1, 5, 1, 9, 2, 4], [3, 3, 3], [40, 2, 1, 7]])
def test_pairs_are_half_neighbours_and_the_rest_from_other_documents(
    week: dict, rng: torch.Generator, sizes: list[int]
):
    documents = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    pairs = 20_000
    a, b, labels = week["next_sentence_pairs"](documents, *torch.rand(3, pairs, generator=rng))
    assert a.dtype == b.dtype == labels.dtype == torch.int64 and set(labels.unique().tolist()) == {0, 1}
    follows = labels == 0
    expect(follows.sum(), pairs, 0.5)
    assert torch.equal(b[follows], a[follows] + 1)
    assert torch.equal(documents[b[follows]], documents[a[follows]])
    assert bool((documents[b[~follows]] != documents[a[~follows]]).all())  # so none is a neighbour by accident
    first = [i for i in range(len(documents) - 1) if documents[i] == documents[i + 1]]
    assert a.unique().tolist() == first
    for i in first:
        expect((a == i).sum(), pairs, 1 / len(first)) if len(first) > 1 else None
    at = a == first[0]  # with the same first sentence every other one is equally likely
    others = (documents != documents[first[0]]).nonzero().flatten().tolist()
    false = b[at & ~follows]
    assert set(false.tolist()) <= set(others)
    for j in others if len(others) > 1 else []:
        expect((false == j).sum(), len(false), 1 / len(others))


def test_pairs_at_the_ends_of_the_draws_stay_within_the_text(week: dict):
    documents, last = torch.tensor([0, 0, 1, 1, 1, 2]), 1 - 2**-24
    a, b, _ = week["next_sentence_pairs"](
        documents, torch.tensor([0.0, 0.0, last, last]), torch.full((4,), 0.7), torch.tensor([0.0, last, 0.0, last])
    )
    assert a.tolist() == [0, 0, 3, 3] and b.tolist() == [2, 5, 0, 5]


# ------------------------------------------------------------------------------------------------------ the model

SIZES = [(23, 9, 8, 2, 1, 12), (31, 12, 12, 3, 2, 20), (19, 7, 6, 1, 3, 10)]


def twin_of(
    week: dict, rng: torch.Generator, sizes: tuple, pretraining: bool, dtype: torch.dtype
) -> tuple[nn.Module, nn.Module]:
    """One of ours and Hugging Face's, with the same random weights; nothing is downloaded."""
    from transformers import BertConfig, BertForPreTraining, BertModel

    vocab, positions, width, heads, layers, inner = sizes
    config = BertConfig(
        vocab_size=vocab,
        max_position_embeddings=positions,
        hidden_size=width,
        num_attention_heads=heads,
        num_hidden_layers=layers,
        intermediate_size=inner,
    )
    twin = (BertForPreTraining if pretraining else BertModel)(config).to(dtype).eval()
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            scale = 0.3 if "LayerNorm" in name or name.endswith("bias") else 0.7
            mean = 1.0 if name.endswith("LayerNorm.weight") else 0.0
            parameter.copy_(mean + scale * normal(rng, *parameter.shape, dtype=dtype))
    mine = week["Bert"](*sizes, 0.1) if pretraining else week["BertModel"](*sizes)
    return week["load_hf"](mine.to(dtype), twin.state_dict()).eval(), twin


def batch_of(rng: torch.Generator, vocab: int, lengths: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    shape = len(lengths), max(lengths) + 1
    mask = torch.arange(shape[1]) < torch.tensor(lengths)[:, None]
    tokens = torch.where(mask, torch.randint(5, vocab, shape, generator=rng), 0)
    return tokens, torch.randint(2, shape, generator=rng), mask


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("sizes", SIZES)
def test_the_model_is_hugging_faces_forward_and_backward(
    week: dict, rng: torch.Generator, sizes: tuple, dtype: torch.dtype
):
    mine, twin = twin_of(week, rng, sizes, False, dtype)
    tokens, segments, mask = batch_of(rng, sizes[0], [6, 2, 4])
    close = CLOSE if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-4}
    embedded = mine.embeddings(tokens, segments)
    torch.testing.assert_close(embedded, twin.embeddings(tokens, segments), **close)
    outputs = mine(tokens, segments, mask)
    found = twin(input_ids=tokens, token_type_ids=segments, attention_mask=mask.long())
    expected = [found.last_hidden_state, found.pooler_output]
    torch.testing.assert_close(list(outputs), expected, **close)
    upstream = [normal(rng, *out.shape, dtype=dtype) for out in expected]
    names = [name for name, _ in twin.named_parameters()]
    theirs = dict(zip(names, gradients(expected, upstream, list(twin.parameters())), strict=True))
    own = dict(
        zip(dict(mine.named_parameters()), gradients(list(outputs), upstream, list(mine.parameters())), strict=True)
    )
    renamed = {}
    for name, value in theirs.items():
        for old, new in week["HF_NAMES"]:
            name = name.replace(old, new)
        renamed[name] = value
    assert renamed.keys() == own.keys()
    scale = max(float(value.abs().max()) for value in renamed.values())
    for name, value in renamed.items():
        torch.testing.assert_close(own[name] / scale, value / scale, **close)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("sizes", SIZES[:2])
def test_the_loss_is_hugging_faces_forward_and_backward(
    week: dict, rng: torch.Generator, sizes: tuple, dtype: torch.dtype
):
    mine, twin = twin_of(week, rng, sizes, True, dtype)
    tokens, segments, mask = batch_of(rng, sizes[0], [6, 3, 4])
    labels = torch.where(mask & (torch.rand(mask.shape, generator=rng) < 0.5), tokens, -100)
    labels[0, 0], next_labels = 0, torch.tensor([0, 1, 0])  # word 0 counts, and so does pair 0
    loss, word_logits, next_logits = mine(tokens, segments, mask, labels, next_labels)
    found = twin(
        input_ids=tokens,
        token_type_ids=segments,
        attention_mask=mask.long(),
        labels=labels,
        next_sentence_label=next_labels,
    )
    close = CLOSE if dtype == torch.float64 else {"rtol": 2e-4, "atol": 2e-4}
    torch.testing.assert_close(loss, found.loss, **close)
    torch.testing.assert_close(word_logits, found.prediction_logits[labels != -100], **close)
    torch.testing.assert_close(next_logits, found.seq_relationship_logits, **close)
    loss.backward()
    found.loss.backward()
    theirs = {}
    for name, parameter in twin.named_parameters():
        for old, new in week["HF_NAMES"]:
            name = name.replace(old, new)
        theirs[name] = parameter.grad
    own = {name: parameter.grad for name, parameter in mine.named_parameters()}
    assert own.keys() == theirs.keys()
    scale = max(float(value.abs().max()) for value in theirs.values())
    for name, value in theirs.items():
        torch.testing.assert_close(own[name] / scale, value / scale, **close)


def test_weights_that_do_not_fit_are_named(week: dict, rng: torch.Generator):
    _, twin = twin_of(week, rng, SIZES[0], False, torch.float32)
    with pytest.raises(RuntimeError, match="pooler"):
        week["load_hf"](week["BertModel"](23, 9, 10, 2, 1, 12), twin.state_dict())


def test_nothing_is_read_of_the_padding_and_rows_do_not_mix(week: dict, rng: torch.Generator):
    torch.manual_seed(0)
    model = week["BertModel"](23, 9, 8, 2, 2, 12).double().eval()
    tokens, segments, mask = batch_of(rng, 23, [6, 2, 4])
    hidden, pooled = model(tokens, segments, mask)
    other, _ = model(torch.where(mask, tokens, 7), segments, mask)
    torch.testing.assert_close(hidden[mask], other[mask], **CLOSE)
    for b, n in enumerate([6, 2, 4]):
        row = slice(b, b + 1)
        alone, vector = model(tokens[row, :n], segments[row, :n], mask[row, :n])
        torch.testing.assert_close(alone, hidden[row, :n], **CLOSE)
        torch.testing.assert_close(vector, pooled[row], **CLOSE)


def test_every_position_hears_of_every_other(week: dict, rng: torch.Generator):
    torch.manual_seed(0)
    model = week["BertModel"](23, 9, 8, 2, 1, 12).double().eval()
    tokens, segments, mask = batch_of(rng, 23, [5])
    hidden, _ = model(tokens, segments, mask)
    for t in range(5):
        changed = tokens.clone()
        changed[0, t] = 5 + (tokens[0, t] - 4) % 18
        moved = (model(changed, segments, mask)[0] - hidden)[0, :5].abs().amax(dim=-1)
        assert bool((moved > 1e-6).all())


def test_dropout_drops_in_training_alone(week: dict, rng: torch.Generator):
    model = week["BertModel"](23, 9, 8, 2, 1, 12, dropout=0.5)
    batch = batch_of(rng, 23, [5, 3])
    assert torch.equal(model.eval()(*batch)[0], model(*batch)[0])
    assert not torch.equal(model.train()(*batch)[0], model(*batch)[0])


# ------------------------------------------------------------------------------------------------------- the loss


def heads_of(week: dict, rng: torch.Generator, width: int, vocab: int) -> nn.Module:
    heads = week["PretrainingHeads"](width, vocab).double()
    for parameter in heads.parameters():
        parameter.data = normal(rng, *parameter.shape)
    return heads


def test_a_network_that_knows_nothing_loses_log_v_and_log_two(week: dict):
    torch.manual_seed(0)
    model = week["Bert"](1000, 16, 32, 2, 2, 64, 0.1)
    tokens = torch.randint(5, 1000, (16, 16))
    labels = torch.where(torch.rand(16, 16) < 0.5, tokens, -100)
    mask, segments = torch.ones_like(tokens, dtype=torch.bool), torch.zeros_like(tokens)
    given = torch.full_like(tokens, 4), segments, mask, labels
    words, _, _ = model(*given, None)
    assert abs(words.item() - math.log(1000)) < 0.1
    loss, _, _ = model(*given, torch.randint(2, (16,)))
    assert abs(loss.item() - math.log(1000) - math.log(2)) < 0.2  # of sixteen pairs; their first logits are not small


def test_a_batch_without_words_has_the_loss_of_its_pairs_and_gradients_without_nan(week: dict, rng: torch.Generator):
    heads, table = heads_of(week, rng, 4, 9), normal(rng, 9, 4).requires_grad_()
    hidden, pooled = normal(rng, 2, 3, 4).requires_grad_(), normal(rng, 2, 4).requires_grad_()
    labels, pairs = torch.full((2, 3), -100), torch.tensor([0, 0])
    loss, word_logits, next_logits = week["pretraining_loss"](heads, table, hidden, pooled, labels, pairs)
    assert word_logits.shape == (0, 9)
    torch.testing.assert_close(loss, F.cross_entropy(next_logits, pairs), **CLOSE)
    loss.backward()
    assert all(bool(p.grad.isfinite().all()) for p in (table, hidden, pooled, *heads.parameters()))
    nothing, _, _ = week["pretraining_loss"](heads, table, hidden, pooled, labels, None)
    assert nothing.item() == 0


def test_the_table_learns_from_being_read_and_from_being_guessed(week: dict, rng: torch.Generator):
    """The output layer is tied: words that are only guessed, never read, move too."""
    model = week["Bert"](11, 6, 8, 2, 1, 12, 0.0).double()
    tokens = torch.tensor([[2, 4, 6, 3]])
    model(tokens, tokens * 0, tokens > 0, torch.tensor([[-100, 9, -100, -100]]), None)[0].backward()
    grad = model.bert.embeddings.word_embeddings.weight.grad.abs().amax(dim=1)
    assert bool((grad > 0).all())


# ---------------------------------------------------------------------------------------------------------- spans


def best_by_hand(start: list, end: list, allowed: list, longest: int) -> tuple[int, int]:
    """Every legal span, tried one by one in order of start, then of end."""
    spans = [
        (s, e) for s in range(len(start)) for e in range(s, len(end)) if e - s < longest and allowed[s] and allowed[e]
    ]
    return max(spans, key=lambda span: start[span[0]] + end[span[1]])  # max takes the first of equals


@pytest.mark.parametrize("longest", [1, 2, 5, 50])
@pytest.mark.parametrize("whole_numbers", [True, False])
def test_the_best_span_is_the_best_of_all_legal_ones(
    week: dict, rng: torch.Generator, longest: int, whole_numbers: bool
):
    if whole_numbers:
        start, end = torch.randint(-2, 2, (2, 40, 11), generator=rng).double()
    else:
        start, end = normal(rng, 40, 11), normal(rng, 40, 11)
    allowed = torch.rand(40, 11, generator=rng) < 0.6
    allowed[range(40), torch.randint(11, (40,), generator=rng)] = True
    starts, ends = week["best_span"](start, end, allowed, longest)
    assert starts.dtype == ends.dtype == torch.int64
    expected = [best_by_hand(*(x[b].tolist() for x in (start, end, allowed)), longest) for b in range(40)]
    assert list(zip(starts.tolist(), ends.tolist(), strict=True)) == expected


@pytest.mark.parametrize(
    ("prediction", "answers", "exact_match", "f1"),
    [
        ("The Eiffel Tower!", ["eiffel tower"], 1, 1),  # case, article, punctuation
        ("eiffel tower", ["the tower of Eiffel"], 0, 0.8),  # p 2/2, r 2/3
        ("in 1889", ["1889"], 0, 2 / 3),
        ("a an the", ["The"], 1, 1),
        ("", ["a"], 1, 1),
        ("", ["Paris"], 0, 0),
        ("well-known", ["wellknown"], 1, 1),
        ("well-known", ["well known"], 0, 0),
        ("U.S.A.", ["USA"], 1, 1),
        ("anthem", ["them"], 0, 0),
        ("  Paris \n\t France", ["paris france"], 1, 1),
        ("France Paris", ["Paris France"], 0, 1),
        ("one one two", ["one two three"], 0, 2 / 3),
        ("one", ["two", "one three", "the one"], 1, 1),
        ("one two", ["three", "one"], 0, 2 / 3),
        ("$5.4 billion", ["54 billion"], 1, 1),
    ],
)
def test_scores_follow_the_published_rules(week: dict, prediction: str, answers: list, exact_match: float, f1: float):
    assert week["squad_scores"](prediction, answers) == pytest.approx((exact_match, f1), abs=1e-12)


def official(prediction: str, truth: str) -> tuple[float, float]:
    """Exact match and F1 as the official script of SQuAD 2.0 has them, its steps in its order."""

    def normalize_answer(text: str) -> str:
        lower = text.lower()
        without_punctuation = "".join(ch for ch in lower if ch not in set(string.punctuation))
        without_articles = re.compile(r"\b(a|an|the)\b", re.UNICODE).sub(" ", without_punctuation)
        return " ".join(without_articles.split())

    exact = float(normalize_answer(truth) == normalize_answer(prediction))
    gold, pred = normalize_answer(truth).split(), normalize_answer(prediction).split()
    num_same = sum((Counter(gold) & Counter(pred)).values())
    if len(gold) == 0 or len(pred) == 0:
        return exact, float(gold == pred)
    if num_same == 0:
        return exact, 0.0
    precision, recall = num_same / len(pred), num_same / len(gold)
    return exact, 2 * precision * recall / (precision + recall)


def test_scores_are_those_of_the_official_script(week: dict):
    texts = [
        "The cat, a dog",
        "an U.S.A. theatre",
        "cat cat",
        "",
        "the",
        "Dog's cat",
        "a b c b",
        "B; A!",
        "well-known cat",
    ]
    for guess, truth in product(texts, texts):
        assert week["squad_scores"](guess, [truth]) == pytest.approx(official(guess, truth), abs=1e-12)
        best = [max(pair) for pair in zip(official(guess, truth), official(guess, "cat"), strict=True)]
        assert week["squad_scores"](guess, [truth, "cat"]) == pytest.approx(best, abs=1e-12)


# -------------------------------------------------------------------------------------------------------- choices


def test_choices_are_scored_as_if_each_were_alone(week: dict, rng: torch.Generator):
    torch.manual_seed(0)
    bert = week["BertModel"](23, 9, 8, 2, 1, 12)
    chooser = week["MultipleChoice"](bert, 8).double().eval()
    tokens, segments, mask = (x.view(2, 3, -1) for x in batch_of(rng, 23, [5, 2, 4, 3, 1, 5]))
    logits = chooser(tokens, segments, mask)
    assert logits.shape == (2, 3)
    for b, c in product(range(2), range(3)):
        _, pooled = bert(*(x[b, c].unsqueeze(0) for x in (tokens, segments, mask)))
        torch.testing.assert_close(logits[b, c], chooser.score(pooled)[0, 0], **CLOSE)


def test_choices_are_those_of_hugging_face(week: dict, rng: torch.Generator):
    from transformers import BertConfig, BertForMultipleChoice

    sizes = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 12}
    twin = BertForMultipleChoice(BertConfig(vocab_size=23, max_position_embeddings=9, **sizes)).double().eval()
    bert = week["load_hf"](week["BertModel"](23, 9, 8, 2, 2, 12).double(), twin.bert.state_dict())
    chooser = week["MultipleChoice"](bert, 8).double().eval()
    chooser.score.load_state_dict(twin.classifier.state_dict())
    tokens, segments, mask = (x.view(2, 3, -1) for x in batch_of(rng, 23, [5, 2, 4, 3, 1, 5]))
    expected = twin(input_ids=tokens, token_type_ids=segments, attention_mask=mask.long()).logits
    torch.testing.assert_close(chooser(tokens, segments, mask), expected, **CLOSE)


def test_solutions_follow_the_device_of_their_inputs(week: dict):
    """On the meta device, which computes shapes alone: a tensor made on the CPU on the way raises there."""
    with torch.device("meta"):
        tokens, mask = torch.ones(2, 5, dtype=torch.int64), torch.ones(2, 5, dtype=torch.bool)
        model, logits = week["BertModel"](9, 7, 6, 2, 1, 8), torch.ones(2, 5)
        chooser = week["MultipleChoice"](model, 6)
    answers = [
        *model(tokens, tokens, mask),
        *week["mask_tokens"](tokens, logits, logits, tokens),
        *week["best_span"](logits, logits, mask, 3),
        chooser(*(x.unsqueeze(0) for x in (tokens, tokens, mask))),
    ]
    assert {answer.device.type for answer in answers} == {"meta"}


# --------------------------------------------------------------------------------------------------------- drives


@pytest.mark.parametrize("exercise", [exercise.name for exercise in WEEK.exercises])
def test_drives_return_finite_outputs_and_a_gradient_for_everything(week: dict, exercise: str):
    drive = drive_of(WEEK.name, exercise)
    for inputs in cases_of(WEEK, exercise):
        with Tripwire(WEEK.exercise(exercise).forbid) as tripwire:
            outputs = drive(Student(week), inputs)
        assert tripwire.hits == []
        for name, value in outputs.items():
            assert value is not None, name
            assert not isinstance(value, Tensor) or bool(value.isfinite().all())


def test_measures_let_through_what_they_cannot_join():
    assert torch.equal(drives.measure_wordpiece_encode({}, {"tokens": [3, 4]})["tokens"], torch.tensor([3, 4]))
    for odd in ([[3], [4]], ["a"], [True], None, torch.tensor([1])):
        assert drives.measure_wordpiece_encode({}, {"tokens": odd})["tokens"] is odd
    scores = drives.measure_squad_scores({}, {"exact_match": [1, 0.0], "f1": ["a", None]})
    assert torch.equal(scores["exact_match"], torch.tensor([1.0, 0.0], dtype=torch.float64))
    assert scores["f1"] == ["a", None]


def test_drive_says_what_a_result_of_another_form_should_be(week: dict):
    student = Student({"best_span": lambda start, *rest: start})
    with pytest.raises(TypeError, match=r"should return 2 values, \(starts, ends\); yours returned one Tensor"):
        drives.best_span(student, cases_of(WEEK, "best_span")[0])


def test_a_wrong_embedding_does_not_touch_the_models_points(week: dict):
    inputs = cases_of(WEEK, "BertModel.forward")[0]
    source = WEEK.mistaken(WEEK.exercise("BertEmbeddings.forward"), WEEK.exercise("BertEmbeddings.forward").mistakes[0])
    other = WEEK.namespace({"BertEmbeddings.forward": source})
    one, two = (drives.bertmodel_forward(Student(namespace), inputs) for namespace in (week, other))
    assert torch.equal(one["hidden"], two["hidden"])
