import errno
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from fashion.core.errors import UserError
from fashion.core.files import md5
from tests.support.repository import Repository
from tools import fsck
from tools.dvc import read_lock

MODEL = "models/model.keras"


def flip(path: Path) -> None:
    """Change one bit in the middle of a file, and leave it as read-only as DVC keeps it."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    mode = path.stat().st_mode
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(mode)


def is_up_to_date(repository: Repository) -> bool:
    return repository.dvc("status").strip() == "Data and pipelines are up to date."


def test_where_all_is_whole_it_says_nothing_and_changes_nothing(toy):
    before = toy.results()
    assert toy.python("tools.fsck", "--all") == "" and toy.results() == before
    assert is_up_to_date(toy)


def test_a_corrupted_file_that_dvc_hands_on_unseen_is_found_and_repaired(toy):
    before, cached = toy.results(), toy.cached(MODEL)
    flip(cached)
    (toy.folder / MODEL).unlink()
    toy.dvc("repro")
    assert toy.read(MODEL) != before[MODEL] and is_up_to_date(toy)
    output = toy.python("tools.fsck")
    assert f"{cached}: corrupted" in output and f"{MODEL}: not what dvc.lock says" in output
    toy.dvc("repro")
    assert toy.results() == before and toy.python("tools.fsck", "--all") == ""


def test_a_file_in_a_folder_is_verified_even_if_its_time_has_not_changed(toy):
    before, path = toy.results(), toy.folder / "data/prepared/train_images.npy"
    toy.dvc("status")  # DVC remembers what it has read, by time and size
    times = path.stat()
    flip(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert is_up_to_date(toy)
    assert "data/prepared/train_images.npy: not what dvc.lock says" in toy.python("tools.fsck")
    toy.dvc("repro")
    assert toy.results() == before


def test_what_only_the_cache_holds_is_read_with_all(toy):
    old = toy.cached(MODEL)
    toy.set("seed=43")
    toy.dvc("repro", "train")
    flip(old)
    assert toy.python("tools.fsck") == ""
    assert f"{old}: corrupted" in toy.python("tools.fsck", "--all") and not old.exists()


@pytest.mark.parametrize("content", ["", "{", "a word", "[1, 2]", "schema: '2.0'", "stages: {a: }"])
def test_a_dvc_lock_that_is_not_whole_is_reported(toy, content):
    """As another process finds it while DVC writes it, or as a killed DVC leaves it."""
    (toy.folder / "dvc.lock").write_text(content)
    assert "dvc.lock" in toy.python("tools.gate.check", status=2)
    for module in ("tools.fsck", "tools.rebuild"):
        output = toy.python(module, status=1)
        assert "dvc.lock: not" in output and "`git checkout dvc.lock`" in output


def test_a_dvc_lock_cut_off_anywhere_is_read_or_reported(toy, tmp_path):
    lock, whole = tmp_path / "dvc.lock", toy.read("dvc.lock")
    for length in np.linspace(0, len(whole), 60, dtype=int):
        lock.write_bytes(whole[:length])
        with suppress(UserError):
            for stage in read_lock(lock).values():
                assert all(len(out["path"]) and len(out["md5"]) for out in stage.get("outs", []))
    assert read_lock(lock).keys() == {"prepare", "train", "evaluate", "plot"}


def test_files_that_go_while_they_are_read_are_not_corrupted(toy, monkeypatch, capsys):
    """Another DVC process removes a stage's outputs before it runs."""

    def removed_before_it_is_read(path: Path) -> str:
        path.unlink(missing_ok=True)
        return md5(path)

    monkeypatch.chdir(toy.folder)
    monkeypatch.setattr("tools.fsck.md5", removed_before_it_is_read)
    fsck.repair_cache()
    assert capsys.readouterr().out == "" and not (toy.folder / MODEL).exists()


def test_a_file_that_goes_while_dvc_reads_it_is_reported(toy, call, monkeypatch):
    from tools import rebuild

    def status(*_, **__):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "plots/history.csv")

    monkeypatch.setattr("dvc.repo.Repo.status", status)
    output = call(toy, rebuild, status=1)
    assert "plots/history.csv has gone while it was read: another DVC process" in output


@pytest.mark.parametrize("content", [b"", b'{"write": {"/a', bytes(9)], ids=repr)
def test_a_rwlock_that_a_killed_dvc_has_cut_off_is_removed(toy, content):
    (toy.folder / ".dvc/tmp/rwlock").write_bytes(content)
    assert "corrupted" in toy.dvc("status", status=1)
    assert "corrupted" not in toy.python("tools.rebuild")
    assert is_up_to_date(toy)
