"""Who may import whom: the contracts in pyproject.toml hold, and a breach of each is noticed."""

from __future__ import annotations

import ast
import os
import shutil
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from house import DISTRIBUTIONS, ROOT, Distribution, run

LINT_IMPORTS = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"]

FLOORS = "A package imports lower floors only"
NUMPY_BORDER = "know neither torch nor transformers"
COMMAND_LINE = "Nothing below the command line knows argparse, tyro or YAML"

# Each kernel is a file with a Triton kernel in it, or asks liger-kernel for it.
BACKENDS_OF = {"swift-kernels": {"triton", "liger_kernel"}}
# Backends that are large, not on every machine, or at odds with each other. peft has a contract in pyproject.toml.
HEAVY = {
    "aqlm",
    "auto_round",
    "awq",
    "bitsandbytes",
    "deepspeed",
    "evalscope",
    "gguf",
    "gptqmodel",
    "gradio",
    "hqq",
    "huggingface_hub",
    "liger_kernel",
    "lmdeploy",
    "megatron",
    "modelscope",
    "ollama",
    "openai",
    "ray",
    "sglang",
    "torchao",
    "trl",
    "unsloth",
    "uvicorn",
    "vllm",
    "xllamacpp",
}


def copy_repository(folder: Path) -> dict[str, Path]:
    """Copy the contracts and all sources, and return where each package lies in the copy."""
    shutil.copy(ROOT / "pyproject.toml", folder)
    places = {}
    for distribution in DISTRIBUTIONS:
        places[distribution.package] = folder / distribution.name / distribution.package
        shutil.copytree(distribution.source, places[distribution.package], ignore=shutil.ignore_patterns("__pycache__"))
    return places


def lint_imports(folder: Path, *, sources: list[Path]) -> str:
    """Check the contracts of a folder's pyproject.toml against the packages below `sources`."""
    return run(LINT_IMPORTS, cwd=folder, env={"PYTHONPATH": os.pathsep.join(map(str, sources))})


def test_all_borders_hold() -> None:
    lint_imports(ROOT, sources=[distribution.source.parent for distribution in DISTRIBUTIONS])


@pytest.mark.parametrize(
    ("module", "line", "broken"),
    [
        pytest.param("swift_data/errors.py", "import swift_train", FLOORS, id="upwards"),
        pytest.param("swift_train/errors.py", "import swift_infer", FLOORS, id="strangers"),
        pytest.param("swift_tuners/errors.py", "import swift_templates", FLOORS, id="strangers below"),
        pytest.param("swift_templates/messages.py", "import torch", NUMPY_BORDER, id="torch in templates"),
        pytest.param("swift_data/rows.py", "def f():\n    import transformers", NUMPY_BORDER, id="transformers"),
        pytest.param("swift_train/args.py", "def f():\n    import yaml", COMMAND_LINE, id="YAML below"),
        pytest.param("swift_infer/args.py", "import argparse", COMMAND_LINE, id="argparse below"),
        pytest.param(
            "swift_tuners/swift.py", "import peft.tuners", "peft is imported by the modules named after it", id="peft"
        ),
        pytest.param(
            "swift_tuners/swift.py", "import transformers", "behind swift_tuners.models", id="transformers in tuners"
        ),
    ],
)
def test_a_planted_breach_is_found(tmp_path: Path, module: str, line: str, broken: str) -> None:
    places = copy_repository(tmp_path)
    with (places[module.partition("/")[0]].parent / module).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    with pytest.raises(AssertionError, match="BROKEN") as failure:
        lint_imports(tmp_path, sources=[place.parent for place in places.values()])
    report = " ".join(str(failure.value).partition("Broken contracts")[2].split())
    assert broken in report


def imported_names(source: str) -> set[str]:
    """Return the top-level packages that a module imports, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def users_of_backends(modules: dict[str, str]) -> dict[str, list[str]]:
    """Return each heavy backend with the modules that import it, given sources by module name."""
    users = defaultdict(list)
    for module, source in modules.items():
        for name in imported_names(source) & HEAVY:
            users[name].append(module)
    return users


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=lambda each: each.name)
def test_a_heavy_backend_has_one_module(distribution: Distribution) -> None:
    sources = {name: file.read_text(encoding="utf-8") for name, file in distribution.modules().items()}
    several = {name: modules for name, modules in users_of_backends(sources).items() if len(modules) > 1}
    assert several.keys() <= BACKENDS_OF.get(distribution.name, set())


def test_a_second_module_of_a_backend_is_found() -> None:
    modules = {"a": "import vllm.config", "b": "def f():\n    from vllm import LLM", "c": "from .vllm import engine"}
    assert users_of_backends(modules) == {"vllm": ["a", "b"]}


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=lambda each: each.name)
def test_importing_a_package_its_arguments_and_errors_is_light(distribution: Distribution) -> None:
    light = [name for name in ("args", "errors") if (distribution.source / f"{name}.py").exists()]
    modules = ", ".join([distribution.package, *(f"{distribution.package}.{name}" for name in light)])
    heavy = "{'torch', 'transformers', 'peft', 'numpy', 'accelerate', 'tokenizers', 'matplotlib'}"
    printed = run([sys.executable, "-c", f"import sys, {modules}; print(sorted({heavy} & set(sys.modules)))"])
    assert printed.strip() == "[]"
