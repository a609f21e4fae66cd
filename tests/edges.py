"""Run every test on the edges of the declared ranges: the newest releases of today, or the lower bounds.

    python -m tests.edges newest [pytest arguments]
    python -m tests.edges oldest

Makes a virtual environment of its own (``.venv-newest``, ``.venv-oldest``), prints what it resolved, and exits as
pytest does. ``oldest`` also takes the oldest Python that is declared, where an interpreter of that name is at hand.
Other people's warnings are counted there and fail nothing. torch stays at the version of the lock: another one means
gigabytes of CUDA libraries.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
TORCH = "torch==2.13.0"
OUR_OWN = ("routellm-core", "langchain-routellm", "llama-index-llms-routellm", "dspy-routellm")


def projects() -> list[Path]:
    return [ROOT, *sorted(path.parent for path in ROOT.glob("integrations/*/pyproject.toml"))]


def declared(folder: Path) -> Iterator[str]:
    """Yield every requirement of a distribution, of its extras too."""
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    yield from project["dependencies"]
    for requirements in project["optional-dependencies"].values():
        yield from requirements


def normalised(requirement: str) -> str:
    return re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def interpreter(edge: str) -> str:
    """Return the Python to test with: the oldest declared one for the lower bounds, else the one that runs this."""
    oldest = re.search(r"\d+\.\d+", tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"])
    found = shutil.which(f"python{oldest[0]}") if edge == "oldest" and oldest else None
    return found or sys.executable


def run(*command: str | Path) -> None:
    subprocess.run([str(part) for part in command], check=True, cwd=ROOT)


def install(edge: str, python: Path) -> None:
    """Install all four distributions with their development extras at one edge of their ranges."""
    pip = [python, "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    run(*pip, TORCH, "hatchling", "editables", "uv")
    editable = [f"{folder}[dev]" for folder in projects()]
    if edge == "newest":
        run(*pip, "--upgrade", "--no-build-isolation", TORCH, *[part for path in editable for part in ("-e", path)])
        return
    inputs = python.parents[1] / "oldest.in"
    inputs.write_text("".join(f"-e {path}\n" for path in editable) + TORCH + "\n", encoding="utf-8")
    pins = python.parents[1] / "oldest.txt"
    names = [part for name in OUR_OWN for part in ("--no-emit-package", name)]
    resolve = ["--resolution", "lowest-direct", "--python", str(python), "--no-header", "--no-annotate", "--quiet"]
    run(python.parent / "uv", "pip", "compile", *resolve, *names, inputs, "--output-file", pins)
    run(*pip, "-c", pins, "--no-build-isolation", *[part for path in editable for part in ("-e", path)])


def print_resolved(python: Path) -> None:
    """Print the version of every declared dependency."""
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format", "json"], capture_output=True, check=True, cwd=ROOT
    )
    versions = {normalised(entry["name"]): entry["version"] for entry in json.loads(listed.stdout)}
    names = sorted({normalised(requirement) for folder in projects() for requirement in declared(folder)} - {*OUR_OWN})
    version = subprocess.run([python, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    print(f"{version}: " + ", ".join(f"{name} {versions.get(name, 'not installed')}" for name in names), flush=True)


def main(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] not in ("newest", "oldest"):
        print(__doc__, file=sys.stderr)
        return 2
    edge, *rest = arguments
    folder = ROOT / f".venv-{edge}"
    shutil.rmtree(folder, ignore_errors=True)
    run(interpreter(edge), "-m", "venv", folder)
    python = folder / "bin" / "python"
    install(edge, python)
    print_resolved(python)
    pytest = [python, "-m", "pytest", "--numprocesses", "auto", "--dist", "loadfile", "-o", "filterwarnings=default"]
    return subprocess.run([*pytest, *rest], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
