"""The rules of docs/architecture.md that a machine can hold."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import routellm_core

PACKAGE = Path(routellm_core.__file__).parent
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


def test_imports_only_go_downward(repository: Path) -> None:
    # The floors are in pyproject.toml. In a process of its own: the linter sets up logging for itself.
    code = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_makes_the_shipped_assets_is_no_part_of_the_package() -> None:
    importing = [path for path in modules() if re.search(r"^\s*(from|import) research\b", path.read_text(), re.M)]
    assert not importing


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


# Scripts of the repository that no other test runs: the names that they take from the packages must exist.
NAMES = """
import ast, sys
from importlib import import_module
for path in sys.argv[1:]:
    for node in ast.walk(ast.parse(open(path, encoding="utf-8").read())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("routellm_core", "research"):
            try:
                module = import_module(node.module)
                for alias in node.names:
                    hasattr(module, alias.name) or import_module(f"{node.module}.{alias.name}")
            except ImportError as error:
                print(path, error)
"""


def test_the_repository_s_scripts_import_what_there_is(repository: Path) -> None:
    files = [str(path) for part in ("research", "benchmarks", "examples") for path in (repository / part).rglob("*.py")]
    assert len(files) > 30
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", NAMES, *files],
        cwd=repository,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ""
