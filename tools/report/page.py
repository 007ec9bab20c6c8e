"""report.html: the charts, tables and pictures of several runs on one page that loads nothing."""

import base64
from pathlib import Path
from typing import Any

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
    params = table_by_run({result.name: result.params for result in results})
    return environment.get_template("page.html").render(
        results=results,
        colours=charts.COLOURS,
        revision=git("describe", "--always", "--dirty").strip(),
        summary=experiments_table(pd.DataFrame([result.summary() for result in results])),
        params=params[params.drop(columns="").nunique(axis=1) > 1],
        sweeps={
            path.stem: (path.read_bytes(), read_csv(f"metrics/sweeps/{path.stem}.csv"))
            for path in sorted(Path("plots/sweeps").glob("*.png"))
        },
        shown_trials=SHOWN_TRIALS,
        vega=Markup(vl_convert.javascript_bundle().replace("</script", "<\\/script")),
        charts=specifications,
    )


def table_by_run(values: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Return a row per key, nested ones as "train.epochs", and a column per run."""
    columns = {
        name: pd.Series(flatten(content, reducer="dot"), dtype=object).map(str)
        for name, content in values.items()
    }
    return pd.DataFrame(columns).fillna("").rename_axis("").reset_index()


def _data_url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
