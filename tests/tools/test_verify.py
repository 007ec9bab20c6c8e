import hashlib
import json
import sys
from contextlib import nullcontext

import pytest
import yaml

from fashion.environment import PORTABLE
from fashion.errors import UserError
from tools.gate import verify

pytestmark = pytest.mark.xdist_group(__name__)  # so that what they share is made once


@pytest.fixture(scope="module")
def compared_once(compared, tmp_path_factory):
    """A committed project with its experiments' table, quick to rebuild."""
    repository = compared(tmp_path_factory.mktemp("verified"))
    metrics = yaml.safe_load(repository.read("gate.yaml"))["metrics"]
    noise = {"runs": 10, "metrics": {name: {"mean": 0.5, "std": 0.01} for name in metrics}}
    (repository.folder / "metrics/noise.json").write_text(json.dumps(noise))
    repository.commit("The table, and made-up noise")
    return repository


def test_a_commit_that_rebuilds_to_the_byte_is_verified_and_nothing_here_changes(compared_once):
    before, status = compared_once.results(), compared_once.run("git", "status", "--short")
    output = compared_once.python("tools.gate.verify")
    assert "outputs are equal to the byte" in output
    for path in (
        "data/prepared",
        "models/model.keras",
        "metrics/test.json",
        "plots/loss.png",
        "metrics/experiments.csv",
    ):
        assert any(path in line and "✓ equal" in line for line in output.splitlines()), path
    assert compared_once.results() == before
    assert compared_once.run("git", "status", "--short") == status
    assert not list((compared_once.folder / ".dvc/tmp").glob("verify-*"))


def claim(repository, tmp_path, accuracy: float, cpu: str | None = None):
    """Make a clone whose last commit claims another test accuracy, by so much less.

    Maybe it claims another processor as well.
    """
    other = type(repository)(tmp_path / "project")
    repository.run("git", "clone", "--quiet", ".", str(other.folder))
    scores, lock = other.folder / "metrics/test.json", other.folder / "dvc.lock"
    before, values = (
        hashlib.md5(scores.read_bytes(), usedforsecurity=False).hexdigest(),
        json.loads(scores.read_text()),
    )
    scores.write_text(json.dumps(values | {"accuracy": values["accuracy"] - accuracy}))
    lock.write_text(
        lock.read_text().replace(
            before, hashlib.md5(scores.read_bytes(), usedforsecurity=False).hexdigest()
        )
    )
    if cpu:
        recorded = other.folder / "metrics/environment.json"
        recorded.write_text(json.dumps(json.loads(recorded.read_text()) | {"cpu": cpu}))
    other.commit("Another claim")
    return other


def test_another_result_in_another_environment_is_the_same_within_noise(compared_once, tmp_path):
    output = claim(compared_once, tmp_path, 0.0001, cpu="another").python(
        "tools.gate.verify", status=3
    )
    assert (
        "1 of 16 outputs differ from the committed ones because of the machine"
        " or its packages (cpu)" in output
    )
    assert (
        output.splitlines()[-1].endswith("; the metrics agree within noise.")
        and "cpu: another ->" in output
    )
    assert any(
        "metrics/test.json" in line and "✗ different" in line for line in output.splitlines()
    )
    assert "Traceback" not in output


def test_native_arithmetic_is_told_beside_the_hashes(compared_once, tmp_path, monkeypatch, capsys):
    other = compared_once.copy(tmp_path / "rebuilt")
    for path in ("metrics/train.json", "dvc.lock"):
        text = other.read(path).decode()
        named = (
            text.replace("}", ', "arithmetic": "native arithmetic (aarch64)"}')
            if path.endswith("json")
            else text
        )
        (other.folder / path).write_text(named.replace("md5: ", "md5: 0"))
    monkeypatch.chdir(compared_once.folder)
    monkeypatch.setattr(verify, "rebuilt", lambda commit: nullcontext(other.folder))
    monkeypatch.setattr(verify, "environment_here", lambda: {"system": "Linux aarch64"})
    monkeypatch.setattr(sys, "argv", ["verify"])
    assert verify.main() == 3
    output = capsys.readouterr().out
    assert (
        "| rebuilt, native arithmetic (aarch64)" in output
        and "because of the machine or its packages" in output
    )


@pytest.mark.parametrize(
    ("accuracy", "cpu", "said"),
    [
        (0.0001, None, "in the recorded environment every byte should be equal"),
        (0.3, None, "Further apart than noise explains"),
        (-0.3, "another", "Further apart than noise explains"),
    ],
)
def test_anything_else_is_not_reproduced(
    compared_once, tmp_path, accuracy, cpu, said, monkeypatch, capsys
):
    """With the project as it stands for the rebuild that gave the same as ever."""
    monkeypatch.chdir(claim(compared_once, tmp_path, accuracy, cpu).folder)
    monkeypatch.setattr(verify, "rebuilt", lambda commit: nullcontext(compared_once.folder))
    monkeypatch.setattr(sys, "argv", ["verify"])
    with pytest.raises(UserError, match="was not reproduced") as error:
        verify.main()
    assert said in f"{capsys.readouterr().out}{error.value}"


def test_only_threads_that_change_bytes_make_another_environment(compared_once, monkeypatch):
    monkeypatch.chdir(compared_once.folder)
    for name in (*PORTABLE, "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("TF_NUM_INTEROP_THREADS", "7")
    assert verify.other_environment("HEAD") == {}
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "7")
    found = verify.other_environment("HEAD")
    assert found == {"settings.TF_NUM_INTRAOP_THREADS": ("1", "7")}


def test_a_missing_revision_is_named(compared_once):
    assert "there is no revision nowhere" in compared_once.python(
        "tools.gate.verify", "nowhere", status=1
    )
