"""Render report.html, one file with the charts, tables and plots of several runs."""

import base64
from pathlib import Path

import pandas as pd
import vl_convert
from flatten_dict import flatten
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from fashion.core.files import read_csv
from tools.experiments.compare import experiments_table
from tools.experiments.results import Result
from tools.git import git
from tools.report import charts
from tools.report.card import as_texts

SHOWN_TRIALS = 5  # of each sweep


def render_page(results: list[Result]) -> str:
    """Return the HTML that compares the results, and shows the sweeps in the workspace."""
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
    environment.filters["table"] = lambda table: Markup(table.to_html(index=False, border=0))
    environment.filters["png"] = _data_url
    specifications = {
        "loss": charts.curves(results, "loss", "cross-entropy (nats)"),
        "accuracy": charts.curves(results, "accuracy", "accuracy"),
        "f1": charts.f1_scores(results),
    }
    for i, result in enumerate(results):
        specifications[f"confusion-{i}"] = charts.confusion(result)
    return environment.get_template("page.html").render(
        results=results,
        colours=charts.COLOURS,
        revision=git("describe", "--always", "--dirty").strip(),
        summary=summarize(results),
        params=differing_params(results),
        sweeps={
            path.stem: (path.read_bytes(), read_csv(f"metrics/sweeps/{path.stem}.csv"))
            for path in sorted(Path("plots/sweeps").glob("*.png"))
        },
        shown_trials=SHOWN_TRIALS,
        vega=Markup(vl_convert.javascript_bundle().replace("</script", "<\\/script")),
        charts=specifications,
    )


def summarize(results: list[Result]) -> pd.DataFrame:
    """Return a row per run: the table of experiments, then each further metric of the test."""
    table = experiments_table(pd.DataFrame([result.summary() for result in results]))
    metrics = [
        {"validation accuracy": result.train["val_accuracy"]}
        | {f"test {name}": value for name, value in result.test.items() if isinstance(value, float)}
        for result in results
    ]
    further = as_texts(pd.DataFrame(metrics).drop(columns="test accuracy"))
    return table.join(further)


def differing_params(results: list[Result]) -> pd.DataFrame:
    """Return a row per param that differs, named as in "train.epochs", and a column per run."""
    columns = {
        result.name: pd.Series(flatten(result.params, reducer="dot"), dtype=object).map(str)
        for result in results
    }
    table = pd.DataFrame(columns).fillna("")
    return table[table.nunique(axis=1) > 1].rename_axis("param").reset_index()


def _data_url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
