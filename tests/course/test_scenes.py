"""The scenes of week 3: what is asked for is in the picture, once, and cannot be guessed from the question."""

import torch

from course import scenes


def drawn(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return scenes.draw(count, torch.Generator().manual_seed(0))


def test_shapes_and_ranges():
    images, questions, answers = drawn(50)
    assert images.shape == (50, 3, 32, 32) and questions.shape == (50, 6) and answers.shape == (50,)
    assert float(images.min()) >= 0 and float(images.max()) <= 1
    assert int(questions.max()) < len(scenes.WORDS) and int(answers.max()) < len(scenes.ANSWERS)


def test_the_same_generator_draws_the_same():
    for one, two in zip(drawn(3), drawn(3), strict=True):
        assert torch.equal(one, two)


def things_of(image: torch.Tensor) -> list[tuple[str, str]]:
    """(shape, colour) of each thing, found by comparing every cell with every sprite in every colour and place."""
    cells = image.view(3, scenes.GRID, scenes.CELL, scenes.GRID, scenes.CELL).permute(1, 3, 0, 2, 4).flatten(0, 1)
    found = []
    for cell in cells:
        if float((cell - scenes.BACKGROUND).abs().max()) < 0.2:
            continue
        best = min(
            (
                float((torch.where(sprite, torch.tensor(paint)[:, None, None], scenes.BACKGROUND) - cell).abs().mean()),
                s,
                c,
            )
            for s, places in zip(scenes.SHAPES, scenes._sprites(), strict=True)
            for sprite in places.flatten(0, 1)
            for c, paint in scenes.COLOURS.items()
        )
        found.append(best[1:])
    return found


def test_the_answer_is_in_the_picture():
    for image, question, answer in zip(*drawn(8), strict=True):
        things = things_of(image)
        assert len(things) == scenes.THINGS
        assert len({shape for shape, _ in things}) == len({colour for _, colour in things}) == scenes.THINGS
        asked, right = scenes.in_words(question).split()[4], scenes.ANSWERS[answer]
        assert (asked, right) in things or (right, asked) in things


def test_the_thing_that_is_asked_about_is_where_the_scene_says():
    images, questions, answers, places = scenes.draw_placed(5, torch.Generator().manual_seed(0))
    for one, two in zip((images, questions, answers), drawn(5), strict=True):
        assert torch.equal(one, two)
    for image, question, answer, place in zip(images, questions, answers, places.tolist(), strict=True):
        cut = image.clone()
        top, left = (scenes.CELL * i for i in divmod(place, scenes.GRID))
        cut[:, top : top + scenes.CELL, left : left + scenes.CELL] = scenes.BACKGROUND
        pair = {scenes.in_words(question).split()[4], scenes.ANSWERS[answer]}
        assert pair in [set(thing) for thing in things_of(image)]
        assert pair not in [set(thing) for thing in things_of(cut)]


def test_the_question_alone_does_not_tell_the_answer():
    _, questions, answers = drawn(12_000)
    for word in range(8, len(scenes.WORDS)):  # the twelve words that are asked about
        counts = answers[questions[:, 4] == word].bincount(minlength=12)
        assert int((counts > 0).sum()) == 6  # only answers of the other kind
        # A thousand questions each; the most frequent of six answers stays near a sixth (standard deviation 0.012).
        assert float(counts.max() / counts.sum()) < 1 / 6 + 0.06
