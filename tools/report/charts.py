"""Draw the charts of the report page in Vega-Lite, https://vega.github.io/vega-lite/docs."""

from typing import Any

import pandas as pd

from tools.experiments.results import Result

COLOURS = ["#3182bd", "#d95f02", "#1b9e77", "#cc79a7", "#b8860b", "#8c7ae6", "#e15759", "#76b7b2"]
HEIGHT = 320  # pixels of a chart


def curves(results: list[Result], quantity: str, label: str) -> dict[str, Any]:
    """Return a chart of "loss" or "accuracy" by epoch: a colour per run, validation dashed."""
    histories = pd.concat([result.history.assign(run=result.name) for result in results])
    columns = {quantity: "training", f"val_{quantity}": "validation"}
    rows = histories.rename(columns=columns).melt(
        ["run", "epoch"], columns.values(), var_name="images", value_name=label
    )
    encoding = {
        "x": _numbers("epoch", nice=False) | {"axis": {"tickMinStep": 1, "format": "d"}},
        "y": _numbers(label),
        "color": _by_run(results, range=COLOURS),
        "strokeDash": {"field": "images", "legend": None, "scale": {"range": [[1, 0], [5, 4]]}},
    }
    values = {"tooltip": _tooltip("run", "images", "epoch", **{label: ".4f"})}
    layer = [
        {"mark": {"type": "line", "point": {"size": 25}, "strokeWidth": 2}},
        {"mark": {"type": "point", "size": 400, "opacity": 0}, "encoding": values},  # easy to hit
    ]
    title = f"{label} on training and validation images by epoch"
    return _chart(title, rows, encoding=encoding, layer=layer)


def confusion(result: Result) -> dict[str, Any]:
    """Return a chart of how many test images of each class are predicted as each class.

    The shade shows the share of the actual class, which is a row of the chart. It grows with the
    cube root, so that a few mistakes differ visibly from many.
    """
    rows = result.predictions.value_counts(["actual", "predicted"]).reset_index(name="images")
    rows["share"] = rows["images"] / rows.groupby("actual")["images"].transform("sum")
    encoding = {
        "x": _classes("predicted", result, labelAngle=-40),
        "y": _classes("actual", result),
        "tooltip": _tooltip("actual", "predicted", "images", share=".1%"),
    }
    blues = {"type": "pow", "exponent": 1 / 3, "domain": [0, 1], "scheme": "blues"}
    shade = {"field": "share", "type": "quantitative", "legend": None, "scale": blues}
    ink = {"condition": {"test": "datum.share > 0.3", "value": "white"}, "value": "#1b1f24"}
    layer = [
        {"mark": "rect", "encoding": {"color": shade}},
        {"mark": "text", "encoding": {"text": {"field": "images"}, "color": ink}},
    ]
    title = f"Test images of {result.name} by actual and predicted class"
    height = max(HEIGHT, 18 * len(result.class_names))
    return _chart(title, rows, height=height, encoding=encoding, layer=layer)


def f1_scores(results: list[Result]) -> dict[str, Any]:
    """Return a chart of the F1 of every class: a colour and a shape per run."""
    rows = pd.concat([result.per_class.assign(run=result.name) for result in results])
    legend = {"title": None, "orient": "top"}
    encoding = {
        "x": _numbers("f1") | {"title": "F1", "axis": {"tickCount": 10}},
        "y": _classes("class", results[0], grid=True),
        "color": _by_run(results, range=COLOURS) | {"legend": legend},
        "shape": _by_run(results) | {"legend": legend},
        "tooltip": _tooltip("run", "class", f1=".4f"),
    }
    mark = {"type": "point", "filled": True, "size": 110, "opacity": 0.85}
    title = "F1 of every class on the test images"
    return _chart(title, rows, height={"step": 30}, encoding=encoding, mark=mark)


def _chart(title: str, rows: pd.DataFrame, **properties: Any) -> dict[str, Any]:
    return {
        "description": title,
        "width": "container",
        "height": HEIGHT,
        "data": {"values": rows.to_dict("records")},
        "params": [{"name": "hidden", "value": []}],  # page.html sets it to the names of the runs
        "transform": [{"filter": "indexof(hidden, datum.run) < 0"}],  # that are switched off
    } | properties


def _numbers(field: str, **scale: Any) -> dict[str, Any]:
    return {"field": field, "type": "quantitative", "scale": {"zero": False} | scale}


def _classes(field: str, result: Result, **axis: Any) -> dict[str, Any]:
    return {"field": field, "type": "nominal", "sort": result.class_names, "axis": axis}


def _by_run(results: list[Result], **scale: Any) -> dict[str, Any]:
    domain = [result.name for result in results]
    return {"field": "run", "legend": None, "scale": {"domain": domain} | scale}


def _tooltip(*fields: str, **formats: str) -> list[dict[str, str]]:
    formatted = [{"field": field, "format": text} for field, text in formats.items()]
    return [{"field": field} for field in fields] + formatted
