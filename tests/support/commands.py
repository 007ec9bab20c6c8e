"""Run commands of the project in the test's process or in the background."""

import io
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, redirect_stdout, suppress
from pathlib import Path

import psutil
import pytest

from fashion.core.errors import UserError
from tests.support.repository import Repository

TIMEOUT = 180  # seconds, much longer than any test waits


@contextmanager
def typed(folder: Path, *words: str, **variables: str) -> Iterator[None]:
    """Run a block with the arguments, folder and environment of `python -m` with these words."""
    with chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", list(words))
        for name, value in Repository(folder).env(**variables).items():
            patch.setenv(name, value)
        yield


def call(main: Callable[[], None], folder: Path, *arguments: str, **variables: str) -> str:
    """Call a command's `main` with these arguments; return what this process printed."""
    output = io.StringIO()
    with typed(folder, main.__module__, *arguments, **variables), redirect_stdout(output):
        main()
    return output.getvalue()


def refusal(main: Callable[[], None], folder: Path, *arguments: str) -> str:
    """Return the message of the UserError that a command raises."""
    with pytest.raises(UserError) as error:
        call(main, folder, *arguments)
    return str(error.value)


class BackgroundCommand:
    """A command that runs in a repository in the background and writes its output to a file."""

    def __init__(self, repository: Repository, module: str, *arguments: str):
        self.repository = repository
        self.log = repository.folder.with_name(f"{repository.folder.name}.log")
        with self.log.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-u", "-m", module, *arguments],
                cwd=repository.folder,
                env=repository.env(),
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        return self.log.read_text()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds. Fails if the command ends before."""
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            assert self.process.poll() is None and time.monotonic() < deadline, self.output
            time.sleep(0.05)

    def wait_for_line(self, text: str) -> None:
        self.wait_until(lambda: text in self.output)

    def wait(self) -> int:
        """Wait for the end of the command and return its exit status."""
        return self.process.wait(TIMEOUT)

    def kill(self) -> None:
        """Kill the command and all processes in its repository, as a power cut would."""
        self.process.kill()
        self.process.wait()
        while left := processes_in(self.repository.folder):  # they may start others meanwhile
            for process in left:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(left, TIMEOUT)


@contextmanager
def begin(repository: Repository, module: str, *arguments: str) -> Iterator[BackgroundCommand]:
    """Run `python -m module` in a repository in the background; kill it after the block."""
    command = BackgroundCommand(repository, module, *arguments)
    try:
        yield command
    finally:
        command.kill()


def processes_in(folder: Path) -> list[psutil.Process]:
    """Return the processes whose working directory is in a folder, with their command lines."""
    everyone = psutil.process_iter(["cwd", "cmdline"])  # no errors if one ends meanwhile
    return [one for one in everyone if Path(one.info["cwd"] or "/").is_relative_to(folder)]
