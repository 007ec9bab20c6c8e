"""On a real Ray cluster of several nodes on this machine."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from fashion.core.errors import UserError
from tests.support.commands import TIMEOUT, begin, call, refusal
from tests.support.ray_cluster import end, free_port, publish, ray_cluster, ray_node
from tests.support.repository import Repository
from tools.experiments import sweep
from tools.experiments.__main__ import main
from tools.experiments.config import Resources
from tools.experiments.ray import RayBackend
from tools.experiments.ray_node import SUPERVISE, remove_stale_folders, run_on_node

if not os.environ.get("CI"):  # which must have it
    pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements/ray.txt")

GROUP = "experiments={a: {seed: 1}, b: {seed: 2}, c: {seed: 3}}"
SLOW = 0.5  # seconds an epoch, so that a node can be killed in one


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """The address of a cluster of two nodes, which no test ends, and their homes.

    The head claims a GPU.
    """
    folder = tmp_path_factory.mktemp("cluster")
    with ray_cluster(folder, 2, "--num-gpus=1") as address_and_homes:
        yield address_and_homes


@pytest.fixture
def team(toy, tmp_path) -> Repository:
    """A project of three experiments with a Git remote and a DVC remote, each a folder."""
    toy.set(GROUP, "ray={cpus: 1, gpus: 0}")
    publish(toy, tmp_path)
    return toy


def push(team: Repository, message: str) -> None:
    team.commit(message)
    team.run("git", "push", "--quiet", "origin", "main")


def experiments(repository: Repository) -> dict[str, str]:
    """What Git keeps of each."""
    files = ("ls-tree", "-r", "--full-tree")
    return {
        name: repository.run("git", *files, at) for name, at in repository.experiments().items()
    }


def has_worked(home: Path, team: Repository) -> bool:
    """Whether a node has run a trial of the project."""
    project = str(team.folder.parent / "git").strip("/").replace("/", "-")
    return any((home / ".cache/dvc-nodes" / project).glob("files/md5/*"))


def trainings(homes: list[Path]) -> list[psutil.Process]:
    """Processes of the nodes that work in a trial's clone."""
    found = []
    for process in psutil.process_iter(["cwd"]):
        with suppress(psutil.Error):
            if "/trial-" in (process.info["cwd"] or ""):
                found += [process] if Path(process.environ().get("HOME", "/")) in homes else []
    return found


def test_trials_land_on_all_nodes_and_one_killed_in_the_middle_costs_only_time(
    team, tmp_path, cluster
):
    address, homes = cluster
    team.slow_training(SLOW)
    push(team, "Slow")
    here, third = team.copy(tmp_path / "here"), tmp_path / "third"
    call(main, here.folder)
    with (
        ray_node(third, f"--address={address}") as node,
        begin(team, "tools.experiments", "--ray", address) as command,
    ):
        command.wait_until(lambda: all(has_worked(home, team) for home in (*homes, third)))
        end(node)
        assert command.wait() == 0, command.output
    assert "a: epoch 2/2" in command.output
    assert experiments(team) == experiments(here)
    for name in "abc":
        team.dvc("exp", "apply", "--quiet", name)  # with its model, which has come along
        assert team.dvc("status").strip() == "Data and pipelines are up to date."


def test_a_sweep_gives_the_trials_of_a_local_one(team, tmp_path, cluster):
    address, _ = cluster
    space = "{train.learning_rate: {low: 0.001, high: 0.1, log: true}}"
    settings = "metric: val_loss, trials: 2, jobs: 1, seed: 1, sampler: tpe, prune: false"
    team.set(f"sweeps={{small: {{{settings}, space: {space}}}}}")
    push(team, "A sweep")
    here = team.copy(tmp_path / "here")
    native = {"ARITHMETIC": "native"}  # which the nodes' own environment does not say
    call(sweep.main, here.folder, **native)
    team.python("tools.experiments.sweep", "--ray", address, **native)
    assert "native arithmetic" in team.read("metrics/sweeps.csv").decode()
    assert set(experiments(team)) == {"sweep-small-000", "sweep-small-001"}
    assert experiments(team) == experiments(here)
    assert team.read("metrics/sweeps/small.csv") == here.read("metrics/sweeps/small.csv")


def test_the_scarcest_resource_says_how_many_run_at_a_time_and_too_much_is_refused(team, cluster):
    address, _ = cluster
    ask = f"""
from tools.experiments.ray import RayBackend, Resources
for cpus, gpus in ((1, 0), (0.5, 0), (1, 1), (1, 0.5)):
    with RayBackend("{address}", Resources(cpus=cpus, gpus=gpus)) as backend:
        print("room for", backend.capacity)
"""
    rooms = [line for line in team.run(sys.executable, "-c", ask).splitlines() if "room" in line]
    assert rooms == [f"room for {n}" for n in (2, 4, 1, 1)]
    team.set("ray={cpus: 2, gpus: 1}")
    push(team, "More")
    output = team.python("tools.experiments", "--ray", address, status=1)
    assert "no node of the cluster has the 2 CPUs and 1 GPUs" in output
    nodes = output.partition("The nodes have: ")[2].strip().split("; ")
    assert sorted(nodes) == ["1 CPUs and 0 GPUs", "1 CPUs and 1 GPUs"]
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


@pytest.mark.parametrize(
    ("refusals", "status", "retrain"), [(2, 0, []), (3, 1, ["--force", "--downstream", "train"])]
)
def test_a_refused_push_is_tried_again(tmp_path, monkeypatch, refusals, status, retrain):
    """With a DVC whose first pushes end as where Git finds another value than it has just read."""
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
        sys.exit(len(file.readlines()) <= {refusals})
""")
    project.run("git", "init", "--quiet")
    project.commit("With a DVC of its own")
    arguments = ["--name", "a", *retrain]
    *lines, last = run_on_node("a", str(project.folder), "HEAD", arguments, {})
    run = f"exp run --pull {' '.join(arguments)}\n"
    before = ["pull --quiet prepare\n"] if retrain else []
    assert lines == [*before, run, *3 * ["exp push --force origin a\n"]] and last == status


def test_a_trial_that_fails_by_itself_is_told_and_not_tried_again(team, cluster):
    address, _ = cluster
    path = team.folder / "stages/train.py"
    path.write_text(
        path.read_text()
        + "\nif params['seed'] == 3:\n    raise SystemExit('train: not this seed')\n"
    )
    push(team, "It can't stand 3")
    output = team.python("tools.experiments", "--ray", address, status=1)
    assert "c failed. Its last lines:" in output and output.count("| train: not this seed") == 1
    assert set(experiments(team)) == {"a", "b"}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_ending_the_head_ends_the_tasks(team, cluster, number):
    address, homes = cluster
    team.slow_training(60)
    push(team, "Slow")
    with begin(team, "tools.experiments", "--ray", address) as command:
        command.wait_for_line("a: train")
        assert trainings(homes)
        command.process.send_signal(number)
        command.wait()
        deadline = time.monotonic() + TIMEOUT
        while trainings(homes) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not trainings(homes)


def test_uncommitted_changes_and_a_wrong_address_are_refused_before_anything_starts(team):
    port = free_port()
    for address in (f"127.0.0.1:{port}", "nonsense"):
        message = refusal(main, team.folder, "--ray", address)
        assert f"no Ray cluster answers at {address}" in message and "ray start --head" in message
    team.set("seed=7")  # tests/test_remedies.py has what else nodes could not reach
    assert "uncommitted changes" in refusal(main, team.folder, "--ray", f"127.0.0.1:{port}")


def test_that_ray_is_not_installed_is_told_before_anything_starts(monkeypatch):
    monkeypatch.setattr("tools.experiments.ray.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"Ray is not installed.*requirements/ray\.txt"):
        RayBackend("127.0.0.1:6379", Resources(cpus=1, gpus=0))
