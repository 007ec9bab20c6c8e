"""Write tables as Markdown."""

from typing import Any

import pandas as pd
import tabulate

tabulate.MIN_PADDING = 0  # by default, headers are two blanks wider, and the gate's table too wide


def markdown(table: pd.DataFrame, **options: Any) -> str:
    """Return a table as Markdown, without its index; `options` are those of tabulate."""
    return table.to_markdown(index=False, **options)
