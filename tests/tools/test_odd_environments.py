"""What a newcomer meets: nothing made yet, wrong arguments, another data set, linked worktrees."""

import importlib
import json
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from fashion.core.errors import UserError
from fashion.core.strict_yaml import read_yaml
from tests.support.commands import processes_in
from tests.support.repository import PROJECT, Repository
from tools import dataset, fsck, predict, rebuild
from tools.experiments import __main__ as experiments
from tools.experiments.backend import ExperimentSpec
from tools.experiments.local import LocalJob
from tools.experiments.run import ExperimentRun
from tools.experiments.runner import stop
from tools.gate import noise
from tools.git import git
from tools.report import __main__ as report
from tools.report import readme


def test_where_nothing_was_made_yet_commands_say_so(clone, call):
    made = "nothing has been made here yet"
    assert made in call(clone, fsck)
    assert "`make` trains it" in call(clone, predict, "--test", "0", status=1)
    assert clone.run("git", "status", "--porcelain") == ""


def test_the_model_of_a_revision_that_is_not_here_is_told_before_tensorflow_starts(clone):
    program = (
        "import sys\nfrom fashion.core.errors import UserError\nfrom tools.predict import load\n"
        "try:\n    load('HEAD')\nexcept UserError as error:\n"
        "    print(error, 'tensorflow' in sys.modules)"
    )
    output = clone.run(sys.executable, "-c", program)
    assert "is not in DVC's cache" in output and output.endswith("False\n")


@pytest.mark.parametrize("module", [rebuild, readme])
def test_a_command_without_arguments_refuses_any(toy, call, module):
    assert "unrecognized arguments: run-1" in call(toy, module, "run-1", status=2)
    assert toy.run("git", "status", "--porcelain") == ""


@pytest.mark.parametrize(
    ("module", "arguments", "least"),
    [
        (experiments, ["--seeds", "0"], 1),
        (experiments, ["--jobs", "two"], 1),
        (noise, ["--seeds", "4"], 5),
    ],
)
def test_a_wrong_number_is_told_in_words(toy, call, module, arguments, least):
    output = call(toy, module, *arguments, status=2)
    assert f"{arguments[1]} is not a whole number of at least {least}" in output


def test_a_folder_that_is_not_there_has_no_data_set(toy, call):
    assert "/nowhere: no such folder" in call(toy, dataset, "/nowhere", status=1)


def test_a_linked_worktree_is_a_project_of_its_own(compared):
    worktree = Repository(compared.folder.with_name("worktree"))
    compared.commit("The comparison")
    compared.run("git", "worktree", "add", "--quiet", str(worktree.folder))
    output = worktree.python("tools.rebuild")
    assert "longer: completed" in output or "longer: up to date" in output
    assert worktree.run("git", "status", "--porcelain") == ""
    assert compared.run("git", "status", "--porcelain") == ""


def test_after_a_commit_that_changes_nothing_of_them_experiments_are_not_trained_again(compared):
    """DVC's run cache has them; it keeps no stage with outs that Git keeps, or that persist."""
    compared.commit("The comparison")
    output = compared.python("tools.experiments")
    assert "longer: completed" in output and "longer: train" not in output
    stages = read_yaml(PROJECT / "dvc.yaml")["stages"]
    options = {
        (name, option)
        for name, stage in stages.items()
        for out in stage.get("outs", [])
        if name != "prepare" and isinstance(out, dict)
        for option in next(iter(out.values()))
    }
    assert not options & {(name, option) for name in stages for option in ("cache", "persist")}


def test_trials_of_a_sweep_do_not_hide_the_experiments_of_the_commit_before(compared, monkeypatch):
    compared.commit("The comparison")
    monkeypatch.chdir(compared.folder)
    kept = report.find_results([])
    commit = git("rev-parse", "HEAD").strip()
    git("update-ref", f"refs/exps/{commit[:2]}/{commit[2:]}/sweep-mlp-000", kept[0].revision)
    assert [one.name for one in report.find_results([])] == [one.name for one in kept]


def test_the_card_is_not_made_without_noise_of_these_results(clone, monkeypatch):
    monkeypatch.chdir(clone.folder)
    card = importlib.import_module("tools.report.card").card
    path = clone.folder / "metrics/noise.json"
    measured = json.loads(path.read_text())
    path.unlink()
    with pytest.raises(UserError, match="not measured yet"):
        card()
    measured["metrics"]["accuracy"][0] += 0.001
    path.write_text(json.dumps(measured))
    with pytest.raises(UserError, match="measured with other data"):
        card()


@pytest.mark.parametrize(
    ("change", "belongs"),
    [({}, True), ({"batch_size": 64}, False), ({"epochs": 9}, False), ({"steps": 50}, False)],
)
def test_the_headline_has_no_seeds_of_other_data_or_params(change, belongs):
    row = {"experiment": "a", "epochs": 5, "batch_size": 128, "steps": 2110}
    seeds = pd.DataFrame([row | {"seed": seed} for seed in (42, 43)])
    found = readme.of_these_experiments(pd.DataFrame([row | change]), seeds)
    assert len(found) == (2 if belongs else 0)


def test_a_second_interrupt_ends_experiments_at_once(tmp_path, monkeypatch):
    deaf = "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\ntime.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", deaf], cwd=tmp_path, start_new_session=True)
    run = ExperimentRun(ExperimentSpec("deaf"), job=LocalJob(process))

    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(time, "sleep", interrupted)
        stop([run])
    assert process.returncode in (-signal.SIGKILL, -signal.SIGINT)
    assert processes_in(tmp_path) == []


@pytest.mark.parametrize("cache", ["cache", "../../../Größe"])
def test_a_folder_a_cache_and_a_name_with_other_letters_than_ascii(compared, tmp_path, cache):
    folder = tmp_path / "Mein Ördner ü/Prüf Projekt"
    project = compared.copy(folder)
    (folder / ".dvc/cache").rename(folder / ".dvc" / cache)
    settings = f"[cache]\n    dir = {cache}\n"  # by hand, as `dvc cache dir` refuses such a name
    (folder / ".dvc/config.local").write_text(settings)
    project.run("git", "config", "user.name", "Jörg Müller")
    project.set("experiments={short: {train.epochs: 1}, another: {train.epochs: 2, seed: 3}}")
    project.commit("Another experiment")
    names = {f"GIT_{role}_NAME": "Jörg Müller" for role in ("AUTHOR", "COMMITTER")}
    assert "another: completed" in project.python("tools.experiments", **names)
    for module in ("tools.report", "tools.fsck"):
        project.python(module)
    output = project.python("tools.gate.check", status=None, PYTHONIOENCODING="ascii")
    assert "Traceback" not in output and output.isascii()


def test_an_experiment_whose_model_is_gone_is_run_again(compared):
    compared.dvc("gc", "--workspace", "--force")
    output = compared.python("tools.experiments")
    for name in ("short", "longer"):
        assert f"{name}: models/model.keras is not in DVC's cache any more" in output
        assert f"{name}: completed" in output
    compared.run("git", "checkout", "metrics", "plots")
    compared.dvc("exp", "apply", "longer")
    compared.dvc("gc", "--workspace", "--all-experiments", "--force")
    assert "longer: up to date" in compared.python("tools.experiments", "--only", "longer")


def test_a_shallow_clone_is_refused_before_anything_runs(compared, tmp_path):
    clone = type(compared)(tmp_path / "clone")
    compared.run("git", "clone", "-q", "--depth=1", compared.folder.as_uri(), str(clone.folder))
    output = clone.python("tools.rebuild", status=1)
    assert "shallow" in output and "Running stage" not in output


def test_make_leaves_the_experiments_of_the_commit_where_params_have_changed(compared):
    before = compared.run("git", "for-each-ref", "refs/exps")
    compared.set("train.learning_rate=0.01")
    output = compared.python("tools.rebuild")
    assert output.startswith("Not committed: train.learning_rate: 0.001 -> 0.01.")
    assert "The experiments are left as they are" in output and "test accuracy 0." in output
    assert compared.run("git", "for-each-ref", "refs/exps") == before


def test_stages_run_with_the_python_of_the_command_also_where_path_has_another(compared):
    compared.set("experiments={another: {train.epochs: 2, seed: 5}}")
    compared.commit("Another experiment")
    output = compared.python("tools.experiments", PATH="/usr/bin:/bin")
    assert "another: completed" in output
