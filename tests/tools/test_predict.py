import json
import os
import re
import shutil
from contextlib import chdir

import numpy as np
import pytest
from PIL import Image

from fashion.core.files import md5, read_csv
from fashion.core.strict_yaml import read_yaml
from fashion.plots import figures
from tests.support.repository import PROJECT, Repository
from tools import predict


@pytest.fixture(scope="module")
def trained(built) -> Repository:
    """Return a repository with a trained model, to be read only."""
    return Repository(built)


@pytest.fixture(scope="module")
def pictures(built, tmp_path_factory):
    """Return a folder with the test images as PNG files, and a file that is no picture."""
    folder = tmp_path_factory.mktemp("pictures")
    images = np.load(built / "data/prepared/test_images.npy")
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i}.png")
    (folder / "no.png").write_text("not a picture")
    return folder


def lines(output: str) -> list[dict]:
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def test_a_test_image_and_its_file_get_the_probabilities_that_evaluate_wrote(
    trained, pictures, call
):
    table = read_csv(trained.folder / "plots/predictions.csv")
    names = [str(pictures / f"{i}.png") for i in range(len(table))]
    words = (*names, "--test", *map(str, range(len(table))), "--json")
    output = lines(call(trained, predict, *words))
    files, images = output[: len(table)], output[len(table) :]
    assert [line["image"] for line in files] == names
    for i, (file, image, row) in enumerate(zip(files, images, table.itertuples(), strict=True)):
        assert image["image"] == f"test image {i}"
        assert (file["actual"], image["actual"]) == (None, row.actual)
        assert file["predictions"] == image["predictions"]  # to the bit
        best, probability = next(iter(image["predictions"].items()))
        assert best == row.predicted and len(image["predictions"]) == 3
        assert probability == pytest.approx(row.confidence, abs=2e-6)


def test_the_lines_of_keras_that_the_page_shows_give_the_same_classes(trained, capsys):
    page = (PROJECT / "docs/models.md").read_text(encoding="utf-8")
    program = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    with chdir(trained.folder):
        exec(program)
    labels = re.search(r"\[(\d) (\d) (\d)\]", capsys.readouterr().out).groups()
    names = json.loads(trained.read("data/prepared/dataset.json"))["class_names"]
    rows = read_csv(trained.folder / "plots/predictions.csv")
    assert [names[int(label)] for label in labels] == rows["predicted"][:3].tolist()


def test_the_terminal_shows_bars_and_a_plot_is_written(
    trained, pictures, call, tmp_path, monkeypatch
):
    chart = tmp_path / "chart.png"
    output = call(trained, predict, str(pictures / "0.png"), "--top", "10", "--plot", str(chart))
    assert output.count("%") == 10 and "█" in output
    shares = [float(line.split()[-1][:-1]) for line in output.splitlines() if "%" in line]
    bars = [line.count("█") for line in output.splitlines() if "%" in line]
    assert shares == sorted(shares, reverse=True) and sum(shares) == pytest.approx(100, abs=0.5)
    assert bars == [pytest.approx(0.3 * share, abs=0.52) for share in shares]
    height = Image.open(chart).height
    odd = shutil.copy(pictures / "0.png", tmp_path / os.fsdecode(b"\xff.png"))  # not UTF-8
    Image.new("RGB", (60, 56)).save(tmp_path / "wide.png")
    output = call(trained, predict, str(tmp_path / "wide.png"))
    assert output.startswith(f"{tmp_path}/wide.png (colour to grey, 60x56 fitted to 28x28, ")
    monkeypatch.setattr(predict, "MAX_PLOTTED", 2)
    drawn, draw = [], figures.top_classes
    monkeypatch.setattr(figures, "top_classes", lambda rows: drawn.extend(rows) or draw(rows))
    words = (str(odd), "--test", "1", "2", "--plot", str(chart))
    titles = re.findall("test image.*", call(trained, predict, *words))
    assert drawn[1][1] == titles[0] and " (is " in titles[0] and len(titles) == 2
    assert Image.open(chart).height == 2 * height > 200  # a row for each of the first


def test_files_that_can_not_be_read_are_named_and_the_others_shown(trained, pictures, call):
    names = [str(pictures / "no.png"), "absent.png", str(pictures / "1.png")]
    output = call(trained, predict, *names, "--json", status=1)
    assert [one["image"] for one in lines(output)] == [names[2]]
    assert f"predict: {names[0]}: not a picture in PNG or JPEG format" in output
    assert "predict: absent.png: No such file or directory" in output


def test_the_model_of_an_experiment_is_that_of_its_own_dvc_lock(compared, monkeypatch):
    monkeypatch.chdir(compared.folder)
    found = {one: md5(predict.model_file(one)) for one in compared.experiments().values()}
    assert len({*found.values()}) == 2
    for revision, digest in found.items():
        assert f"md5: {digest}" in compared.run("git", "show", f"{revision}:dvc.lock")


def test_a_model_that_is_corrupted_or_of_other_data_is_named_with_what_to_do(
    repository, pictures, call
):
    for change in ("image_shape=[14, 14]", "class_names=[cat, dog]"):
        repository.set(change)
        output = call(repository, predict, str(pictures / "0.png"), status=1)
        assert "does not fit the images and classes in dataset.yaml. `dvc repro` tra" in output
        repository.run("git", "checkout", "--quiet", "dataset.yaml")
    names = read_yaml(repository.folder / "dataset.yaml")["class_names"]
    repository.set(f"class_names={names[::-1]}")  # after the data were prepared
    (line,) = lines(call(repository, predict, "--test", "0", "--json"))
    assert line["actual"] == read_csv(repository.folder / "plots/predictions.csv")["actual"][0]
    model = repository.folder / "models/model.keras"
    model.unlink()
    model.write_bytes(b"PK")
    output = call(repository, predict, "--test", "0", status=1)
    assert "not a complete Keras model. `make fsck" in output
