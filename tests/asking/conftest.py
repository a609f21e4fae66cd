from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir(shared: Path) -> Path:
    return shared / "data" / "routellm_benchmarks" / "original"
