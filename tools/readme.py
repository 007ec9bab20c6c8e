"""Put the current numbers into README.md and write the model card: `make readme`.

The numbers go between README.md's marks.
"""

import json
import re
from pathlib import Path

import pandas as pd

from fashion.errors import UserError, reported
from fashion.files import written_whole
from tools.card import CARD, card
from tools.results import markdown

README = Path("README.md")
TABLES = {  # by the name of the marks that each stands between
    "experiments": "metrics/experiments.csv",
    "seeds": "metrics/seeds.csv",
    "gate": "metrics/gate.csv",
    "models": "metrics/seeds-models.csv",
    "ablation": "metrics/seeds-ablation.csv",
    "leave-one-out": "metrics/seeds-leave-one-out.csv",
    "sweeps": "metrics/sweeps.csv",
    "portable": "metrics/portable.csv",
}
FAULTS = "metrics/faults.json"
SPEED, SPEED_TABLES = (
    "metrics/speed.json",
    ["goals", "training", "arithmetic", "growth", "many", "parts", "costs"],
)


def filled(text: str, project: Path = Path()) -> str:
    """Return the text with every table made anew from the project's metrics.

    A table stands between `<!-- NAME -->` and `<!-- /NAME -->`.
    """
    contents = {name: markdown(pd.read_csv(project / path)) for name, path in TABLES.items()}
    speed = json.loads((project / SPEED).read_text(encoding="utf-8"))["tables"]
    contents |= {
        name: pd.DataFrame(speed[name]).to_markdown(index=False, disable_numparse=True)
        for name in SPEED_TABLES
    }
    faults = json.loads((project / FAULTS).read_text(encoding="utf-8"))["sections"]
    rows = [row for section in faults.values() for row in section]
    contents["faults"] = pd.DataFrame(rows).to_markdown(index=False)
    for name, content in contents.items():
        marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if len(marks.findall(text)) != 1:
            raise UserError(
                f"{README}: expected one block between <!-- {name} --> and <!-- /{name} -->"
            )
        text = marks.sub(lambda match, content=content: f"{match[1]}{content}\n{match[2]}", text)
    return text


if __name__ == "__main__":
    with reported("readme"):
        for path, content in ((README, filled(README.read_text(encoding="utf-8"))), (CARD, card())):
            with written_whole(path) as part:
                part.write_text(content, encoding="utf-8")
