"""JSON-lines files that survive being killed, and that one run at a time writes to."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from routellm_core._publish import check_writable_file, publish_file
from routellm_core.errors import ConfigError, OutputError

logger = logging.getLogger(__name__)


class RecordFile:
    """Records with an ``id``, one JSON line each; a record is on disk before the next one is begun.

    ``writer`` is the command that writes it, for the error about a file that holds something else.
    """

    def __init__(self, path: Path, *, writer: str) -> None:
        self.path = path
        self._writer = writer

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs from the file while the block runs, and cut off what a killed one left unfinished.

        Raises:
            ConfigError: another run has it, or it cannot be written.
        """
        check_writable_file(self.path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise ConfigError(
                f"another run is writing to {self.path}; the same calls would be paid for twice. Let it end, or choose "
                "another output"
            ) from error
        except NotImplementedError:  # some network shares
            logger.warning("%s is on a file system without locks; start no second run on it", self.path)
        try:
            self._cut_unfinished_line()
            yield
        finally:
            lock.release()

    def read(self) -> dict[str, dict[str, Any]]:
        """Return the last record of each id; an unfinished last line is passed over.

        Raises:
            ConfigError: another line is not a record.
        """
        if not self.path.exists():
            return {}
        records: dict[str, dict[str, Any]] = {}
        *lines, _unfinished = self.path.read_bytes().split(b"\n")
        for number, line in enumerate(lines, start=1):
            try:
                record = json.loads(line)
                records[str(record["id"])] = record
            except (ValueError, TypeError, KeyError) as error:
                raise ConfigError(
                    f"{self.path}, line {number}: not a row of `{self._writer}`; choose another output"
                ) from error
        return records

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a record in one write.

        Raises:
            OutputError: it cannot be written; the file is as it was.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._cut_unfinished_line()
            with self.path.open("ab", buffering=0) as file:
                line = _line(record)
                if file.write(line) != len(line):
                    raise OSError("No space left on device")
        except OSError as error:
            raise OutputError(
                f"{self.path} could not be written: {error.strerror or error}. Make room and run the command again; "
                "what is finished is kept"
            ) from error

    def replace_all(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Write the whole file anew, whole or not at all; without any record, remove it."""
        content = b"".join(map(_line, records))
        if content:
            publish_file(self.path, content)
        else:
            self.path.unlink(missing_ok=True)

    def _cut_unfinished_line(self) -> None:
        if not self.path.exists():
            return
        with self.path.open("r+b") as file:
            end = file.seek(0, 2)
            tail = b""
            while end and b"\n" not in tail:
                start = max(0, end - 65_536)
                file.seek(start)
                tail = file.read(end - start)
                kept = start + tail.rfind(b"\n") + 1
                if kept > start or start == 0:
                    file.truncate(kept)
                    return
                end = start


def _line(record: Mapping[str, Any]) -> bytes:
    # ASCII alone: no character can be cut in half, and lone surrogates of a model's answer survive.
    return (json.dumps(record) + "\n").encode("ascii")
