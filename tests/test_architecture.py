"""The rules of docs/architecture.md that a machine can hold."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import routellm_core

PACKAGE = Path(routellm_core.__file__).parent
FLOORS = {
    "errors": 0,
    "types": 0,
    "_optional": 1,
    "_options": 1,
    "prompts": 1,
    "decision": 1,
    "providers": 2,
    "_files": 2,
    "_cache": 2,
    "model_names": 2,
    "stickiness": 2,
    "rows": 3,
    "metrics": 3,
    "embeddings": 3,
    "routers": 4,
    "scoring": 5,
    "score_cache": 5,
    "backends": 5,
    "pricing": 6,
    "responses": 6,
    "calibration": 7,
    "selector": 8,
    "controller": 9,
    "server.settings": 9,
    "config": 10,
    "adapters": 11,
    "testing": 11,
    "asking": 11,
    "training": 11,
    "evals": 12,
    "server": 12,
    "cli": 13,
    "calibrate_threshold": 14,
    "openai_server": 14,
}
HEAVY = [
    "torch",
    "transformers",
    "litellm",
    "datasets",
    "pandas",
    "fastapi",
    "openai",
    "onnxruntime",
    "pydantic",
    "numpy",
]


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def part_of(module: str) -> str:
    """The longest name in FLOORS that a dotted module below the package belongs to."""
    names = [name for name in FLOORS if module == name or module.startswith(f"{name}.")]
    return max(names, key=len, default=module)


def imported_parts(path: Path) -> set[str]:
    """The parts of the package that a module imports anywhere, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        found |= {part_of(name.removeprefix("routellm_core.")) for name in names if name.startswith("routellm_core.")}
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_only_go_downward(path: Path) -> None:
    part = part_of(".".join(path.relative_to(PACKAGE).with_suffix("").parts))
    upward = {name for name in imported_parts(path) if FLOORS[name] >= FLOORS[part] and name != part}
    assert not upward, f"{part} (floor {FLOORS[part]}) imports {upward}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_print_outside_the_command_line(path: Path) -> None:
    calls = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not calls


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = f"import sys, routellm_core; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_routing_on_the_default_loads_neither_a_provider_sdk_nor_a_framework() -> None:
    heavy = [name for name in HEAVY if name not in ("pydantic", "numpy")]
    code = (
        "import sys; from routellm_core import build_controller; build_controller().route('hi'); "
        f"print([m for m in {heavy!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_public_names_are_pinned_and_all_of_them_resolve() -> None:
    assert sorted(routellm_core.__all__) == sorted(routellm_core._HOMES)
    for name in routellm_core.__all__:
        assert getattr(routellm_core, name) is getattr(
            import_module(f"routellm_core.{routellm_core._HOMES[name]}"), name
        )
    with pytest.raises(AttributeError, match="no attribute 'Contoller'"):
        _ = routellm_core.Contoller


def test_no_package_file_shadows_a_framework(repository: Path) -> None:
    for folder in ("integrations", "integrations/langchain", "integrations/dspy", "integrations/llamaindex"):
        assert not (repository / folder / "__init__.py").exists()
