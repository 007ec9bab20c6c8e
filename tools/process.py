"""Start child processes: Git, DVC and stages, in an environment that changes no result."""

import os
import site
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fashion.core.errors import UserError

# What these variables begin with: settings of Python, Git, DVC and of the numerical libraries.
DROPPED = ("PYTHON", "GIT_", "DVC_", "KERAS_", "TF_", "ONEDNN_", "DNNL_", "OMP_", "MKL_", "XLA_")
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


def clean_env(keep: tuple[str, ...] = (), **variables: str) -> dict[str, str]:
    """Return this process's environment without the user's settings; `python` is this Python.

    Settings whose names begin with one of `keep` stay; with "GIT_", Git's configuration files do.
    `variables` are added.
    """
    names = [name for name in os.environ if name.startswith(keep) or not name.startswith(DROPPED)]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    no_user_site = "" if site.ENABLE_USER_SITE else "1"
    own = {"PATH": path, "SHELL": "/bin/sh", "PYTHONNOUSERSITE": no_user_site}
    git = {} if "GIT_" in keep else NO_GIT_SETTINGS
    return {name: os.environ[name] for name in names} | git | own | variables


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
