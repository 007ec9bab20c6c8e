import json
import sys

import numpy as np
import pytest
from PIL import Image

from tools.predict import MODEL


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


def test_a_test_image_and_its_file_get_the_probabilities_that_evaluate_wrote(repository, pictures):
    classes = repository.read("plots/predictions.csv").decode().splitlines()[1:4]
    names = [str(pictures / f"{i}.png") for i in range(3)]
    output = lines(repository.python("tools.predict", *names, "--test", "0", "1", "2", "--json"))
    images = [line["image"] for line in output]
    assert images == [*names, "test image 0", "test image 1", "test image 2"]
    for line, row in zip(output, classes * 2, strict=True):
        _, predicted, confidence = row.rsplit(",", 2)
        best = line["predictions"][0]
        assert best["class"] == predicted
        assert best["probability"] == pytest.approx(float(confidence), abs=2e-6)
        assert len(line["predictions"]) == 3
    assert output[3]["actual"] == classes[0].rsplit(",", 2)[0]


def test_it_is_shown_in_the_terminal_with_bars_and_in_a_picture(repository, pictures):
    output = repository.python(
        "tools.predict", str(pictures / "0.png"), "--top", "10", "--plot", "chart.png"
    )
    assert output.count("%") == 10
    assert "█" in output
    assert Image.open(repository.folder / "chart.png").size[0] > 500


def test_standard_input(repository, pictures):
    command = f'{sys.executable} -m tools.predict - --json < "{pictures / "1.png"}"'
    (from_input,) = lines(repository.run("sh", "-c", command))
    (from_file,) = lines(repository.python("tools.predict", str(pictures / "1.png"), "--json"))
    assert from_input["predictions"] == from_file["predictions"]


def test_what_cannot_be_read_is_named_and_the_rest_still_shown(repository, pictures):
    names = [str(pictures / "no.png"), "absent.png", str(pictures / "0.png")]
    output = repository.python("tools.predict", *names, "--json", status=1)
    assert [line["image"] for line in lines(output)] == [names[2]]
    assert f"predict: {names[0]}: not a picture in PNG or JPEG format" in output
    assert "predict: absent.png: No such file or directory" in output
    assert "Traceback" not in output


def test_a_model_of_another_revision_and_no_stage_is_run(compared, tmp_path, pictures):
    repository = compared(tmp_path)
    before = repository.results()
    repository.set("train.epochs=1")
    # as `short`, which DVC has in its cache
    repository.dvc("exp", "run", "--quiet", "--name", "shorter")
    shorter = repository.python("tools.predict", str(pictures / "0.png"), "--json")
    assert (
        repository.python("tools.predict", str(pictures / "0.png"), "--json", "--rev", "shorter")
        == shorter
    )
    committed = repository.python(
        "tools.predict", str(pictures / "0.png"), "--json", "--rev", "HEAD"
    )
    assert committed != shorter
    repository.run("git", "checkout", "--quiet", ".")
    repository.dvc("checkout", "--quiet")
    assert repository.python("tools.predict", str(pictures / "0.png"), "--json") == committed
    assert repository.results() == before


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--test", "400"], 1, "there are 400 test images, counted from 0"),
        (["--test", "0", "--rev", "nowhere"], 1, "there is no revision nowhere"),
        ([], 2, "name pictures"),
        (["--test", "0", "--top", "0"], 2, "--top must be at least 1"),
    ],
)
def test_wrong_arguments(repository, arguments, status, message):
    output = repository.python("tools.predict", *arguments, status=status)
    assert message in output
    assert "Traceback" not in output


def test_without_its_model_it_says_how_to_get_one(repository):
    (repository.folder / MODEL).unlink()
    assert "`dvc repro` trains it" in repository.python("tools.predict", "--test", "0", status=1)
    for file in (repository.folder / ".dvc/cache/files").rglob("*"):
        if file.is_file():
            file.chmod(0o600)
            file.unlink()
    output = repository.python("tools.predict", "--test", "0", "--rev", "HEAD", status=1)
    assert "the model of HEAD is not in DVC's cache" in output
    assert "Traceback" not in output
