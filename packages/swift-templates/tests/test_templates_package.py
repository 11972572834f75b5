"""The package from outside: light to import, lazy, and its README runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import swift_templates

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "transformers", "peft", "numpy", "jinja2", "tokenizers")


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_and_its_arguments_imports_nothing_heavy() -> None:
    code = (
        "import sys, swift_templates, swift_templates.args, swift_templates.errors, swift_templates.generation;"
        "import swift_templates.messages, swift_templates.registry;"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    assert run(code).strip() == "[]"


def test_encoding_imports_neither_torch_nor_transformers() -> None:
    code = (
        "import sys; from swift_templates import Template, describe_sample; import swift_templates.testing;"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    assert run(code).strip() == "[]"


def test_every_public_name_is_there() -> None:
    for name in swift_templates.__all__:
        assert getattr(swift_templates, name) is not None


def test_the_readme_example_runs() -> None:
    [code] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert "«Paris.<|im_end|>»" in run(code)
