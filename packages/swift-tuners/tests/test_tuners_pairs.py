"""Every pair of registered methods lives on one model in whatever order it is given, or is refused with the reason."""

from __future__ import annotations

from itertools import combinations_with_replacement

import pytest
from swift_tuners import TUNERS, TunerConfig
from swift_tuners.testing import TOYS, check_pair

NAMES = [name for name in TUNERS.names() if "decoder" in TUNERS.load_class(name).laws.models]
PAIRS = list(combinations_with_replacement(NAMES, 2))


def make_config(name: str) -> TunerConfig:
    args_class = TUNERS.load_class(name)
    return args_class(**args_class.laws.example).build_config()


def check(one: str, other: str) -> None:
    toy = TOYS["decoder"]
    reason = check_pair(lambda: make_config(one), lambda: make_config(other), toy.make_model, toy.make_inputs())
    assert reason is None or any(each in reason for each in ("cannot", "only one", "deactivate")), reason


@pytest.mark.parametrize("name", NAMES)
def test_a_method_mixes_with_lora_or_is_refused(name: str) -> None:
    check("lora", name)


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS, ids=["+".join(pair) for pair in PAIRS])
def test_a_pair_mixes_or_is_refused(pair: tuple[str, str]) -> None:
    check(*pair)
