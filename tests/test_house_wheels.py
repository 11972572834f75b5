"""Each distribution, built as a wheel and installed alone, is whole: it imports, and its README's example runs.

Alone means a new environment that sees the wheel, those of ours that it declares, the third-party distributions that
these declare, through and through, and nothing else. The fast test puts links to installed files into the environment,
so nothing is downloaded; the slow one lets pip resolve and install everything.
"""

from __future__ import annotations

import re
import sys
import venv
import zipfile
from collections import Counter
from dataclasses import dataclass
from email.parser import Parser
from importlib import metadata
from pathlib import Path

import pytest
from house import DISTRIBUTIONS, ROOT, Distribution, repository_files, requirements_closure, run
from packaging.requirements import Requirement

OFFLINE = {"HF_HUB_OFFLINE": "1"}


@dataclass(frozen=True)
class Wheel:
    """One built wheel of ours."""

    file: Path
    requirements: list[str]
    """What it always needs, extras left out."""

    def own_closure(self, wheels: dict[str, Wheel]) -> dict[str, Wheel]:
        """Return those of our wheels that this one needs, directly or through others."""
        found: dict[str, Wheel] = {}
        for line in self.requirements:
            name = Requirement(line).name
            if name in wheels:
                found |= {name: wheels[name]} | wheels[name].own_closure(wheels)
        return found


def third_party(wheel: Wheel, wheels: dict[str, Wheel]) -> list[str]:
    """Return what a wheel requires of other people's distributions, itself or through other wheels of ours."""
    needed = [wheel, *wheel.own_closure(wheels).values()]
    return [line for each in needed for line in each.requirements if Requirement(line).name not in wheels]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Wheel]:
    """Build all distributions, as `pip wheel` would."""
    folder = tmp_path_factory.mktemp("wheels")
    built = {}
    for distribution in DISTRIBUTIONS:
        target = folder / distribution.name
        command = [sys.executable, "-m", "hatchling", "build", "--target=wheel", f"--directory={target}"]
        run(command, cwd=distribution.folder)
        (file,) = target.glob("*.whl")
        built[distribution.name] = Wheel(file, read_requirements(file))
    return built


def read_requirements(wheel: Path) -> list[str]:
    """Return what a wheel's metadata requires without extras."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [each for each in archive.namelist() if each.endswith(".dist-info/METADATA")]
        lines = Parser().parsestr(archive.read(name).decode()).get_all("Requires-Dist") or []
    requirements = [Requirement(line) for line in lines]
    return [str(each) for each in requirements if each.marker is None or each.marker.evaluate({"extra": ""})]


@dataclass(frozen=True)
class Environment:
    """A new virtual environment without pip."""

    folder: Path

    @classmethod
    def create(cls, folder: Path) -> Environment:
        """Make the environment; nothing but the standard library is in it."""
        venv.create(folder, with_pip=False, symlinks=True)
        return cls(folder)

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return self.folder / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        """Where its distributions lie."""
        return self.folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"

    def install(self, wheels: list[Wheel], *arguments: str) -> None:
        """Install wheels by the pip that runs this test."""
        command = [sys.executable, "-m", "pip", "--python", str(self.python), "install", "--quiet", *arguments]
        run([*command, *(str(wheel.file) for wheel in wheels)])

    def link(self, distributions: list[metadata.Distribution]) -> None:
        """Let the environment see these installed distributions, and no others."""
        owners = Counter(top for each in metadata.distributions() for top in top_level_names(each))
        for distribution in distributions:
            for top in top_level_names(distribution):
                if owners[top] == 1:
                    self._link(distribution, top)
                else:  # a folder that several distributions share, such as a namespace package
                    for file in distribution.files or []:
                        if file.parts[0] == top:
                            self._link(distribution, file.as_posix())

    def _link(self, distribution: metadata.Distribution, name: str) -> None:
        link = self.site_packages / name
        if not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(Path(str(distribution.locate_file(name))))

    def execute(self, source: str, *, cwd: Path) -> str:
        """Run Python code in the environment and return what it printed."""
        return run([str(self.python), "-c", source], cwd=cwd, env=OFFLINE)


def top_level_names(distribution: metadata.Distribution) -> set[str]:
    """Return the files and folders in site-packages that a distribution owns or shares; scripts lie elsewhere."""
    return {file.parts[0] for file in distribution.files or [] if file.parts[0] not in ("..", "__pycache__")}


def readme_example(distribution: Distribution) -> str:
    """Return the README's one block of Python."""
    text = (distribution.folder / "README.md").read_text(encoding="utf-8")
    blocks: list[str] = re.findall(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) == 1, f"the README of {distribution.name} has {len(blocks)} blocks of Python; expected one"
    return blocks[0]


def show_present(distribution: Distribution) -> str:
    """Return code that imports every public name of the package and prints which of ours it sees, and whether torch."""
    seen = [*(each.package for each in DISTRIBUTIONS), "torch"]
    return f"""
import importlib.util, {distribution.package}
for name in {distribution.package}.__all__:
    getattr({distribution.package}, name)
print(*(name for name in {seen} if importlib.util.find_spec(name)))
"""


@pytest.fixture(params=DISTRIBUTIONS, ids=lambda each: each.name)
def alone(
    request: pytest.FixtureRequest, wheels: dict[str, Wheel], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Distribution, Environment]:
    """One distribution in an environment of its own, with what it declares."""
    distribution: Distribution = request.param
    wheel = wheels[distribution.name]
    environment = Environment.create(tmp_path_factory.mktemp(distribution.name) / "environment")
    environment.install([wheel, *wheel.own_closure(wheels).values()], "--no-deps", "--no-index")
    environment.link(list(requirements_closure(third_party(wheel, wheels)).values()))
    return distribution, environment


def test_a_wheel_works_alone(alone: tuple[Distribution, Environment], wheels: dict[str, Wheel], tmp_path: Path) -> None:
    distribution, environment = alone
    # In one process, since importing torch takes seconds.
    printed = environment.execute(readme_example(distribution) + show_present(distribution), cwd=tmp_path)
    wheel = wheels[distribution.name]
    expected = {distribution.package} | {name.replace("-", "_") for name in wheel.own_closure(wheels)}
    expected |= {"torch"} & set(requirements_closure(third_party(wheel, wheels)))
    assert set(printed.splitlines()[-1].split()) == expected


def test_templates_and_data_bring_no_torch(wheels: dict[str, Wheel]) -> None:
    for name in ("swift-templates", "swift-data"):
        installed = requirements_closure(third_party(wheels[name], wheels))
        assert set(installed) & {"torch", "transformers", "peft"} == set()


def test_tuners_bring_none_of_the_others(wheels: dict[str, Wheel]) -> None:
    assert wheels["swift-tuners"].own_closure(wheels) == {}


def test_a_wheel_holds_the_package_and_its_license(wheels: dict[str, Wheel]) -> None:
    for distribution in DISTRIBUTIONS:
        with zipfile.ZipFile(wheels[distribution.name].file) as archive:
            names = set(archive.namelist())
        info = f"{distribution.package}-{distribution.version}.dist-info"
        assert f"{info}/licenses/LICENSE" in names
        files = [file for file in repository_files() if file.is_relative_to(distribution.source)]
        expected = {file.relative_to(distribution.source.parent).as_posix() for file in files}
        assert {name for name in names if not name.startswith(f"{info}/")} == expected


def test_the_command_is_installed_with_the_command_line(wheels: dict[str, Wheel]) -> None:
    with zipfile.ZipFile(wheels["swift-cli"].file) as archive:
        (name,) = [each for each in archive.namelist() if each.endswith("entry_points.txt")]
        assert "swift = swift_cli.main:main" in archive.read(name).decode()


@pytest.mark.slow
@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=lambda each: each.name)
def test_pip_installs_a_wheel_alone(distribution: Distribution, wheels: dict[str, Wheel], tmp_path: Path) -> None:
    environment = Environment.create(tmp_path / "environment")
    wheel = wheels[distribution.name]
    own = [f"--find-links={each.file.parent}" for each in wheels.values()]
    environment.install([wheel], f"--constraint={ROOT / 'constraints.txt'}", *own)
    environment.execute(readme_example(distribution) + show_present(distribution), cwd=tmp_path)
