"""Every registered tuner keeps the laws on every toy model that it says it fits, and refuses the others."""

from __future__ import annotations

import subprocess
import sys

import pytest
from swift_tuners import TUNERS, Swift, TunerConfig
from swift_tuners.errors import TargetNotFound, UnsupportedConfig
from swift_tuners.testing import TOYS, check_tuner
from swift_tuners.testing.laws import remember

NAMES = TUNERS.names()
CASES = [(name, toy) for name in NAMES for toy in TOYS]


def make_config(name: str) -> TunerConfig:
    args_class = TUNERS.load_class(name)
    return args_class(**args_class.laws.example).build_config()


@pytest.mark.parametrize(("name", "toy"), CASES, ids=[f"{name}-{toy}" for name, toy in CASES])
def test_it_keeps_the_laws_or_refuses_the_model(name: str, toy: str) -> None:
    laws = TUNERS.load_class(name).laws
    make_model, inputs = TOYS[toy].make_model, TOYS[toy].make_inputs()
    if toy in laws.models:
        check_tuner(lambda: make_config(name), make_model, inputs, laws, compiled=toy != "vlm")
        return
    host = make_model().eval()
    unchanged = remember(host, inputs)
    with pytest.raises((UnsupportedConfig, TargetNotFound)):
        Swift.prepare_model(host, make_config(name))
    unchanged()


def test_the_options_of_a_tuner_are_read_without_torch_and_peft() -> None:
    # In a process of its own: this one has imported both.
    program = (
        "import sys; from swift_tuners import TUNERS; [TUNERS.load_class(name)() for name in TUNERS.names()]; "
        "print(sorted({'torch', 'peft', 'transformers', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
