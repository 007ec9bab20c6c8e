"""How running experiments are shown: a live table on a terminal, a line an event elsewhere."""

from collections.abc import Iterable

from rich.console import Console
from rich.live import Live
from rich.table import Table

from tools.experiments.run import ExperimentRun, State

MAX_ENDED = 12  # in the live table
COLOURS = {State.FAILED: "red", State.COMPLETED: "green", State.PENDING: "dim"}


class LineDisplay:
    """A line for each event; for logs and pipes."""

    def __enter__(self) -> "LineDisplay":
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def add(self, run: ExperimentRun) -> None:
        """A run is about to start."""

    def show(self, run: ExperimentRun, events: Iterable[str]) -> None:
        """Something has happened to a run."""
        for event in events:
            print(f"{run.spec.name}: {event}", flush=True)


class LiveDisplay:
    """A row an experiment, kept up to date; for terminals.

    Those in `pending` are shown before they start.
    """

    def __init__(self, pending: list[ExperimentRun]):
        self.runs = dict.fromkeys(pending)
        self.live = Live(console=Console(), refresh_per_second=4, get_renderable=self.table)

    def __enter__(self) -> "LiveDisplay":
        self.live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.live.stop()

    def add(self, run: ExperimentRun) -> None:
        self.runs[run] = None

    def show(self, run: ExperimentRun, events: Iterable[str]) -> None:
        pass  # the table is drawn anew by itself

    def table(self) -> Table:
        table = Table(box=None, pad_edge=False)
        for name in ("experiment", "stage"):
            table.add_column(name, no_wrap=True)
        for name in ("epoch", "val_accuracy"):  # in two lines where there is little room
            table.add_column(name, justify="right", overflow="fold")
        table.add_column("left", justify="right", no_wrap=True)
        ended = [run for run in self.runs if run.state.is_terminal]
        for run in ended[-MAX_ENDED:] + [run for run in self.runs if not run.state.is_terminal]:
            table.add_row(
                run.spec.name,
                run.stage if run.state is State.RUNNING else run.state.value,
                f"{run.epoch} of {run.epochs}" if run.history else "",
                f"{run.history[-1]['val_accuracy']:.4f}" if run.history else "",
                run.time_left,
                style=COLOURS.get(run.state),
            )
        return table
