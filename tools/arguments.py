"""Parse the command line arguments that several commands share."""

import argparse
from collections.abc import Callable


def at_least(minimum: int) -> Callable[[str], int]:
    """Return an argparse type for whole numbers of at least `minimum`."""

    def whole_number(text: str) -> int:
        if not text.isdecimal() or int(text) < minimum:
            raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least {minimum}")
        return int(text)

    return whole_number


positive_int = at_least(1)


def parser_of(command: str, documentation: str | None) -> argparse.ArgumentParser:
    """Return a parser that shows `documentation`'s first line and refuses abbreviated options."""
    description = (documentation or "").split("\n")[0]  # PYTHONOPTIMIZE=2 removes docstrings
    return argparse.ArgumentParser(prog=command, description=description, allow_abbrev=False)


def expect_no_arguments(command: str, documentation: str | None) -> None:
    """Parse the command line of a command that takes no arguments but --help."""
    parser_of(command, documentation).parse_args()
