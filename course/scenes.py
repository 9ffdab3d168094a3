"""Scenes of shapes, drawn on the spot, and questions about them: the pictures of week 3.

A scene is a grid of cells, four of which hold a thing; no two things of a scene share a shape or a colour. A question asks
for the colour of a shape or for the shape of a colour, so the answer is in the picture and not in the question alone.
"""

import torch
from torch import Tensor

CELL, GRID, THINGS = 8, 4, 4  # pixels a cell, cells a side, things a scene
COLOURS = {
    "red": (0.84, 0.15, 0.16),
    "green": (0.17, 0.63, 0.17),
    "blue": (0.12, 0.35, 0.75),
    "yellow": (0.95, 0.83, 0.20),
    "purple": (0.58, 0.30, 0.74),
    "white": (1.0, 1.0, 1.0),
}
SHAPES = {
    "circle": ("..##..", ".####.", "######", "######", ".####.", "..##.."),
    "square": ("######", "######", "######", "######", "######", "######"),
    "triangle": ("..##..", "..##..", ".####.", ".####.", "######", "######"),
    "cross": ("..##..", "..##..", "######", "######", "..##..", "..##.."),
    "ring": ("######", "######", "##..##", "##..##", "######", "######"),
    "stripe": ("......", "......", "######", "######", "......", "......"),
}
BACKGROUND = 0.35
ANSWERS = (*COLOURS, *SHAPES)
WORDS = ("what", "colour", "does", "the", "have", "shape", "is", "thing", *SHAPES, *COLOURS)


def in_words(question: Tensor) -> str:
    """The words of one question (T,)."""
    return " ".join(WORDS[int(word)] for word in question)


def draw(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Scenes with a question each: images (B, 3, 32, 32) from 0 to 1, questions (B, 6) int64 (see WORDS), answers (B,) int64.

    Questions are "what colour does the circle have" and "what shape is the red thing"; each kind is asked about as often as
    the other, and each of the four things as often as the others. An answer is a number into ANSWERS. Things are 6 pixels
    wide and stand anywhere within their cell; every pixel has a little noise.
    """
    return draw_placed(count, generator)[:3]


def draw_placed(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`draw`, and the cell (B,) int64 of the thing that is asked about, counted row by row."""

    def choose(out_of: int) -> Tensor:
        """(B, THINGS): different numbers below `out_of` in each row."""
        return torch.rand(count, out_of, generator=generator).argsort(dim=1)[:, :THINGS]

    cells, shapes, colours = choose(GRID**2), choose(len(SHAPES)), choose(len(COLOURS))
    offsets = torch.randint(3, (count, THINGS, 2), generator=generator)
    sprites = _sprites()[shapes, offsets[..., 0], offsets[..., 1]].unsqueeze(2)  # (B, THINGS, 1, 8, 8)
    paint = torch.tensor(list(COLOURS.values()))[colours][..., None, None]  # (B, THINGS, 3, 1, 1)
    things = torch.where(sprites, paint, BACKGROUND)
    canvas = torch.full((count, GRID**2, 3, CELL, CELL), BACKGROUND)
    canvas[torch.arange(count).unsqueeze(1), cells] = things
    rows = canvas.view(count, GRID, GRID, 3, CELL, CELL).permute(0, 3, 1, 4, 2, 5)
    images = rows.reshape(count, 3, GRID * CELL, GRID * CELL)
    images = (images + 0.03 * torch.randn(images.shape, generator=generator)).clamp(0, 1)

    asked = torch.randint(THINGS, (count, 1), generator=generator)
    shape, colour = shapes.gather(1, asked).squeeze(1), colours.gather(1, asked).squeeze(1)
    by_shape = torch.rand(count, generator=generator) < 0.5
    number = {word: i for i, word in enumerate(WORDS)}
    of_colour = torch.tensor([number[word] for word in ("what", "colour", "does", "the", "circle", "have")])
    of_shape = torch.tensor([number[word] for word in ("what", "shape", "is", "the", "red", "thing")])
    questions = torch.where(by_shape.unsqueeze(1), of_colour, of_shape)
    questions[:, 4] = torch.where(by_shape, number["circle"] + shape, number["red"] + colour)
    answers = torch.where(by_shape, colour, len(COLOURS) + shape)
    return images, questions, answers, cells.gather(1, asked).squeeze(1)


def _sprites() -> Tensor:
    """(shapes, 3, 3, 8, 8) boolean: each shape at each place within a cell, by its distance from the top and the left."""
    sprites = torch.zeros(len(SHAPES), 3, 3, CELL, CELL, dtype=torch.bool)
    for i, rows in enumerate(SHAPES.values()):
        shape = torch.tensor([[pixel == "#" for pixel in row] for row in rows])
        for top in range(3):
            for left in range(3):
                sprites[i, top, left, top : top + 6, left : left + 6] = shape
    return sprites
