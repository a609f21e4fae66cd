"""The example package, installed as a third party's: the command line finds its router by entry point."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def test_an_installed_package_s_router_works_by_name(repository: Path, tmp_path: Path) -> None:
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    source = repository / "examples" / "third_party_router"
    subprocess.run([*install, "--target", str(tmp_path), str(source)], check=True, capture_output=True, timeout=120)
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("routellm")),
            "route",
            "--json",
            "-r",
            "length",
            "-t",
            "0.4",
            "hi",
            "x" * 300,
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["tier"] for row in rows] == ["weak", "strong"]
    assert rows[1]["score"] == 0.5
