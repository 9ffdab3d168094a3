"""The command `autograder`. Each command is a thin caller of one function elsewhere in this package."""

import sys
from typing import Annotated

import typer

from autograder.week import CourseError, Week, find_root, find_week, weeks_of

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

WeekArgument = Annotated[str, typer.Argument(metavar="WEEK", help="Any unambiguous beginning of a week's name: week01.")]


def chosen_weeks(names: list[str] | None, every: bool) -> list[Week]:
    """The weeks named on the command line, or all of them. Raises CourseError for an unknown one or for none at all."""
    root = find_root()
    if every:
        return weeks_of(root)
    if not names:
        raise CourseError("Name a week (week01), or give --all.")
    return [find_week(root, name) for name in names]


def main() -> None:
    """Runs the command line; what the user can mend is said in a sentence on stderr, with exit code 2."""
    try:
        app()
    except CourseError as error:
        print(f"autograder: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
