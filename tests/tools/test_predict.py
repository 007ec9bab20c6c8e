import json
import re
from contextlib import chdir

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.support.repository import PROJECT, Repository
from tools import predict


@pytest.fixture(scope="module")
def trained(built) -> Repository:
    """Return a repository with a trained model, to be read only."""
    return Repository(built)


@pytest.fixture(scope="module")
def pictures(built, tmp_path_factory):
    """Return a folder with the first test images as PNG files, and a file that is no picture."""
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


def test_the_lines_of_keras_that_the_page_shows_give_the_same_classes(trained, capsys):
    page = (PROJECT / "docs/models.md").read_text(encoding="utf-8")
    program = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    with chdir(trained.folder):
        exec(program)
    labels = re.search(r"\[(\d) (\d) (\d)\]", capsys.readouterr().out).groups()
    names = json.loads(trained.read("data/prepared/dataset.json"))["class_names"]
    rows = pd.read_csv(trained.folder / "plots/predictions.csv", dtype=str)
    assert [names[int(label)] for label in labels] == rows["predicted"][:3].tolist()


def test_the_terminal_shows_bars_and_a_plot_is_written(trained, pictures, call, tmp_path):
    chart = tmp_path / "chart.png"
    output = call(trained, predict, str(pictures / "0.png"), "--top", "10", "--plot", str(chart))
    assert output.count("%") == 10 and "█" in output
    shares = [float(line.split()[-1][:-1]) for line in output.splitlines() if "%" in line]
    bars = [line.count("█") for line in output.splitlines() if "%" in line]
    assert shares == sorted(shares, reverse=True) and sum(shares) == pytest.approx(100, abs=0.5)
    assert bars == [pytest.approx(0.3 * share, abs=0.52) for share in shares]
    assert Image.open(chart).size[0] > 500


def test_files_that_can_not_be_read_are_named_and_the_others_shown(trained, pictures, call):
    names = [str(pictures / "no.png"), "absent.png", str(pictures / "1.png")]
    output = call(trained, predict, *names, "--json", status=1)
    assert [one["image"] for one in lines(output)] == [names[2]]
    assert f"predict: {names[0]}: not a picture in PNG or JPEG format" in output
    assert "predict: absent.png: No such file or directory" in output


def test_a_model_that_is_corrupted_or_of_other_data_is_named_with_what_to_do(repository, call):
    repository.set("class_names=[cat, dog]")
    output = call(repository, predict, "--test", "0", status=1)
    assert "does not fit the images and classes in dataset.yaml. `dvc repro` trains one" in output
    model = repository.folder / "models/model.keras"
    model.unlink()
    model.write_bytes(b"PK")
    output = call(repository, predict, "--test", "0", status=1)
    assert "not a complete Keras model. `dvc repro` rebuilds it" in output
