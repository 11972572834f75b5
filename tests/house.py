"""What the repository consists of, for the tests that hold all of it to the same rules.

A distribution is a folder with a pyproject.toml, in `packages/` or `kernels/`: a new one is tested by existing.
"""

from __future__ import annotations

import ast
import os
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Distribution:
    """One of our distributions, read from its folder."""

    folder: Path

    @cached_property
    def project(self) -> dict[str, object]:
        """The [project] table."""
        text = (self.folder / "pyproject.toml").read_text(encoding="utf-8")
        project: dict[str, object] = tomllib.loads(text)["project"]
        return project

    @property
    def name(self) -> str:
        """The name to install, such as 'swift-tuners'."""
        return str(self.project["name"])

    @property
    def package(self) -> str:
        """The name to import, such as 'swift_tuners'."""
        return self.name.replace("-", "_")

    @property
    def source(self) -> Path:
        """The folder of the import package."""
        return self.folder / "src" / self.package

    @property
    def version(self) -> str:
        """The version that `_version.py` states."""
        tree = ast.parse((self.source / "_version.py").read_text(encoding="utf-8"))
        return next(str(ast.literal_eval(each.value)) for each in tree.body if isinstance(each, ast.Assign))

    def modules(self) -> dict[str, Path]:
        """Return every module by its dotted name."""
        files = sorted(self.source.rglob("*.py"))
        return {".".join(file.relative_to(self.folder / "src").with_suffix("").parts): file for file in files}


DISTRIBUTIONS = [
    Distribution(file.parent)
    for file in sorted([*ROOT.glob("packages/*/pyproject.toml"), ROOT / "kernels" / "pyproject.toml"])
]


def python_files() -> list[Path]:
    """Return every Python file of the repository: packages, tests and examples."""
    return [file for file in repository_files() if file.suffix == ".py"]


def repository_files() -> list[Path]:
    """Return every file that is, or would be, committed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    # A file that was deleted but is still in the index is listed too.
    return [file for file in files if file.is_file()]


def requirements_closure(requirements: list[str]) -> dict[NormalizedName, metadata.Distribution]:
    """Return what these requirements ask for, directly or through others, of what is installed, by canonical name.

    Our own distributions are passed through, not returned.

    Raises:
        PackageNotFoundError: one of them is not installed.
    """
    ours = {each.name for each in DISTRIBUTIONS}
    found: dict[NormalizedName, metadata.Distribution] = {}
    done: set[tuple[NormalizedName, str]] = set()
    waiting = [Requirement(each) for each in requirements]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *sorted(requirement.extras)):
            if (name, extra) in done:
                continue
            done.add((name, extra))
            distribution = metadata.distribution(name)
            if name not in ours:
                found[name] = distribution
            waiting += _asked_for(distribution, extra)
    return found


def _asked_for(distribution: metadata.Distribution, extra: str) -> Iterator[Requirement]:
    for line in distribution.requires or []:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            yield requirement


def run(command: list[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a command and return what it printed; its output is the message where it fails.

    Args:
        command: the words of the command.
        cwd: the folder that it runs in.
        env: variables on top of the present ones; PYTHONPATH is never passed on.
    """
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    finished = subprocess.run(
        command,
        cwd=cwd,
        env={**inherited, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, f"{' '.join(command)}\n{finished.stdout}"
    return finished.stdout
