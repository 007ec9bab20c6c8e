"""Start child processes in an environment that nothing of the user's can change."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

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


def clean_env() -> dict[str, str]:
    """Return this process's environment without the user's settings; `python` is this Python."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(DROPPED)}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return kept | NO_GIT_SETTINGS | {"PATH": path, "SHELL": "/bin/sh", "PYTHONNOUSERSITE": "1"}


def run(words: Sequence[str], folder: Path, failure: str) -> None:
    """Run a command quietly in a clean environment.

    Raises CommandFailed with the message `failure` where its exit status is not 0.
    """
    result = subprocess.run(
        words,
        cwd=folder,
        env=clean_env(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if result.returncode:
        lines = result.stdout.decode(errors="replace").strip().splitlines()
        # of a traceback, what it says at its end
        told = [line for line in lines if not line.startswith(("Traceback (most", "  "))]
        raise CommandFailed(failure, told[-LAST_LINES:])
