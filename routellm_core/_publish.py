"""Files and folders that are written whole or not at all, and outputs that are found unusable before any work."""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

from safetensors import SafetensorError

from routellm_core.errors import ConfigError, OutputError

_REPLACED: Final = (
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "routing.json",
    "training.json",
    "README.md",
)
"""What a checkpoint consists of: of an older one in the same folder, none of it may stay beside the new one."""
_PROBE_BYTES: Final = 65_536
_AT_CWD, _EXCHANGE = -100, 2  # renameat2(2)


def check_writable_folder(folder: str | Path) -> Path:
    """Return ``folder`` with ``~`` expanded, after a file was written there, or where it will be made, and removed.

    Raises:
        ConfigError: it is a file, is below one, or nothing can be written there.
    """
    target = Path(folder).expanduser()
    if target.exists() and not target.is_dir():
        raise ConfigError(f"{target} is a file; give a folder")
    _probe(target, target)
    return target


def check_writable_file(file: str | Path) -> Path:
    """Return ``file`` with ``~`` expanded, after a file was written beside it, or where it will be made, and removed.

    Raises:
        ConfigError: it is a folder, is below a file, or nothing can be written there.
    """
    target = Path(file).expanduser()
    if target.is_dir():
        raise ConfigError(f"{target} is a folder; give a file")
    if target.exists() and not target.is_file():
        return target  # a pipe or a device, such as /dev/stdout: nothing is written beside it
    _probe(target.parent, target)
    return target


def _probe(folder: Path, target: Path) -> None:
    """Write a little, as near to ``folder`` as there is a folder."""
    try:
        there = folder.absolute()
        while not there.exists():
            there = there.parent
        file = there / f".{secrets.token_hex(6)}.part"
        try:
            with file.open("xb") as probe:
                probe.write(bytes(_PROBE_BYTES))
        finally:
            file.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(
            f"nothing can be written at {target}: {_reason(error)}. Give another output, or make room there"
        ) from error


@contextmanager
def publish(folder: str | Path) -> Iterator[Path]:
    """Write a folder: yield an empty one to fill, and let it take the place of ``folder`` when the block ends well.

    Readers see the old folder or the new one, never some of each; when the block fails, nothing has changed. Files of
    an older checkpoint go, whatever else lies in the folder stays. Everything is on the disk before it counts, and
    files have the modes that the user's umask gives (safetensors' own writer makes them private).

    Where the folder cannot be moved (it is a mount, or the working folder of this process, or its parent is not
    writable), its files are replaced one by one instead.

    Args:
        folder: where to; made, with its parents, where it is missing.

    Raises:
        ConfigError: nothing can be written there.
        OutputError: writing failed, as on a full disk.
    """
    target = check_writable_folder(folder).resolve()
    whole = _can_be_moved(target)
    name = f".{target.name}.{secrets.token_hex(6)}.part"
    staged = target.parent / name if whole else target / name
    try:
        staged.mkdir(parents=True)
        if whole and target.exists():
            shutil.copymode(target, staged)
        try:
            yield staged
            _settle(staged)
            (_move_folder if whole else _move_files)(staged, target)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise _output_error(target, error) from error


def publish_file(file: str | Path, content: str | bytes) -> None:
    """Write a file, with its folders: readers see the old one or the new one, and a failure leaves the old one.

    Text is written as UTF-8; lone surrogates pass. What is no regular file, such as ``/dev/stdout``, is written to as
    it is.

    Raises:
        OutputError: writing failed.
    """
    target = Path(file).expanduser()
    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    try:
        if target.exists() and not target.is_file() and not target.is_dir():
            target.write_bytes(data)
            return
        target = target.resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
        try:
            partial.write_bytes(data)
            if target.exists():
                shutil.copymode(target, partial)
            _sync(partial)
            partial.replace(target)
            _sync(target.parent)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise _output_error(target, error) from error


def _output_error(target: Path, error: Exception) -> OutputError:
    return OutputError(f"{target} could not be written: {_reason(error)}. What was there before is unchanged")


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def _can_be_moved(target: Path) -> bool:
    if not target.exists():
        return True
    if target == target.parent or target.is_mount():
        return False
    here = Path.cwd()
    return here != target and target not in here.parents and os.access(target.parent, os.W_OK)


def _settle(folder: Path) -> None:
    """Give every file the mode of one that was made in the usual way, and wait until all are on the disk."""
    usual = folder / f".{secrets.token_hex(6)}.mode"
    usual.touch()
    mode = usual.stat().st_mode & 0o777
    usual.unlink()
    for path in [*folder.rglob("*"), folder]:
        if path.is_file():
            path.chmod(mode)
        _sync(path)


def _sync(path: Path) -> None:
    if path.is_dir() and sys.platform == "win32":
        return  # folders cannot be opened there
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):  # some file systems cannot; the order of writing is then all there is
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _move_folder(staged: Path, target: Path) -> None:
    """Swap the two, and take over from the old one, now at ``staged``, what was no part of its checkpoint."""
    if not target.exists():
        staged.rename(target)
    else:
        if not _exchanged(staged, target):
            old = staged.with_name(f"{staged.name}.old")
            target.rename(old)
            staged.rename(target)
            old.rename(staged)
        for path in staged.iterdir():
            if not _is_replaced(path) and not (target / path.name).exists():
                path.rename(target / path.name)
    _sync(target.parent)


def _move_files(staged: Path, target: Path) -> None:
    """Replace the files one by one, small ones last, since they name what the large ones hold."""
    new = sorted(staged.iterdir(), key=lambda path: -path.stat().st_size)
    for path in new:
        there = target / path.name
        if path.is_dir() and there.exists():
            shutil.rmtree(there)
        path.replace(there)
    names = {path.name for path in new}
    for path in target.iterdir():
        if path.is_file() and _is_replaced(path) and path.name not in names:
            path.unlink()
    _sync(target)


def _is_replaced(path: Path) -> bool:
    return any(fnmatch(path.name, pattern) for pattern in _REPLACED)


def _exchanged(first: Path, second: Path) -> bool:
    """Swap two folders in one step, where the system can; return whether it was done."""
    if sys.platform != "linux":
        return False
    try:
        swap = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    return bool(swap(_AT_CWD, os.fsencode(first), _AT_CWD, os.fsencode(second), _EXCHANGE) == 0)
