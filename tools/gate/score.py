"""Score models with the baseline's code on the baseline's test and validation images.

The gate judges these numbers alone, never those that the candidate's own code writes.
"""

import hashlib
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pandas as pd
from joblib import cpu_count

from fashion.core.dataset import DATASET
from fashion.core.errors import UserError
from fashion.core.files import md5
from fashion.core.strict_yaml import read_yaml
from tools.pipeline import Pipeline, Stage, clean_clone, is_number

PER_CLASS = ("precision", "recall", "f1")
TEST, VALIDATION, TRAIN = (
    (f"{split}_images.npy", f"{split}_labels.npy") for split in ("test", "validation", "train")
)  # as `prepare` writes them
ROUNDING = 2e-6  # of numbers with six decimals
KERAS_EPSILON = 1e-7  # training's validation loss takes no probability for less


@dataclass(frozen=True)
class Scores:
    """What the baseline's code makes of a model.

    `metrics` has all metrics by name: those on the test images, those on the validation images with
    the prefix "val_", and precision, recall and F1 of each class on the test images, as
    "class_f1/NAME". `tables` are those of the test images, their values text. `clipped_val_loss` is
    the validation loss as Keras computes it.
    """

    metrics: dict[str, Any]
    tables: list[pd.DataFrame]
    clipped_val_loss: float

    @property
    def numbers(self) -> dict[str, float]:
        return {name: value for name, value in self.metrics.items() if is_number(value)}


class Scorer:
    """Two copies of a clean clone of the baseline, in which its evaluation scores any model.

    In one of them the validation images take the place of the test images.
    """

    def __init__(self, pipeline: Pipeline):
        self.pipeline, self._lock = pipeline, Lock()
        try:  # what the baseline says of its own model
            self.claims = pipeline.metrics(pipeline.folder)
        except UserError:
            self.claims = {}
        scoring = pipeline.scoring_stages
        needed = [one for one in pipeline.leading_to(*scoring) if one not in scoring]
        pipeline.run([stage for stage in needed if stage != pipeline.model_stage])
        self.held_out = HeldOut(pipeline)
        self._folders = pipeline.folder / ".dvc/test", pipeline.folder / ".dvc/validation"
        for folder in self._folders:
            pipeline.copy_to(folder)
        for names in zip(VALIDATION, TEST, strict=True):
            shutil.copy(*(find(pipeline, self._folders[1], name) for name in names))

    def score(self, model: Path) -> Scores:
        """Score a model file. Raises UserError where the baseline's code can't."""
        stages = self.pipeline.scoring_stages
        with self._lock, ThreadPoolExecutor(2) as pool:
            metrics, validation = pool.map(partial(self._run, model), self._folders)
            tables, of_validation = (self.pipeline.tables(one, stages) for one in self._folders)
        metrics |= {f"val_{name}": value for name, value in validation.items()}
        for table in [one for one in tables if {"class", *PER_CLASS} <= {*one}]:
            for kind in PER_CLASS:
                values = zip(table["class"], table[kind].astype(float), strict=True)
                metrics |= {f"class_{kind}/{name}": value for name, value in values}
        losses = next((one["loss"] for one in of_validation if "loss" in one), pd.Series([0]))
        clipped = losses.astype(float).clip(upper=-np.log(KERAS_EPSILON)).mean()
        return Scores(metrics, tables, float(clipped))

    def _run(self, model: Path, folder: Path) -> dict[str, Any]:
        target = folder / self.pipeline.model
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(model, target)
        self.pipeline.run(self.pipeline.scoring_stages, folder)
        return self.pipeline.metrics(folder, self.pipeline.scoring_stages)

    def measure(self, pipeline: Pipeline, seeds: list[int]) -> pd.DataFrame:
        """Train a pipeline with seeds, as many at a time as there are cores, and score the models.

        The pipeline's data is prepared. Returns the numbers, a row a run with its seed as index.
        """
        rows = {}

        def run(seed: int) -> None:
            hidden = partial(self.held_out.to_hide, pipeline)
            with pipeline.variant({"seed": seed}, [pipeline.model_stage], hidden) as folder:
                rows[seed] = self.score(folder / pipeline.model).numbers
            print(f"  {len(rows)} of {len(seeds)} seeds done", file=sys.stderr, flush=True)

        with ThreadPoolExecutor(cpu_count()) as pool:
            list(pool.map(run, seeds))
        return pd.DataFrame([rows[seed] for seed in seeds], index=pd.Index(seeds, name="seed"))


@contextmanager
def scorer_of(commit: str) -> Iterator[Scorer]:
    """Yield the scorer of a commit. Its clones are removed when the block ends."""
    with clean_clone("baseline", commit) as pipeline:
        yield Scorer(pipeline)


class HeldOut:
    """The test images of the baseline: which files have them, and which images they are."""

    def __init__(self, pipeline: Pipeline):
        self.names = {*TEST, *_raw_test_files(pipeline.folder)}
        files = [path for path in pipeline.files(pipeline.folder) if path.name in self.names]
        self.file_digests = {md5(path) for path in files}
        self.test, self.validation, self.train = (
            image_digests(find(pipeline, pipeline.folder, images))
            for images, _ in (TEST, VALIDATION, TRAIN)
        )

    def files_in(self, pipeline: Pipeline, folder: Path) -> list[Path]:
        """Return the files that have test images or labels, by their name or by their content."""
        names = self.names | _raw_test_files(folder)
        files = pipeline.files(folder)
        return [path for path in files if path.name in names or md5(path) in self.file_digests]

    def to_hide(self, pipeline: Pipeline, folder: Path, stage: Stage) -> list[Path]:
        """Return the files that a stage may not see.

        The stage that makes the model sees no test images; those that it depends on see the raw
        files that they declare.
        """
        if stage not in pipeline.leading_to(pipeline.model_stage):
            return []
        return [
            path
            for path in self.files_in(pipeline, folder)
            if stage == pipeline.model_stage
            or path.suffix == ".npy"
            or not stage.reads(path.relative_to(folder))
        ]

    def leaks(self, pipeline: Pipeline) -> tuple[int, int, bool]:
        """Look for the baseline's images among those that the candidate learns from.

        Returns how many test images the candidate trains or validates with, how many of the
        baseline's validation images it trains with, both without those that the baseline has twice,
        and whether its validation images are the baseline's.
        """
        test, validation, same_validation = set(), set(), False
        known = self.files_in(pipeline, pipeline.folder)
        for path in pipeline.files(pipeline.folder, pipeline.leading_to(pipeline.model_stage)):
            if path.suffix == ".npy" and path not in known:
                found = image_digests(path)
                test |= self.test & found - self.train - self.validation
                same_validation |= found == self.validation
                if found != self.validation and path.name not in VALIDATION:
                    validation |= self.validation & found - self.train
        return len(test), len(validation), same_validation


def image_digests(path: Path) -> set[bytes]:
    """Return the MD5 of each image, (height, width) uint8, in a .npy file."""
    images = np.load(path, mmap_mode="r", allow_pickle=False)
    rows = images if images.ndim == 3 else []
    return {hashlib.md5(image, usedforsecurity=False).digest() for image in rows}


def find(pipeline: Pipeline, folder: Path, name: str) -> Path:
    """Return the output with this file name. Raises UserError where there is none."""
    for path in pipeline.files(folder):
        if path.name == name:
            return path
    raise UserError(f"the baseline's stages write no {name}, which models are scored with")


def _raw_test_files(folder: Path) -> set[str]:
    """Return the names that dataset.yaml has for the raw files of the test split."""
    files = read_yaml(folder / DATASET)["files"]
    return {file["name"] for role, file in files.items() if role.startswith("test_")}
