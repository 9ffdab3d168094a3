"""The cutting of words is BERT's, and a vocabulary has the same numbers whenever it is learnt."""

from course import wordpiece

TEXT = ["The union of the states, and the state of the Union.", "A more perfect union; more perfect states."] * 5


def test_words_are_small_plain_and_apart_from_signs():
    words = ["dr", ".", "muller", "'", "s", "naive", "—", "plan", "(", "1", ",", "000", ")"]
    assert wordpiece.split_words("Dr. Müller's naïve—plan\n (1,000)") == words


def test_a_vocabulary_begins_with_the_special_tokens_and_is_sorted_behind():
    vocab = wordpiece.train_vocabulary(TEXT, 60)
    pieces = list(vocab)
    assert pieces[:5] == list(wordpiece.SPECIAL_TOKENS) and pieces[5:] == sorted(pieces[5:])
    assert list(vocab.values()) == list(range(len(vocab))) and 40 < len(vocab) <= 60
    assert "union" in vocab and any(piece.startswith("##") for piece in vocab)


def test_a_vocabulary_learnt_again_has_the_same_numbers():
    assert wordpiece.train_vocabulary(TEXT, 60) == wordpiece.train_vocabulary(list(TEXT), 60)
