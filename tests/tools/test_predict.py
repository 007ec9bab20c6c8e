import json
import re
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.support.repository import PROJECT, Repository
from tools import predict


@pytest.fixture(scope="module")
def trained(built) -> Repository:
    """A repository with a trained model, to read."""
    return Repository(built)


@pytest.fixture(scope="module")
def pictures(built, tmp_path_factory):
    """The first test images, as PNG files of their own."""
    folder = tmp_path_factory.mktemp("pictures")
    images = np.load(built / "data/prepared/test_images.npy")
    for i in range(3):
        Image.fromarray(images[i]).save(folder / f"{i}.png")
    (folder / "no.png").write_text("not a picture")
    return folder


def lines(output: str) -> list[dict]:
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def test_a_test_image_and_its_file_get_the_probabilities_that_evaluate_wrote(
    trained, pictures, call
):
    rows = trained.read("plots/predictions.csv").decode().splitlines()[1:4]
    names = [str(pictures / f"{i}.png") for i in range(3)]
    output = lines(call(trained, predict, *names, "--test", "0", "1", "2", "--json"))
    images = [line["image"] for line in output]
    assert images == [*names, "test image 0", "test image 1", "test image 2"]
    for line, row in zip(output, rows * 2, strict=True):
        actual, predicted, confidence, _ = row.rsplit(",", 3)
        best, probability = next(iter(line["predictions"].items()))
        assert best == predicted and len(line["predictions"]) == 3
        assert probability == pytest.approx(float(confidence), abs=2e-6)
        assert line["actual"] in (None, actual)
    assert output[3]["actual"] is not None


def test_the_lines_of_keras_that_the_page_shows_give_the_same_classes(trained):
    page = (PROJECT / "docs/models.md").read_text(encoding="utf-8")
    program = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    output = trained.run(sys.executable, "-c", program, TF_CPP_MIN_LOG_LEVEL="3")
    labels = re.search(r"\[(\d) (\d) (\d)\]", output).groups()
    names = json.loads(trained.read("data/prepared/dataset.json"))["class_names"]
    rows = pd.read_csv(trained.folder / "plots/predictions.csv", dtype=str)
    assert [names[int(label)] for label in labels] == rows["predicted"][:3].tolist()


def test_it_is_shown_in_the_terminal_with_bars_and_in_a_picture(trained, pictures, call, tmp_path):
    chart = tmp_path / "chart.png"
    output = call(trained, predict, str(pictures / "0.png"), "--top", "10", "--plot", str(chart))
    assert output.count("%") == 10 and "█" in output
    shares = [float(line.split()[-1][:-1]) for line in output.splitlines() if "%" in line]
    bars = [line.count("█") for line in output.splitlines() if "%" in line]
    assert shares == sorted(shares, reverse=True) and sum(shares) == pytest.approx(100, abs=0.5)
    assert bars == [pytest.approx(0.3 * share, abs=0.52) for share in shares]
    assert Image.open(chart).size[0] > 500


def test_what_can_not_be_read_is_named_and_the_rest_still_shown(trained, pictures, call):
    names = [str(pictures / "no.png"), "absent.png", str(pictures / "1.png")]
    output = call(trained, predict, *names, "--json", status=1)
    assert [one["image"] for one in lines(output)] == [names[2]]
    assert f"predict: {names[0]}: not a picture in PNG or JPEG format" in output
    assert "predict: absent.png: No such file or directory" in output


def test_a_corrupted_model_is_named_with_what_to_do(repository, pictures, call):
    model = repository.folder / "models/model.keras"
    model.unlink()
    model.write_bytes(b"PK")
    output = call(repository, predict, str(pictures / "0.png"), status=1)
    assert "not a whole Keras model. `dvc repro` makes it again" in output


def test_a_model_of_another_revision_and_no_stage_is_run(repository, pictures, call):
    picture = [str(pictures / "0.png"), "--json"]
    before, committed = repository.results(), call(repository, predict, *picture)
    change_model(repository)
    repository.dvc("commit", "--quiet", "--force", "train")
    repository.dvc("exp", "save", "--quiet", "--name", "other")
    other = call(repository, predict, *picture)
    assert call(repository, predict, *picture, "--rev", "other") == other
    assert call(repository, predict, *picture, "--rev", "HEAD") == committed != other
    repository.run("git", "checkout", "--quiet", ".")
    repository.dvc("checkout", "--quiet")
    assert call(repository, predict, *picture) == committed
    assert repository.results() == before


def test_class_names_are_those_of_the_revision(repository, call):
    words = ["--test", "0", "--top", "10", "--json"]
    classes = lines(call(repository, predict, *words))[0]["predictions"].keys()
    repository.set(f"class_names=[{', '.join(f'class {label}' for label in range(10))}]")
    assert lines(call(repository, predict, *words))[0]["predictions"].keys() != classes
    found = lines(call(repository, predict, *words, "--rev", "HEAD"))[0]["predictions"].keys()
    assert found == classes


def change_model(repository) -> None:
    """Turn the order of its classes round, as if it had been trained otherwise."""
    from fashion.model.backend import keras
    from fashion.model.networks import load_model, save_model

    path = repository.folder / predict.MODEL
    model = load_model(path)
    for variable in model.layers[-1].trainable_variables:
        variable.assign(keras.ops.flip(variable, axis=-1))
    save_model(model, path)


def test_a_model_that_is_not_there_is_reported_before_tensorflow_starts(committed, tmp_path):
    clone = Repository(tmp_path / "clone")
    committed.run("git", "clone", "--quiet", ".", str(clone.folder))
    program = (
        "import sys, atexit\nsys.argv += ['--test', '0', '--rev', 'HEAD']\n"
        "atexit.register(lambda: print('tensorflow' in sys.modules))\n"
        "from tools.predict import *\nwith command_line('predict'): main()"
    )
    output = clone.run(sys.executable, "-c", program, status=1)
    assert "is not in DVC's cache" in output and output.endswith("False\n")
