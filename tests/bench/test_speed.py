import json
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from bench.measure import RAW, measure
from bench.speed import grown_project, main, repeat_items
from fashion.core.dataset import read_dataset
from fashion.core.files import sha256
from fashion.core.strict_yaml import read_yaml
from fashion.data.idx import read_idx, write_idx
from tests.support.commands import call, typed
from tools.experiments.config import read_experiments

VARIABLES = ("ONEDNN_MAX_CPU_ISA", "OMP_NUM_THREADS")
MAKE, SCRIPT, TRAIN = "tools.rebuild", "bench.baseline", "stages.train"
STAGES = ["stages.prepare 1", "stages.train 1", "stages.evaluate 1"]
EXPECTED = {  # the clones, and what runs in them with the arithmetic, threads and batch size
    "end-to-end": [
        *("clone ", f"{MAKE} portable AVX2", "clone fetch", f"{SCRIPT} portable AVX2"),
        *("clone ", f"{MAKE} native", "clone fetch", f"{SCRIPT} native"),
    ],
    "commands": ["clone prepare", MAKE]
    + [MAKE, "dvc"] * 2
    + ["tools.predict", "import tensorflow"] * 2
    + ["stages.evaluate", "import tensorflow, keras"] * 2
    + ["stages.plot"] * 2,
    "experiment": ["clone prepare", "dvc 1"],
    "training": ["clone prepare"]
    + [
        f"{program} {setting}, batch {size}"
        for setting in ("portable AVX2 1", "native 2")
        for size in (64, 128, 256)
        for program in (TRAIN, SCRIPT)
    ],
    "growth": ["clone 1", *STAGES, "clone 16", *STAGES, "clone 100", *STAGES],
}


@pytest.mark.parametrize("section", EXPECTED)
def test_a_section_runs_each_rival_in_its_setting_and_records_it(section, repository, monkeypatch):
    steps = []

    @contextmanager
    def record_clone(what=""):
        steps.append(f"clone {what}")
        yield repository.folder

    def record_command(folder, *words, **variables):
        read_experiments()  # they are valid
        params = read_yaml(folder / "params.yaml")
        chosen = [params["arithmetic"]] if section in ("end-to-end", "training") else []
        chosen += [variables[key] for key in VARIABLES if key in variables]
        size = f", batch {params['train']['batch_size']}" if section == "training" else ""
        steps.append(" ".join([words[1], *chosen]) + size)
        return dict.fromkeys(
            ("seconds", "CPU seconds", "seconds an epoch", "MB"), float(len(steps))
        )

    for name, recorder in (("clone", record_clone), ("grown_project", record_clone)):
        monkeypatch.setattr(f"bench.speed.{name}", recorder)
    monkeypatch.setattr("bench.speed.measure", record_command)
    monkeypatch.setattr("bench.speed.cpu_count", lambda: 2)
    call(main, repository.folder, "--only", section, "--repetitions", "1")
    assert steps == EXPECTED[section]
    table = json.loads(repository.read("bench/results/speed.json"))["tables"][section]
    assert str(len(steps)) in table[-1].values()


def test_a_grown_project_repeats_the_images_and_describes_them(repository):
    with typed(repository.folder, "speed"), grown_project(3) as folder:
        for name, file in read_dataset(folder / "dataset.yaml").files:
            assert file.sha256 == sha256(folder / RAW / file.name)
            shape = (None, 28, 28) if "images" in name else (None,)
            once, thrice = (read_idx(path / RAW / file.name, shape) for path in (Path(), folder))
            assert (thrice == np.concatenate([once] * 3)).all()


@pytest.mark.parametrize("name", ["a", "a.gz"])
def test_files_that_are_packed_or_not_are_repeated_as_they_are(tmp_path, name):
    items = np.arange(6, dtype=np.uint8).reshape(2, 3)
    write_idx(tmp_path / name, items)
    repeat_items(tmp_path / name, tmp_path / f"more-{name}", 3)
    assert (read_idx(tmp_path / f"more-{name}", (None, 3)) == np.tile(items, (3, 1))).all()


@pytest.mark.slow
def test_the_plain_script_makes_what_an_experiment_makes(repository, tmp_path):
    repository.set("experiments={run: {train.epochs: 2, train.batch_size: 64}}")
    assert measure(repository.folder, "-m", SCRIPT, str(tmp_path))["seconds an epoch"] > 0
    plots = {path.name for path in (repository.folder / "plots").glob("*.png")}
    assert {path.name for path in (tmp_path / "run").glob("*.png")} == plots
    metrics = json.loads((tmp_path / "run/test.json").read_text())
    assert metrics.keys() == json.loads(repository.read("metrics/test.json")).keys()
    assert len((tmp_path / "run/history.csv").read_text().splitlines()) == 1 + 2
