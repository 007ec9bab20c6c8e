"""Score models with the baseline's code on the baseline's test and validation images.

The gate judges only these numbers, never those that the candidate's own code writes.
"""

import hashlib
import shutil
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pandas as pd
from joblib import cpu_count
from pydantic import BaseModel

from fashion.core.dataset import DATASET
from fashion.core.errors import UserError
from fashion.core.files import md5
from fashion.core.strict_yaml import check_config, read_yaml
from tools.pipeline import Pipeline, Stage, clean_clone

PER_CLASS = ("precision", "recall", "f1")
TEST, VALIDATION, TRAIN = (
    (f"{split}_images.npy", f"{split}_labels.npy") for split in ("test", "validation", "train")
)  # as `prepare` writes them
TOLERANCE = 5e-5  # of equal numbers, as native and portable arithmetic differ in the last digits
KERAS_EPSILON = 1e-7  # training's validation loss counts smaller probabilities as this


class RawFile(BaseModel):
    name: str
    sha256: str


class TestFiles(BaseModel):
    test_images: RawFile
    test_labels: RawFile


class DataFacts(BaseModel):
    """What the gate reads of a dataset.yaml, which may have other keys too."""

    class_names: list[Any]
    files: TestFiles

    @property
    def raw_tests(self) -> list[RawFile]:
        """Return the raw files with the test images and with their labels."""
        return [self.files.test_images, self.files.test_labels]


@dataclass(frozen=True)
class Scores:
    """What the baseline's code measures of a model.

    `metrics` has all metrics by name: those on the test images; those on the validation images,
    with the prefix "val_"; and precision, recall and F1 of each class on the test images, as
    "class_f1/NAME". `tables` are the CSV files about the test images; every value is text.
    `clipped_val_loss` is the validation loss as Keras computes it.
    """

    metrics: dict[str, Any]
    tables: list[pd.DataFrame]
    clipped_val_loss: float

    @property
    def numbers(self) -> dict[str, float]:
        """Return the metrics that are numbers."""
        kinds = (int, float)  # a bool is an int too, but not of this type
        return {name: value for name, value in self.metrics.items() if type(value) in kinds}


class Scorer:
    """A clean clone of the baseline whose evaluation scores any model.

    The clone is copied twice: in the second copy, the validation images replace the test images.
    The scorer also knows the baseline's test images: which files have them, and each image.
    """

    def __init__(self, pipeline: Pipeline):
        self.pipeline, self._lock = pipeline, Lock()
        try:
            self.claims = pipeline.metrics()  # what the baseline has committed
        except UserError:
            self.claims = {}
        pipeline.run(pipeline.data_stages)
        paths, (raw_images, _) = pipeline.files(pipeline.stages), data_facts(pipeline).raw_tests
        # not of labels, since those of another split may be equal
        images = (TEST[0], raw_images.name)
        self._test_files = {md5(path) for path in paths if path.name in images}
        named = {path.name: path for path in paths}
        if missing := {*TEST, *VALIDATION, *TRAIN} - named.keys():
            names = ", ".join(sorted(missing))
            raise UserError(f"the baseline's stages write no {names}, which models are scored with")
        self.test, self._validation, self._train = (
            image_digests(named[images]) for images, _ in (TEST, VALIDATION, TRAIN)
        )
        parts = pipeline.folder / ".dvc/test", pipeline.folder / ".dvc/validation"
        self._copies = [pipeline.copy_to(folder) for folder in parts]
        for source, target in zip(VALIDATION, TEST, strict=True):
            shutil.copy(named[source], parts[1] / named[target].relative_to(pipeline.folder))

    def score(self, model: Path) -> Scores:
        """Score a model file. Raises UserError if the baseline's code can't."""
        stages = self.pipeline.scoring_stages
        with self._lock, ThreadPoolExecutor(2) as pool:
            metrics, validation = pool.map(partial(_evaluate, model), self._copies)
            tables, of_validation = (copy.tables(stages) for copy in self._copies)
        metrics |= {f"val_{name}": value for name, value in validation.items()}
        for table in [one for one in tables if {"class", *PER_CLASS} <= {*one}]:
            for kind in PER_CLASS:
                values = zip(table["class"], table[kind].astype(float), strict=True)
                metrics |= {f"class_{kind}/{name}": value for name, value in values}
        losses = next((one["loss"] for one in of_validation if "loss" in one), pd.Series([0]))
        clipped = losses.astype(float).clip(upper=-np.log(KERAS_EPSILON)).mean()
        return Scores(metrics, tables, float(clipped))

    def measure(self, pipeline: Pipeline, seeds: list[int]) -> pd.DataFrame:
        """Train a pipeline with each seed, as many at a time as CPU cores, and score the models.

        The pipeline's data must be there. Returns the numbers, a row per seed, which is the index.
        """
        pipeline = replace(pipeline, hidden=self.test_files)

        def numbers(seed: int) -> dict[str, float]:
            with pipeline.trained(seed) as copy:
                scores = self.score(copy.model_file)
            print(f"  seed {seed} is done", file=sys.stderr, flush=True)
            return scores.numbers

        with ThreadPoolExecutor(cpu_count()) as pool:
            rows = list(pool.map(numbers, seeds))
        return pd.DataFrame(rows, index=pd.Index(seeds, name="seed"))

    def test_files(self, pipeline: Pipeline, stage: Stage) -> list[Path]:
        """Return the files with test images that a stage may not see.

        The stage that makes the model sees none; the stages before it see only the raw files.
        """
        if stage not in pipeline.learning_stages:
            return []
        files = pipeline.files(pipeline.stages)
        names = {raw.name for raw in data_facts(pipeline).raw_tests}
        files = [one for one in files if one.name in names or self._has_test_images(one)]
        return [one for one in files if one.suffix == ".npy" or stage == pipeline.model_stage]

    def leaks(self, pipeline: Pipeline) -> tuple[int, int, bool]:
        """Look for the baseline's images among those that the candidate learns from.

        Images that the baseline has in two splits do not count. Returns how many test images the
        candidate trains or validates with, how many of the baseline's validation images it trains
        with, and whether it validates with the baseline's images.
        """
        arrays = [one for one in pipeline.files(pipeline.learning_stages) if one.suffix == ".npy"]
        images = {one: image_digests(one) for one in arrays if not self._has_test_images(one)}
        same_validation = self._validation in images.values()
        trains = [
            found
            for path, found in images.items()
            if found != self._validation and path.name not in VALIDATION
        ]
        test = self.test & set().union(*images.values()) - self._train - self._validation
        validation = self._validation & set().union(*trains) - self._train
        return len(test), len(validation), same_validation

    def _has_test_images(self, path: Path) -> bool:
        return path.name in TEST or md5(path) in self._test_files


def data_facts(pipeline: Pipeline) -> DataFacts:
    """Return what a pipeline's dataset.yaml says. Raises UserError if it lacks something."""
    source = f"{DATASET} of the {pipeline.kind}"
    return check_config(read_yaml(pipeline.folder / DATASET), source, DataFacts)


@contextmanager
def scorer_of(commit: str, files: Mapping[str, bytes] | None = None) -> Iterator[Scorer]:
    """Yield the scorer of a commit, in whose clone `files` have another content, by path.

    The clone is removed when the block ends.
    """
    with clean_clone("baseline", commit) as pipeline:
        for path, content in (files or {}).items():
            (pipeline.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (pipeline.folder / path).write_bytes(content)
        yield Scorer(pipeline)


def _evaluate(model: Path, copy: Pipeline) -> dict[str, Any]:
    copy.model_file.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(model, copy.model_file)
    copy.run(copy.scoring_stages)
    return copy.metrics(copy.scoring_stages)


def image_digests(path: Path) -> set[bytes]:
    """Return the MD5 of each image in a .npy file, whatever the images' shape.

    Raises UserError if NumPy can't read the file without running code from it.
    """
    try:
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise UserError(f"{path.name} can't be read: {error}") from None
    rows = images if images.ndim > 1 else []
    return {hashlib.md5(image.tobytes(), usedforsecurity=False).digest() for image in rows}
