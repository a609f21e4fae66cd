"""Outputs are written whole or not at all, wherever that fails."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from routellm_core._publish import check_writable_file, check_writable_folder, publish, publish_file
from routellm_core.errors import ConfigError, OutputError, RouteLLMError


def read_only(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_folder_has_the_modes_of_the_umask(tmp_path: Path) -> None:
    with publish(tmp_path / "deep" / "new") as folder:
        assert not (tmp_path / "deep" / "new").exists()
        save_file({"x": np.zeros(3)}, folder / "index.safetensors")
        (folder / "config.json").write_text("{}")
    usual = tmp_path / "usual"
    usual.touch()
    new = tmp_path / "deep" / "new"
    assert {mode(new / name) for name in ("index.safetensors", "config.json")} == {mode(usual)}
    assert names(tmp_path / "deep") == {"new"}


def test_a_failure_leaves_the_old_folder(tmp_path: Path) -> None:
    with publish(tmp_path / "router") as folder:
        (folder / "config.json").write_text("old")
    with pytest.raises(ZeroDivisionError), publish(tmp_path / "router") as folder:
        (folder / "config.json").write_text(str(1 / 0))
    assert (tmp_path / "router" / "config.json").read_text() == "old"
    assert names(tmp_path) == {"router"}


def test_a_live_folder_is_replaced_and_foreign_files_stay(tmp_path: Path) -> None:
    router = tmp_path / "router"
    (router / "training_state").mkdir(parents=True)
    for name in ("reference.safetensors", "config.json", "routing.json", "notes.txt", "benchmarks.json"):
        (router / name).write_text("old")
    router.chmod(0o750)
    with publish(router) as folder:
        (folder / "config.json").write_text("new")
    assert names(router) == {"config.json", "notes.txt", "benchmarks.json", "training_state"}
    assert (router / "config.json").read_text() == "new"
    assert mode(router) == 0o750
    assert names(tmp_path) == {"router"}


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "v1").mkdir()
    (tmp_path / "live").symlink_to(tmp_path / "v1")
    with publish(tmp_path / "live") as folder:
        (folder / "config.json").write_text("new")
    assert (tmp_path / "live").is_symlink()
    assert names(tmp_path / "v1") == {"config.json"}


@pytest.mark.skipif(sys.platform != "linux", reason="renameat2")
def test_readers_never_see_half_of_it(tmp_path: Path) -> None:
    router, wrong, stop = tmp_path / "router", list[str](), threading.Event()

    def write(text: str) -> None:
        with publish(router) as folder:
            (folder / "config.json").write_text(text)
            (folder / "model.safetensors").write_text(text)

    def watch() -> None:
        while not stop.is_set():
            opened = os.open(router, os.O_RDONLY)  # a folder that was opened stays the same one
            try:
                read = []
                for name in ("config.json", "model.safetensors"):
                    file = os.open(name, os.O_RDONLY, dir_fd=opened)
                    read.append(os.read(file, 100))
                    os.close(file)
                if len(set(read)) != 1:
                    wrong.append(str(read))
            except FileNotFoundError:
                pass  # it was the old one, removed meanwhile
            finally:
                os.close(opened)

    write("0")
    reader = threading.Thread(target=watch)
    reader.start()
    try:
        for number in range(100):
            write(str(number))
            assert router.is_dir()
    finally:
        stop.set()
        reader.join()
    assert not wrong


def test_the_working_folder_is_filled_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for name in ("mine.py", "old.safetensors"):
        Path(name).write_text("x")
    with publish(".") as folder:
        (folder / "config.json").write_text("new")
    assert names(Path()) == {"mine.py", "config.json"}
    assert Path("config.json").read_text() == "new"


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/nowhere", "/proc/self/x/y", "/dev/null", "/dev/null/x"])
def test_an_unusable_folder_is_refused_before_the_work(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="is a file|nothing can be written"):
        check_writable_folder(tmp_path / place)
    began = False
    with pytest.raises(RouteLLMError), publish(tmp_path / place):
        began = True
    assert not began
    assert (tmp_path / "file").read_text() == "mine"


def test_an_unusable_file_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path, tmp_path / "file" / "below", Path("/proc/nowhere/x")):
        with pytest.raises(ConfigError, match="is a folder|nothing can be written"):
            check_writable_file(place)
    assert check_writable_file(tmp_path / "a" / "b.json") == tmp_path / "a" / "b.json"
    assert names(tmp_path) == {"file"}
    assert check_writable_file("/dev/null") == Path("/dev/null")


def test_a_file_is_replaced_whole_and_keeps_its_mode(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "calibration.json"
    publish_file(file, "one \ud800")
    file.chmod(0o640)
    publish_file(file, b"two")
    assert (file.read_bytes(), mode(file), names(file.parent)) == (b"two", 0o640, {"calibration.json"})
    publish_file("/dev/null", "gone")


def _write_megabytes(router: Path) -> None:
    with publish(router) as folder:
        (folder / "config.json").write_text("new")
        save_file({"x": np.zeros(1_000_000)}, folder / "model.safetensors")


def test_a_full_disk_is_said_before_and_after(small_disk: Path) -> None:
    router = small_disk / "router"
    with publish(router) as folder:
        (folder / "config.json").write_text("old")
    with pytest.raises(OutputError, match=r"router could not be written: .*[Nn]o space left"):
        _write_megabytes(router)
    with pytest.raises(OutputError, match="No space left"):
        publish_file(small_disk / "router" / "config.json", "x" * 2_000_000)
    assert (router / "config.json").read_text() == "old"
    assert names(small_disk) == {"router"}
    assert names(router) == {"config.json"}
    with pytest.raises(OSError, match="No space"):
        (small_disk / "filler").write_bytes(bytes(2_000_000))
    for check in (check_writable_folder, check_writable_file):
        with pytest.raises(ConfigError, match="No space left"):
            check(small_disk / "other")


def test_a_read_only_disk_is_said_before(small_disk: Path) -> None:
    (small_disk / "router").mkdir()
    read_only(small_disk)
    for check in (check_writable_folder, check_writable_file):
        with pytest.raises(ConfigError, match="Read-only file system"):
            check(small_disk / "other")
    with pytest.raises(ConfigError, match="Read-only"), publish(small_disk / "router"):
        pytest.fail("the work began")


def test_a_mount_is_filled_in_place(small_disk: Path) -> None:
    for text in ("old", "new"):
        with publish(small_disk) as folder:
            (folder / "config.json").write_text(text)
            (folder / f"{text}.safetensors").write_text(text)
    assert names(small_disk) == {"config.json", "new.safetensors"}
    assert (small_disk / "config.json").read_text() == "new"
