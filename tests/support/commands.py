"""Commands of the project, called in the test's process, or begun beside it."""

import io
import signal
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

TIMEOUT = 180  # seconds; what is waited for comes much sooner


@contextmanager
def typed(folder: Path, *words: str, **variables: str) -> Iterator[None]:
    """Run a block as `python -m` with these words would run in a folder, but in this process."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with chdir(folder), pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", list(words))
            for name, value in Repository(folder).env(**variables).items():
                patch.setenv(name, value)
            yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def call(main: Callable[[], None], folder: Path, *arguments: str, **variables: str) -> str:
    """Call a command's `main` with these arguments; return what it printed itself."""
    output = io.StringIO()
    with typed(folder, main.__module__, *arguments, **variables), redirect_stdout(output):
        main()
    return output.getvalue()


def refusal(main: Callable[[], None], folder: Path, *arguments: str) -> str:
    """Return the message with which a command refuses to begin."""
    with pytest.raises(UserError) as error:
        call(main, folder, *arguments)
    return str(error.value)


class BackgroundCommand:
    """A command that runs in a repository beside the test, its output in a file."""

    def __init__(self, repository: Repository, module: str, *arguments: str):
        self.repository = repository
        self.log = repository.folder.with_name(f"{repository.folder.name}.log")
        with self.log.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=repository.folder,
                env=repository.env(),
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        return self.log.read_text()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for something to happen while the command runs."""
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            assert self.process.poll() is None and time.monotonic() < deadline, self.output
            time.sleep(0.05)

    def wait_for_line(self, text: str) -> None:
        self.wait_until(lambda: text in self.output)

    def wait(self) -> int:
        """Return the exit status."""
        return self.process.wait(TIMEOUT)

    def kill(self) -> None:
        """End the command at once, and then all that it has started, as a power cut would."""
        self.process.kill()
        self.process.wait()
        while left := processes_in(self.repository.folder):  # or just begun by one of them
            for process in left:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(left, TIMEOUT)


@contextmanager
def begin(repository: Repository, module: str, *arguments: str) -> Iterator[BackgroundCommand]:
    """Begin `python -m module` in a repository; nothing of it runs on after the block."""
    command = BackgroundCommand(repository, module, *arguments)
    try:
        yield command
    finally:
        command.kill()


def processes_in(folder: Path) -> list[psutil.Process]:
    """All processes that work in a folder or below."""
    everyone = psutil.process_iter(["cwd"])
    return [one for one in everyone if Path(one.info["cwd"] or "/").is_relative_to(folder)]
