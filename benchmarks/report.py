"""What every benchmark prints and stores: its rows, the machine, the versions and the date."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

__all__ = ["machine", "write_report"]


def machine() -> str:
    """Describe the processor and, where there is one, the accelerator."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].partition(":")[2].strip() if lines else model
    return f"{model}, {os.cpu_count()} cores"


def write_report(
    title: str, rows: Sequence[Mapping[str, Any]], path: Path | None, *, shown: Mapping[str, str] | None = None
) -> None:
    """Print ``rows`` as a table of 100 characters and, with a path, store them as JSON with machine, versions and date.

    Args:
        title: what was measured.
        rows: figures by name.
        path: the JSON file, which gets all columns.
        shown: heading of each column to print, by name; None prints all.
    """
    columns = list(shown or dict.fromkeys(key for row in rows for key in row))
    headings = columns if shown is None else list(shown.values())
    table = Table(*headings, title=f"{title} ({machine()})", title_justify="left")
    for row in rows:
        table.add_row(*(_cell(row.get(column, "")) for column in columns))
    Console(width=100).print(table)
    if path is not None:
        versions = {name: version(name) for name in ("routellm-core", "numpy", "litellm")}
        record = {
            "title": title,
            "date": datetime.now(UTC).date().isoformat(),
            "machine": machine(),
            "python": platform.python_version(),
            "versions": versions,
            "rows": list(rows),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record, indent=1) + "\n")


def _cell(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
