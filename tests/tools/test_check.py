import json
from pathlib import Path

import pandas as pd
import pytest
from ruamel.yaml import YAML

from tests.support.repository import Repository
from tools.gate import check
from tools.gate.config import read_gate

PROJECT = Path(__file__).parents[2]
DEVIATION = 0.01
METRICS = (
    "accuracy: {better: higher}, loss: {better: lower}, val_accuracy: {better: higher, floor: 0.1}"
)


@pytest.fixture(scope="module")
def gated_once(built_toy, tmp_path_factory):
    """A repository with measured noise (invented here) and three gated metrics, all committed."""
    toy = Repository(built_toy).copy(tmp_path_factory.mktemp("gated") / "project")
    toy.set(f"metrics={{{METRICS}}}")
    metrics = {
        name: {"mean": 0.9, "std": DEVIATION} for name in ("accuracy", "loss", "val_accuracy")
    }
    environment = json.loads(toy.read("metrics/environment.json"))
    environment.pop("settings")
    noise = {
        "runs": 10,
        "seeds": [42],
        "metrics": metrics,
        "params": {},
        "environment": environment,
    }
    (toy.folder / "metrics/noise.json").write_text(json.dumps(noise))
    toy.commit("Noise")
    return toy


@pytest.fixture
def gated(gated_once, tmp_path):
    """The same, of the test's own."""
    return gated_once.copy(tmp_path / "project")


def change(repository, **values) -> None:
    """Change test metrics as if the stage had written them. None takes a metric out."""
    path = "metrics/test.json"
    content = json.loads(repository.read(path)) | values
    repository.rewrite(
        path, json.dumps({name: value for name, value in content.items() if value is not None})
    )


def row(output: str, metric: str) -> list[str]:
    line = next(line for line in output.splitlines() if line.startswith(f"| {metric} "))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_unchanged_results_hold(gated):
    output = gated.python("tools.gate.check", "--baseline", "HEAD")
    assert "holds" in output.splitlines()[0] and row(output, "accuracy")[5] == "✓ holds"
    # 4.8567: t, 9 degrees of freedom, 0.00135 / 3
    assert row(output, "accuracy")[4] == f"{4.8567 * DEVIATION * 2**0.5:.4f}"


@pytest.mark.parametrize(
    ("metric", "difference", "status", "verdict"),
    [
        ("accuracy", -0.08, 1, "✗ worse than noise explains"),
        ("accuracy", -0.06, 0, "✓ holds"),
        ("accuracy", +0.05, 0, "✓ holds"),
        ("loss", +0.08, 1, "✗ worse than noise explains"),
        ("loss", -0.05, 0, "✓ holds"),
        ("accuracy", float("nan"), 1, "✗ not a number now"),
        ("accuracy", None, 1, "✗ missing now"),
    ],
)
def test_a_change_is_judged_by_the_measured_noise(gated, call, metric, difference, status, verdict):
    before = json.loads(gated.read("metrics/test.json"))[metric]
    change(gated, **{metric: None if difference is None else before + difference})
    output = call(gated, check, "--baseline", "HEAD", status=status)
    assert row(output, metric)[5] == verdict and row(output, "val_accuracy")[5] == "✓ holds"


def test_native_arithmetic_is_told_beside_the_numbers(gated, call):
    assert "arithmetic" not in call(gated, check, "--baseline", "HEAD")
    change(gated, arithmetic="native arithmetic (ONEDNN_MAX_CPU_ISA=DEFAULT)")
    lines = call(gated, check, "--baseline", "HEAD").splitlines()
    header = next(line for line in lines if line.startswith("| metric"))
    assert [cell.strip() for cell in header.strip("|").split("|")][1:3] == [
        "baseline", "now, native arithmetic (ONEDNN_MAX_CPU_ISA=DEFAULT)",
    ]  # fmt: skip


def test_a_metric_that_the_baseline_does_not_have_can_not_be_judged(gated, call):
    accuracy = json.loads(gated.read("metrics/test.json"))["accuracy"]
    change(gated, accuracy=None)
    gated.commit("Without accuracy")
    change(gated, accuracy=accuracy)
    output = call(gated, check, "--baseline", "HEAD", status=2)
    assert row(output, "accuracy")[5].startswith("? new")


def test_a_real_regression_fails_and_says_why(gated):
    gated.set("train.epochs=1", "train.learning_rate=0.00001")
    gated.dvc("repro")
    target = gated.folder.parent / "check.json"
    output = gated.python("tools.gate.check", "--baseline", "HEAD", "--json", str(target), status=1)
    assert "✗ regression" in output.splitlines()[0] and "went from right to wrong" in output
    assert "Traceback" not in output
    written = json.loads(target.read_text())
    verdicts = {row["metric"]: row["verdict"] for row in written["metrics"]}
    assert written["status"] == 1 and verdicts["accuracy"] == "regression"
    before = pd.read_csv(gated.folder / "plots/predictions.csv")
    assert written["paired"]["broken"] <= len(before) and written["paired"]["p"] < 1e-6


def test_the_paired_test_counts_images(gated, call):
    """Of 10 images that changed, 9 went from right to wrong.

    Hence the exact two-sided p = 2 * (1 + 10) / 2**10.
    """
    table = pd.read_csv(gated.folder / "plots/predictions.csv")
    is_right = table["actual"] == table["predicted"]
    right, wrong = table.index[is_right], table.index[~is_right]
    table.loc[wrong[0], "predicted"] = table.loc[wrong[0], "actual"]
    for i in right[:9]:
        table.loc[i, "predicted"] = "Bag" if table.loc[i, "actual"] != "Bag" else "Coat"
    gated.rewrite("plots/predictions.csv", table.to_csv(index=False))
    target = gated.folder.parent / "check.json"
    call(gated, check, "--baseline", "HEAD", "--json", str(target))
    paired = json.loads(target.read_text())["paired"]
    assert (paired["broken"], paired["fixed"]) == (9, 1)
    assert paired["p"] == pytest.approx(2 * 11 / 2**10)


@pytest.mark.parametrize(("broken", "stands_out"), [(7, False), (9, True)])
def test_a_class_stands_out_by_more_than_one_of_ten_does_by_chance(gated, call, broken, stands_out):
    """Of 10 classes each is tested at 0.05 / 10: 2 / 2**7 = 0.0156 is above, 2 / 2**9 below."""
    table = pd.read_csv(gated.folder / "plots/predictions.csv")
    right = table.index[(table["actual"] == "Trouser") & (table["predicted"] == "Trouser")]
    table.loc[right[:broken], "predicted"] = "Dress"
    gated.rewrite("plots/predictions.csv", table.to_csv(index=False))
    target = gated.folder.parent / "check.json"
    call(gated, check, "--baseline", "HEAD", "--json", str(target))
    assert ("Trouser" in json.loads(target.read_text())["paired"]["classes"]) == stands_out


def test_results_edited_by_hand_are_caught(gated, call):
    path = gated.folder / "metrics/test.json"
    path.write_text(path.read_text().replace('"accuracy": 0', '"accuracy": 1'))
    output = call(gated, check, "--baseline", "HEAD", status=1)
    assert "evaluate: metrics/test.json is not what the stage wrote" in output


def test_a_missing_output_is_caught(gated, call):
    (gated.folder / "models/model.keras").unlink()
    output = call(gated, check, "--baseline", "HEAD", status=1)
    assert "train: models/model.keras is missing" in output


def test_results_of_other_params_or_code_are_caught(gated, call):
    gated.set("train.epochs=3")
    output = call(gated, check, "--baseline", "HEAD", status=1)
    assert "train: params.yaml has changed since the stage ran" in output
    gated.set("train.epochs=2")
    path = gated.folder / "stages/evaluate.py"
    path.write_text(path.read_text() + "\n# changed\n")
    output = call(gated, check, "--baseline", "HEAD", status=1)
    assert "evaluate: stages/evaluate.py has changed" in output
    assert "params.yaml" not in output


def test_a_stage_that_was_skipped_is_caught(gated, call):
    path = gated.folder / "dvc.lock"
    lock = YAML(typ="safe").load(path.read_text())
    del lock["stages"]["evaluate"]
    YAML(typ="safe").dump(lock, path)
    assert "- evaluate: " in call(gated, check, "--baseline", "HEAD", status=1)


@pytest.mark.parametrize(
    ("param", "named"),
    [
        ("name=Fashion-MNIST", "the data set"),
        (f"files.test_images.sha256={'f' * 64}", "the test images"),
        ("prepare.validation_size=100", "the size of the validation split"),
    ],
)
def test_unlike_things_are_not_compared(gated, call, param, named):
    gated.set(param)
    output = call(gated, check, "--baseline", "HEAD", status=2)
    assert (
        output.startswith(f"check: {named} differs from the baseline's") and "--baseline" in output
    )


def test_by_default_it_compares_with_the_commit_before_or_where_main_was_left(gated, call):
    before = gated.run("git", "rev-parse", "--short=7", "main~1").strip()
    # on main: the commit before, which has the same results
    assert f"Check against {before}" in call(gated, check)
    gated.run("git", "checkout", "--quiet", "-b", "feature")
    for message in ("One", "Two"):
        (gated.folder / message).write_text(message)
        gated.commit(message)
    main = gated.run("git", "rev-parse", "--short=7", "main").strip()
    assert f"Check against {main}" in call(gated, check)


def test_what_is_not_there_can_not_be_judged(gated, call, tmp_path):
    output = gated.python("tools.gate.check", "--baseline", "nowhere", status=2)
    assert "there is no revision nowhere" in output and "Traceback" not in output
    first = gated.run("git", "rev-list", "--max-parents=0", "HEAD").strip()
    assert "no metrics" in call(gated, check, "--baseline", first, status=2)
    shallow = Repository(tmp_path / "shallow")
    gated.run("git", "clone", "--quiet", "--depth", "1", gated.folder.as_uri(), str(shallow.folder))
    assert "git fetch --unshallow" in call(shallow, check, status=2)
    (gated.folder / "metrics/noise.json").unlink()
    gated.commit("No noise")
    assert "`make noise` measures it" in call(gated, check, "--baseline", "HEAD", status=2)


def test_a_baseline_can_be_an_experiment(gated, call):
    gated.dvc("exp", "run", "--temp", "--name", "other", "--set-param", "train.epochs=1")
    output = call(gated, check, "--baseline", "other")
    assert "Check against other" in output and row(output, "val_accuracy")[3].startswith("+0.")


def test_it_says_when_noise_is_that_of_other_params_or_another_environment(gated, call):
    path = gated.folder / "metrics/noise.json"
    noise = json.loads(path.read_text())
    noise["params"], noise["environment"]["cpu"] = {"train": {"epochs": 99}}, "another"
    path.write_text(json.dumps(noise))
    output = call(gated, check, "--baseline", "HEAD")
    assert "measured for other params (train)" in output
    assert "measured in another environment" in output


def test_in_ci_the_summary_has_the_table(gated, call):
    summary = gated.folder.parent / "summary.md"
    call(gated, check, "--baseline", "HEAD", GITHUB_STEP_SUMMARY=str(summary))
    assert "| accuracy" in summary.read_text()


def test_the_committed_gate_has_metrics_that_there_are():
    names = set()
    for part in ("train", "test"):
        names |= json.loads((PROJECT / f"metrics/{part}.json").read_text()).keys()
    assert set(read_gate(PROJECT / "gate.yaml").metrics) <= names
