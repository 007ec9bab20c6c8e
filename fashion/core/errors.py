"""Define errors that speak to the person at the terminal."""

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

CORRECTABLE = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST}
CORRECTABLE |= {errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG}


class UserError(Exception):
    """An error that the user can correct. Its text says what is wrong, where, and what to do."""


class FileError(UserError):
    """A missing or corrupted file. The caller adds the command that rebuilds it."""


@contextmanager
def exit_on_user_error(command: str, status: int = 1) -> Iterator[None]:
    """Turn an error that the user can correct into one message and an exit status.

    Others keep their traceback. Output appears by line, with ? for what the terminal can't show.
    """

    def stop(message: object) -> None:
        print(f"{command}: {message}", file=sys.stderr)
        sys.exit(status)

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace", line_buffering=True)
    try:
        yield
        sys.stdout.flush()
    except UserError as error:
        stop(error)
    except BrokenPipeError:  # a reader such as `head` has closed its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(status)
    except OSError as error:
        if error.errno not in CORRECTABLE:
            raise
        stop(f"{error.filename or 'a file'}: {error.strerror}. Make room, give access or rename it")
    except KeyboardInterrupt:
        stop("interrupted. Nothing half-written is kept; run it again")
