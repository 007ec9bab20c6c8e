"""Types of command line arguments that several commands share, and the reading of none at all."""

import argparse
from collections.abc import Callable
from functools import partial


def positive_int(text: str) -> int:
    """Return a whole number of at least 1. Raises ArgumentTypeError, as argparse shows it."""
    return _whole_number(text, 1)


def at_least(minimum: int) -> Callable[[str], int]:
    """Return the type of a whole number of at least `minimum`, for argparse."""
    return partial(_whole_number, minimum=minimum)


def expect_no_arguments(command: str, documentation: str) -> None:
    """End the program with its usage where it is given any argument; --help has its meaning."""
    argparse.ArgumentParser(prog=command, description=documentation.split("\n")[0]).parse_args()


def _whole_number(text: str, minimum: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = None
    if number is None or number < minimum:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least {minimum}")
    return number
