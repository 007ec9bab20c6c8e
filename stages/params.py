"""Every knob of the pipeline in params.yaml: its type, its range, what it means.

Whatever else stands there is refused. The sections for the tools around the pipeline are checked by
tools/params.py.
"""

import reprlib
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    StringConstraints,
    ValidationError,
    model_validator,
)
from ruamel.yaml import YAML, YAMLError

from fashion.errors import UserError

PARAMS = Path("params.yaml")

Name = Annotated[str, StringConstraints(min_length=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what NumPy accepts


class Section(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, protected_namespaces=())


class DataFile(Section):
    # the name of a file, hence nowhere else than in data/raw
    name: Annotated[str, StringConstraints(pattern=r"^\w[\w.-]*$")]
    bytes: PositiveInt
    sha256: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]


class DataFiles(Section):
    train_images: DataFile
    train_labels: DataFile
    test_images: DataFile
    test_labels: DataFile


class Data(Section):
    name: Name  # stands on every picture
    sources: list[Name]  # folders and web addresses, tried in this order
    files: DataFiles
    image_shape: tuple[PositiveInt, PositiveInt] = Field(strict=False)  # height, width in pixels
    class_names: Annotated[list[Name], Field(min_length=2, max_length=256)]  # label 0 is the first


class Prepare(Section):
    validation_size: PositiveInt  # images kept back from training
    split_seed: Seed


class Model(Section):
    name: Literal["mlp", "cnn"]
    hidden_units: list[PositiveInt]  # mlp: of each dense layer, from input to output
    batch_normalization: bool  # mlp: before each ReLU; the cnn always has it
    # cnn: channels of each block of two convolutions
    filters: Annotated[list[PositiveInt], Field(min_length=1)]
    # share left out: after each hidden layer, or before the cnn's classifier
    dropout: Annotated[float, Field(ge=0, lt=1)]


class Train(Section):
    epochs: PositiveInt
    batch_size: PositiveInt
    learning_rate: Annotated[float, Field(gt=0, le=1)]
    # cosine: up within the first 5 % of steps, then down to 0
    learning_rate_schedule: Literal["constant", "cosine"]
    # share of each weight taken off at a step, times the learning rate
    weight_decay: Annotated[float, Field(ge=0, lt=1)]
    # training images are mirrored, and moved by a pixel at most
    augmentation: Literal["none", "flip", "flip_shift"]
    weight_averaging: bool  # the weights' exponential moving average is what is validated and kept
    # epochs without a lower validation loss after which training ends; 0: never
    early_stopping: NonNegativeInt
    keep: Literal["last", "best"]  # weights of the last epoch, or of the lowest validation loss

    @model_validator(mode="after")
    def stops_for_the_best(self) -> Self:
        if self.early_stopping and self.keep != "best":
            raise ValueError(
                "early_stopping ends after epochs that got worse, so it needs keep: best"
            )
        return self


class Params(Section):
    data: Data
    prepare: Prepare
    seed: Seed  # of the initial weights and the order of batches
    model: Model
    train: Train

    experiments: Any = None  # for tools
    experiment_groups: Any = None
    check: Any = None
    sweep: Any = None
    ray: Any = None


Schema = TypeVar("Schema", bound=Params)


def read_params(path: Path = PARAMS) -> Params:
    """Read and check the params file.

    Raises UserError naming each wrong param, what it is, and what was expected.
    """
    return check_params(read_values(path), str(path), Params)


def read_values(path: Path = PARAMS) -> dict:
    """The params file as it is, unchecked."""
    try:
        return parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. `git checkout {path}` restores it") from None
    # also: not text, no such date, nested without end
    except (YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not YAML: {error}") from None


def parse_yaml(text: str | bytes) -> Any:
    """Parse as DVC does, by YAML 1.2.

    1e-5 is a number, `on` a word, and a key that stands there twice an error.
    """
    return YAML(typ="safe").load(text)


def check_params(values: dict, source: str, schema: type[Schema]) -> Schema:
    """Check the content of a params file; `source` names it in errors."""
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        raise UserError(
            "\n".join(f"{source}: {_sentence(problem)}" for problem in error.errors())
        ) from None


def _sentence(problem: dict) -> str:
    name = ".".join(map(str, problem["loc"])) or "the whole file"
    if problem["type"] == "extra_forbidden":
        return f"{name} is not a known param. Check its spelling; stages/params.py lists all"
    if problem["type"] == "missing":
        return f"{name} is missing"
    if problem["type"] == "value_error":
        return f"{name}: {problem['ctx']['error']}"
    return f"{name} is {reprlib.repr(problem['input'])}. {problem['msg']}"
