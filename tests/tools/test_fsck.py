import os
from pathlib import Path

import pytest
import yaml


def md5_of(repository, path: str) -> str:
    stages = yaml.safe_load(repository.read("dvc.lock"))["stages"]
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


def test_where_all_is_whole_it_says_nothing_and_changes_nothing(repository):
    before = repository.results()
    assert repository.python("tools.fsck", "--all") == ""
    assert repository.results() == before
    assert repository.dvc("status").strip() == "Data and pipelines are up to date."


def test_damage_that_dvc_hands_on_unseen_is_found_and_mended(repository):
    """Without fsck DVC takes a damaged model from its cache, and calls everything up to date."""
    before, md5 = repository.results(), md5_of(repository, "models/model.keras")
    flip(in_cache(repository, md5))
    (repository.folder / "models/model.keras").unlink()
    repository.dvc("repro")
    assert repository.read("models/model.keras") != before["models/model.keras"]
    assert repository.dvc("status").strip() == "Data and pipelines are up to date."

    output = repository.python("tools.fsck")
    assert f"{in_cache(repository, md5)}: damaged" in output
    assert "models/model.keras: not what dvc.lock says" in output
    repository.dvc("repro")
    assert repository.results() == before
    assert repository.python("tools.fsck", "--all") == ""


def test_a_file_in_a_folder_is_looked_at_as_well_even_if_its_time_has_not_changed(repository):
    before, path = repository.results(), repository.folder / "data/prepared/train_images.npy"
    repository.dvc("status")  # DVC remembers what it has read, by time and size
    times = path.stat()
    flip(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert repository.dvc("status").strip() == "Data and pipelines are up to date."
    assert "data/prepared/train_images.npy: not what dvc.lock says" in repository.python(
        "tools.fsck"
    )
    repository.dvc("repro")
    assert repository.results() == before


def test_what_only_the_cache_holds_is_read_with_all(repository):
    old = in_cache(repository, md5_of(repository, "models/model.keras"))
    repository.set("seed=43")
    repository.dvc("repro", "train")
    flip(old)
    assert repository.python("tools.fsck") == ""
    assert f"{old}: damaged" in repository.python("tools.fsck", "--all")
    assert not old.exists()


@pytest.mark.parametrize("name", ["data/prepared", "plots/loss.png"])
def test_make_check_fails_on_damage(repository, name):
    flip(in_cache(repository, md5_of(repository, name)))
    flip(repository.folder / ("data/prepared/test_labels.npy" if name == "data/prepared" else name))
    output = repository.python("tools.gate.check", "--baseline", "HEAD", status=None)
    assert "damaged, so it is removed" in output


def test_a_damaged_dvc_lock_and_a_folder_without_dvc_are_told_in_a_line(repository, tmp_path):
    (repository.folder / "dvc.lock").write_bytes(b"stages: [")
    output = repository.python("tools.fsck", status=1)
    assert output.startswith("fsck: dvc.lock: not YAML") and "Traceback" not in output
    (tmp_path / "elsewhere").mkdir()
    other = type(repository)(tmp_path / "elsewhere")
    output = other.python("tools.fsck", status=1, PYTHONPATH=str(repository.folder))
    assert (
        output.startswith("fsck: ") and "Traceback" not in output and len(output.splitlines()) == 1
    )
