"""Make sets up the environment and refuses what it would change."""

import platform
import runpy
import shutil
import sys
from pathlib import Path

import pytest

from tests.support.repository import PROJECT, Repository

MAKE = ("make", "--no-print-directory")


@pytest.fixture
def folder(tmp_path) -> Repository:
    """Return a folder with the Makefile and an environment that another folder made."""
    folder = tmp_path / "copy [1] $HOME"
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / "Makefile").write_text((PROJECT / "Makefile").read_text())
    (folder / ".venv/bin/python").symlink_to(sys.executable)
    (folder / ".venv/bin/installed").write_text("/elsewhere\n")
    (folder / "requirements.txt").touch()
    return Repository(folder)


def test_the_environment_is_rebuilt_if_the_folder_has_moved_or_its_python_is_gone(folder):
    installed = folder.folder / ".venv/bin/installed"
    assert "rm -rf .venv && python3 -Es -m venv .venv" in folder.run(*MAKE, "--dry-run", "fsck")
    installed.write_text(f"{folder.folder}\n")
    assert folder.run(*MAKE, "--dry-run", "fsck") == ".venv/bin/python -BEs -m tools.fsck \n"
    (folder.folder / ".venv/bin/python").unlink()
    (folder.folder / ".venv/bin/python").symlink_to("/gone")
    assert "rm -rf .venv && python3 -Es -m venv .venv" in folder.run(*MAKE, "--dry-run", "fsck")


def test_the_folder_behind_a_link_keeps_its_files(folder):
    target = (folder.folder / ".venv").rename(folder.folder / "elsewhere")
    (folder.folder / ".venv").symlink_to(target)
    (target / "bin/installed").unlink()
    folder.run("git", "init", "--quiet")
    folder.commit()
    variables = ("PYTHON=true", "INSTALL=mkdir -p .venv/bin #")  # which install nothing
    folder.run(*MAKE, *variables, ".venv/bin/installed")
    assert (target / "bin/python").exists() and not (folder.folder / ".venv").is_symlink()


def test_pip_settings_that_install_elsewhere_have_no_effect(folder):
    shutil.rmtree(folder.folder / ".venv")
    (folder.folder / ".venv").symlink_to(sys.prefix)
    (folder.folder / "pip.conf").write_text("[install]\nuser = true\nconstraint = /gone\n")
    rule = "asked: ; $(INSTALL) --dry-run -r requirements.txt"
    pip = {"PIP_USER": "1", "PIP_CONSTRAINT": "/gone", "PIP_TARGET": "/gone"}
    pip |= {"PIP_CONFIG_FILE": str(folder.folder / "pip.conf")}
    output = folder.run(*MAKE, "--eval", rule, "asked", **pip)
    assert "ERROR" not in output


def test_arguments_with_a_dollar_are_refused(folder):
    output = folder.run(*MAKE, "predict", "ARGS=a$b.png", status=2)
    assert "ARGS has a $" in output and "tools.predict" not in output


@pytest.mark.parametrize(
    ("system", "machine", "library", "version", "message"),
    [
        ("Linux", "x86_64", "glibc", (3, 11, 0), None),
        ("Darwin", "arm64", "", (3, 13, 5), None),
        ("Darwin", "x86_64", "", (3, 12, 0), "not run on Darwin on x86_64"),
        ("Linux", "x86_64", "", (3, 12, 0), "not run on Linux on x86_64"),  # Alpine
        ("Linux", "x86_64", "glibc", (3, 10, 9), "needs Python 3.11, 3.12 or 3.13"),
        ("Linux", "x86_64", "glibc", (3, 14, 0), "needs Python 3.11, 3.12 or 3.13"),
    ],
)
def test_an_unsupported_python_or_machine_is_reported_before_any_download(
    monkeypatch, system, machine, library, version, message
):
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(platform, "libc_ver", lambda: (library, ""))
    monkeypatch.setattr(sys, "version_info", version)
    try:
        runpy.run_path(str(Path(PROJECT, "tools/supported.py")))
        assert not message
    except SystemExit as end:
        assert message and message in str(end.code)
