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
    """Run a command in this process, as Repository.python does in one of its own."""

    def run(repository, module, *arguments: str, status: int = 0, **variables: str) -> str:
        capfd.readouterr()  # of whatever ran before
        words, command = [module.__name__, *arguments], module.__name__.rpartition(".")[2]
        typing = typed(repository.folder, *words, **variables)
        with typing, pytest.raises(SystemExit) as end, exit_on_user_error(command):
            sys.exit(module.main())
        output = "".join(capfd.readouterr())
        assert (end.value.code or 0) == status, f"{command} exited with {end.value.code}:\n{output}"
        assert "Traceback" not in output
        return output

    return run
