"""The lock pins all that the two commands install, and its pins lie in the ranges that are declared."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECTS = [ROOT / "pyproject.toml", *sorted(ROOT.glob("integrations/*/pyproject.toml"))]
LOCK = ROOT / "requirements" / "lock.txt"


def locked() -> dict[str, list[Requirement]]:
    pins: dict[str, list[Requirement]] = {}
    for line in LOCK.read_text(encoding="utf-8").splitlines():
        requirement = Requirement(line)
        pins.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return pins


def installed_by_make_test(path: Path) -> list[Requirement]:
    """The requirements of a distribution and of its extra ``dev``, extras of the distribution itself followed."""
    project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    found, extras = [Requirement(text) for text in project["dependencies"]], ["dev"]
    for extra in extras:
        for requirement in map(Requirement, project["optional-dependencies"][extra]):
            if canonicalize_name(requirement.name) == canonicalize_name(project["name"]):
                extras.extend(requirement.extras)
            else:
                found.append(requirement)
    return found


@pytest.mark.parametrize("path", PROJECTS, ids=lambda path: path.parent.name)
def test_everything_that_is_installed_is_pinned_within_the_declared_range(path: Path) -> None:
    pins = locked()
    for requirement in installed_by_make_test(path):
        if requirement.name == "routellm-core":
            continue
        versions = pins.get(canonicalize_name(requirement.name))
        assert versions, f"{path}: {requirement} is not in the lock; run `make lock`"
        for pin in versions:
            (specifier,) = pin.specifier
            assert specifier.operator == "==", pin
            assert requirement.specifier.contains(specifier.version), f"{path}: {requirement} but the lock has {pin}"


def test_every_pin_is_exact_and_torch_may_be_the_cpu_build() -> None:
    for requirements in locked().values():
        for requirement in requirements:
            assert [specifier.operator for specifier in requirement.specifier] == ["=="], requirement
            assert requirement.url is None, requirement
    (torch,) = locked()["torch"]
    assert torch.specifier.contains(Version("2.13.0+cpu"))


def test_the_lock_names_no_index_and_no_path() -> None:
    assert not re.search(r"://|--index|--find-links|^-e|^/", LOCK.read_text(encoding="utf-8"), re.MULTILINE)


def test_both_commands_install_from_the_lock() -> None:
    recipes = [line for line in (ROOT / "Makefile").read_text(encoding="utf-8").splitlines() if line.startswith("\t")]
    installing = [line for line in recipes if "$(PIP)" in line or "$(LOCKED)" in line]
    assert installing
    assert all("$(LOCKED)" in line for line in installing)
