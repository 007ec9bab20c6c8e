"""Errors that speak to the person at the terminal."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

NO_ROOM_OR_ACCESS = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}


class UserError(Exception):
    """Something the user can mend.

    Its text names what is wrong, what was expected, and what to do.
    """


@contextmanager
def exit_on_user_error(command: str) -> Iterator[None]:
    """End the program with one message and exit status 1 on whatever the user can mend.

    There is no traceback then.
    """
    try:
        yield
        sys.stdout.flush()
    except UserError as error:
        sys.exit(f"{command}: {error}")
    except BrokenPipeError:  # whoever reads our output, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.errno not in NO_ROOM_OR_ACCESS:
            raise
        sys.exit(
            f"{command}: {error.filename or 'a file'}: {error.strerror}."
            " Make room or give access, then run it again"
        )
    except KeyboardInterrupt:
        sys.exit(f"{command}: interrupted. Run it again: nothing half-written is kept")
