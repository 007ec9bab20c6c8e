"""Types of command line arguments that several commands share."""


def positive_int(text: str) -> int:
    """Return a whole number of at least 1. Raises ValueError on anything else."""
    if int(text) < 1:
        raise ValueError
    return int(text)
