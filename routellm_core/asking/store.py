"""The files that labelling writes: finished rows, one JSON line each, and beside them what failed or is half done.

A row is on disk before the next one is counted, so that a run that was killed goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from routellm_core.errors import ConfigError

__all__ = ["FailureFile", "LabelFile"]


class LabelFile:
    """Finished rows, in the form that ``load_rows`` reads.

    Args:
        path: the file; created, with its folders, on the first :meth:`append`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, pair: tuple[str, str]) -> dict[str, dict[str, Any]]:
        """Return the rows by id, after cutting off a last line that a killed run left unfinished.

        Args:
            pair: names of the strong and the weak model; one file holds one pair, since training reads all of it.

        Raises:
            ConfigError: the file holds something else, or another pair's rows.
        """
        if not self.path.exists():
            return {}
        _cut_unfinished_line(self.path)
        rows: dict[str, dict[str, Any]] = {}
        for number, line in enumerate(self.path.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                row = json.loads(line)
                found = (row["strong_model"], row["weak_model"])
                rows[str(row["id"])] = row
            except (ValueError, TypeError, KeyError) as error:
                raise ConfigError(
                    f"{self.path}, line {number}: not a row of `routellm data label`; choose another --output"
                ) from error
            if found != pair:
                raise ConfigError(
                    f"{self.path}, line {number}: holds labels of {found[0]} against {found[1]}, not of {pair[0]} "
                    f"against {pair[1]}; choose another --output"
                )
        return rows

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a finished row in one write."""
        _append(self.path, row)


class FailureFile:
    """What could not be finished, with the answers that were paid for; the next run takes it up.

    Args:
        path: the file; it is there only while something failed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, dict[str, Any]]:
        """Return the last record of each id; a line that was cut off is passed over, since it costs a retry at most."""
        if not self.path.exists():
            return {}
        records = {}
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                record = json.loads(line)
                records[str(record["id"])] = record
            except (ValueError, TypeError, KeyError):
                continue
        return records

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a record in one write."""
        _append(self.path, record)

    def keep(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Leave only these records; without any, no file."""
        lines = [json.dumps(record) + "\n" for record in records]
        if not lines:
            self.path.unlink(missing_ok=True)
            return
        partial = self.path.with_name(self.path.name + ".part")
        partial.write_text("".join(lines), encoding="ascii")
        partial.replace(self.path)


def _append(path: Path, record: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # ASCII alone: no character can be cut in half, and lone surrogates of a model's answer survive.
    with path.open("ab") as file:
        file.write((json.dumps(record) + "\n").encode("ascii"))


def _cut_unfinished_line(path: Path) -> None:
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)
