"""Write dataset.yaml for a user's own data, in each form in which people have it."""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fashion.core.dataset import read_dataset
from fashion.core.errors import UserError
from fashion.core.strict_yaml import read_yaml
from fashion.data.idx import read_idx, write_idx
from fashion.preprocessing import ORIENTATION, preprocess_image
from tests.support.commands import refusal
from tests.support.repository import Repository, copy_toy_stages
from tools import dataset, predict
from tools.report import __main__ as report
from tools.sources import read_npz

SHAPE, CLASSES = (12, 9), ["007", "1e5", "NA"]  # which look like numbers, and are names
Splits = dict[str, tuple[np.ndarray, np.ndarray]]


def bars(ground: int = 0) -> Splits:
    """Return 60 and 30 noisy images of a bar in one of three places."""
    random, splits = np.random.default_rng(0), {}
    for split, count in (("train", 60), ("test", 30)):
        labels = (np.arange(count) % 3).astype(np.uint8)
        images = np.full((count, *SHAPE), ground, np.uint8)
        for image, label in zip(images, labels, strict=True):
            bar = random.integers(90, 166, (10, 2))
            image[1:-1, 1 + 3 * label : 3 + 3 * label] = bar
        splits[split] = images, labels
    return splits


def cells(classes: int, seed: int) -> Splits:
    """Return 20 and 5 noisy images of each class, of which each lights another cell."""
    random, splits = np.random.default_rng(seed), {}
    for split, each in (("train", 20), ("test", 5)):
        labels = (np.arange(each * classes) % classes).astype(np.uint8)
        images = random.integers(0, 40, (len(labels), 16, 16), np.uint8)
        for image, label in zip(images, labels, strict=True):
            down, across = 2 + 2 * (label // 6), 2 + 2 * (label % 6)
            image[down : down + 2, across : across + 2] = 220
        splits[split] = images, labels
    return splits


def write_idx_files(folder: Path, splits: Splits, prefix: str = "", first: int = 0) -> None:
    """Write four files with the usual names, packed in the training split, unpacked in the test."""
    names = {"train": "train-{}-idx{}-ubyte.gz", "test": "t10k-{}.idx{}-ubyte"}
    for split, (images, labels) in splits.items():
        write_idx(folder / (prefix + names[split].format("images", 3)), images)
        write_idx(folder / (prefix + names[split].format("labels", 1)), labels + np.uint8(first))


def write_more_classes(folder: Path, splits: Splits) -> None:
    """Write a data set whose test labels are 1 to 3, while those of training are 0 to 2."""
    images, labels = splits["test"]
    write_idx_files(folder, splits | {"test": (images, labels + np.uint8(1))})


def write_emnist(folder: Path, splits: Splits, first: int = 1) -> None:
    """Write two sets, one with labels from `first` on, a text file, and an archive of all."""
    write_idx_files(folder, splits, "emnist-letters-", first)
    write_idx_files(folder, bars(255), "emnist-digits-")
    (folder / "emnist-letters-mapping.txt").write_text("1 65 97\n")
    (folder / "emnist-letters-train-test.tar.gz").touch()


def write_tables(folder: Path, splits: Splits) -> None:
    """Write CSV files as Kaggle has them."""
    for split, (images, labels) in splits.items():
        pixels = images.reshape(len(images), -1)
        table = pd.DataFrame(pixels, columns=[f"pixel{i + 1}" for i in range(pixels.shape[1])])
        table.insert(0, "label", labels)
        table.to_csv(folder / f"bars_{split}.csv", index=False)


def write_archive(
    folder: Path, splits: Splits, save: Callable = np.savez, colours: int = 3
) -> None:
    """Write an .npz file with colours, of which all are equal."""
    images = {
        f"x_{split}": np.stack([pixels] * colours, axis=-1) for split, (pixels, _) in splits.items()
    }
    shape = (-1, 1) if colours == 3 else -1  # as CIFAR-10 has them
    labels = {f"y_{split}": labels.reshape(shape) for split, (_, labels) in splits.items()}
    save(folder / "bars.npz", **images, **labels)


def write_pictures(
    folder: Path, splits: Splits, at: Callable = lambda split: split, names: Sequence[str] = CLASSES
) -> None:
    """Write colour pictures of mixed sizes, PNG and JPEG, whose grey is that of the images."""
    for split, (images, labels) in splits.items():
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            times = 1 + i % 3
            pixels = np.repeat(np.repeat(image, times, 0), times, 1)
            path = folder / at(split) / names[label] / f"{split}-{i:02}.png"
            path = path.with_suffix(".JPG") if i % 5 == 4 else path
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).convert("RGB").save(path)


def converted(folder: Path) -> Splits:
    """Return the images and labels in the files that dataset.yaml names."""
    content, splits = read_yaml(folder / "dataset.yaml"), {}
    for split in ("train", "test"):
        names = [content["files"][f"{split}_{kind}"]["name"] for kind in ("images", "labels")]
        images, labels = (folder / content["sources"][0] / name for name in names)
        splits[split] = read_idx(images, (None, *SHAPE)), read_idx(labels, (None,))
    return splits


def spoil(path: Path) -> None:
    """Cut off the second half of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.fixture
def project(tmp_path) -> Repository:
    """Return an empty folder, which is all that the command needs."""
    (tmp_path / "project").mkdir()
    return Repository(tmp_path / "project")


SIZE = ("--size", *map(str, SHAPE))
EXACT = {
    "idx": (write_idx_files, "", ()),
    "emnist": (write_emnist, "", ("--prefix", "emnist-letters")),
    "one of two sets": (partial(write_emnist, first=0), "", ("--prefix", "emnist-letters")),
    "tables": (write_tables, "", SIZE),
    "archive": (write_archive, "bars.npz", ()),
    "grey archive": (partial(write_archive, colours=1), "bars.npz", ()),
}


@pytest.mark.parametrize("kind", EXACT)
def test_arrays_come_through_pixel_by_pixel(project, tmp_path, call, kind):
    write, name, options = EXACT[kind]
    source = tmp_path / "bars"
    source.mkdir()
    write(source, bars())
    output = call(project, dataset, str(source / name), *options, "--classes", *CLASSES)
    assert "Written: dataset.yaml, bars: 12x9, 3 classes, dark ground." in output
    assert ("labels begin with 1" in output) == (kind == "emnist")
    assert output.count("colours become grey") == (kind == "archive")
    for split, arrays in bars().items():
        for found, expected in zip(converted(project.folder)[split], arrays, strict=True):
            np.testing.assert_array_equal(found, expected)
    written = project.read("dataset.yaml")
    call(project, dataset, str(source / name), *options, "--classes", *CLASSES)
    assert project.read("dataset.yaml") == written


def test_pictures_become_grey_and_of_one_size_and_unreadable_ones_are_listed_or_left_out(
    project, tmp_path, call
):
    source = tmp_path / "bars"
    write_pictures(source, bars())
    output = call(project, dataset, str(source))
    assert "12x9, 3 classes, any ground" in output and "colour to grey: 90 of 90" in output
    assert read_yaml(project.folder / "dataset.yaml")["class_names"] == CLASSES
    expected, found = bars(), converted(project.folder)
    for split, (images, labels) in found.items():
        order = np.argsort(expected[split][1], kind="stable")  # by class, then by name
        np.testing.assert_array_equal(labels, expected[split][1][order])
        # some were enlarged, and some have the losses of JPEG
        assert abs(images.astype(int) - expected[split][0][order]).mean() < 12
    for name in (f"train/{CLASSES[0]}/train-00.png", f"test/{CLASSES[2]}/test-02.png"):
        spoil(source / name)
    message = refusal(dataset.main, project.folder, str(source))
    assert message.startswith("2 of 90 pictures can't be read:") and "train-00.png" in message
    assert len(converted(project.folder)["train"][1]) == 60  # as before
    (source / "train" / CLASSES[0] / "scan.bmp").touch()
    (source / "train/.cache").mkdir()
    shutil.copy(source / f"train/{CLASSES[0]}/train-03.png", source / "train/.cache")
    shutil.copytree(source / "test", source / "validation")
    output = call(project, dataset, str(source), "--skip-unreadable")
    assert (
        output.count("left out: ") == 2
        and f"not used: 31, such as train/{CLASSES[0]}/scan.bmp." in output
    )
    assert [len(labels) for _, labels in converted(project.folder).values()] == [59, 29]


def test_a_share_of_every_class_is_for_the_test_and_stays_as_pictures_are_added(
    project, tmp_path, call
):
    write_pictures(tmp_path / "bars", bars(), at=lambda split: "")
    words = (str(tmp_path / "bars"), "--test-share", "0.2", "--ground", "light")
    words += (*SIZE, "--fit", "crop", "--transparency", "black", "--name", "bars, " * 20 + "bars")
    for share in ((), ("--test-share", "1.5")):
        message = refusal(dataset.main, project.folder, words[0], *share)
        assert "--test-share 0.2 takes a fifth" in message
    call(project, dataset, *words)
    before, digest = converted(project.folder), project.read("dataset.yaml")
    assert f"name: {words[-1]}\n".encode() in digest  # in one line
    assert (before["test"][0][:, 0] > 127).all()  # the pictures have a dark edge
    assert np.bincount(before["test"][1]).tolist() == [6, 6, 6]
    assert np.bincount(before["train"][1]).tolist() == [24, 24, 24]
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 30, 4), np.uint8))
    picture.save(tmp_path / "bars" / CLASSES[0] / "new.png")
    call(project, dataset, *words)
    assert project.read("dataset.yaml") != digest
    (training, _), (after, _) = converted(project.folder).values()
    gone = [one for one in before["test"][0] if not (after == one).all(axis=(1, 2)).any()]
    assert len(gone) <= 1
    new, steps = preprocess_image(picture, read_dataset(project.folder / "dataset.yaml"))
    assert {"laid on black", "30x12 cropped to 9x12"} <= {*steps}
    assert (np.concatenate([training, after]) == new).all(axis=(1, 2)).any()


def test_pictures_whose_class_and_name_have_the_lowest_hashes_are_for_the_test(
    project, tmp_path, call
):
    for name in "ab":
        (tmp_path / "bars" / name).mkdir(parents=True)
        for i in range(10):
            Image.new("L", SHAPE[::-1], 10 * i).save(tmp_path / "bars" / name / f"{i}.png")
    call(project, dataset, str(tmp_path / "bars"), "--test-share", "0.5", "--ground", "dark")
    images, labels = converted(project.folder)["test"]
    for label, name in enumerate("ab"):
        hashes = {hashlib.sha256(f"{name}/{i}.png".encode()).digest(): i for i in range(10)}
        lowest = {10 * hashes[digest] for digest in sorted(hashes)[:5]}
        assert {*images[labels == label][:, 0, 0].tolist()} == lowest


def test_one_table_is_split_by_class_and_loses_no_row(project, tmp_path, call):
    write_tables(tmp_path, bars())
    table = tmp_path / "bars_train.csv"
    words = (str(table), *SIZE, "--test-share", "0.02", "--ground", "light")
    assert "classes are named by number" in call(project, dataset, *words)
    assert read_yaml(project.folder / "dataset.yaml")["ground"] == "light"
    found = converted(project.folder)
    assert [np.bincount(found[split][1]).tolist() for split in found] == [[19] * 3, [1] * 3]
    rows = np.concatenate([images for images, _ in found.values()])
    assert sorted(map(bytes, rows)) == sorted(map(bytes, bars()["train"][0]))
    words = (str(table), *SIZE, "--test-share", "0.2", "--classes", "a", "b")
    assert "has 3 classes, but only 2 are named" in refusal(dataset.main, project.folder, *words)
    assert "plots can't show \U0001fae8" in call(project, dataset, *words, "\U0001fae8")


@pytest.mark.parametrize(
    ("write", "change", "message"),
    [
        (write_idx_files, lambda f: (f / "t10k-labels.idx1-ubyte").unlink(), "expected four IDX"),
        (write_idx_files, lambda f: spoil(f / "train-labels-idx1-ubyte.gz"), "not a whole gzip"),
        (write_emnist, lambda f: None, "--prefix chooses one of several sets"),
        (
            write_idx_files,
            lambda f: write_idx(f / "t10k-images.idx3-ubyte", np.zeros((30, 9, 9), "u1")),
            "training images are (12, 9), test images (9, 9)",
        ),
        (
            write_idx_files,
            lambda f: write_idx(f / "t10k-labels.idx1-ubyte", np.zeros(29, "u1")),
            "t10k-images.idx3-ubyte: has 30 images for 29 labels",
        ),
        (write_tables, lambda f: None, "108 pixels are not 10x10. Give the size with --size"),
        (
            write_tables,
            lambda f: (f / "bars_train.csv").write_text("a,b\n1,2\n"),
            "not called label",
        ),
        (write_tables, lambda f: (f / "bars_train.csv").write_text(""), "No columns to parse"),
        (write_tables, lambda f: (f / "a_train.csv").touch(), "expected one CSV file"),
        (
            write_pictures,
            lambda f: shutil.rmtree(f / "test" / CLASSES[1]),
            "no test picture of 1e5",
        ),
        (lambda f, splits: None, lambda f: None, "has 0 folders with PNG or JPEG pictures"),
        (
            partial(write_pictures, at=lambda split: f"{split.title()}ing"),
            lambda f: None,
            "Testing, Training look like splits. Call the two folders train and test",
        ),
        (
            write_tables,
            lambda f: (f / "bars_train.csv").write_text("label,a\n1,2,3\n"),
            "Length of header or names does not match",
        ),
    ],
)
def test_what_is_no_data_set_is_refused(project, tmp_path, write, change, message):
    source = tmp_path / "bars"
    source.mkdir()
    write(source, bars())
    change(source)
    assert message in refusal(dataset.main, project.folder, str(source))
    assert [*project.folder.iterdir()] == []


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_train": np.zeros((2, 3, 3))}, "has no"),
        ({"x_train": np.full((2, 3, 3), 0.5), "y_train": [0, 1]}, "pixels are not whole numbers"),
        ({"x_train": np.full((2, 3, 3, 3), 0.5), "y_train": [0, 1]}, "pixels are not whole"),
        ({"x_train": np.zeros((2, 0, 3)), "y_train": [0, 1]}, "has no pixels in (2, 0, 3)"),
        ({"x_train": np.zeros((2, 9)), "y_train": [0, 1]}, "is (2, 9), not (items, height, width)"),
        ({"x_train": np.zeros((2, 3, 3)), "y_train": [0, 256]}, "labels are not whole numbers"),
        ({"x_train": np.zeros((2, 3, 3)), "y_train": [0]}, "2 images, 1 labels"),
    ],
)
def test_an_archive_with_other_arrays_is_refused(project, tmp_path, arrays, message):
    np.savez(tmp_path / "bars.npz", **arrays)
    assert message in refusal(dataset.main, project.folder, str(tmp_path / "bars.npz"))


@pytest.mark.parametrize(
    ("write", "words", "message"),
    [
        (write_idx_files, SIZE, "the images have a size, so leave out --size"),
        (write_archive, SIZE, "the images have a size, so leave out --size"),
        (write_idx_files, ("--prefix", "x"), "no IDX file begins with x"),
        (write_more_classes, ("--classes", *CLASSES), "has 4 classes, but only 3 are named"),
        (write_pictures, ("--test-share", "0.2"), "images for the test, so leave out --test-share"),
        (write_tables, (*SIZE, "--test-share", "0.2"), "is for the test, so leave out --test"),
        (write_pictures, ("--classes", *CLASSES[::-1]), "the folders name the classes, in this"),
    ],
)
def test_options_that_do_not_apply_are_refused(project, tmp_path, write, words, message):
    source = tmp_path / "bars"
    source.mkdir()
    write(source, bars())
    source = next(source.glob("*.npz"), source)
    assert message in refusal(dataset.main, project.folder, str(source), *words)
    assert not (project.folder / "dataset.yaml").exists()


def test_other_labels_are_other_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    splits = bars()
    images, labels = splits["test"]
    other = splits | {"test": (images, labels[::-1])}
    assert dataset.convert(splits) != dataset.convert(other)


def test_the_folder_that_dvc_empties_is_no_source(project):
    raw = project.folder / "data/raw"
    write_idx_files(raw, bars())
    message = refusal(dataset.main, project.folder, "data/raw")
    assert "data/raw: `dvc repro` empties data/raw. Move the files" in message
    assert len([*raw.iterdir()]) == 4


def test_pictures_are_upright_before_the_first_gives_the_size_and_all_get_the_ground(
    project, tmp_path, call
):
    upright, exif = np.full((12, 9), 200, np.uint8), Image.Exif()
    upright[3:9, 3:6] = 20
    exif[ORIENTATION] = 6  # the camera was held upright
    for split in ("train", "test"):
        for i, name in enumerate(("a", "b", "c")):
            path = tmp_path / "bars" / split / name / "1.png"
            path.parent.mkdir(parents=True)
            turned = np.rot90(upright) if i == 0 else upright
            Image.fromarray(turned).save(path, **({"exif": exif} if i == 0 else {}))
    call(project, dataset, str(tmp_path / "bars"), "--ground", "dark")
    (images, _), _ = converted(project.folder).values()
    assert (images == 255 - upright).all()


def test_colours_of_an_archive_become_grey_by_their_brightness(tmp_path):
    pixel, path = np.uint8([[[[200, 100, 50]]]]), tmp_path / "a.npz"
    np.savez(path, x_train=pixel, y_train=[0], x_test=pixel, y_test=[0])
    assert read_npz(path)["train"][0] == round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)


def test_a_corrupted_archive_is_read_or_refused(project, tmp_path):
    path, refused = tmp_path / "bars.npz", 0
    write_archive(tmp_path, bars(), np.savez_compressed)
    whole = path.read_bytes()
    for at in range(0, len(whole), len(whole) // 50):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
        try:
            read_npz(path)
        except UserError as error:
            assert str(error).startswith(f"{path}: ")
            refused += 1
    assert refused > 40
    spoil(path)
    assert "no complete .npz file" in refusal(dataset.main, project.folder, str(path))


@pytest.mark.parametrize(("ground", "found"), [(0, "dark"), (255, "light"), (None, "any")])
def test_the_ground_is_measured(ground, found):
    images = bars(ground or 0)["train"][0]
    if ground is None:
        images[::2] = 255 - images[::2]
    assert dataset.measure_ground(images) == found


def test_a_picture_gets_the_answer_of_its_test_image_and_old_models_keep_theirs(
    repository, tmp_path, call
):
    """The pictures have a light ground and odd class names. The model before has other data."""
    write_pictures(tmp_path / "bars", bars(255))
    pictures = sorted((tmp_path / "bars/test").glob("*/*"))
    old = call(repository, predict, str(pictures[0]), "--top", "10", "--json")
    call(repository, dataset, str(tmp_path / "bars"), "--name", "Bars")
    assert repository.run("git", "status", "--porcelain") == " M dataset.yaml\n"
    repository.set("prepare.validation_size=0.25", "train.epochs=5", "model.hidden_units=[8]")
    repository.stages("validate", "fetch", "prepare", "train", "evaluate", "plot")
    data = json.loads(repository.read("metrics/data.json"))
    assert data["name"] == "Bars" and data["images"] == {"train": 45, "validation": 15, "test": 30}
    images = np.load(repository.folder / "data/prepared/test_images.npy")
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    saved = [str(tmp_path / f"{i}.png") for i in range(len(images))]
    before = repository.results()
    words = (*map(str, pictures), *saved, "--test", *map(str, range(len(images))), "--json")
    lines = [json.loads(line) for line in call(repository, predict, *words).splitlines()]
    rows = [line["predictions"] for line in lines]
    assert rows[:30] == rows[30:60] == rows[60:]
    assert {*rows[0]} == {*CLASSES}
    assert [line["actual"] for line in lines[60:]] == [path.parent.name for path in pictures]
    repository.commit("Bars")
    words = ("--rev", "HEAD~1", "--top", "10", "--json")
    assert call(repository, predict, str(pictures[0]), *words) == old
    message = call(repository, predict, "--test", "0", *words, status=1)
    assert "the prepared images are 12x9, the model's 28x28" in message
    assert repository.results() == before  # no stage ran


@pytest.mark.slow
def test_versions_of_the_data_are_shared_and_come_back(repository, tmp_path, call):
    """As docs/data.md shows it. The models are toys, which take no time."""
    copy_toy_stages(repository.folder, "train", "evaluate", "plot")
    repository.set("prepare.validation_size=0.25")
    repository.dvc("remote", "add", "--quiet", "--default", "store", str(tmp_path / "store"))
    repository.commit("Toy stages")
    write_pictures(tmp_path / "bars", bars())

    def results(project: Repository) -> dict[str, bytes]:
        found = project.results().items()
        return {path: x for path, x in found if not path.startswith("data/converted")}

    def version(number: int) -> dict[str, bytes]:
        call(repository, dataset, str(tmp_path / "bars"))
        repository.dvc("repro", "--quiet")
        repository.commit(f"Version {number}")
        repository.run("git", "tag", f"bars-{number}")
        return results(repository)

    first = version(1)
    new = tmp_path / "bars/train" / CLASSES[0] / "new.png"
    Image.fromarray(np.full(SHAPE, 77, np.uint8)).save(new)
    second = version(2)
    changed = repository.dvc("diff", "bars-1")
    assert "data/raw/train-images-idx3-ubyte" in changed and "data/prepared" in changed
    assert "test-images" not in changed
    # version 1 is not in data/raw any more, but in the source
    assert "equal to the byte" in repository.python("tools.gate.verify", "bars-1")
    repository.dvc("push", "--quiet")
    other = repository.clone(tmp_path / "other")
    other.dvc("pull", "--quiet")
    assert results(other) == second
    assert "equal to the byte" in other.python("tools.gate.verify")  # without the source
    repository.run("git", "checkout", "--quiet", "bars-1")
    repository.dvc("checkout", "--quiet")
    assert results(repository) == first


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("idx", "0123456789"),  # as MNIST
        ("emnist", "abcdefghijklmnopqrstuvwxyz"),  # labels 1 to 26
        ("tables", "0123456789"),
        ("archive", "0123456789"),
        ("pictures", "0123456789"),
    ],
)
def test_data_of_each_kind_goes_all_the_way(repository, tmp_path, call, kind, names):
    """Through the pipeline's own stages, `make`, the report, the gate and `make predict`."""
    write, name, options = EXACT.get(kind, (write_pictures, "", ()))
    options = ("--size", "16", "16") if options == SIZE else options
    words = {"names": names} if kind == "pictures" else {}
    options += () if words else ("--classes", *names)
    repository.set(
        "prepare.validation_size=0.25",
        "train.epochs=12",
        "model.hidden_units=[64]",
        "experiments={short: {train.epochs: 6}}",
        "metrics={accuracy: {better: higher, margin: 0.3, floor: 0.5}}",
    )
    for version in (1, 2):  # with other noise
        source = tmp_path / f"version {version}"
        source.mkdir()
        write(source, cells(len(names), version), **words)
        call(repository, dataset, str(source / name), *options)
        repository.python("tools.rebuild")
        repository.commit(f"Version {version}")
    assert "### ✓" in repository.python("tools.gate.check", "--baseline", "HEAD~1", "--seeds", "2")
    call(repository, report, "HEAD", "short")
    assert json.loads(repository.read("data/prepared/dataset.json"))["class_names"] == [*names]
    images = np.load(repository.folder / "data/prepared/test_images.npy")[:5]
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    words = (*(str(tmp_path / f"{i}.png") for i in range(5)), "--test", *"01234", "--json")
    lines = [json.loads(line) for line in call(repository, predict, *words).splitlines()]
    rows = [line["predictions"] for line in lines]
    assert rows[:5] == rows[5:]
    assert [next(iter(row)) for row in rows[5:]] == [line["actual"] for line in lines[5:]]
