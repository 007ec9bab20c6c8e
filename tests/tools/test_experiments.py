import re
import signal
from pathlib import Path

import pandas as pd
import psutil
import pytest

from fashion.core.strict_yaml import read_yaml
from tests.support.commands import begin, call, processes_in, refusal, typed
from tests.support.repository import PROJECT, Repository
from tools.experiments.__main__ import main
from tools.experiments.up_to_date import inputs_at, is_up_to_date
from tools.git import commit_workspace, head
from tools.overrides import with_overrides
from tools.report import __main__ as report

LONG = [
    "experiments={first: {train.epochs: 3000}, second: {train.epochs: 1}, third: {train.epochs: 2}}"
]


def clones(repository) -> list[Path]:
    return list((repository.folder / ".dvc/tmp").glob("experiments-*"))


def table(repository, name: str) -> pd.DataFrame:
    return pd.read_csv(repository.folder / f"metrics/comparisons/{name}.csv")


@pytest.fixture
def running(toy):
    """Start `experiments`, the first of them in training, which would go on for minutes."""
    toy.slow_training(0.1)
    toy.set(*LONG)
    toy.commit("A long experiment")
    with begin(toy, "tools.experiments", "--jobs", "2") as command:
        command.wait_for_line("first: epoch")
        yield command


def test_each_becomes_an_experiment_with_the_same_bytes_as_by_hand(compared):
    assert table(compared, "experiments")["experiment"].tolist() == ["short", "longer"]
    # 1,000 training images in batches of 32 and of 64
    assert table(compared, "experiments")["steps"].tolist() == [32, 3 * 16]
    assert set(compared.experiments()) == {"short", "longer"}
    longer = compared.experiments()["longer"]
    by_git = {
        path: compared.run("git", "show", f"{longer}:{path}")
        for path in ("dvc.lock", "metrics/test.json")
    }
    compared.dvc("exp", "run", "-S", "train.epochs=3", "-S", "train.batch_size=64", "--force")
    assert {path: compared.read(path).decode() for path in by_git} == by_git


def test_stages_epochs_and_the_end_are_printed(built_comparison):
    output = (built_comparison / "output").read_text()
    line = r"^longer: epoch (\d)/3, validation accuracy (0\.\d{4})$"
    found = [(int(at), float(value)) for at, value in re.findall(line, output, re.MULTILINE)]
    assert [at for at, _ in found] == [1, 2, 3]
    # the toy model approaches 0.9, by half of the way in each epoch, and is right where
    # 0.9 times the image's difficulty and 0.1 times chance are below that
    expected = [(0.9 * (1 - 0.5**at) - 0.05) / 0.9 for at in (1, 2, 3)]
    assert [value for _, value in found] == pytest.approx(expected, abs=0.03)
    assert re.search(r"^longer: completed after \d+ s$", output, re.MULTILINE)
    assert "longer: train" in output and "longer: prepare" not in output  # the data is shared


def test_a_second_call_runs_nothing_and_after_a_change_only_what_it_concerns(compared):
    before, results = compared.experiments(), compared.results()
    output = call(main, compared.folder)
    assert "short: up to date\nlonger: up to date\n" in output and "epoch 1/" not in output
    assert compared.experiments() == before and compared.results() == results
    compared.set("experiments.longer={train.epochs: 2, train.batch_size: 64}")
    output = call(main, compared.folder)
    assert "short: up to date" in output and "longer: epoch 2/2" in output
    after = compared.experiments()
    assert after["short"] == before["short"] and after["longer"] != before["longer"]


def append(path: str):
    def change(repository) -> None:
        content = repository.read(path).decode()
        (repository.folder / path).write_text(f"{content}\n# changed\n")

    return change


def declare(repository) -> None:
    """Declare another dependency of a stage; the experiments run once more, and then it changes."""
    path = repository.folder / "dvc.yaml"
    path.write_text(path.read_text().replace("[dataset.yaml,", "[dataset.yaml, LICENSE,"))
    repository.commit("Another dependency")
    call(main, repository.folder, "--only", "short")
    append("LICENSE")(repository)


@pytest.mark.parametrize(
    ("change", "current"),
    [
        (lambda repository: repository.set("seed=7"), False),
        (lambda repository: repository.set("prepare.split_seed=7"), False),
        (lambda repository: repository.set("model.dropout=0.1"), False),
        (lambda repository: repository.set("train.weight_decay=0.1"), False),
        (lambda repository: repository.set("train.epochs=7"), True),  # the experiment sets it
        (lambda repository: repository.set("name=others"), False),  # in dataset.yaml
        (append("dvc.yaml"), False),
        (append("stages/evaluate.py"), False),
        (declare, False),
        (append("LICENSE"), True),
        (append("experiments.yaml"), True),
    ],
)
def test_it_is_up_to_date_until_something_that_dvc_yaml_declares_changes(compared, change, current):
    change(compared)
    with typed(compared.folder):
        params = with_overrides(read_yaml(Path("params.yaml")), {"train.epochs": 1}, "short")
        assert is_up_to_date(head(), "short", inputs_at(commit_workspace(), params)) == current


def test_only_the_chosen_ones_run_and_the_table_stays(compared):
    before = compared.results()
    compared.set("experiments={short: {train.epochs: 1}, other: {train.epochs: 1, seed: 7}}")
    output = call(main, compared.folder, "--only", "other")
    assert "other: train" in output and "short:" not in output
    assert "| other" in re.sub(" +", " ", output)
    assert compared.results() == before


@pytest.mark.parametrize("group", [None, "a-seed-2"])
def test_seeds_and_groups_have_tables_whatever_words_the_names_contain(toy, monkeypatch, group):
    plain = "{my-seed-test: {train.epochs: 1}, sweep-up: {train.epochs: 1, seed: 7}}"
    toy.set("experiments={}", f"groups={{{group}: {plain}}}" if group else f"experiments={plain}")
    toy.commit("Odd names")
    name = group or "experiments"
    output = call(main, toy.folder, "--seeds", "2", *(["--group", group] if group else []))
    names = ["my-seed-test", "my-seed-test-seed-43", "sweep-up", "sweep-up-seed-8"]
    assert set(toy.experiments()) == set(names)
    assert table(toy, name)["experiment"].tolist() == ["my-seed-test", "sweep-up"]
    seeds = table(toy, f"{name}-seeds")
    assert seeds["experiment"].tolist() == 2 * ["my-seed-test"] + 2 * ["sweep-up"]
    assert seeds["seed"].tolist() == [42, 43, 7, 8]
    first, second, *_ = seeds["accuracy"]
    assert f"{(first + second) / 2:.4f} ± {abs(first - second) / 2**0.5:.4f}" in output
    assert toy.read(f"plots/comparisons/{name}.png").startswith(b"\x89PNG")
    monkeypatch.chdir(toy.folder)
    assert [result.name for result in report.find_results([])] == names


def test_a_picture_is_drawn_again_with_new_results(compared):
    picture = compared.folder / "plots/comparisons/experiments.png"
    drawn = picture.read_bytes()
    picture.write_bytes(b"drawn by other code")
    compared.commit("The comparison")
    assert "longer: completed" in call(main, compared.folder)  # by DVC's run cache
    assert picture.read_bytes() == drawn


def test_another_arithmetic_runs_them_again_and_is_shown(compared):
    compared.set("experiments={short: {train.epochs: 1}}")
    native = call(main, compared.folder, ARITHMETIC="native")
    assert "short: train" in native and "short: up to date" not in native
    row = next(line for line in native.splitlines() if line.split()[:2] == ["|", "short"])
    assert "native arithmetic" in row
    assert "short: up to date" in call(main, compared.folder, ARITHMETIC="native")
    portable = call(main, compared.folder)  # from DVC's run cache, which has no native results
    assert "short: completed" in portable and "short: train" not in portable
    assert "arithmetic" not in portable
    assert "environment" not in table(compared, "experiments")


@pytest.mark.parametrize(
    ("params", "arguments", "message"),
    [
        ([], ["--only", "a"], "no experiment a in experiments.yaml. There are: run-1, run-2"),
        ([], ["--group", "m"], "no group m in experiments.yaml. There are: models, ablation"),
        (["experiments={a: {train.epoch: 1}}"], [], "experiments.yaml: a: train.epoch is not a kn"),
        (["experiments={a: {trian.epochs: 1}}"], [], "experiments.yaml: a: trian.epochs is not"),
        (["experiments={a: {train.epochs: x}}"], [], "experiments.yaml: a: train.epochs is 'x'"),
        (["experiments={'a b': {train.epochs: 1}}"], [], "experiments.a b"),
        (["experiments=[run-1]"], [], "experiments is ['run-1']"),
        (["experiments={a: {}, a-seed-43: {}}"], ["--seeds", "2"], "another's further seed"),
        (["groups={experiments: {}}"], [], "two groups would share the table experiments"),
        (["groups={a: {}, a-seeds: {}}"], [], "two groups would share the table a-seeds"),
    ],
)
def test_what_does_not_exist_is_refused_before_anything_starts(toy, params, arguments, message):
    toy.set(*params)
    assert message in refusal(main, toy.folder, *arguments)
    assert toy.experiments() == {}


def test_a_failed_experiment_is_reported_with_its_log_and_the_others_go_on(toy):
    toy.set("experiments={bad: {prepare.validation_size: 1200}, good: {train.epochs: 1}}")
    toy.commit()
    output = toy.python("tools.experiments", status=1)
    assert "bad failed. Its last lines:" in output
    assert "  | prepare: prepare.validation_size: 1200 of 1200" in output
    assert re.search(r"^bad: failed after \d+ s$", output, re.MULTILINE)
    log = toy.folder / re.search(r"The whole log: (\S+)", output)[1]
    assert "1200 of 1200" in log.read_text()
    assert set(toy.experiments()) == {"good"} and clones(toy) == []


def test_a_killed_training_fails_alone_and_the_next_call_repairs_it(toy, running):
    training = [one for one in processes_in(toy.folder) if "stages.train" in one.cmdline()]
    min(training, key=lambda victim: victim.create_time()).kill()
    assert running.wait() == 1
    output = running.output
    assert "first failed" in output and set(toy.experiments()) == {"second", "third"}
    assert output.index("third: train") < output.index("second: train")  # the longest first
    assert clones(toy) == [] and processes_in(toy.folder) == []
    toy.set(LONG[0].replace("3000", "3"))
    assert "second: up to date" in call(main, toy.folder)
    assert set(toy.experiments()) == {"first", "second", "third"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_it_stops_all_and_leaves_no_trace(toy, built_toy, running, number):
    commit = toy.run("git", "rev-parse", "main")
    running.process.send_signal(number)
    assert running.wait() == 1
    assert running.output.splitlines()[-1].startswith("experiments: interrupted")
    assert processes_in(toy.folder) == [] and clones(toy) == []
    assert set(toy.experiments()) <= {"second", "third"}  # whatever had ended by then
    assert toy.results() == Repository(built_toy).results()
    assert toy.run("git", "status", "--porcelain") == ""
    assert toy.run("git", "rev-parse", "main") == commit


def test_a_killed_command_leaves_clones_which_the_next_call_removes(toy, running):
    everyone = [process.info for process in psutil.process_iter(["cwd", "cmdline"])]
    folders = {Path(one["cwd"] or "/") for one in everyone if "run" in (one["cmdline"] or [])}
    inside = {folder for folder in folders if folder.is_relative_to(toy.folder)}
    # `dvc exp run` never works in the project
    assert inside and {folder.parent for folder in inside} == {toy.folder / ".dvc/tmp"}
    assert "already running" in refusal(main, toy.folder)
    assert running.process.poll() is None
    running.kill()
    assert clones(toy) != []
    toy.set("experiments={short: {train.epochs: 1}}")
    call(main, toy.folder)
    assert "short" in toy.experiments() and clones(toy) == []


def test_uncommitted_changes_are_reported_and_used(compared):
    path = compared.folder / "stages/train.py"
    path.write_text(path.read_text().replace('"parameters": 1', '"parameters": 1, "marked": 1'))
    expected = "(stages/train.py) would replace short"
    assert expected in refusal(main, compared.folder, "--only", "short")
    output = call(main, compared.folder, "--only", "short", "--replace")
    assert "Not committed: stages/train.py" in output
    revision = compared.experiments()["short"]
    assert '"marked": 1' in compared.run("git", "show", f"{revision}:metrics/train.json")


def test_a_commit_while_they_run_does_not_matter(toy):
    toy.set("experiments={short: {train.epochs: 1}}")
    toy.run("git", "config", "diff.noprefix", "true")  # nor does what users configure
    log = toy.folder / ".dvc/tmp/experiments/short.log"
    with begin(toy, "tools.experiments") as command:
        command.wait_until(lambda: log.exists() and log.stat().st_size)
        before = toy.run("git", "rev-parse", "HEAD").strip()
        toy.commit("Meanwhile")
        assert command.wait() == 0, command.output
    assert f"refs/exps/{before[:2]}/{before[2:]}/short" in toy.run("git", "for-each-ref")
    assert table(toy, "experiments")["experiment"].tolist() == ["short"]


def test_the_committed_table_has_the_experiments_of_experiments_yaml():
    configured = read_yaml(PROJECT / "experiments.yaml")["experiments"]
    rows = table(Repository(PROJECT), "experiments").set_index("experiment")
    for name, overrides in configured.items():
        for param, value in overrides.items():
            assert rows.loc[name, param.split(".")[-1]] == value
    assert list(rows.index) == list(configured)
