"""Word pieces: a text cut into words as BERT does it, and vocabularies, both by the library `tokenizers`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def split_words(text: str) -> list[str]:
    """The words of a text in small letters and without accents; every sign of punctuation is a word by itself."""
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer

    plain = BertNormalizer(lowercase=True).normalize_str(text)
    return [word for word, _ in BertPreTokenizer().pre_tokenize_str(plain)]


def piece_tokenizer(vocab: Mapping[str, int] | None = None) -> Tokenizer:
    """The library's tokenizer that cuts texts into the pieces of a vocabulary, or into none yet, as BERT does it."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.WordPiece(vocab and dict(vocab), unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def train_vocabulary(texts: Sequence[str], size: int) -> dict[str, int]:
    """The numbers of at most `size` pieces learnt from texts: special tokens first, then the other pieces, sorted.

    The library numbers characters that continue a word in an order of chance, and breaks ties by these numbers. So it is
    given them first, in their order: the same texts give the same pieces everywhere.
    """
    from tokenizers import trainers

    tokenizer = piece_tokenizer()
    characters = sorted(set().union(*(tokenizer.normalizer.normalize_str(text) for text in texts)))
    inner = [f"##{char}" for char in characters if len(split_words(f"a{char}a")) == 1 and not char.isspace()]
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=[*SPECIAL_TOKENS, *inner], show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    pieces = sorted(tokenizer.get_vocab().keys() - set(SPECIAL_TOKENS))
    return {piece: number for number, piece in enumerate([*SPECIAL_TOKENS, *pieces])}
