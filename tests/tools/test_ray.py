"""Experiments on a real Ray cluster of several nodes on this machine."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from fashion.core.errors import UserError
from tests.support.commands import TIMEOUT, begin, call, refusal, typed
from tests.support.faulty_server import faulty_server
from tests.support.ray_cluster import end, free_port, publish, ray_cluster, ray_node
from tests.support.repository import Repository
from tools.dvc import cached_file, lock_at, output_hashes
from tools.experiments import sweep
from tools.experiments.__main__ import main
from tools.experiments.config import Resources
from tools.experiments.ray import RayBackend
from tools.experiments.ray_node import remove_stale_folders, run_on_node
from tools.git import CLONE_OPTIONS

if not os.environ.get("CI"):  # where Ray must be installed
    pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements/ray.txt")

pytestmark = pytest.mark.slow
GROUP = "experiments={a: {seed: 1}, b: {seed: 2}, c: {seed: 3}}"
SLOW = 0.5  # seconds an epoch, so that a node can be killed in one


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Yield the address of a cluster of two nodes, their homes, and the second node's process.

    The second claims a GPU. The last test with this fixture kills it.
    """
    folder = tmp_path_factory.mktemp("cluster")
    with (
        ray_cluster(folder, 1) as (address, homes),
        ray_node(folder / "second", f"--address={address}", "--num-gpus=1") as second,
    ):
        yield address, [*homes, folder / "second"], second


@pytest.fixture
def team(toy, tmp_path) -> Repository:
    """Return a project of three experiments with a Git remote and a DVC remote, each a folder."""
    toy.set(GROUP, "ray={cpus: 1, gpus: 0}")
    publish(toy, tmp_path)
    return toy


def push(team: Repository, message: str) -> None:
    team.commit(message)
    team.run("git", "push", "--quiet", "origin", "main")


def experiments(repository: Repository) -> dict[str, str]:
    """Return the files that Git keeps of each experiment."""
    files = ("ls-tree", "-r", "--full-tree")
    return {
        name: repository.run("git", *files, at) for name, at in repository.experiments().items()
    }


def has_worked(home: Path, team: Repository) -> bool:
    """Return whether a node has run a trial of the project."""
    project = str(team.folder.parent / "git").strip("/").replace("/", "-")
    return any((home / ".cache/dvc-nodes" / project).glob("files/md5/*"))


def trainings(homes: list[Path]) -> list[psutil.Process]:
    """Return the processes of the nodes that work in a trial's clone."""
    found = []
    for process in psutil.process_iter(["cwd"]):
        with suppress(psutil.Error):
            if "/trial-" in (process.info["cwd"] or ""):
                found += [process] if Path(process.environ().get("HOME", "/")) in homes else []
    return found


def assert_no_trainings(homes: list[Path]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while trainings(homes) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not trainings(homes)


def test_a_sweep_gives_the_trial_of_a_local_one(team, tmp_path, cluster):
    address, homes, _ = cluster
    space = {"train.learning_rate": {"low": 0.001, "high": 0.1, "log": True}}
    small = {"metric": "val_loss", "trials": 1, "jobs": 1, "seed": 1, "sampler": "tpe"}
    sweeps = {"small": small | {"prune": False, "space": space}}
    team.set(f"sweeps={json.dumps(sweeps)}", "arithmetic=native", "ray={cpus: 1, gpus: 1}")
    push(team, "A sweep")
    here = team.copy(tmp_path / "here")
    call(sweep.main, here.folder)
    team.python("tools.experiments.sweep", "--ray", address)
    assert [has_worked(home, team) for home in homes] == [False, True]  # which has the GPU
    assert "native arithmetic" in team.read("metrics/sweeps.csv").decode()
    assert set(experiments(team)) == {"sweep-small-000"}
    assert experiments(team) == experiments(here)
    assert team.read("metrics/sweeps/small.csv") == here.read("metrics/sweeps/small.csv")


def test_the_scarcest_resource_decides_and_a_pruned_trial_ends(team, cluster):
    address, homes, _ = cluster
    team.slow_training(SLOW)
    push(team, "Slow")
    program = f"""
from tools.experiments.backend import ExperimentSpec
from tools.experiments.ray import RayBackend, Resources
from tools.experiments.runner import run_parallel
backend = RayBackend("{address}", Resources())
def should_prune(run):
    if run.spec.name == "short" or not run.history:
        return False
    for cpus, gpus in ((0.5, 0), (1, 1), (1, 0.5), (1, 0)):
        backend.wanted = {{"CPU": cpus, "GPU": gpus}}
        print("room for", backend.capacity)
    return True
specs = [ExperimentSpec("pruned", {{"train.epochs": 1000}}), ExperimentSpec("short")]
run_parallel(specs, backend, should_prune=should_prune)
"""
    output = team.run(sys.executable, "-c", program)
    assert re.findall(r"room for (\d)", output) == ["4", "1", "1", "2"]
    assert "pruned: pruned" in output and set(experiments(team)) == {"short"}
    assert_no_trainings(homes)
    team.set("ray={cpus: 2, gpus: 1}")
    push(team, "More")
    output = team.python("tools.experiments", "--ray", address, status=1)
    assert "no node of the cluster has the 2 CPUs and 1 GPUs" in output
    nodes = output.partition("The nodes have: ")[2].strip().split("; ")
    assert sorted(nodes) == ["1 CPUs and 0 GPUs", "1 CPUs and 1 GPUs"]


def test_a_killed_command_ends_its_tasks(team, cluster):
    address, homes, _ = cluster
    team.slow_training(60)
    push(team, "Slow")
    with begin(team, "tools.experiments", "--ray", address) as command:
        command.wait_for_line("a: train")
        assert trainings(homes)
        command.process.send_signal(signal.SIGKILL)
        command.wait()
        assert_no_trainings(homes)


def test_a_dying_node_costs_only_time_and_a_failing_trial_is_not_retried(team, cluster):
    address, homes, second = cluster
    team.slow_training(SLOW)
    path = team.folder / "stages/train.py"
    refuse = "\nif params['seed'] == 4:\n    raise SystemExit('train: not this seed')\n"
    path.write_text(path.read_text() + refuse)
    team.set("experiments={a: {seed: 1}, b: {seed: 2}, d: {seed: 4}}")
    push(team, "Slow, and it refuses a seed")
    with begin(team, "tools.experiments", "--ray", address) as command:
        command.wait_until(lambda: has_worked(homes[1], team))
        end(second)
        assert command.wait() == 1, command.output
    assert "a: epoch 2/2" in command.output
    assert "d failed. Its last lines:" in command.output
    assert command.output.count("| train: not this seed") == 1
    assert set(team.experiments()) == {"a", "b"}
    with typed(team.folder):  # the models have come along
        locks = [lock_at(revision) for revision in team.experiments().values()]
        models = [cached_file(output_hashes(lock)["models/model.keras"]) for lock in locks]
    assert all(model.exists() for model in models) and len({*models}) == 2


def test_folders_of_killed_tasks_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ended = subprocess.Popen(["true"])
    ended.wait()
    for folder in (f"trial-{ended.pid}-x", f"trial-{os.getpid()}-x", "trial"):
        (tmp_path / folder / "clone").mkdir(parents=True)
    remove_stale_folders()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trial", f"trial-{os.getpid()}-x"]


def test_a_refused_push_is_retried_and_git_settings_of_the_node_have_no_effect(
    tmp_path, monkeypatch
):
    """Put a DVC into the project whose first two pushes fail, as if another run pushed as well."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    pushes = tmp_path / "pushes"
    project = Repository(tmp_path / "project")
    (project.folder / ".dvc").mkdir(parents=True)
    (project.folder / ".dvc/config").touch()
    (project.folder / "dvc.py").write_text(f"""import sys
print(*sys.argv[1:])
if "push" in sys.argv:
    with open({str(pushes)!r}, "a+") as file:
        print(file=file)
        file.seek(0)
        sys.exit(len(file.readlines()) <= 2)
""")
    project.run("git", "init", "--quiet")
    project.commit("A DVC that refuses")
    settings = f"[core]\n attributesFile = {tmp_path}/attributes\n"  # of the node's user
    settings += '[filter "fails"]\n smudge = false\n required = true\n'
    (tmp_path / "gitconfig").write_text(settings)
    (tmp_path / "attributes").write_text("* filter=fails\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    options = " ".join(CLONE_OPTIONS)
    lines = list(run_on_node("a", str(project.folder), "HEAD", ["--name", "a"], options))
    assert lines == ["exp run --pull --name a\n", *3 * ["exp push --force origin a\n"], 0]


def test_what_a_cluster_lacks_is_refused_before_anything_starts(team, monkeypatch):
    port = free_port()
    with faulty_server({}) as url:
        for address in (f"127.0.0.1:{port}", "nonsense", url.removeprefix("http://")):
            message = refusal(main, team.folder, "--ray", address)
            assert f"no Ray cluster answers at {address}" in message
            assert "ray start --head" in message
    assert "another server does" in message
    team.set("seed=7")  # tests/test_remedies.py tries the other reasons
    assert "uncommitted changes" in refusal(main, team.folder, "--ray", f"127.0.0.1:{port}")
    monkeypatch.setattr("tools.experiments.ray.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"Ray is not installed.*requirements/ray\.txt"):
        RayBackend("127.0.0.1:6379", Resources())
