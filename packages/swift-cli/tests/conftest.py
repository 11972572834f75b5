"""Components that tests add the way another distribution does: by an entry point."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Install = Callable[[str, str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Return a function (group, name, source) that makes a distribution of one module with one entry point."""
    modules = []

    def write(group: str, name: str, source: str) -> None:
        module = f"{name}_of_a_test"
        modules.append(module)
        site = tmp_path / f"site_{name}"
        metadata = site / f"{module}-1.0.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}\n")
        (site / f"{module}.py").write_text(source)
        monkeypatch.syspath_prepend(site)

    yield write
    for module in modules:
        sys.modules.pop(module, None)


@pytest.fixture
def other_tuner(install: Install) -> str:
    """A second tuner with one option, `strength`; returns its name."""
    install(
        "swift_tuners.tuners",
        "other",
        '''
from dataclasses import dataclass
from swift_tuners.args import TunerArgs

@dataclass(kw_only=True)
class OtherArgs(TunerArgs):
    """Another tuner."""

    strength: int = 1
    """How strong."""

    def build_config(self):
        raise NotImplementedError
''',
    )
    return "other"
