"""The set-up, and what goes through make."""

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
    """A folder with the Makefile and an environment that was made in another folder."""
    (tmp_path / "Makefile").write_text((PROJECT / "Makefile").read_text())
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").symlink_to(sys.executable)
    (tmp_path / ".venv/bin/installed").write_text("/elsewhere\n")
    (tmp_path / "requirements.txt").touch()
    return Repository(tmp_path)


def test_an_environment_is_made_anew_where_its_folder_has_moved_or_its_python_has_gone(folder):
    installed = folder.folder / ".venv/bin/installed"
    assert "-m venv --clear" in folder.run(*MAKE, "--dry-run", "fsck")
    installed.write_text(f"{folder.folder}\n")
    assert folder.run(*MAKE, "--dry-run", "fsck") == ".venv/bin/python -BEs -m tools.fsck \n"
    (folder.folder / ".venv/bin/python").unlink()
    (folder.folder / ".venv/bin/python").symlink_to("/gone")
    assert "-m venv --clear" in folder.run(*MAKE, "--dry-run", "fsck")


def test_settings_of_pip_that_put_packages_elsewhere_have_no_effect(folder):
    shutil.rmtree(folder.folder / ".venv")
    (folder.folder / ".venv").symlink_to(sys.prefix)
    (folder.folder / "pip.conf").write_text("[install]\nuser = true\nconstraint = /gone\n")
    rule = "asked: ; $(INSTALL) --dry-run -r requirements.txt"
    pip = {"PIP_USER": "1", "PIP_CONSTRAINT": "/gone", "PIP_TARGET": "/gone"}
    pip |= {"PIP_CONFIG_FILE": str(folder.folder / "pip.conf")}
    output = folder.run(*MAKE, "--eval", rule, "asked", **pip)
    assert "ERROR" not in output


def test_arguments_with_a_dollar_are_refused_as_make_and_the_shell_would_change_them(folder):
    output = folder.run(*MAKE, "predict", "ARGS=a$b.png", status=2)
    assert "ARGS has a $" in output and "tools.predict" not in output


@pytest.mark.parametrize(
    ("system", "machine", "library", "version", "said"),
    [
        ("Linux", "x86_64", "glibc", (3, 11, 0), None),
        ("Darwin", "arm64", "", (3, 13, 5), None),
        ("Darwin", "x86_64", "", (3, 12, 0), "no package for Darwin on x86_64"),
        ("Linux", "x86_64", "", (3, 12, 0), "no package for Linux on x86_64"),  # Alpine
        ("Linux", "x86_64", "glibc", (3, 10, 9), "needs Python 3.11, 3.12 or 3.13"),
        ("Linux", "x86_64", "glibc", (3, 14, 0), "needs Python 3.11, 3.12 or 3.13"),
    ],
)
def test_what_can_not_run_it_is_said_before_anything_is_downloaded(
    monkeypatch, system, machine, library, version, said
):
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(platform, "libc_ver", lambda: (library, ""))
    monkeypatch.setattr(sys, "version_info", version)
    try:
        runpy.run_path(str(Path(PROJECT, "tools/supported.py")))
        assert not said
    except SystemExit as end:
        assert said and said in str(end.code)
