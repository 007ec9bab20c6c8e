"""What tests of several tools share."""

import sys
from collections.abc import Callable

import pytest

from fashion.core.errors import exit_on_user_error
from tests.support.commands import typed
from tests.support.repository import Repository


@pytest.fixture
def clone(committed, tmp_path) -> Repository:
    """A clone of `committed`, of the test's own and without a cache."""
    folder = tmp_path / "clone"
    committed.run("git", "clone", "--quiet", ".", str(folder))
    return Repository(folder)


@pytest.fixture
def call(capfd) -> Callable[..., str]:
    """Run a command here as Repository.python does in a process of its own.

    Unlike `call` of tests/support/commands.py it returns all that was printed, also by commands
    that it runs, and expects an exit status.
    """

    def run(repository, module, *arguments: str, status: int = 0, **variables: str) -> str:
        capfd.readouterr()  # of whatever ran before
        words = [module.__name__, *arguments]
        with (
            typed(repository.folder, *words, **variables),
            pytest.raises(SystemExit) as end,
            exit_on_user_error(module.__name__.rpartition(".")[2]),
        ):
            sys.exit(module.main())
        output, code = "".join(capfd.readouterr()), end.value.code
        if isinstance(code, str):  # a message: Python shows it, and exits with 1
            output, code = f"{output}{code}\n", 1
        assert (code or 0) == status, f"{module.__name__} exited with {code}:\n{output}"
        return output

    return run
