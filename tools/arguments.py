"""Command line arguments that several commands share."""

import argparse
from collections.abc import Callable


def at_least(minimum: int) -> Callable[[str], int]:
    """Return the argparse type of a whole number of at least `minimum`."""

    def whole_number(text: str) -> int:
        if not text.isdecimal() or int(text) < minimum:
            raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least {minimum}")
        return int(text)

    return whole_number


positive_int = at_least(1)


def parser_of(command: str, documentation: str) -> argparse.ArgumentParser:
    """Return a parser that takes no abbreviated options, with the documentation's first line."""
    description = documentation.split("\n")[0]
    return argparse.ArgumentParser(prog=command, description=description, allow_abbrev=False)


def expect_no_arguments(command: str, documentation: str) -> None:
    """End the program with its usage if it has any argument; --help shows its documentation."""
    parser_of(command, documentation).parse_args()
