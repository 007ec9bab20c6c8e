"""Fixtures for the tests of several tools."""

import os
import shutil
import sys
from collections.abc import Callable

import pytest

from fashion.core.errors import exit_on_user_error
from tests.support.commands import typed
from tests.support.repository import Repository


@pytest.fixture
def clone(committed, tmp_path) -> Repository:
    """Return a clone of `committed` without a cache."""
    return committed.clone(tmp_path / "clone")


@pytest.fixture
def call(capfd) -> Callable[..., str]:
    """Return a function that runs a command in this process and returns its output."""

    def run(repository, module, *arguments: str, status: int = 0, **variables: str) -> str:
        capfd.readouterr()  # discards earlier output
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
    """Yield Chromium with a fake camera and without access to a network."""
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not (binary and driver):
        reason = "there is no browser: `apt-get install chromium chromium-driver`"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    from selenium import webdriver  # which requirements.txt does not have

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in (
        "headless=new",
        "no-sandbox",
        "use-fake-device-for-media-stream",
        "use-fake-ui-for-media-stream",
        "host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(driver)) as browser:
        yield browser
