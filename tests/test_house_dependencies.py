"""What a distribution declares is what it imports, and the constraints file pins all of it.

deptry compares each pyproject.toml with the imports below `src/`. Those inside functions count; those for type checking
do not, since nothing needs them to run. What only an optional extra asks for counts as declared.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from house import DISTRIBUTIONS, ROOT, Distribution, requirements_closure, run
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version


def check_dependencies(folder: Path, *, package: str) -> str:
    """Run deptry over one distribution and return its output. A deviation is an AssertionError."""
    options = ["--no-ansi", "--config=pyproject.toml", f"--known-first-party={package}"]
    return run([sys.executable, "-m", "deptry", "src", *options], cwd=folder)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=lambda each: each.name)
def test_declared_dependencies_are_the_imported_ones(distribution: Distribution) -> None:
    check_dependencies(distribution.folder, package=distribution.package)


@pytest.mark.parametrize(
    ("declared", "imported", "message"),
    [
        pytest.param('"numpy", "tqdm"', "import numpy", "'tqdm' defined as a dependency but not used", id="unused"),
        pytest.param('"numpy"', "import numpy, tqdm", "'tqdm' imported but", id="undeclared"),
        pytest.param('"numpy"', "import numpy\ndef f():\n    import tqdm", "'tqdm' imported but", id="in a function"),
    ],
)
def test_a_deviation_is_found(tmp_path: Path, declared: str, imported: str, message: str) -> None:
    (tmp_path / "src" / "planted").mkdir(parents=True)
    (tmp_path / "src" / "planted" / "__init__.py").write_text(imported + "\n")
    project = f'[project]\nname = "planted"\nversion = "1"\ndependencies = [{declared}]\n'
    (tmp_path / "pyproject.toml").write_text(project)
    with pytest.raises(AssertionError, match=message):
        check_dependencies(tmp_path, package="planted")


def read_requirements(file: str) -> list[Requirement]:
    """Return the lines of a requirements file."""
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def test_constraints_pin_what_is_installed() -> None:
    pins = {canonicalize_name(each.name): each.specifier for each in read_requirements("constraints.txt")}
    tools = [str(each) for each in read_requirements("requirements-dev.txt")]
    installed = requirements_closure([*(each.name for each in DISTRIBUTIONS), *tools])
    assert sorted(set(installed) - set(pins)) == []
    # A local version such as 2.13.0+cpu is a build of the pinned one.
    versions = {name: Version(distribution.version).public for name, distribution in installed.items()}
    assert {name: version for name, version in versions.items() if version not in pins[name]} == {}
