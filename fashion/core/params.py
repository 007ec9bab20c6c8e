"""Read params.yaml: the type, range and meaning of each param. Unknown params are refused."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from fashion.core.errors import UserError
from fashion.core.strict_yaml import StrictModel, check_config, read_yaml

PARAMS = Path("params.yaml")

Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what NumPy accepts
Share = Annotated[float, Field(gt=0, lt=1)]
Units = Annotated[int, Field(gt=0, le=10_000)]  # more need more memory than most machines have


class Prepare(StrictModel):
    """Params of the prepare stage."""

    validation_size: PositiveInt | Share  # a number or a share of the training images
    split_seed: Seed


class Model(StrictModel):
    """Params of the network."""

    name: Literal["mlp", "cnn"]  # each is a function in fashion/model/networks.py
    hidden_units: list[Units]  # mlp: of each dense layer, from input to output
    batch_normalization: bool  # mlp: before each ReLU; the cnn always has it
    # cnn: channels of each block of two convolutions
    filters: Annotated[list[Units], Field(min_length=1)]
    # mlp: share dropped after each hidden layer; cnn: before the classifier
    dropout: Annotated[float, Field(ge=0, lt=1)]


class Train(StrictModel):
    """Params of training."""

    epochs: PositiveInt
    batch_size: Annotated[int, Field(gt=0, le=1_000_000)]
    learning_rate: Annotated[float, Field(gt=0, le=1)]
    # cosine: rise within the first 5 % of steps, then fall to 0
    learning_rate_schedule: Literal["constant", "cosine"]
    # each step takes this share, times the learning rate, off each weight
    weight_decay: Annotated[float, Field(ge=0, lt=1)]
    # of training images: flip mirrors some, shift moves them by at most a pixel
    augmentation: Literal["none", "flip", "flip_shift"]


class Params(StrictModel):
    """The content of params.yaml."""

    seed: Seed  # of the initial weights and the order of batches
    # portable: equal bytes on every x86-64 machine; native: faster, with all that this one has
    arithmetic: Literal["portable", "native"]
    prepare: Prepare
    model: Model
    train: Train


def read_params(path: Path = PARAMS) -> Params:
    """Read and check params.yaml.

    Raises UserError naming each wrong param, its value, and what was expected.
    """
    content = read_yaml(path)
    try:
        return check_config(content, str(path), Params)
    except UserError as error:
        back = f"`git checkout {path}` brings the committed params back"
        raise UserError(f"{error}\n{back}") from None
