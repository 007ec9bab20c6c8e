import re
import signal
from pathlib import Path

import pandas as pd
import pytest

from fashion.comparisons import compare_losses
from fashion.core.errors import UserError
from fashion.core.strict_yaml import check_config, read_yaml
from tests.support.commands import begin, call, processes_in, refusal, typed
from tests.support.repository import Repository
from tools.experiments.__main__ import main
from tools.experiments.backend import ExperimentSpec
from tools.experiments.config import Experiments
from tools.experiments.results import Result
from tools.experiments.up_to_date import announce_changes, inputs_at, is_up_to_date
from tools.git import commit_workspace, head
from tools.overrides import with_overrides
from tools.report import __main__ as report

LONG = "experiments={first: {train.epochs: 1}, second: {train.epochs: 3000}}"


def clones(repository) -> list[Path]:
    return list((repository.folder / ".dvc/tmp").glob("experiments-*"))


def table(repository, name: str) -> pd.DataFrame:
    return pd.read_csv(repository.folder / f"metrics/comparisons/{name}.csv")


@pytest.fixture
def running(toy):
    """Yield `experiments` while its second experiment trains, which would take minutes."""
    toy.slow_training(0.1)
    toy.set(LONG)
    toy.commit("A long experiment")
    toy.run("git", "config", "diff.noprefix", "true")  # a setting of users that must not matter
    with begin(toy, "tools.experiments", "--jobs", "2") as command:
        command.wait_for_line("second: epoch")
        yield command


def test_experiments_have_the_same_bytes_as_by_hand(compared):
    rows = table(compared, "experiments")
    assert rows["experiment"].tolist() == ["short", "longer"]
    assert rows["steps"].tolist() == [32, 3 * 16]  # 1,000 training images in batches of 32 and 64
    assert set(compared.experiments()) == {"short", "longer"}
    longer = compared.experiments()["longer"]
    by_git = {
        path: compared.run("git", "show", f"{longer}:{path}")
        for path in ("dvc.lock", "metrics/test.json")
    }
    compared.dvc("exp", "run", "-S", "train.epochs=3", "-S", "train.batch_size=64", "--force")
    assert {path: compared.read(path).decode() for path in by_git} == by_git


def test_progress_and_a_table_of_80_columns_are_printed(built_comparison):
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
    shown = output.split("\n\n")[1]
    assert max(map(len, shown.splitlines())) <= 80
    assert re.search(r"^ +longer +3 +64 +\d\.\d{4} \(ep\. 3\)", shown, re.MULTILINE)


def test_only_stale_experiments_run_and_the_plot_follows_the_table(compared, monkeypatch):
    drawn = {}

    def spy(histories, title):
        drawn.update({name: len(history) for name, history in histories.items()})
        return compare_losses(histories, title)

    monkeypatch.setattr("fashion.comparisons.compare_losses", spy)
    before, results = compared.experiments(), compared.results()
    plot = compared.folder / "plots/comparisons/experiments.png"
    plot.unlink()
    output = call(main, compared.folder)
    assert "short: up to date\nlonger: up to date\n" in output and "epoch 1/" not in output
    assert compared.experiments() == before and compared.results() == results
    assert drawn == {"short": 1, "longer": 3}  # epochs
    compared.set("experiments.longer={train.epochs: 2, train.batch_size: 64}")
    output = call(main, compared.folder, "--only", "longer")
    assert "longer: epoch 2/2" in output and "short:" not in output
    assert re.search(r"^ +longer +2 +64 ", output, re.MULTILINE)
    assert compared.results() == results
    assert "longer: up to date" in call(main, compared.folder)
    after = compared.experiments()
    assert after["short"] == before["short"] and after["longer"] != before["longer"]
    assert table(compared, "experiments")["epochs"].tolist() == [1, 2]
    assert plot.read_bytes() != results["plots/comparisons/experiments.png"]


def test_experiments_are_stale_if_something_that_dvc_yaml_declares_changes(compared):
    path = compared.folder / "dvc.yaml"
    path.write_text(path.read_text().replace("[dataset.yaml,", "[dataset.yaml, Makefile,"))
    compared.commit("Another dependency")
    call(main, compared.folder, "--only", "short")
    stale = ["seed=7", "prepare.split_seed=7", "model.dropout=0.1", "train.weight_decay=0.1"]
    stale += ["name=others", "dvc.yaml", "stages/evaluate.py", "Makefile"]
    harmless = ["train.epochs=7", "LICENSE", "experiments.yaml"]  # the experiment sets the epochs
    found = []
    for change in stale + harmless:
        if "=" in change:
            compared.set(change)
        else:
            with (compared.folder / change).open("a") as file:
                file.write("\n# changed\n")
        with typed(compared.folder):
            params = with_overrides(read_yaml(Path("params.yaml")), {"train.epochs": 1}, "short")
            inputs = inputs_at(commit_workspace(), params)
            found += [change] if is_up_to_date(head(), "short", inputs) else []
        compared.run("git", "checkout", "--quiet", ".")
    assert found == harmless


def test_seeds_of_a_group_have_tables_whatever_words_the_names_contain(toy, monkeypatch):
    plain = "{sweep-seed-up: {train.epochs: 1, seed: 7}}"
    toy.set("experiments={}", f"groups={{a-seed-2: {plain}}}")
    toy.commit("Odd names")
    output = call(main, toy.folder, "--seeds", "2", "--group", "a-seed-2")
    names = ["sweep-seed-up", "sweep-seed-up-seed-8"]
    assert set(toy.experiments()) == set(names)
    assert table(toy, "a-seed-2")["experiment"].tolist() == names[:1]
    seeds = table(toy, "a-seed-2-seeds")
    assert seeds["experiment"].tolist() == 2 * names[:1]
    assert seeds["seed"].tolist() == [7, 8]
    first, second = seeds["accuracy"]
    assert first != second
    assert f"{(first + second) / 2:.4f}±{abs(first - second) / 2**0.5:.4f}\n" in output
    assert "over 2 seeds" in output
    assert max(map(len, output.split("\n\n")[-2].splitlines())) <= 80
    assert toy.read("plots/comparisons/a-seed-2.png").startswith(b"\x89PNG")
    monkeypatch.chdir(toy.folder)
    assert [result.name for result in report.find_results([])] == names


def test_arithmetic_is_a_param_and_native_results_are_shown(compared):
    native = "native: {train.epochs: 1, arithmetic: native}"
    compared.set(f"experiments={{short: {{train.epochs: 1}}, {native}}}")
    output = call(main, compared.folder)
    assert "short: up to date" in output and "native: train" in output
    shown = output.split("\n\n")[1].splitlines()
    assert ["native arithmetic" in row for row in shown] == [False, False, True]
    assert "native: up to date" in call(main, compared.folder)
    with typed(compared.folder):
        result = Result("native", compared.experiments()["native"])
    assert result.environment == {"environment": "native arithmetic"}
    losses = {
        "loss": [0.9, 0.5, 0.2],
        "val_loss": [0.8, 0.6, 0.75],
        "val_accuracy": [0.6, 0.7, 0.8],
    }
    result.history = pd.DataFrame({"epoch": [1, 2, 3]} | losses)
    row = result.summary()
    assert (row["best_epoch"], row["best_val_loss"], row["last_val_loss"]) == (2, 0.6, 0.75)
    assert row["last_loss_gap"] == pytest.approx(0.55)
    assert row["accuracy_low"] < row["accuracy"] < row["accuracy_high"]
    result.train, result.test = {}, {"environment": "arithmetic of arm64", "device": "A GPU"}
    assert result.environment == {"environment": "arithmetic of arm64, A GPU"}
    with pytest.raises(UserError, match=r"^native: metrics/test.json lacks accuracy, accuracy_int"):
        result.summary()
    result.file_bytes = lambda path: b""
    with pytest.raises(UserError, match=r"^metrics/per_class.csv of native: No columns"):
        _ = result.per_class
    compared.set("experiments={short: {train.epochs: 1}}")
    call(main, compared.folder)
    assert "environment" not in table(compared, "experiments")
    compared.set("experiments={}")
    before = compared.results()
    assert "experiments.yaml defines none" in call(main, compared.folder)
    assert compared.results() == before


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"experiments": {"a b": {}}}, "experiments.a b"),
        ({"experiments": {"a..b": {}}}, "experiments.a..b"),
        ({"experiments": {"a.lock": {}}}, "experiments.a.lock"),
        ({"experiments": ["run-1"]}, "experiments is ['run-1']"),
        ({"experiments": {}, "groups": {"experiments": {}}}, "would share the table experiments"),
        ({"experiments": {"a": {}}, "groups": {"b": {"a": {"seed": 1}}}}, "two experiments are c"),
        ({"experiments": {}, "groups": {g: {"a": {"seed": g}} for g in "bc"}}, "called a, with"),
        ({"experiments": {}, "groups": {"a": {}, "a-seeds": {}}}, "share the table a-seeds"),
    ],
)
def test_a_wrong_configuration_is_refused(values, message):
    with pytest.raises(UserError) as error:
        check_config(values, "experiments.yaml", Experiments)
    assert message in str(error.value)


def test_wrong_names_and_values_are_refused_before_anything_starts(toy):
    for experiments, arguments, message in [
        ("run-1: {}, run-2: {}", ["--only", "a"], "in experiments.yaml. There are: run-1, run-2"),
        ("", ["--group", "m"], "no group m in experiments.yaml. There are: models, ablation"),
        ("a: {}", ["--group", "models", "--only", "a"], "no experiment a in the group models."),
        ("a: {train.epoch: 1}", [], "experiments.yaml: a: train.epoch is not a known param"),
        ("a: {trian.epochs: 1}", [], "experiments.yaml: a: trian.epochs is not a known param"),
        ("a: {train.epochs: x}", [], "experiments.yaml: a: train.epochs is 'x'"),
        ("a: {}, a-seed-43: {}", ["--seeds", "2"], "the name of another's further seed"),
    ]:
        toy.set(f"experiments={{{experiments}}}")
        assert message in refusal(main, toy.folder, *arguments)
    assert toy.experiments() == {} and not (toy.folder / ".dvc/tmp/experiments").exists()


def test_failed_experiments_are_reported_with_their_logs_and_the_others_go_on(toy):
    bad = "{prepare.validation_size: 1200}"
    toy.set(f"experiments={{good: {{train.epochs: 1}}, bad: {bad}}}")
    toy.commit()
    output = toy.python("tools.experiments", "--jobs", "1", status=1)
    assert output.index("bad: failed") < output.index("good: ")  # one at a time, the longest first
    reported = output[output.index("bad failed. Its last lines:") :]
    assert "  | prepare: prepare.validation_size: 1200 of 1200" in reported
    assert re.search(r"^bad: failed after \d+ s$", output, re.MULTILINE)
    log = toy.folder / re.search(r"The whole log: (\S+)", reported)[1]
    assert log.stem == "bad" and "1200 of 1200" in log.read_text()
    assert set(toy.experiments()) == {"good"} and clones(toy) == []
    toy.set("prepare.validation_size=1200")
    assert "`dvc repro prepare` failed in /" in refusal(main, toy.folder, "--replace")


def test_a_killed_training_fails_alone_and_a_commit_meanwhile_does_not_matter(toy, running):
    before = toy.run("git", "rev-parse", "HEAD").strip()
    toy.set(LONG.replace("3000", "3"))
    toy.commit("Meanwhile")
    everyone = processes_in(toy.folder)
    training = [one for one in everyone if "stages.train" in (one.info["cmdline"] or [])]
    min(training, key=lambda victim: victim.create_time()).kill()
    assert running.wait() == 1
    assert "second failed" in running.output
    references = toy.run("git", "for-each-ref", "refs/exps/*/*/*")
    assert re.findall(r"refs/exps/.*", references) == [f"refs/exps/{before[:2]}/{before[2:]}/first"]
    assert clones(toy) == [] and processes_in(toy.folder) == []


def test_stopping_the_command_stops_all_and_leaves_no_trace(toy, built_toy, running):
    commit = toy.run("git", "rev-parse", "main")
    running.process.send_signal(signal.SIGTERM)
    assert running.wait() == 1
    assert running.output.splitlines()[-1].startswith("experiments: interrupted")
    assert processes_in(toy.folder) == [] and clones(toy) == []
    assert set(toy.experiments()) <= {"first"}  # if it had ended by then
    assert toy.results() == Repository(built_toy).results()
    assert toy.run("git", "status", "--porcelain") == ""
    assert toy.run("git", "rev-parse", "main") == commit


@pytest.mark.slow
def test_a_killed_command_leaves_clones_which_the_next_call_removes(toy, running):
    found = [one.info for one in processes_in(toy.folder)]
    inside = {Path(one["cwd"]) for one in found if "run" in (one["cmdline"] or [])}
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
    expected = "uncommitted changes (stages/train.py) would replace short (test accuracy 0."
    assert expected in refusal(main, compared.folder, "--only", "short")
    output = call(main, compared.folder, "--only", "short", "--replace")
    assert "Not committed: stages/train.py. The experiments run with these changes" in output
    revision = compared.experiments()["short"]
    assert '"marked": 1' in compared.run("git", "show", f"{revision}:metrics/train.json")
    compared.set("seed=7")  # the experiment is not the commit's any more, so it may go
    assert "short: completed" in call(main, compared.folder, "--only", "short")


def test_experiments_of_a_commit_that_lacks_a_new_param_are_not_replaced(compared, capsys):
    params = compared.folder / "params.yaml"
    text = params.read_text()
    params.write_text(text.replace("arithmetic: portable\n", ""))
    compared.commit("Before the param")
    commit = compared.run("git", "rev-parse", "HEAD").strip()
    compared.set("train.epochs=1")
    revision = compared.run("git", "stash", "create").strip()
    reference = f"refs/exps/{commit[:2]}/{commit[2:]}/short"
    compared.run("git", "update-ref", reference, revision)
    params.write_text(text)
    expected = "uncommitted changes (arithmetic: None -> portable) would replace short"
    assert expected in refusal(main, compared.folder, "--only", "short")
    with typed(compared.folder):  # an experiment with the param can't be the commit's
        announce_changes(commit, [ExperimentSpec("short", {"arithmetic": "native"})])
    assert "Not committed: arithmetic: None -> portable" in capsys.readouterr().out
