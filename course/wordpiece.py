"""Word pieces: a text cut into words as BERT does it, and vocabularies, both by the library `tokenizers`."""

from collections.abc import Sequence

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def split_words(text: str) -> list[str]:
    """The words of a text in small letters and without accents; every sign of punctuation is a word by itself."""
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer

    plain = BertNormalizer(lowercase=True).normalize_str(text)
    return [word for word, _ in BertPreTokenizer().pre_tokenize_str(plain)]


def train_vocabulary(texts: Sequence[str], size: int) -> dict[str, int]:
    """The numbers of at most `size` pieces learnt from texts: special tokens first, then the other pieces, sorted.

    The library numbers characters that continue a word in an order of chance, and breaks ties by these numbers. So it is
    given them first, in their order: the same texts give the same pieces everywhere.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    characters = sorted(set().union(*(tokenizer.normalizer.normalize_str(text) for text in texts)))
    inner = [f"##{char}" for char in characters if len(split_words(f"a{char}a")) == 1 and not char.isspace()]
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=[*SPECIAL_TOKENS, *inner], show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    pieces = sorted(tokenizer.get_vocab().keys() - set(SPECIAL_TOKENS))
    return {piece: number for number, piece in enumerate([*SPECIAL_TOKENS, *pieces])}
