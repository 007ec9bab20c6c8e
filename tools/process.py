"""Start child processes in an environment that changes no result."""

import gc
import getpass
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fashion.core.environment import ARITHMETIC, FOREIGN, THREADS
from fashion.core.errors import UserError, exit_on_user_error

LAST_LINES = 8  # of a failed command, for its error message


class CommandFailed(UserError):
    """A command that exited with an error. `lines` are its last lines of output."""

    def __init__(self, message: str, lines: Sequence[str]):
        super().__init__("\n  | ".join([f"{message}. Its last lines:", *lines]))
        self.message, self.lines = message, list(lines)


@contextmanager
def command_line(command: str, status: int = 1) -> Iterator[None]:
    """Run a command in `user_env`, and end it on an error as `exit_on_user_error` does.

    `kill` and a closed terminal end it like Ctrl-C, so that it can end what it has started and
    remove its temporary files. Under `nohup`, it outlives the terminal.
    """
    like_ctrl_c = [signal.SIGINT, signal.SIGTERM]  # even if the shell has set them to be ignored
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup has set it
        like_ctrl_c.append(signal.SIGHUP)
    for number in like_ctrl_c:
        signal.signal(number, signal.default_int_handler)
    gc.freeze()  # or garbage is searched in all imports: a tenth of `make` with nothing to do
    with exit_on_user_error(command, status):
        cleaned = user_env()
        os.environ.clear()
        os.environ.update(cleaned)
        yield


def user_env() -> dict[str, str]:
    """Return this process's environment without variables that could change a result.

    It drops settings of Python, numerical libraries and Gradio, and the variables that Git sets for
    hooks, which name another index or repository. It keeps the user's settings of Git and DVC,
    which remotes may need. `python` means this Python. Raises UserError if Git is not installed.
    """
    words = ["git", "rev-parse", "--local-env-vars"]
    names = start(words, stdout=subprocess.PIPE).communicate()[0].decode().split()
    names += [ARITHMETIC, THREADS]
    names += [name for name in os.environ if name.startswith(("PYTHON", "GRADIO_", *FOREIGN))]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    fixed = {
        "PATH": path,
        "SHELL": "/bin/sh",
        "LOGNAME": _user_name(),
        "PYTHONNOUSERSITE": "1",
        "GIT_ATTR_NOSYSTEM": "1",  # no filters from /etc/gitattributes
        "DVC_EXP_AUTO_PUSH": "false",
    }
    return {name: value for name, value in os.environ.items() if name not in names} | fixed


def _user_name() -> str:
    """Return the user's name, which DVC needs; in a container, a user may have only a number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user-{os.getuid()}"


def start(
    words: Sequence[str], folder: Path = Path(), env: Mapping[str, str] = os.environ, **pipes: Any
) -> subprocess.Popen:
    """Start a command in `folder` without input; `pipes` are more arguments of subprocess.Popen.

    Raises UserError if the command is missing.
    """
    try:
        return subprocess.Popen(words, cwd=folder, env=env, stdin=subprocess.DEVNULL, **pipes)
    except FileNotFoundError as error:
        raise UserError(f"{error.filename} is not installed") from None


def run(words: Sequence[str], folder: Path, failure: str) -> None:
    """Run a command without showing its output.

    Raises CommandFailed with the message `failure` if its exit status is not 0.
    """
    process = start(words, folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    lines = process.communicate()[0].decode(errors="replace").strip().splitlines()
    if process.returncode:
        # only the last line of a traceback, which is the error
        shown = [line for line in lines if not line.startswith(("Traceback (most", "  "))]
        raise CommandFailed(failure, shown[-LAST_LINES:])
