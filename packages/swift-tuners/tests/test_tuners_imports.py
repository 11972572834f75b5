"""What an import costs: the package, its arguments, its errors and a plain model folder need no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "transformers", "peft", "numpy", "huggingface_hub", "modelscope", "gguf", "safetensors")


@pytest.mark.parametrize(
    "code",
    [
        "import swift_tuners; dir(swift_tuners)",
        "import swift_tuners.args, swift_tuners.errors, swift_tuners.registry, swift_tuners.checkpoint",
        "import swift_tuners.tuner; from swift_tuners import TUNERS; TUNERS.load_class('lora')()",
        "from swift_tuners import ModelArgs, resolve_model; resolve_model(ModelArgs(model='.'))",
        "from swift_tuners import ModelArgs, resolve_model\n"
        "try: resolve_model(ModelArgs(model='x.gguf'))\nexcept OSError: pass",
    ],
    ids=["the package", "its light modules", "a tuner's options", "a plain folder", "a missing file"],
)
def test_it_imports_nothing_heavy(code: str, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_text("{}")
    code += f"\nimport sys; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_public_name_can_be_imported() -> None:
    import swift_tuners

    assert all(getattr(swift_tuners, name) is not None for name in swift_tuners.__all__)
