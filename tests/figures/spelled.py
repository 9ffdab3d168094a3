"""Numbers as prose spells them."""

WORDS = (
    "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip


def spelled(number: float) -> str:
    """7 is seven, and 6.98 too."""
    return WORDS[round(number)]


def in_halves(number: float) -> str:
    """2.58 is two and a half, 2.9 is three."""
    whole, half = divmod(round(2 * number), 2)
    return spelled(whole) + " and a half" * half
