"""What tests of several tools share."""

import sys
from collections.abc import Callable

import pytest

from fashion.errors import exit_on_user_error
from tests.support.repository import Repository


@pytest.fixture
def clone(committed, tmp_path) -> Repository:
    """A clone of `committed`, of the test's own and without a cache."""
    folder = tmp_path / "clone"
    committed.run("git", "clone", "--quiet", ".", str(folder))
    return Repository(folder)


@pytest.fixture
def call(monkeypatch, capfd) -> Callable[..., str]:
    """Run a command's `main` here, as Repository.python runs it in a process of its own.

    That spares it the start of Python and its imports.
    """

    def run(repository, module, *arguments: str, status: int = 0, **variables: str) -> str:
        capfd.readouterr()  # of whatever ran before
        with monkeypatch.context() as patch, pytest.raises(SystemExit) as end:
            patch.chdir(repository.folder)
            patch.setattr(sys, "argv", [module.__name__, *arguments])
            for name, value in repository.env(**variables).items():
                patch.setenv(name, value)
            with exit_on_user_error(module.__name__.rpartition(".")[2]):
                sys.exit(module.main())
        output, code = "".join(capfd.readouterr()), end.value.code
        if isinstance(code, str):  # a message: Python shows it, and exits with 1
            output, code = f"{output}{code}\n", 1
        assert (code or 0) == status, f"{module.__name__} exited with {code}:\n{output}"
        return output

    return run
