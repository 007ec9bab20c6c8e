import os
import re
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from fashion.core.errors import UserError
from fashion.core.files import md5, read_csv
from tests.support.repository import Repository
from tools import fsck, rebuild
from tools.dvc import read_lock, status

MODEL, LABELS = "models/model.keras", "data/prepared/validation_labels.npy"


def is_up_to_date(repository: Repository) -> bool:
    return repository.dvc("status").strip() == "Data and pipelines are up to date."


def test_files_that_only_the_cache_has_are_verified_with_all(toy):
    old = toy.folder / ".dvc/cache/files/md5/ab" / ("c" * 30)
    old.parent.mkdir(exist_ok=True)
    old.touch()
    assert toy.python("tools.fsck") == ""
    assert f"{old}: corrupted" in toy.python("tools.fsck", "--all") and not old.exists()


def test_a_truncated_dvc_lock_is_reported(toy, call):
    """Another process finds it while DVC writes it, and a killed DVC leaves it behind."""
    (toy.folder / "dvc.lock").write_text("schema: '2.0'")
    output = call(toy, rebuild, status=1)
    assert "dvc.lock: not complete" in output and "`git checkout dvc.lock`" in output


@pytest.mark.parametrize("content", ["", "{", "a word", "[1, 2]", "schema: '2.0'", "stages: {a: }"])
def test_a_dvc_lock_without_complete_stages_is_invalid(tmp_path, content):
    (tmp_path / "dvc.lock").write_text(content)
    with pytest.raises(UserError, match=r"dvc.lock: not .*`git checkout .*dvc.lock` restores"):
        read_lock(tmp_path / "dvc.lock")


@pytest.mark.parametrize("above", ["", "schema: '2.0'\n"])
def test_a_dvc_lock_with_conflicts_is_left_to_make(tmp_path, above):
    """With `merge.conflictStyle=diff3`, they begin in the first line."""
    (tmp_path / "dvc.lock").write_text(f"{above}<<<<<<< HEAD\na: 1\n=======\na: 2\n>>>>>>> b\n")
    with pytest.raises(UserError, match=r"dvc.lock has conflicts of a merge.* `make`, which"):
        read_lock(tmp_path / "dvc.lock")


def test_a_dvc_lock_truncated_anywhere_is_read_or_invalid(toy, tmp_path):
    lock, whole = tmp_path / "dvc.lock", toy.read("dvc.lock")
    for length in np.linspace(0, len(whole), 60, dtype=int):
        lock.write_bytes(whole[:length])
        with suppress(UserError):
            for stage in read_lock(lock).values():
                assert all(len(out["path"]) and len(out["md5"]) for out in stage.get("outs", []))
    assert read_lock(lock).keys() == {"prepare", "train", "evaluate", "plot"}


def test_files_that_disappear_during_fsck_are_not_corrupted(toy, monkeypatch, capsys):
    """Another DVC process removes a stage's outputs before it runs."""

    def md5_of_a_removed_file(path: Path) -> str:
        path.unlink(missing_ok=True)
        return md5(path)

    monkeypatch.chdir(toy.folder)
    monkeypatch.setattr("tools.fsck.md5", md5_of_a_removed_file)
    fsck.repair_cache()
    assert capsys.readouterr().out == "" and not (toy.folder / MODEL).exists()


@pytest.mark.parametrize("place", ["cache", "workspace", "listing"])
def test_the_caller_learns_of_a_corrupted_file(toy, monkeypatch, place):
    """The file is corrupted in one place alone; a listing is what the cache has of a folder."""
    monkeypatch.chdir(toy.folder)
    assert not fsck.repair_cache()
    paths = {"cache": toy.cached(MODEL), "workspace": toy.folder / MODEL}
    path = (paths | {"listing": toy.cached("data/prepared")})[place]
    path.unlink()
    path.write_bytes(b"other")
    assert fsck.repair_cache()


def test_a_file_that_a_bad_disk_changed_is_read_again(toy, monkeypatch, capsys):
    """DVC would not: the file has the inode, time and size of before."""
    monkeypatch.chdir(toy.folder)
    assert status() == {}  # DVC notes inode, time and size
    path, before = Path(MODEL), Path(MODEL).stat()
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert status() == {}
    fsck.repair_cache()
    assert f"{MODEL}: differs from dvc.lock" in capsys.readouterr().out
    assert status().keys() == {"train", "evaluate"}


def test_a_file_that_disappears_while_dvc_reads_it_is_reported(toy, call):
    (toy.folder / "data/prepared/train_images.npy").unlink()
    (toy.folder / "data/prepared/train_images.npy").symlink_to("nowhere")  # DVC lists it
    output = call(toy, rebuild, status=1)
    assert "train_images.npy disappeared while DVC read it: another DVC process" in output


def test_an_rwlock_that_a_killed_dvc_truncated_is_removed(toy, monkeypatch):
    (toy.folder / ".dvc/tmp/rwlock").write_text('{"write": {"/a')
    assert "corrupted" in toy.dvc("status", status=1)
    monkeypatch.chdir(toy.folder)
    assert status() == {} and is_up_to_date(toy)


def test_folders_of_runs_that_a_killed_dvc_left_empty_are_removed(toy):
    before = toy.results()
    for path in (toy.folder / ".dvc/cache/runs").glob("*/*/*"):
        path.unlink()
    (toy.folder / "dvc.lock").unlink()
    assert "not 'NoneType'" in toy.dvc("repro", status=255)
    assert toy.python("tools.fsck") == ""
    toy.dvc("repro")
    assert toy.results() == before


def test_a_corrupted_model_that_the_run_cache_restores_is_trained_again(toy):
    before, cached = toy.read(MODEL), toy.cached(MODEL)
    toy.set("seed=7")
    toy.dvc("repro", "--quiet")
    cached.chmod(0o644)
    cached.write_bytes(before[:-1])
    cached.chmod(0o444)
    toy.set("seed=42")
    program = "from tools import fsck, process\n"
    program += "with process.command_line('test'): fsck.verified_repro()"
    toy.run(sys.executable, "-c", program)
    assert toy.read(MODEL) == before and is_up_to_date(toy)


def test_corrupted_files_that_the_run_cache_restores_are_made_again(compared):
    """DVC restores results that it has seen, for the workspace and for experiments, unread."""
    before = {path: compared.read(path) for path in (MODEL, LABELS)}
    lock = compared.run("git", "show", f"{compared.experiments()['longer']}:dvc.lock")
    hashes = [md5(compared.folder / path) for path in before]
    hashes += re.findall(f"- path: {MODEL}\n *hash: md5\n *md5: (.*)", lock)[:1]
    files = [compared.folder / ".dvc/cache/files/md5" / one[:2] / one[2:] for one in hashes]
    compared.set("prepare.validation_size=100")
    compared.dvc("repro", "--quiet")
    compared.commit("Other data")
    contents = [path.read_bytes() for path in files]
    for path, content in zip(files, contents, strict=True):
        path.chmod(0o644)
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        path.chmod(0o444)
    compared.set("prepare.validation_size=200")
    compared.set("experiments={longer: {train.epochs: 3, train.batch_size: 64}, new: {seed: 7}}")
    compared.commit("The data of before")
    compared.python("tools.rebuild")
    table = read_csv(compared.folder / "metrics/comparisons/experiments.csv")
    assert [*table["experiment"]] == ["longer", "new"]
    assert [path.read_bytes() for path in files] == contents
    assert {path: compared.read(path) for path in before} == before
    curves = compared.run("git", "show", f"{compared.experiments()['new']}:plots/history.csv")
    compared.set("seed=7")
    compared.dvc("repro", "--force", "--single-item", "--quiet", "train")
    assert compared.read("plots/history.csv").decode() == curves
