"""How a team shares: one clone pushes what it made, another gets it without training."""

import asyncio
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest

from tests.support.repository import Repository


@pytest.fixture
def ssh_server(tmp_path) -> Iterator[tuple[int, Path]]:
    """Run an SSH server with SFTP on loopback. Yield its port, and the key that it lets in."""
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


@pytest.fixture(params=["folder", "ssh"])
def remote(request, tmp_path) -> tuple[str, dict[str, str]]:
    """A DVC remote: its address, and what each clone must set to reach it."""
    (tmp_path / "remote").mkdir()
    if request.param == "folder":
        return str(tmp_path / "remote"), {}
    port, key = request.getfixturevalue("ssh_server")
    address = f"ssh://me@127.0.0.1:{port}{tmp_path / 'remote'}"
    return address, {"keyfile": str(key), "allow_agent": "false"}


def test_what_one_clone_pushes_another_gets_without_training(compared, remote, tmp_path):
    address, access = remote
    shared = str(tmp_path / "shared.git")
    compared.run("git", "init", "--quiet", "--bare", "--initial-branch=main", shared)
    compared.run("git", "remote", "add", "origin", shared)
    compared.dvc("remote", "add", "--default", "team", address)
    compared.commit("Our DVC remote")
    allow(compared, access)
    # what this one leaves is in the cache
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

    stranger = Repository(tmp_path)  # in no clone at all
    access_given = [f"--remote-config={name}={value}" for name, value in access.items()]
    stranger.dvc("get", shared, "models/model.keras", "--out", "alone.keras", *access_given)
    assert stranger.read("alone.keras") == compared.read("models/model.keras")


def allow(repository: Repository, access: dict[str, str]) -> None:
    for name, value in access.items():
        repository.dvc("remote", "modify", "--local", "team", name, value)


def test_two_branches_that_both_change_a_param_become_one(compared):
    """As docs/experiments.md shows it. The pictures and metrics in conflict are made again."""
    compared.commit("The comparison")
    compared.run("git", "switch", "--quiet", "--create", "theirs")
    for branch, param in (("theirs", "train.epochs=3"), ("main", "train.batch_size=64")):
        compared.run("git", "switch", "--quiet", branch)
        compared.dvc("checkout", "--quiet")
        compared.set("train.epochs=4", param)  # a line in conflict, with the next one
        compared.dvc("repro")
        compared.commit(param)
    conflicts = compared.run("git", "merge", "theirs", status=1)
    for path in ("params.yaml", "dvc.lock", "metrics/train.json", "plots/loss.png"):
        assert f"Merge conflict in {path}" in conflicts
    refused = compared.python("tools.rebuild", status=1)
    assert "the merge left conflicts in params.yaml. Settle" in refused
    compared.run("git", "checkout", "--ours", "params.yaml")
    compared.set("train.epochs=3")
    compared.run("git", "add", "params.yaml")
    last = compared.python("tools.rebuild").splitlines()[-1]
    compared.run(*re.search("`(git add .*?)`", last)[1].split())
    compared.run("git", "commit", "--quiet", "--no-edit")
    assert compared.run("git", "status", "--porcelain") == ""
    assert compared.dvc("status").strip() == "Data and pipelines are up to date."
    assert "equal to the byte" in compared.python("tools.gate.verify", status=None)


@pytest.mark.parametrize(
    "rewrite",
    [
        ("commit", "--quiet", "--amend", "--allow-empty", "--message", "Another message"),
        ("rebase", "--quiet", "--onto", "HEAD~2", "HEAD~1"),
    ],
)
def test_after_history_is_rewritten_experiments_are_made_again_from_the_run_cache(
    compared, rewrite
):
    compared.commit("The comparison")
    (compared.folder / "notes.txt").write_text("in between")
    compared.commit("Notes")
    compared.run("git", "commit", "--quiet", "--allow-empty", "--message", "An idea")
    compared.python("tools.experiments")
    compared.run("git", *rewrite)
    output = compared.python("tools.experiments")
    for name in ("short", "longer"):
        assert f"{name}: completed" in output and f"{name}: train" not in output
