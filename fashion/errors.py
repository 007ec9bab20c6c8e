"""The one exception whose text is meant for the person at the terminal."""


class UserError(Exception):
    """Something the user can mend: its text names what is wrong, what was expected, and what to do."""
