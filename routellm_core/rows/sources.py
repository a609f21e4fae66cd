"""Where rows come from: files, folders, data sets on the Hub, standard input, and Python objects that hold rows."""

from __future__ import annotations

import hashlib
import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from routellm_core._files import file_sha256
from routellm_core._optional import import_extra
from routellm_core.errors import ConfigError
from routellm_core.rows.files import DATA_SUFFIXES, READABLE, Row, read_rows, text_rows

HUB_PREFIX: Final = "hf:"
"""Before a data set's id where a path could stand as well."""
STANDARD_INPUT: Final = "-"
_HUB_ID: Final = re.compile(r"(\w[\w.-]*/[\w.-]+)(?:@([\w./-]+))?")
_WEIGHTED: Final = re.compile(r"weight=([^:]*):(.+)", re.DOTALL)
_OTHER_SPLITS: Final = re.compile(r"(^|[^a-z])(test|validation|valid|dev|eval)([^a-z]|$)", re.IGNORECASE)
_NOT_DATA: Final = {"dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json", "config.json"}

_ROWS_AT_A_TIME: Final = 1024


def hub_or_path(source: str | Path) -> str:
    """Return a location, ``hf:owner/name`` for a bare Hub id ``owner/name``, which RouteLLM's options hold.

    Raises:
        ConfigError: neither a file nor a folder here, nor a Hub id.
    """
    name = str(source)
    if name.startswith(HUB_PREFIX) or (name and Path(name).expanduser().exists()):
        return name
    if not _HUB_ID.fullmatch(name) or name.lower().removesuffix(".gz").endswith(DATA_SUFFIXES):
        raise ConfigError(
            f"data set {name!r} is neither a file nor a folder here, nor a Hub id such as 'routellm/gpt4_judge_battles'"
        )
    return HUB_PREFIX + name


@dataclass(frozen=True)
class RowSource:
    """One source of rows.

    Attributes:
        data: a file, a folder, ``hf:owner/name[@revision][:configuration][:split]`` or ``-`` for standard input; or an
            object: a list of rows (texts, conversations or mappings of columns), a ``datasets.Dataset`` or
            ``IterableDataset``, a pandas frame, a pyarrow table.
        weight: what its rows count, times what each row says itself.
    """

    data: Any
    weight: float = 1.0

    @classmethod
    def parse(cls, source: Any) -> RowSource:
        """Read ``judged.jsonl`` or ``weight=0.5:judged.jsonl``; a path that begins so is written ``./weight=…``.

        Raises:
            ConfigError: a weight that is not a positive, finite number.
        """
        if isinstance(source, RowSource):
            return source
        if source is None:
            return cls(STANDARD_INPUT)
        if not isinstance(source, (str, Path)):
            return cls(source)
        found = _WEIGHTED.fullmatch(str(source))
        if found is None:
            return cls(str(source))
        try:
            weight = float(found[1])
        except ValueError:
            weight = math.nan
        if not 0.0 < weight < math.inf:
            raise ConfigError(
                f"data source {str(source)!r}: the weight must be a positive number, got {found[1]!r}; write "
                "weight=0.5:FILE, and ./weight=… for a file of such a name"
            )
        return cls(found[2], weight)

    @property
    def name(self) -> str:
        """What errors and reports call it."""
        if not isinstance(self.data, str):
            return type(self.data).__name__
        return "standard input" if self._is_standard_input else self.data

    @property
    def label(self) -> str:
        """The source as a card names it: without folders, which do not travel."""
        name = Path(self.data).name if self.files else self.name
        return name if self.weight == 1.0 else f"weight={self.weight:g}:{name}"

    @property
    def is_rereadable(self) -> bool:
        """Whether a second reading gives the same rows: not so for pipes and iterators."""
        if self.files:
            return not any(file.exists() and not file.is_file() for file in self.files)
        return not self._is_standard_input and not isinstance(self.data, Iterator)

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """The files of a path, in order; none for other sources.

        Of a folder, the files of the first format that it has of parquet, csv, tsv, jsonl, ndjson, json, npz and txt,
        but for those that name another split than train.

        Raises:
            ConfigError: a folder without such files.
        """
        if not isinstance(self.data, str) or self._is_standard_input or self.data.startswith(HUB_PREFIX):
            return ()
        path = Path(self.data).expanduser()
        if not path.is_dir():
            return (path,)
        return () if _is_saved_dataset(path) else _files_of(path)

    @cached_property
    def object(self) -> Any:
        """What is read where there are no files: the object itself, or the data set that a name stands for.

        Raises:
            ConfigError: a data set that cannot be loaded, or has no such split.
            MissingExtraError: without the extra ``[hub]``.
        """
        return _loaded(self.data) if isinstance(self.data, str) else self.data

    def rows(self, columns: Sequence[str] = ()) -> Iterator[Row]:
        """Yield every row with its place, in constant memory.

        Args:
            columns: where a format can leave columns out, these alone are read, if there are any of them.

        Raises:
            ConfigError: nothing is there, or it cannot be read; the message has file and line.
            MissingExtraError: a data set of the Hub without the extra ``[hub]``, a parquet file without ``[eval]``.
        """
        if self._is_standard_input:
            yield from _standard_input()
            return
        for file in self.files:
            yield from read_rows(file, columns)
        if not self.files:
            for number, row in enumerate(_object_rows(self.object, columns), start=1):
                yield f"{self.name}, row {number}", row

    def checksum(self) -> str:
        """Return what identifies the rows: SHA-256 of the files, a data set's fingerprint, or ``""``."""
        if self.files:
            if not self.is_rereadable:
                return ""
            return "sha256 " + hashlib.sha256("".join(map(file_sha256, self.files)).encode()).hexdigest()[:16]
        fingerprint = None if self._is_standard_input else getattr(self.object, "_fingerprint", None)
        return f"fingerprint {fingerprint}" if fingerprint else ""

    @property
    def _is_standard_input(self) -> bool:
        return isinstance(self.data, str) and self.data == STANDARD_INPUT


def _standard_input() -> Iterator[Row]:
    try:
        yield from text_rows(sys.stdin, "standard input")
    except UnicodeDecodeError as error:
        raise ConfigError(f"standard input is not UTF-8 text ({error})") from error


def _files_of(folder: Path) -> tuple[Path, ...]:
    found = [file for file in sorted(folder.rglob("*")) if file.name not in _NOT_DATA and file.is_file()]
    for suffix in DATA_SUFFIXES:
        alike = [file for file in found if file.name.lower().removesuffix(".gz").endswith(suffix)]
        if train := [file for file in alike if not _OTHER_SPLITS.search(file.relative_to(folder).as_posix())]:
            return tuple(train)
    raise ConfigError(f"folder {str(folder)!r} holds no file to train or route on; readable are {READABLE}")


def _is_saved_dataset(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("state.json", "dataset_dict.json"))


def _loaded(location: str) -> Any:
    """Load a data set of the Hub, or one that ``save_to_disk`` wrote, through the ``datasets`` library."""
    datasets = import_extra("datasets", extra="hub", purpose=f"Reading the data set {location!r}")
    if not location.startswith(HUB_PREFIX):
        return _split_of(datasets.load_from_disk(str(Path(location).expanduser())), location, None)
    identifier, *parts = location.removeprefix(HUB_PREFIX).split(":")
    matched = _HUB_ID.fullmatch(identifier)
    if matched is None or len(parts) > 2:
        raise ConfigError(
            f"data set {location!r}: give {HUB_PREFIX}owner/name, and after it :split or :configuration:split"
        )
    configuration = parts[0] if len(parts) == 2 else None
    try:
        found = _from_hub(datasets, matched[1], configuration, matched[2])
    except Exception as error:  # the library raises httpx, requests, OS and its own errors alike
        said = " ".join(str(error).split())[:400] or "no details"
        raise ConfigError(f"data set {location!r} could not be loaded ({type(error).__name__}: {said})") from error
    return _split_of(found, location, parts[-1] if parts else None)


def _from_hub(datasets: Any, name: str, configuration: str | None, revision: str | None) -> Any:
    try:
        return datasets.load_dataset(name, configuration, revision=revision)
    except ConnectionError:
        # The library's own cache does not hold it, but `hf download` may have fetched it for a machine without network.
        hub = import_extra("huggingface_hub", extra="hub", purpose=f"Reading the data set {name!r}")
        try:
            folder = hub.snapshot_download(name, repo_type="dataset", revision=revision, local_files_only=True)
        except Exception:  # not there either: the first error says more
            folder = None
        if folder is None:
            raise
        return datasets.load_dataset(folder, configuration)


def _split_of(found: Any, location: str, split: str | None) -> Any:
    """Return a split of a loaded data set: by default train, or the only one."""
    if not isinstance(found, Mapping):
        return found
    wanted = split or ("train" if "train" in found or len(found) != 1 else next(iter(found)))
    if wanted not in found:
        raise ConfigError(
            f"data set {location!r} has no split {wanted!r}, only {', '.join(found)}; name one at the end, such as "
            f"{location.removesuffix(f':{wanted}')}:{next(iter(found), 'train')}"
        )
    return found[wanted]


def _object_rows(data: Any, columns: Sequence[str]) -> Iterator[Any]:
    library = type(data).__module__.partition(".")[0]
    if library == "datasets":
        yield from _dataset_rows(_split_of(data, type(data).__name__, None), columns)
    elif library == "pandas" and hasattr(data, "to_dict") and hasattr(data, "columns"):
        frame = data[_present(data.columns, columns)]
        for start in range(0, len(frame), _ROWS_AT_A_TIME):
            part = frame.iloc[start : start + _ROWS_AT_A_TIME].astype(object)
            yield from part.where(part.notna(), None).to_dict("records")
    elif library == "pyarrow" and hasattr(data, "to_batches"):
        for batch in data.select(_present(data.column_names, columns)).to_batches(_ROWS_AT_A_TIME):
            yield from batch.to_pylist()
    elif isinstance(data, Mapping) and data and len({len(column) for column in data.values()}) == 1:
        for cells in zip(*data.values(), strict=True):
            yield dict(zip(data, cells, strict=True))
    elif isinstance(data, (bytes, Mapping)) or not isinstance(data, Iterable):
        raise ConfigError(
            f"rows cannot be read from a {type(data).__name__}; give a path, {HUB_PREFIX}owner/name, a list of rows, a "
            "mapping of equally long columns, a datasets.Dataset or a pandas frame"
        )
    else:
        yield from data


def _dataset_rows(data: Any, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    if data.column_names:  # a stream may not know them yet
        data = data.select_columns(_present(data.column_names, columns))
    for batch in data.with_format(None).iter(_ROWS_AT_A_TIME):
        for values in zip(*batch.values(), strict=True):
            yield dict(zip(batch, values, strict=True))


def _present(names: Iterable[str], columns: Sequence[str]) -> list[str]:
    return [name for name in names if name in columns] or list(names)
