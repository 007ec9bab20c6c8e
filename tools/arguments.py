"""Types of command line arguments that several commands share, and the reading of none at all."""

import argparse


def positive_int(text: str) -> int:
    """Return a whole number of at least 1. Raises ArgumentTypeError, as argparse shows it."""
    return _whole_number(text, at_least=1)


def two_or_more(text: str) -> int:
    """Return a whole number of at least 2: so many values have a standard deviation."""
    return _whole_number(text, at_least=2)


def expect_no_arguments(command: str, documentation: str) -> None:
    """End the program with its usage where it is given any argument; --help has its meaning."""
    argparse.ArgumentParser(prog=command, description=documentation.split("\n")[0]).parse_args()


def _whole_number(text: str, at_least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = None
    if number is None or number < at_least:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least {at_least}")
    return number
