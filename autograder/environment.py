"""Writes environment.yml: conda's python and pip, and for pip what pyproject.toml says.

python -m autograder.environment > environment.yml
"""

import tomllib
from pathlib import Path

HEAD = """\
# Generated from pyproject.toml by `make environment`; a test compares the two.
name: rnn-to-transformers
channels:
  - conda-forge
dependencies:
  - python>=3.11
  - pip
  - pip:
"""
EXTRAS = ("grader",)


def requirements(pyproject: Path) -> list[str]:
    """The base requirements and those of the extras that a conda user gets, in the order of the file."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    return project["dependencies"] + [line for extra in EXTRAS for line in project["optional-dependencies"][extra]]


def environment_yml(pyproject: Path) -> str:
    """The text of environment.yml for a pyproject.toml."""
    return HEAD + "".join(f'      - "{line}"\n' for line in requirements(pyproject))


if __name__ == "__main__":
    print(environment_yml(Path(__file__).parent.parent / "pyproject.toml"), end="")
