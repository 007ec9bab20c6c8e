"""Read dataset.yaml: what the data is and where it comes from.

The part of it that later stages need is written beside the prepared data.
"""

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, StringConstraints, field_validator

from fashion.core.errors import FileError, UserError
from fashion.core.files import write_json
from fashion.core.strict_yaml import Name, StrictModel, check_config, read_yaml

DATASET = Path("dataset.yaml")
Ground = Literal["dark", "light", "any"]  # the background of the images; "any" if it varies
Fit = Literal["pad", "crop", "stretch"]  # what is done to pictures of other proportions
Transparency = Literal["white", "black"]  # what transparent pixels become


class Description(StrictModel):
    """The facts about the data that later stages need."""

    name: Name  # in the title of every plot
    image_shape: tuple[PositiveInt, PositiveInt] = Field(strict=False)  # height, width in pixels
    class_names: Annotated[list[Name], Field(min_length=2, max_length=256)]  # label 0 is the first
    ground: Ground = "dark"
    fit: Fit = "pad"
    transparency: Transparency = "white"

    @field_validator("class_names")
    @classmethod
    def _differ(cls, names: list[str]) -> list[str]:
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{', '.join(twice)} is listed twice")
        return names


class DataFile(StrictModel):
    """A raw file and what it must be."""

    name: Annotated[str, StringConstraints(pattern=r"^\w[\w.-]*$")]  # without a folder
    bytes: PositiveInt
    sha256: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]


class DataFiles(StrictModel):
    """The four raw files."""

    train_images: DataFile
    train_labels: DataFile
    test_images: DataFile
    test_labels: DataFile


class Dataset(Description):
    """The content of dataset.yaml."""

    sources: list[Name]  # folders and web addresses, tried in this order
    files: DataFiles


def read_dataset(path: Path = DATASET) -> Dataset:
    """Read and check dataset.yaml. Raises UserError naming each wrong key and what was expected."""
    return check_config(read_yaml(path), str(path), Dataset)


def write_description(path: Path, dataset: Dataset) -> None:
    """Write the facts about the data that later stages need, as JSON."""
    fields = set(Description.model_fields)
    write_json(path, dataset.model_dump(mode="json", include=fields, exclude_unset=True))


def read_description(path: Path) -> Description:
    """Read what `write_description` wrote. Raises FileError if it is missing or corrupted."""
    try:
        return check_config(json.loads(path.read_bytes()), str(path), Description)
    except (OSError, ValueError, UserError) as error:
        raise FileError(f"{path.parent}: missing or corrupted ({error})") from None
