"""The knobs of the pipeline in params.yaml: type, range and meaning of each. Others are refused."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from fashion.core.errors import UserError
from fashion.core.strict_yaml import StrictModel, check_config, read_yaml

PARAMS = Path("params.yaml")

Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what NumPy accepts
Share = Annotated[float, Field(gt=0, lt=1)]


class Prepare(StrictModel):
    validation_size: PositiveInt | Share  # images kept back from training: how many, or which share
    split_seed: Seed


class Model(StrictModel):
    name: Literal["mlp", "cnn"]  # the keys of NETWORKS in fashion/model/networks.py
    hidden_units: list[PositiveInt]  # mlp: of each dense layer, from input to output
    batch_normalization: bool  # mlp: before each ReLU; the cnn always has it
    # cnn: channels of each block of two convolutions
    filters: Annotated[list[PositiveInt], Field(min_length=1)]
    # share left out: after each hidden layer, or before the cnn's classifier
    dropout: Annotated[float, Field(ge=0, lt=1)]


class Train(StrictModel):
    epochs: PositiveInt
    batch_size: PositiveInt
    learning_rate: Annotated[float, Field(gt=0, le=1)]
    # cosine: up within the first 5 % of steps, then down to 0
    learning_rate_schedule: Literal["constant", "cosine"]
    # share of each weight taken off at a step, times the learning rate
    weight_decay: Annotated[float, Field(ge=0, lt=1)]
    # of training images: mirrored, and moved by a pixel at most
    augmentation: Literal["none", "flip", "flip_shift"]


class Params(StrictModel):
    seed: Seed  # of the initial weights and the order of batches
    prepare: Prepare
    model: Model
    train: Train


def read_params(path: Path = PARAMS) -> Params:
    """Read and check the params file.

    Raises UserError naming each wrong param, what it is, and what was expected.
    """
    content = read_yaml(path)
    try:
        return check_config(content, str(path), Params)
    except UserError as error:
        back = f"`git checkout {path}` brings the committed params back"
        raise UserError(f"{error}\n{back}") from None
