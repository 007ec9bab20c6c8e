"""On real Ray clusters of several nodes on this machine."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from fashion.errors import UserError
from tests.support.ray_cluster import end, free_port, publish, ray_cluster
from tests.support.repository import Repository
from tools.experiments.config import Resources
from tools.experiments.ray import RayBackend
from tools.experiments.ray_node import SUPERVISE, remove_stale_folders

pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-ray.txt")
GROUP = "experiments={a: {seed: 1}, b: {seed: 2}, c: {seed: 3}, d: {seed: 4}}"


@pytest.fixture
def team(repository, tmp_path):
    """A project with stub training, pushed to a Git remote and with a DVC remote, each a folder."""
    return pushed(repository, tmp_path)


def pushed(repository: Repository, folder: Path, seconds: float = 0.0) -> Repository:
    repository.stub_training(seconds)
    repository.set(GROUP, "ray={cpus: 1, gpus: 0}")
    repository.dvc("repro")
    publish(repository, folder)
    return repository


def experiments(repository: Repository) -> dict[str, str]:
    """What Git keeps of each, but for the record of the environment."""
    lines = repository.run(
        "git", "for-each-ref", "--format=%(objectname) %(refname:lstrip=4)", "refs/exps"
    ).splitlines()
    trees = {
        name: repository.run("git", "ls-tree", "-r", revision)
        for revision, name in map(str.split, lines)
    }
    return {
        name: "".join(
            line for line in tree.splitlines(keepends=True) if "environment.json" not in line
        )
        for name, tree in trees.items()
    }


def trials(home: Path) -> bool:
    """Whether a node has run any."""
    return any((home / ".cache/dvc-nodes").glob("*/files/md5/*"))


def test_trials_land_on_both_nodes_and_give_the_bytes_of_a_local_run(team, tmp_path):
    here = team.copy(tmp_path / "here")
    here.python("tools.experiments")
    with ray_cluster(tmp_path, nodes=2) as (address, homes):
        output = team.python("tools.experiments", "--ray", address)
        assert all(trials(home) for home in homes)
    assert "a: epoch 2/2" in output and set(experiments(team)) == {"a", "b", "c", "d"}
    assert experiments(team) == experiments(here)
    for name in "abcd":
        team.dvc("exp", "apply", "--quiet", name)  # with its model, which has come along
        assert team.dvc("status").strip() == "Data and pipelines are up to date."


def test_a_sweep_gives_the_trials_of_a_local_one(team, tmp_path):
    space = "{train.learning_rate: {low: 0.001, high: 0.1, log: true}}"
    settings = "metric: val_loss, trials: 2, jobs: 1, seed: 1, sampler: tpe, prune: false"
    team.set(f"sweeps={{small: {{{settings}, space: {space}}}}}")
    team.commit("A sweep")
    team.run("git", "push", "--quiet", "origin", "main")
    here = team.copy(tmp_path / "here")
    native = {"ONEDNN_MAX_CPU_ISA": "DEFAULT"}  # which the nodes' own environment does not say
    here.python("tools.experiments.sweep", **native)
    with ray_cluster(tmp_path, nodes=2) as (address, _):
        team.python("tools.experiments.sweep", "--ray", address, **native)
    assert "native arithmetic" in team.read("metrics/sweeps.csv").decode()
    assert set(experiments(team)) == {"sweep-small-000", "sweep-small-001"}
    assert experiments(team) == experiments(here)
    assert team.read("metrics/sweep-small.csv") == here.read("metrics/sweep-small.csv")


def test_resources_that_no_node_has_are_told(team, tmp_path):
    team.set("ray={cpus: 2, gpus: 1}")
    team.commit("More")
    team.run("git", "push", "--quiet", "origin", "main")
    with ray_cluster(tmp_path, nodes=1) as (address, _):
        output = team.python("tools.experiments", "--ray", address, status=1)
    assert (
        "no node of the cluster has the 2 CPUs and 1 GPUs" in output
        and "The nodes have: 1 CPUs, 0 GPUs" in output
    )
    assert experiments(team) == {}


def test_all_that_a_task_has_started_ends_with_it():
    words = [sys.executable, "-c", SUPERVISE, "sh", "-c", "sleep 1000 & echo begun; sleep 1000"]
    task = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert task.stdout.readline() == b"begun\n"
    task.kill()  # as Ray does, to the children of a worker that it ends, but not to theirs
    task.stdin.close()
    assert task.stdout.read() == b""  # when all who could write there are gone
    task.wait()


def test_what_killed_tasks_left_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ended = subprocess.Popen(["true"])
    ended.wait()
    for folder in (f"trial-{ended.pid}-x", f"trial-{os.getpid()}-x", "trial"):
        (tmp_path / folder / "clone").mkdir(parents=True)
    remove_stale_folders()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trial", f"trial-{os.getpid()}-x"]


def test_a_node_killed_in_the_middle_costs_only_time(repository, tmp_path):
    team = pushed(repository, tmp_path, seconds=4)
    here = team.copy(tmp_path / "here")
    with ray_cluster(tmp_path, nodes=3) as (address, homes), (tmp_path / "output").open("w") as log:
        words = [sys.executable, "-m", "tools.experiments", "--ray", address]
        process = subprocess.Popen(words, cwd=team.folder, env=team.env(), stdout=log, stderr=log)
        last = list(homes)[-1]
        while not trials(last):
            assert process.poll() is None, (tmp_path / "output").read_text()
            time.sleep(0.1)
        end(homes[last])
        assert process.wait(180) == 0, (tmp_path / "output").read_text()
    here.python("tools.experiments")
    assert experiments(team) == experiments(here)


def test_a_trial_that_fails_by_itself_is_told_and_not_tried_again(team, tmp_path):
    path = team.folder / "stages/train.py"
    path.write_text(
        path.read_text()
        + "\nif params['seed'] == 3:\n    raise SystemExit('train: not this seed')\n"
    )
    team.commit("It can't stand 3")
    team.run("git", "push", "--quiet", "origin", "main")
    with ray_cluster(tmp_path, nodes=2) as (address, _):
        output = team.python("tools.experiments", "--ray", address, status=1)
    assert "c failed. Its last lines:" in output and output.count("| train: not this seed") == 1
    assert set(experiments(team)) == {"a", "b", "d"}


def test_ending_the_head_ends_the_tasks(repository, tmp_path):
    team = pushed(repository, tmp_path, seconds=60)
    with ray_cluster(tmp_path, nodes=2) as (address, _), (tmp_path / "output").open("w") as log:
        words = [sys.executable, "-m", "tools.experiments", "--ray", address]
        process = subprocess.Popen(words, cwd=team.folder, env=team.env(), stdout=log, stderr=log)
        while "a: train" not in (tmp_path / "output").read_text():
            assert process.poll() is None, (tmp_path / "output").read_text()
            time.sleep(0.1)
        assert trainings()
        process.send_signal(signal.SIGKILL)
        process.wait()
        deadline = time.monotonic() + 60
        while trainings() and time.monotonic() < deadline:
            time.sleep(0.5)
        assert not trainings()


def trainings() -> list[psutil.Process]:
    """Processes that work in a trial's clone."""
    return [one for one in psutil.process_iter(["cwd"]) if "/trial-" in (one.info["cwd"] or "")]


def test_a_wrong_address_is_told_before_anything_starts(team):
    output = team.python("tools.experiments", "--ray", f"127.0.0.1:{free_port()}", status=1)
    assert (
        output.startswith("experiments: no Ray cluster answers at 127.0.0.1:")
        and "ray start --head" in output
    )
    assert "no Ray cluster answers at nonsense" in team.python(
        "tools.experiments", "--ray", "nonsense", status=1
    )


def test_that_ray_is_not_installed_is_told_before_anything_starts(monkeypatch):
    monkeypatch.setattr("tools.experiments.ray.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"Ray is not installed.*requirements-ray\.txt"):
        RayBackend("127.0.0.1:6379", Resources(cpus=1, gpus=0))


@pytest.mark.parametrize(
    ("commands", "message"),
    [
        (["git remote remove origin"], "there is no Git remote origin"),
        (["git commit --quiet --allow-empty -m new"], "does not have commit"),
        (["touch stages/new.py", "git add stages/new.py"], "changes that are not committed"),
        ([f"{sys.executable} -m dvc config --unset core.remote", "git commit --quiet -am x",
          "git push --quiet origin main"],
         ".dvc/config names no default DVC remote"),
    ],
)  # fmt: skip
def test_what_nodes_could_not_reach_is_told_before_anything_starts(team, commands, message):
    for command in commands:
        team.run(*command.split())
    output = team.python("tools.experiments", "--ray", "127.0.0.1:1", status=1)
    assert message in output and "Traceback" not in output
