import json
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tools.gate.config import read_gate

DEVIATION = 0.01
METRICS = (
    "accuracy: {better: higher}, loss: {better: lower}, val_accuracy: {better: higher, floor: 0.1}"
)


@pytest.fixture
def gated(repository):
    """A repository with measured noise (invented here) and three gated metrics, all committed."""
    repository.set(f"metrics={{{METRICS}}}")
    metrics = {
        name: {"mean": 0.9, "std": DEVIATION} for name in ("accuracy", "loss", "val_accuracy")
    }
    environment = json.loads(repository.read("metrics/environment.json"))
    environment.pop("settings")
    noise = {
        "runs": 10,
        "seeds": [42],
        "metrics": metrics,
        "params": {},
        "environment": environment,
    }
    (repository.folder / "metrics/noise.json").write_text(json.dumps(noise))
    repository.commit("Noise")
    return repository


def change(repository, stage: str = "evaluate", file: str = "metrics/test.json", **values) -> None:
    """Change metrics as if the stage had written them: the lock knows the new file.

    None takes a metric out.
    """
    path = repository.folder / file
    content = {
        name: value
        for name, value in (json.loads(path.read_text()) | values).items()
        if value is not None
    }
    path.write_text(json.dumps(content))
    repository.dvc("commit", "--force", stage)


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
def test_a_change_is_judged_by_the_measured_noise(gated, metric, difference, status, verdict):
    before = json.loads(gated.read("metrics/test.json"))[metric]
    change(gated, **{metric: None if difference is None else before + difference})
    output = gated.python("tools.gate.check", "--baseline", "HEAD", status=status)
    assert row(output, metric)[5] == verdict and row(output, "val_accuracy")[5] == "✓ holds"


def test_native_arithmetic_is_told_beside_the_numbers(gated):
    assert "arithmetic" not in gated.python("tools.gate.check", "--baseline", "HEAD")
    change(gated, arithmetic="native arithmetic (ONEDNN_MAX_CPU_ISA=DEFAULT)")
    lines = gated.python("tools.gate.check", "--baseline", "HEAD").splitlines()
    header = next(line for line in lines if line.startswith("| metric"))
    assert [cell.strip() for cell in header.strip("|").split("|")][1:3] == [
        "baseline", "now, native arithmetic (ONEDNN_MAX_CPU_ISA=DEFAULT)",
    ]  # fmt: skip


def test_a_metric_that_the_baseline_does_not_have_can_not_be_judged(gated):
    accuracy = json.loads(gated.read("metrics/test.json"))["accuracy"]
    change(gated, accuracy=None)
    gated.commit("Without accuracy")
    change(gated, accuracy=accuracy)
    assert row(gated.python("tools.gate.check", "--baseline", "HEAD", status=2), "accuracy")[
        5
    ].startswith("? new")


def test_a_real_regression_fails_and_says_why(gated):
    gated.set("train.epochs=1", "train.learning_rate=0.00001")
    gated.dvc("repro")
    target = gated.folder.parent / "check.json"
    output = gated.python("tools.gate.check", "--baseline", "HEAD", "--json", str(target), status=1)
    assert "✗ regression" in output.splitlines()[0] and "went from right to wrong" in output
    written = json.loads(target.read_text())
    assert (
        written["status"] == 1
        and {row["metric"]: row["verdict"] for row in written["metrics"]}["accuracy"]
        == "regression"
    )
    before = pd.read_csv(gated.folder / "plots/predictions.csv")
    assert written["paired"]["lost"] <= len(before) and written["paired"]["p"] < 1e-6


def test_the_paired_test_counts_images(gated):
    """Of 10 images that changed, 9 went from right to wrong.

    Hence the exact two-sided p = 2 * (1 + 10) / 2**10.
    """
    path = gated.folder / "plots/predictions.csv"
    table = pd.read_csv(path)
    right, wrong = (
        table.index[table["actual"] == table["predicted"]],
        table.index[table["actual"] != table["predicted"]],
    )
    if len(wrong) == 0:  # make one that can be won
        table.loc[right[-1], "predicted"] = (
            "Bag" if table.loc[right[-1], "actual"] != "Bag" else "Coat"
        )
        table.to_csv(path, index=False)
        gated.dvc("commit", "--force", "evaluate")
        gated.commit("One mistake")
        wrong, right = right[-1:], right[:-1]
    table.loc[wrong[0], "predicted"] = table.loc[wrong[0], "actual"]
    for i in right[:9]:
        table.loc[i, "predicted"] = "Bag" if table.loc[i, "actual"] != "Bag" else "Coat"
    table.to_csv(path, index=False)
    gated.dvc("commit", "--force", "evaluate")
    target = gated.folder.parent / "check.json"
    gated.python("tools.gate.check", "--baseline", "HEAD", "--json", str(target), status=None)
    paired = json.loads(target.read_text())["paired"]
    assert (paired["lost"], paired["won"]) == (9, 1) and paired["p"] == pytest.approx(
        2 * 11 / 2**10
    )


def test_results_edited_by_hand_are_caught(gated):
    path = gated.folder / "metrics/test.json"
    path.write_text(path.read_text().replace('"accuracy": 0', '"accuracy": 1'))
    output = gated.python("tools.gate.check", "--baseline", "HEAD", status=1)
    assert "evaluate: metrics/test.json is not what the stage wrote" in output


def test_a_missing_output_is_caught(gated):
    (gated.folder / "models/model.keras").unlink()
    assert "train: models/model.keras is missing" in gated.python(
        "tools.gate.check", "--baseline", "HEAD", status=1
    )


def test_results_of_other_params_or_code_are_caught(gated):
    gated.set("train.epochs=3")
    assert "train: params.yaml has changed since the stage ran" in gated.python(
        "tools.gate.check", "--baseline", "HEAD", status=1
    )
    gated.set("train.epochs=2")
    path = gated.folder / "fashion/metrics.py"
    path.write_text(path.read_text() + "\n# changed\n")
    assert "evaluate: fashion/metrics.py has changed" in gated.python(
        "tools.gate.check", "--baseline", "HEAD", status=1
    )


def test_a_stage_that_was_skipped_is_caught(gated):
    path = gated.folder / "dvc.lock"
    lock = yaml.safe_load(path.read_text())
    del lock["stages"]["evaluate"]
    path.write_text(yaml.safe_dump(lock))
    assert "- evaluate: " in gated.python("tools.gate.check", "--baseline", "HEAD", status=1)


@pytest.mark.parametrize(
    ("param", "named"),
    [
        ("name=Fashion-MNIST", "the data set"),
        (f"files.test_images.sha256={'f' * 64}", "the test images"),
        ("prepare.validation_size=100", "the size of the validation split"),
    ],
)
def test_unlike_things_are_not_compared(gated, param, named):
    gated.set(param)
    output = gated.python("tools.gate.check", "--baseline", "HEAD", status=2)
    assert (
        output.startswith(f"check: {named} differs from the baseline's") and "--baseline" in output
    )


def test_by_default_it_compares_with_the_commit_before_or_where_main_was_left(gated):
    gated.python("tools.gate.check")  # on main: the commit before, which has the same results
    gated.run("git", "checkout", "--quiet", "-b", "feature")
    for message in ("One", "Two"):
        (gated.folder / message).write_text(message)
        gated.commit(message)
    main = gated.run("git", "rev-parse", "--short=7", "main").strip()
    assert f"Check against {main}" in gated.python("tools.gate.check")


def test_what_is_not_there_can_not_be_judged(gated, tmp_path):
    assert "there is no revision nowhere" in gated.python(
        "tools.gate.check", "--baseline", "nowhere", status=2
    )
    first = gated.run("git", "rev-list", "--max-parents=0", "HEAD").strip()
    assert "no metrics" in gated.python("tools.gate.check", "--baseline", first, status=2)
    shallow = type(gated)(tmp_path / "shallow")
    gated.run("git", "clone", "--quiet", "--depth", "1", gated.folder.as_uri(), str(shallow.folder))
    assert "git fetch --unshallow" in shallow.run(
        sys.executable, "-m", "tools.gate.check", status=2
    )
    (gated.folder / "metrics/noise.json").unlink()
    gated.commit("No noise")
    assert "`make noise` measures it" in gated.python(
        "tools.gate.check", "--baseline", "HEAD", status=2
    )


def test_a_baseline_can_be_an_experiment(gated):
    gated.dvc("exp", "run", "--temp", "--name", "other", "--set-param", "train.epochs=3")
    assert "Check against other" in gated.python(
        "tools.gate.check", "--baseline", "other", status=None
    )


def test_it_says_when_noise_is_that_of_other_params_or_another_environment(gated):
    path = gated.folder / "metrics/noise.json"
    noise = json.loads(path.read_text())
    noise["params"], noise["environment"]["cpu"] = {"train": {"epochs": 99}}, "another"
    path.write_text(json.dumps(noise))
    output = gated.python("tools.gate.check", "--baseline", "HEAD")
    assert (
        "measured for other params (train)" in output
        and "measured in another environment" in output
    )


def test_in_ci_the_summary_has_the_table(gated):
    summary = gated.folder.parent / "summary.md"
    gated.python("tools.gate.check", "--baseline", "HEAD", GITHUB_STEP_SUMMARY=str(summary))
    text = summary.read_text()
    assert "| accuracy" in text


def test_the_committed_gate_has_metrics_that_there_are(repository):
    names = set(json.loads(repository.read("metrics/test.json"))) | set(
        json.loads(repository.read("metrics/train.json"))
    )

    project = Path(__file__).parents[2]
    assert set(read_gate(project / "gate.yaml").metrics) <= names
