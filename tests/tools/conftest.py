"""What tests of several tools share."""

import os
import shutil
import sys
from collections.abc import Callable

import pytest
from selenium import webdriver

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


@pytest.fixture(scope="module")
def browser():
    """Chromium, which can reach no network."""
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not (binary and driver):
        reason = "there is no browser: `apt-get install chromium chromium-driver`"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in (
        "headless=new",
        "no-sandbox",
        "host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(driver)) as browser:
        yield browser
