"""From the recurrent network of 1986 to efficient transformers: what the course's notebooks import."""

__version__ = "0.1.0"
