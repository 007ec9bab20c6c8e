import time

import pytest
from rich.console import Console

from tests.support.repository import PROJECT
from tools.experiments.backend import ExperimentSpec
from tools.experiments.config import read_experiments
from tools.experiments.display import MAX_ENDED, LineDisplay, LiveDisplay
from tools.experiments.run import ExperimentRun, State

ROW = {"loss": 0.3, "accuracy": 0.9, "val_loss": 0.35, "val_accuracy": 0.87654}


def training(name: str) -> ExperimentRun:
    """A run that has trained two of its hundred epochs, for a minute."""
    return ExperimentRun(
        ExperimentSpec(name),
        State.RUNNING,
        stage="train",
        epochs=100,
        history=[{"epoch": epoch} | ROW for epoch in (1, 2)],
        trained_since=time.monotonic() - 60,
    )


def ended(name: str, state: State = State.COMPLETED) -> ExperimentRun:
    return ExperimentRun(ExperimentSpec(name), state, stage="plot")


def shown(runs: list[ExperimentRun], width: int) -> list[str]:
    """The lines of the table on a terminal of so many columns."""
    console = Console(width=width)
    with console.capture() as capture:
        console.print(LiveDisplay(runs).table())
    return capture.get().splitlines()


@pytest.mark.parametrize("width", [60, 140])
def test_names_are_shown_whole(width):
    config = read_experiments(PROJECT / "experiments.yaml")
    names = [name for group in config.groups.values() for name in group] + list(config.experiments)
    names = [*{f"{name}-seed-46": None for name in names}, "sweep-mlp-default-003"]
    runs = [training(name) for name in names[:-1]] + [ended(names[-1])]
    lines = shown(runs, width)
    assert {name for name in names if any(name in line.split() for line in lines)} == set(names)
    assert all(len(line) <= width for line in lines)
    assert "…" not in "".join(lines) and any("completed" in line for line in lines)


def test_a_row_tells_how_far_an_experiment_has_come():
    header, *rows = shown([training("a"), ExperimentRun(ExperimentSpec("b"))], 140)
    assert header.split() == ["experiment", "stage", "epoch", "val_accuracy", "left"]
    # two epochs took a minute, so 98 more take 49
    assert rows[0].split() == ["a", "train", "2", "of", "100", "0.8765", "49:00"]
    assert rows[1].split() == ["b", "pending"]


def test_the_end_is_told_in_words():
    runs = [ended(state.value, state) for state in State if state.is_terminal]
    rows = [line.split() for line in shown(runs, 140)[1:]]
    assert rows == [[word, word] for word in ("completed", "failed", "pruned")]


def test_of_many_that_have_ended_the_last_are_shown_above_those_that_run():
    runs = [training("now"), *(ended(f"trial-{i:03d}") for i in range(1000))]
    names = [line.split()[0] for line in shown(runs, 140)[1:]]
    assert names == [f"trial-{i:03d}" for i in range(1000 - MAX_ENDED, 1000)] + ["now"]


def test_elsewhere_than_on_a_terminal_an_event_is_a_line(capsys):
    with LineDisplay() as display:
        display.add(training("a"))
        display.show(training("a"), ["train", "epoch 1/2, validation accuracy 0.8765"])
    assert capsys.readouterr().out.splitlines() == [
        "a: train",
        "a: epoch 1/2, validation accuracy 0.8765",
    ]
