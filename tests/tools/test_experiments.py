import re
import shutil
import signal
from pathlib import Path

import pandas as pd
import psutil
import pytest

from fashion.core.strict_yaml import read_yaml
from tests.support.commands import begin, call, processes_in, refusal
from tests.support.repository import PROJECT, Repository
from tools.experiments.__main__ import main

LONG = [
    "experiments={first: {train.epochs: 3000}, second: {train.epochs: 1}, third: {train.epochs: 2}}"
]


def references(repository) -> str:
    return repository.run("git", "for-each-ref")


def kept(repository) -> set[str]:
    return {
        line.rsplit("/", 1)[1]
        for line in references(repository).splitlines()
        if "refs/exps/" in line
    }


def revision(repository, name: str) -> str:
    return next(
        line.split()[0] for line in references(repository).splitlines() if line.endswith(f"/{name}")
    )


def clones(repository) -> list[Path]:
    return list((repository.folder / ".dvc/tmp/experiments").glob("clones-*"))


@pytest.fixture(scope="session")
def output(built_comparison) -> str:
    """What was printed when the two small experiments ran."""
    return (built_comparison / "output").read_text()


@pytest.fixture
def running(toy):
    """Put `experiments` to work, the first of them in training, which would go on for minutes."""
    toy.slow_training(0.1)
    toy.set(*LONG)
    toy.commit("A long experiment")
    with begin(toy, "tools.experiments", "--jobs", "2") as command:
        command.wait_for_line("first: epoch")
        yield command


def test_each_becomes_an_experiment_with_the_same_bytes_as_by_hand(compared):
    assert kept(compared) == {"short", "longer"}
    table = pd.read_csv(compared.folder / "metrics/experiments.csv")
    assert table["experiment"].tolist() == ["short", "longer"]
    # 1,000 training images in batches of 32 and of 64
    assert table["steps"].tolist() == [32, 3 * 16]
    longer = revision(compared, "longer")
    by_git = {
        path: compared.run("git", "show", f"{longer}:{path}")
        for path in ("dvc.lock", "metrics/test.json")
    }
    compared.dvc("exp", "run", "-S", "train.epochs=3", "-S", "train.batch_size=64", "--force")
    assert {path: compared.read(path).decode() for path in by_git} == by_git


def test_data_is_not_made_again_for_an_experiment(output):
    assert "longer: train" in output and "longer: prepare" not in output
    assert "Running stage" not in output


def test_each_epoch_and_the_end_are_told(output):
    line = r"^longer: epoch (\d)/3, validation accuracy (0\.\d{4})$"
    found = [(int(at), float(value)) for at, value in re.findall(line, output, re.MULTILINE)]
    assert [at for at, _ in found] == [1, 2, 3]
    # the toy model approaches 0.9, by half of the way in each epoch, and is right where
    # 0.9 times the image's difficulty and 0.1 times chance are below that
    expected = [(0.9 * (1 - 0.5**at) - 0.05) / 0.9 for at in (1, 2, 3)]
    assert [value for _, value in found] == pytest.approx(expected, abs=0.03)
    assert re.search(r"^longer: completed after \d+ s$", output, re.MULTILINE)


def test_the_longest_is_started_first(output):
    begun = [
        line.split(":")[0]
        for line in output.splitlines()
        if line.endswith((": train", ": starting", "epoch 1/3", "epoch 1/1"))
    ]
    assert begun[0] == "longer"


def test_a_second_call_runs_nothing_and_changes_nothing(compared):
    before, results = references(compared), compared.results()
    output = call(main, compared.folder)
    assert (
        "short: up to date" in output
        and "longer: up to date" in output
        and "epoch 1/" not in output
    )
    assert references(compared) == before and compared.results() == results


def test_a_changed_experiment_runs_again_and_the_others_do_not(compared):
    before = revision(compared, "short"), revision(compared, "longer")
    compared.set(
        "experiments={short: {train.epochs: 1}, longer: {train.epochs: 2, train.batch_size: 64}}"
    )
    output = call(main, compared.folder)
    assert "short: up to date" in output and "longer: epoch 2/2" in output
    assert revision(compared, "short") == before[0] and revision(compared, "longer") != before[1]


def test_only_the_chosen_ones_run_and_the_table_stays(compared):
    before = compared.results()
    compared.set("experiments={short: {train.epochs: 1}, other: {train.epochs: 1, seed: 7}}")
    output = call(main, compared.folder, "--only", "other")
    assert (
        "other: train" in output
        and "short:" not in output
        and "| other" in re.sub(" +", " ", output)
    )
    assert compared.results() == before


def test_seeds_make_further_experiments_and_a_table_of_their_spread(compared):
    output = call(main, compared.folder, "--seeds", "2")
    assert kept(compared) == {"short", "short-seed-43", "longer", "longer-seed-43"}
    table = pd.read_csv(compared.folder / "metrics/seeds.csv")
    assert table["experiment"].tolist() == ["short", "short", "longer", "longer"]
    assert table["seed"].tolist() == [42, 43, 42, 43]
    accuracies = table.loc[table["experiment"] == "short", "accuracy"]
    spread = abs(accuracies.iloc[0] - accuracies.iloc[1]) / 2**0.5
    assert f"{accuracies.mean():.4f} ± {spread:.4f}" in output
    assert len(pd.read_csv(compared.folder / "metrics/experiments.csv")) == 2


def test_a_group_has_a_table_a_picture_and_seeds_of_its_own(compared):
    compared.set(
        "groups={pair: {short: {train.epochs: 1}, dropped: {train.epochs: 1, model.dropout: 0.2}}}"
    )
    before = compared.read("metrics/experiments.csv")
    output = call(main, compared.folder, "--group", "pair", "--seeds", "2")
    assert kept(compared) >= {"short", "short-seed-43", "dropped", "dropped-seed-43"}
    assert pd.read_csv(compared.folder / "metrics/experiments-pair.csv")["experiment"].tolist() == [
        "short",
        "dropped",
    ]
    seeds = pd.read_csv(compared.folder / "metrics/seeds-pair.csv")
    assert seeds[["experiment", "seed"]].values.tolist() == [
        ["short", 42],
        ["short", 43],
        ["dropped", 42],
        ["dropped", 43],
    ]
    assert "Table: metrics/experiments-pair.csv, picture: plots/experiments-pair.png" in output
    assert compared.read("plots/experiments-pair.png").startswith(b"\x89PNG")
    assert compared.read("metrics/experiments.csv") == before


def test_a_picture_that_other_code_drew_is_drawn_anew_with_the_next_run(compared):
    picture = compared.folder / "plots/experiments.png"
    drawn = picture.read_bytes()
    picture.write_bytes(b"drawn by other code")
    compared.commit("The comparison")
    assert "longer: completed" in call(main, compared.folder)  # by DVC's run cache
    assert picture.read_bytes() == drawn


def test_the_other_arithmetic_runs_them_again_and_is_told(compared, output):
    compared.set("experiments={short: {train.epochs: 1}}")
    native = call(main, compared.folder, ONEDNN_MAX_CPU_ISA="DEFAULT")
    assert (
        "arithmetic" not in output
        and "short: train" in native
        and "short: up to date" not in native
    )
    row = next(line for line in native.splitlines() if line.split()[:2] == ["|", "short"])
    assert "native arithmetic (ONEDNN_MAX_CPU_ISA=DEFAULT)" in row
    assert "short: up to date" in call(main, compared.folder, ONEDNN_MAX_CPU_ISA="DEFAULT")
    portable = call(main, compared.folder)  # whatever DVC's run cache has
    assert "short: up to date" not in portable and "arithmetic" not in portable
    assert "arithmetic" not in compared.read("metrics/experiments.csv").decode()


@pytest.mark.parametrize(
    ("params", "arguments", "message"),
    [
        (
            [],
            ["--only", "run-9"],
            "no experiment run-9 in experiments.yaml. There are: run-1, run-2, run-3",
        ),
        (
            [],
            ["--group", "m"],
            "no group m in experiments.yaml: groups. There are: models, ablation",
        ),
        (
            ["experiments={a: {train.epoch: 1}}"],
            [],
            "experiments.yaml: a: train.epoch is not a known param",
        ),
        (
            ["experiments={a: {trian.epochs: 1}}"],
            [],
            "experiments.yaml: a: trian.epochs is not a known param",
        ),
        (
            ["experiments={a: {train.epochs: many}}"],
            [],
            "experiments.yaml: a: train.epochs is 'many'",
        ),
        (["experiments={'a b': {train.epochs: 1}}"], [], "experiments.a b"),
        (["experiments=[run-1]"], [], "experiments is ['run-1']"),
    ],
)
def test_what_does_not_exist_is_refused_before_anything_starts(toy, params, arguments, message):
    toy.set(*params)
    before = references(toy)
    assert message in refusal(main, toy.folder, *arguments)
    assert references(toy) == before


def test_a_refusal_is_one_message_and_status_1(toy):
    output = toy.python("tools.experiments", "--only", "run-9", status=1)
    assert output.startswith("experiments: no experiment run-9") and "Traceback" not in output


@pytest.mark.parametrize(
    "arguments", [["--jobs", "0"], ["--jobs", "x"], ["--seeds", "-1"], ["--what"]]
)
def test_wrong_usage_has_status_2(built_toy, capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        call(main, built_toy, *arguments)
    assert ended.value.code == 2 and "usage:" in capsys.readouterr().err


def test_one_that_fails_is_told_with_its_log_and_leaves_the_others_running(toy):
    toy.set("experiments={bad: {prepare.validation_size: 1200}, good: {train.epochs: 1}}")
    toy.commit()
    output = toy.python("tools.experiments", status=1)
    assert (
        "bad failed. Its last lines:" in output
        and "prepare.validation_size: 1200 of 1200" in output
        and re.search(r"^bad: failed after \d+ s$", output, re.MULTILINE)
    )
    log = toy.folder / re.search(r"The whole log: (\S+)", output)[1]
    assert "1200 of 1200" in log.read_text() and "Traceback" not in output
    assert kept(toy) == {"good"} and clones(toy) == []


def test_a_killed_training_fails_alone_and_the_next_call_repairs_it(toy, running):
    training = [one for one in processes_in(toy.folder) if "stages.train" in one.cmdline()]
    first = min(training, key=lambda victim: victim.create_time())
    first.kill()
    assert running.wait() == 1
    assert "first failed" in running.output and kept(toy) == {"second", "third"}
    assert clones(toy) == [] and processes_in(toy.folder) == []
    toy.set(
        "experiments={first: {train.epochs: 3}, second: {train.epochs: 1},"
        " third: {train.epochs: 2}}"
    )
    assert "second: up to date" in call(main, toy.folder)
    assert kept(toy) == {"first", "second", "third"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_it_stops_all_and_leaves_no_trace(toy, built_toy, running, number):
    commit = toy.run("git", "rev-parse", "main")
    running.process.send_signal(number)
    assert running.wait() == 1
    assert running.output.splitlines()[-1].startswith("experiments: interrupted")
    assert "Traceback" not in running.output
    assert processes_in(toy.folder) == [] and clones(toy) == []
    assert not (toy.folder / ".dvc/tmp/experiments.lock").exists()
    assert kept(toy) <= {"second", "third"}  # whatever had ended by then
    assert toy.results() == Repository(built_toy).results()
    assert toy.run("git", "status", "--porcelain") == ""
    assert toy.run("git", "rev-parse", "main") == commit
    assert {line.split("/")[1] for line in references(toy).splitlines()} <= {"heads", "exps"}


def folders_of_trainings(runner: psutil.Process) -> list[Path]:
    """Where trainings work, and what has started them, as far as the runner started it."""
    while True:
        try:
            children = runner.children(recursive=True)
            trainings = [child for child in children if "stages.train" in child.cmdline()]
            started = [one for training in trainings for one in [training, *training.parents()]]
            return [Path(one.cwd()) for one in started if one in children]
        except psutil.NoSuchProcess:  # one has ended meanwhile: look again
            assert runner.is_running()


def test_one_that_was_killed_leaves_a_clone_which_the_next_call_removes(toy, running):
    inside = folders_of_trainings(psutil.Process(running.process.pid))
    # DVC never works in the project
    assert inside and all(path.is_relative_to(clones(toy)[0]) for path in inside)
    assert "already running" in refusal(main, toy.folder)
    assert running.process.poll() is None
    running.kill()
    assert clones(toy) != []
    toy.set("experiments={short: {train.epochs: 1}}")
    call(main, toy.folder)
    assert "short" in kept(toy) and clones(toy) == []


def test_changes_that_are_not_committed_are_told_and_used(compared):
    path = compared.folder / "stages/train.py"
    path.write_text(path.read_text().replace('"parameters": 1', '"parameters": 1, "marked": 1'))
    assert "(stages/train.py) would replace short" in refusal(
        main, compared.folder, "--only", "short"
    )
    output = call(main, compared.folder, "--only", "short", "--replace")
    assert "Not committed: stages/train.py" in output
    metrics = compared.run("git", "show", f"{revision(compared, 'short')}:metrics/train.json")
    assert '"marked": 1' in metrics


def test_a_commit_while_they_run_is_not_in_the_way(toy):
    toy.set("experiments={short: {train.epochs: 1}}")
    toy.run("git", "config", "diff.noprefix", "true")  # nor is what users configure
    log = toy.folder / ".dvc/tmp/experiments/short.log"
    with begin(toy, "tools.experiments") as command:
        command.wait_until(lambda: log.exists() and log.stat().st_size)
        before = toy.run("git", "rev-parse", "HEAD").strip()
        toy.commit("Meanwhile")
        assert command.wait() == 0, command.output
    assert f"refs/exps/{before[:2]}/{before[2:]}/short" in references(toy)
    assert toy.read("metrics/experiments.csv").decode().count("short") == 1


def test_code_that_git_does_not_track_is_refused(toy):
    (toy.folder / "fashion/new.py").write_text("")
    assert "does not track fashion/new.py" in refusal(main, toy.folder)


def test_without_a_commit_it_says_so(toy):
    shutil.rmtree(toy.folder / ".git")
    toy.run("git", "init", "--quiet")
    assert "no Git repository with a commit" in refusal(main, toy.folder)


def test_the_committed_table_has_the_experiments_of_experiments_yaml():
    configured = read_yaml(PROJECT / "experiments.yaml")["experiments"]
    table = pd.read_csv(PROJECT / "metrics/experiments.csv").set_index("experiment")
    for name, overrides in configured.items():
        for param, value in overrides.items():
            assert table.loc[name, param.split(".")[-1]] == value
    assert list(table.index) == list(configured)
