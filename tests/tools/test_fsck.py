import errno
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from fashion.core.errors import UserError
from fashion.core.files import md5
from tests.support.repository import Repository
from tools import fsck, rebuild
from tools.dvc_lock import read_lock
from tools.gate import check


def md5_of(repository, path: str) -> str:
    stages = YAML(typ="safe").load(repository.read("dvc.lock"))["stages"]
    return next(
        out["md5"] for stage in stages.values() for out in stage["outs"] if out["path"] == path
    )


def in_cache(repository, md5: str) -> Path:
    return repository.folder / ".dvc/cache/files/md5" / md5[:2] / md5[2:]


def flip(path: Path) -> None:
    """Change one bit in the middle of a file, as DVC keeps it: not to be written to."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    mode = path.stat().st_mode
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(mode)


def is_up_to_date(repository) -> bool:
    return repository.dvc("status").strip() == "Data and pipelines are up to date."


def test_where_all_is_whole_it_says_nothing_and_changes_nothing(toy):
    before = toy.results()
    assert toy.python("tools.fsck", "--all") == ""
    assert toy.results() == before
    assert is_up_to_date(toy)


def test_damage_that_dvc_hands_on_unseen_is_found_and_mended(toy, call):
    """Without fsck DVC takes a damaged model from its cache, and calls everything up to date."""
    before, md5 = toy.results(), md5_of(toy, "models/model.keras")
    flip(in_cache(toy, md5))
    (toy.folder / "models/model.keras").unlink()
    toy.dvc("repro")
    assert toy.read("models/model.keras") != before["models/model.keras"]
    assert is_up_to_date(toy)

    output = toy.python("tools.fsck")
    assert f"{in_cache(toy, md5)}: damaged" in output
    assert "models/model.keras: not what dvc.lock says" in output
    toy.dvc("repro")
    assert toy.results() == before
    assert call(toy, fsck, "--all") == ""


def test_a_file_in_a_folder_is_looked_at_as_well_even_if_its_time_has_not_changed(toy, call):
    before, path = toy.results(), toy.folder / "data/prepared/train_images.npy"
    toy.dvc("status")  # DVC remembers what it has read, by time and size
    times = path.stat()
    flip(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert is_up_to_date(toy)
    assert "data/prepared/train_images.npy: not what dvc.lock says" in call(toy, fsck)
    toy.dvc("repro")
    assert toy.results() == before


def test_what_only_the_cache_holds_is_read_with_all(toy, call):
    old = in_cache(toy, md5_of(toy, "models/model.keras"))
    toy.set("seed=43")
    toy.dvc("repro", "train")
    flip(old)
    assert call(toy, fsck) == ""
    assert f"{old}: damaged" in call(toy, fsck, "--all")
    assert not old.exists()


def test_a_damaged_dvc_lock_and_a_folder_without_dvc_are_told_in_a_line(toy, tmp_path):
    (toy.folder / "dvc.lock").write_bytes(b"stages: [")
    output = toy.python("tools.fsck", status=1)
    assert output.startswith("fsck: dvc.lock: not YAML") and "Traceback" not in output
    (tmp_path / "elsewhere").mkdir()
    other = Repository(tmp_path / "elsewhere")
    output = other.python("tools.fsck", status=1, PYTHONPATH=str(toy.folder))
    assert (
        output.startswith("fsck: ") and "Traceback" not in output and len(output.splitlines()) == 1
    )


@pytest.mark.parametrize("content", ["", "{", "a word", "[1, 2]", "schema: '2.0'", "stages: {a: }"])
def test_a_dvc_lock_that_is_not_whole_is_told(toy, call, content):
    """As another process finds it while DVC writes it, or as a killed DVC leaves it."""
    (toy.folder / "dvc.lock").write_text(content)
    assert "dvc.lock" in call(toy, check, status=2)
    for module in (fsck, rebuild):
        said = call(toy, module, status=1)
        assert "dvc.lock: not" in said and "`git checkout dvc.lock`" in said
        assert "Traceback" not in said
    toy.run("git", "checkout", "dvc.lock")
    assert is_up_to_date(toy)


def test_a_dvc_lock_cut_off_anywhere_is_read_or_told(toy, tmp_path):
    lock = tmp_path / "dvc.lock"
    whole = toy.read("dvc.lock")
    for length in np.linspace(0, len(whole), 60, dtype=int):
        lock.write_bytes(whole[:length])
        with suppress(UserError):
            for stage in read_lock(lock).values():
                assert all(len(out["path"]) and len(out["md5"]) for out in stage.get("outs", []))
    assert read_lock(lock).keys() == {"prepare", "train", "evaluate", "plot"}


def test_files_that_go_while_they_are_read_are_no_damage(toy, call, monkeypatch):
    """Another DVC process removes a stage's outputs before it runs."""

    def removed_before_it_is_read(path: Path) -> str:
        path.unlink(missing_ok=True)
        return md5(path)

    monkeypatch.setattr("tools.fsck.md5", removed_before_it_is_read)
    assert call(toy, fsck) == ""
    assert not (toy.folder / "models/model.keras").exists()


def test_a_file_that_goes_while_dvc_reads_it_is_told(toy, call, monkeypatch):
    def status(*_, **__):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "plots/history.csv")

    monkeypatch.setattr("dvc.repo.Repo.status", status)
    said = call(toy, rebuild, status=1)
    assert "plots/history.csv has gone while it was read: another DVC process" in said


@pytest.mark.parametrize("content", [b"", b'{"write": {"/a', bytes(9)], ids=repr)
def test_a_rwlock_that_a_killed_dvc_has_cut_off_is_removed(toy, call, content):
    rwlock = toy.folder / ".dvc/tmp/rwlock"
    rwlock.write_bytes(content)
    assert "corrupted" in toy.dvc("status", status=1)
    said = call(toy, rebuild)
    assert "corrupted" not in said and "Traceback" not in said
    assert is_up_to_date(toy)
