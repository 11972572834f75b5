"""The shape of the files: sizes, names, and what every distribution has."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest
from house import DISTRIBUTIONS, ROOT, Distribution, python_files

MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 80
MAX_INIT_LINES = 40

# What may be larger, as 'path' or 'path:function', each with its reason. Empty, and meant to stay so.
EXCEPTIONS: dict[str, str] = {}


def function_sizes(source: str) -> dict[str, int]:
    """Return the lines of each function, from `def` to its end, nested ones included."""
    return {
        node.name: (node.end_lineno or node.lineno) - node.lineno + 1
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def oversized(root: Path, files: list[Path]) -> dict[str, int]:
    """Return modules and functions over the limits, with their lines."""
    found: dict[str, int] = {}
    for file in files:
        path, source = file.relative_to(root).as_posix(), file.read_text(encoding="utf-8")
        if (lines := len(source.splitlines())) > MAX_MODULE_LINES:
            found[path] = lines
        found |= {f"{path}:{name}": size for name, size in function_sizes(source).items() if size > MAX_FUNCTION_LINES}
    return found


def test_modules_and_functions_stay_small() -> None:
    found = oversized(ROOT, python_files())
    assert {name: lines for name, lines in found.items() if name not in EXCEPTIONS} == {}
    assert set(EXCEPTIONS) <= set(found), "an exception that is no longer needed"


def test_an_oversized_module_and_function_are_found(tmp_path: Path) -> None:
    body = "    x = 1\n"
    (tmp_path / "long.py").write_text("def fits():\n" + body * 79 + "def grows():\n" + body * 80 + "x = 1\n" * 240)
    assert oversized(tmp_path, [tmp_path / "long.py"]) == {"long.py": 401, "long.py:grows": 81}


def test_test_files_have_unique_names() -> None:
    names = Counter(file.name for file in python_files() if file.name.startswith("test_"))
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=lambda each: each.name)
def test_a_distribution_has_its_papers(distribution: Distribution) -> None:
    expected = ["README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml"]
    assert [name for name in expected if not (distribution.folder / name).is_file()] == []
    inside = ["__init__.py", "__init__.pyi", "_version.py", "py.typed"]
    assert [name for name in inside if not (distribution.source / name).is_file()] == []
    assert (distribution.source / "testing.py").is_file() or (distribution.source / "testing" / "__init__.py").is_file()
    assert (distribution.folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    changelog = (distribution.folder / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## {distribution.version}" in changelog


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=lambda each: each.name)
def test_init_files_do_not_grow(distribution: Distribution) -> None:
    sizes = {
        name: len(file.read_text(encoding="utf-8").splitlines())
        for name, file in distribution.modules().items()
        if file.name == "__init__.py"
    }
    assert {name: lines for name, lines in sizes.items() if lines > MAX_INIT_LINES} == {}


def test_all_distributions_have_one_version() -> None:
    # They are released together: a higher floor relies on what this version of a lower one has.
    assert len({distribution.version for distribution in DISTRIBUTIONS}) == 1


def test_strangers_hold_the_same_registry() -> None:
    files = [distribution.source / "registry.py" for distribution in DISTRIBUTIONS]
    copies = [file.read_bytes() for file in files if file.exists()]
    assert len(copies) == 2
    assert copies[0] == copies[1]
