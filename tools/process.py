"""The environment of commands and their child processes, which changes no result; starting them."""

import getpass
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fashion.core.environment import ARITHMETIC, FOREIGN, THREADS
from fashion.core.errors import UserError, exit_on_user_error

# Of Git, only this machine's own repositories count: no hook, filter, attribute or template.
NO_GIT_SETTINGS = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TEMPLATE_DIR": "",
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "safe.directory",
    "GIT_CONFIG_VALUE_0": "*",
}
LAST_LINES = 8  # of a command that failed


class CommandFailed(UserError):
    """A command that exited with an error. `lines` are the last ones that it printed."""

    def __init__(self, message: str, lines: Sequence[str]):
        super().__init__("\n  | ".join([f"{message}. Its last lines:", *lines]))
        self.message, self.lines = message, list(lines)


@contextmanager
def command_line(command: str, status: int = 1) -> Iterator[None]:
    """Run a command's block in `user_env`, with errors for the user as in `exit_on_user_error`."""
    with exit_on_user_error(command, status):
        cleaned = user_env()
        os.environ.clear()
        os.environ.update(cleaned)
        yield


def user_env() -> dict[str, str]:
    """Return this process's environment without what could change a result.

    Dropped are settings of Python and of numerical libraries, and what Git sets for hooks: it names
    another index or repository. The user's settings of Git and DVC stay, as remotes may need them.
    `python` is this Python, and the shell plain. Raises UserError if Git is not installed.
    """
    words = ["git", "rev-parse", "--local-env-vars"]
    of_hooks = start(words, env=os.environ, stdout=subprocess.PIPE).communicate()[0].decode()
    kept = _without(("PYTHON", *FOREIGN), of_hooks.split())
    return kept | _own() | {"DVC_EXP_AUTO_PUSH": "false", "LOGNAME": _user_name()}


def _user_name() -> str:
    """Return the user's name, for which DVC asks; in a container, one may have but a number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user-{os.getuid()}"


def clean_env() -> dict[str, str]:
    """Return the environment of clean clones: without settings of Git, DVC and the arithmetic."""
    dropped = ("PYTHON", "GIT_", "DVC_", *FOREIGN)
    return _without(dropped, (ARITHMETIC, THREADS)) | NO_GIT_SETTINGS | _own()


def _own() -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {"PATH": path, "SHELL": "/bin/sh", "PYTHONNOUSERSITE": "1"}


def _without(prefixes: tuple[str, ...], names: Sequence[str]) -> dict[str, str]:
    """Return the variables of this process but those with these prefixes or names."""
    variables = os.environ.items()
    return {x: value for x, value in variables if not x.startswith(prefixes) and x not in names}


def start(
    words: Sequence[str], folder: Path = Path(), env: Mapping[str, str] | None = None, **pipes: Any
) -> subprocess.Popen:
    """Start a command in `folder`, without input and by default in a clean environment.

    `pipes` are further arguments of subprocess.Popen. Raises UserError if it is not installed.
    """
    env = clean_env() if env is None else env
    try:
        return subprocess.Popen(words, cwd=folder, env=env, stdin=subprocess.DEVNULL, **pipes)
    except FileNotFoundError as error:
        raise UserError(f"{error.filename} is not installed") from None


def run(words: Sequence[str], folder: Path, failure: str) -> None:
    """Run a command quietly in a clean environment.

    Raises CommandFailed with the message `failure` if its exit status is not 0.
    """
    process = start(words, folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    lines = process.communicate()[0].decode(errors="replace").strip().splitlines()
    if process.returncode:
        # of a traceback, what it says at its end
        shown = [line for line in lines if not line.startswith(("Traceback (most", "  "))]
        raise CommandFailed(failure, shown[-LAST_LINES:])
