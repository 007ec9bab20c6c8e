"""A team shares results: one clone pushes them, another gets them without training."""

import asyncio
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest

from tests.support.repository import Repository

TABLE = "metrics/comparisons/experiments.csv"


@pytest.fixture
def ssh_server(tmp_path) -> Iterator[tuple[int, Path]]:
    """Run an SSH server with SFTP on loopback. Yield its port and the key that it accepts."""
    key = tmp_path / "key"
    client, host = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    client.write_private_key(key)
    key.chmod(0o600)
    client.write_public_key(tmp_path / "authorized")
    keys = {"server_host_keys": [host], "authorized_client_keys": str(tmp_path / "authorized")}
    loop = asyncio.new_event_loop()
    listen = asyncssh.listen("127.0.0.1", 0, sftp_factory=True, **keys)
    server = loop.run_until_complete(listen)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield server.get_port(), key
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


@pytest.mark.slow
def test_another_clone_gets_pushed_results_without_training(compared, ssh_server, tmp_path):
    port, key = ssh_server
    address = f"ssh://me@127.0.0.1:{port}{tmp_path / 'remote'}"
    access = {"keyfile": str(key), "allow_agent": "false"}
    (tmp_path / "remote").mkdir()
    shared = str(tmp_path / "shared.git")
    compared.run("git", "init", "--quiet", "--bare", "--initial-branch=main", shared)
    compared.run("git", "remote", "add", "origin", shared)
    compared.dvc("remote", "add", "--default", "team", address)
    compared.commit("Our DVC remote")
    allow(compared, access)
    shorter = ("--name", "shorter", "--set-param", "train.epochs=1")
    compared.dvc("exp", "run", "--quiet", "--temp", *shorter)
    compared.run("git", "push", "--quiet", "origin", "main")
    compared.dvc("push", "--quiet")
    compared.dvc("exp", "push", "--quiet", "origin", "shorter")

    other = Repository(tmp_path / "other")
    compared.run("git", "clone", "--quiet", shared, str(other.folder))
    allow(other, access)
    assert "Running stage" not in other.dvc("repro", "--pull", FASHION_MNIST_DIR="/nowhere")
    assert other.results() == compared.results()
    other.dvc("exp", "pull", "--quiet", "origin", "shorter")
    assert "shorter" in other.dvc("exp", "show", "--csv")
    other.dvc("exp", "apply", "--quiet", "shorter")
    assert b"epochs: 1" in other.read("dvc.lock")

    stranger = Repository(tmp_path)  # outside of any clone
    access_given = [f"--remote-config={name}={value}" for name, value in access.items()]
    stranger.dvc("get", shared, "models/model.keras", "--out", "alone.keras", *access_given)
    assert stranger.read("alone.keras") == compared.read("models/model.keras")


def allow(repository: Repository, access: dict[str, str]) -> None:
    for name, value in access.items():
        repository.dvc("remote", "modify", "--local", "team", name, value)


def test_two_branches_that_change_the_same_param_are_merged(compared):
    """As docs/experiments.md shows it: `make` rebuilds the plots and metrics in conflict."""
    compared.set("experiments={short: {train.epochs: 1}}")
    compared.commit("One experiment")
    compared.run("git", "switch", "--quiet", "--create", "theirs")
    for branch, param in (("theirs", "train.epochs=3"), ("main", "train.batch_size=64")):
        compared.run("git", "switch", "--quiet", branch)
        compared.dvc("checkout", "--quiet")
        compared.set("train.epochs=4", param)  # a line in conflict, with the next one
        for path in ("metrics/noise.json", TABLE):
            (compared.folder / path).write_text(param)
        compared.dvc("repro")
        compared.commit(param)
    conflicts = compared.run("git", "merge", "theirs", status=1)
    for path in ("params.yaml", "dvc.lock", "metrics/train.json", "plots/loss.png"):
        assert f"Merge conflict in {path}" in conflicts
    refused = compared.python("tools.rebuild", status=1)
    assert "left conflicts in metrics/noise.json, params.yaml. Settle them" in refused
    compared.run("git", "checkout", "--ours", "params.yaml", "metrics/noise.json")
    compared.set("train.epochs=3")
    compared.run("git", "add", "params.yaml", "metrics/noise.json")
    last = compared.python("tools.rebuild").splitlines()[-1]
    assert compared.read(TABLE) == b"train.batch_size=64"  # ours, until the next `make`
    compared.run(*re.search("`(git add .*?)`", last)[1].split())
    compared.run("git", "commit", "--quiet", "--no-edit")
    assert compared.run("git", "status", "--porcelain") == ""
    assert compared.dvc("status").strip() == "Data and pipelines are up to date."
