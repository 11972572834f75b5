"""Options of the wrong type: refused where a tuner is built, and where a checkpoint is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from swift_tuners import (
    LISAConfig,
    LLaMAProConfig,
    NEFTuneConfig,
    ReFTConfig,
    ResTuningConfig,
    SCEditConfig,
    Swift,
    TunerArgs,
)
from swift_tuners.errors import InvalidCheckpoint, UnsupportedConfig
from swift_tuners.option_types import find_misfit, fits
from swift_tuners.testing import tiny_decoder

# Values of any type are the point.
Value = Any

WRONG: list[tuple[type[TunerArgs], str, Value, str]] = [
    (LLaMAProConfig, "num_new_blocks", "2", "num_new_blocks is '2'; expected a whole number"),
    (LLaMAProConfig, "num_groups", 2.0, "num_groups is 2.0; expected a whole number or None"),
    (ReFTConfig, "rank", "4", "rank is '4'; expected a whole number"),
    (ReFTConfig, "layers", "01", "layers is '01'; expected a list, each item a whole number"),
    (ReFTConfig, "share_weights", 1, "share_weights is 1; expected True or False"),
    (NEFTuneConfig, "noise_alpha", "5", "noise_alpha is '5'; expected a finite number"),
    (LISAConfig, "step_interval", "2", "step_interval is '2'; expected a whole number"),
    (LISAConfig, "activated_layers", True, "activated_layers is True; expected a whole number"),
    (SCEditConfig, "act_layer", "zz", "act_layer is 'zz'; expected one of 'gelu', 'relu', 'silu', 'identity'"),
    (SCEditConfig, "down_ratio", float("nan"), "down_ratio is nan; expected a finite number"),
    (ResTuningConfig, "tuner_cfg", "zz", "tuner_cfg is 'zz'; expected one of"),
    (ResTuningConfig, "tuner_cfg", {"a": 1}, "tuner_cfg is {'a': 1}; expected one of"),
]


@pytest.mark.parametrize(("options", "name", "value", "message"), WRONG, ids=[f"{row[1]}-{row[2]}" for row in WRONG])
def test_a_value_of_another_type_is_refused(options: type[TunerArgs], name: str, value: Value, message: str) -> None:
    host = tiny_decoder()
    with pytest.raises(UnsupportedConfig) as caught:
        Swift.prepare_model(host, options(**{name: value}).build_config())
    assert f"{options.__name__} of tuner 'default': {message}" in str(caught.value)


@pytest.mark.parametrize("fields", [{"rank": {"a": 1}}, {"rank": None}, {"layers": [0, "1"]}, {"positions": 7}])
def test_a_value_of_another_type_in_a_checkpoint_is_refused(fields: Mapping[str, Value], tmp_path: Path) -> None:
    Swift.prepare_model(tiny_decoder(), ReFTConfig()).save_pretrained(tmp_path)
    path = tmp_path / "tuner_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    with pytest.raises(InvalidCheckpoint, match=f"a config of ReFTConfig is damaged: {next(iter(fields))} is"):
        Swift.from_pretrained(tiny_decoder(), tmp_path)


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (1, float, True),
        (True, float, False),
        (float("inf"), float, False),
        (None, int | None, True),
        ("x", int | None, False),
        ({"0": "1GiB"}, dict[str, str], True),
        ({"0": 1}, dict[str, str], False),
        ([["a"]], list[list[str]], True),
        ([["a", 1]], list[list[str]], False),
        ([1, 2], tuple[int, ...], True),
        ((1,), list[int], False),
        (1, Literal[1, 2], True),
        (True, Literal[1, 2], False),
        ([], Literal[1, 2], False),
        (object(), Any, True),
        ({"a": 1}, Mapping[str, int], True),
        (Path(), Path, True),
        ("", Path, False),
    ],
)
def test_values_fit_their_annotations(value: Value, hint: Value, expected: bool) -> None:
    assert fits(value, hint) is expected


def test_annotations_that_cannot_be_read_are_passed_over() -> None:
    @dataclass
    class Foreign:
        size: Unknown  # type: ignore[name-defined]  # noqa: F821  # imported for type checkers only, say

    assert find_misfit(Foreign, {"size": 3}) is None


def test_a_field_that_has_no_default_must_be_in_the_checkpoint() -> None:
    @dataclass(kw_only=True)
    class Sized(TunerArgs):
        size: int

        def build_config(self) -> Value:
            return self

    assert vars(Sized.read_config({"size": 3})) == {"size": 3}
    with pytest.raises(InvalidCheckpoint, match="lacks 'size'"):
        Sized.read_config({})
