import json
import sys

import numpy as np
import pytest
from PIL import Image

from tests.support.repository import Repository
from tools import predict

pytestmark = pytest.mark.xdist_group("TensorFlow")  # so that one process loads it


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


def lines(output):
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def test_a_test_image_and_its_file_get_the_probabilities_that_evaluate_wrote(
    trained, pictures, call
):
    classes = trained.read("plots/predictions.csv").decode().splitlines()[1:4]
    names = [str(pictures / f"{i}.png") for i in range(3)]
    output = lines(call(trained, predict, *names, "--test", "0", "1", "2", "--json"))
    images = [line["image"] for line in output]
    assert images == [*names, "test image 0", "test image 1", "test image 2"]
    for line, row in zip(output, classes * 2, strict=True):
        _, predicted, confidence, _ = row.rsplit(",", 3)
        best = line["predictions"][0]
        assert best["class"] == predicted
        assert best["probability"] == pytest.approx(float(confidence), abs=2e-6)
        assert len(line["predictions"]) == 3
    assert output[3]["actual"] == classes[0].rsplit(",", 3)[0]


def test_it_is_shown_in_the_terminal_with_bars_and_in_a_picture(trained, pictures, call, tmp_path):
    chart = tmp_path / "chart.png"
    output = call(trained, predict, str(pictures / "0.png"), "--top", "10", "--plot", str(chart))
    assert output.count("%") == 10
    assert "█" in output
    assert Image.open(chart).size[0] > 500


def test_standard_input(trained, pictures, call, monkeypatch):
    with (pictures / "1.png").open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        (from_input,) = lines(call(trained, predict, "-", "--json"))
    (from_file,) = lines(call(trained, predict, str(pictures / "1.png"), "--json"))
    assert from_input["predictions"] == from_file["predictions"]


def test_what_cannot_be_read_is_named_and_the_rest_still_shown(trained, pictures):
    names = [str(pictures / "no.png"), "absent.png", str(pictures / "0.png")]
    output = trained.python("tools.predict", *names, "--json", status=1)
    assert [line["image"] for line in lines(output)] == [names[2]]
    assert f"predict: {names[0]}: not a picture in PNG or JPEG format" in output
    assert "predict: absent.png: No such file or directory" in output
    assert "Traceback" not in output


def test_a_model_of_another_revision_and_no_stage_is_run(repository, pictures, call):
    picture = [str(pictures / "0.png"), "--json"]
    before, committed = repository.results(), call(repository, predict, *picture)
    change_model(repository)
    repository.dvc("commit", "--quiet", "--force", "train")
    repository.dvc("exp", "save", "--quiet", "--name", "other")
    other = call(repository, predict, *picture)
    assert call(repository, predict, *picture, "--rev", "other") == other
    assert call(repository, predict, *picture, "--rev", "HEAD") == committed
    assert committed != other
    repository.run("git", "checkout", "--quiet", ".")
    repository.dvc("checkout", "--quiet")
    assert call(repository, predict, *picture) == committed
    assert call(repository, predict, *picture, "--rev", "other") == other
    assert repository.results() == before


def change_model(repository) -> None:
    """Turn the order of its classes round, as if it had been trained otherwise."""
    from fashion.model.backend import keras
    from fashion.model.networks import load_model, save_model

    path = repository.folder / predict.MODEL
    model = load_model(path)
    for variable in model.layers[-1].trainable_variables:
        variable.assign(keras.ops.flip(variable, axis=-1))
    save_model(model, path)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--test", "400"], 1, "there are 400 test images, counted from 0"),
        (["--test", "0", "--rev", "nowhere"], 1, "there is no revision nowhere"),
        ([], 2, "name pictures"),
        (["--test", "0", "--top", "0"], 2, "--top must be at least 1"),
    ],
)
def test_wrong_arguments(trained, call, arguments, status, message):
    assert message in call(trained, predict, *arguments, status=status)


def test_without_its_model_it_says_how_to_get_one(repository, call):
    (repository.folder / predict.MODEL).unlink()
    assert "not here yet. `make` trains it" in call(repository, predict, "--test", "0", status=1)
    for file in (repository.folder / ".dvc/cache/files").rglob("*"):
        if file.is_file():
            file.chmod(0o600)
            file.unlink()
    output = call(repository, predict, "--test", "0", "--rev", "HEAD", status=1)
    assert "the model of HEAD is not in DVC's cache" in output
