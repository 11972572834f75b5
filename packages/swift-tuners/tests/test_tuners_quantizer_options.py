"""What a user says about quantization against what the folder and the machine say, before anything is loaded."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from swift_tuners import LoraConfig, ModelArgs, Swift, load_model
from swift_tuners.errors import InvalidModel, MissingDependency, UnknownName, UnsupportedConfig
from swift_tuners.quantized_layers import dequantize_model
from swift_tuners.quantizer import (
    QUANTIZERS,
    all_quantizers,
    find_quantizer,
    load_quantizer,
    plan_loading,
    quantizer_of,
    read_format,
)
from swift_tuners.quantizer_args import QuantizationArgs
from swift_tuners.testing import tiny_decoder
from torch import nn


def make_folder(path: Path, settings: dict[str, Any] | None) -> Path:
    config = {"model_type": "llama"} | ({} if settings is None else {"quantization_config": settings})
    (path / "config.json").write_text(json.dumps(config))
    return path


def test_a_plain_folder_without_options_needs_nothing_special(tmp_path: Path) -> None:
    plan = plan_loading(make_folder(tmp_path, None), None, dtype=torch.float32)
    assert plan.quantizer is None and plan.options == {}


@pytest.mark.parametrize(
    ("settings", "options", "message"),
    [
        (None, {"quant_bits": 4}, "without quant_method; .*bnb, eetq, hqq, torchao"),
        (None, {"quant_method": "bnb", "quant_bits": 3}, "quant_bits is 3, bnb quantizes to 4 or 8 bits"),
        (None, {"quant_method": "bnb", "quant_group_size": 64}, "quant_group_size is 64, but bnb has blocks"),
        (None, {"quant_method": "gptq"}, "'gptq' does not quantize while loading, it needs data"),
        (None, {"quant_method": "aqlm"}, "'aqlm' does not quantize while loading, it needs data"),
        ({"quant_method": "gptq"}, {"quant_method": "bnb"}, "quant_method is 'bnb', but .* is quantized with gptq"),
        ({"quant_method": "gptq"}, {"quant_bits": 8}, "is quantized with gptq already: its bits"),
        ({"quant_method": "mxfp4"}, {"quant_method": "bnb"}, "is quantized with mxfp4 already; leave out"),
        ({"quant_method": "hqq"}, {}, "holds weights of hqq, which cannot be read back safely"),
    ],
)
def test_options_that_contradict_folder_or_method_are_refused(
    tmp_path: Path, settings: dict[str, Any] | None, options: dict[str, Any], message: str
) -> None:
    if settings == {"quant_method": "hqq"}:
        pytest.importorskip("hqq")
    folder = make_folder(tmp_path, settings)
    with pytest.raises(UnsupportedConfig, match=message):
        plan_loading(folder, QuantizationArgs(**options), dtype=torch.float32)


def test_an_unknown_method_is_named_with_its_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="quantizer 'torcha' is unknown; did you mean 'torchao'"):
        plan_loading(make_folder(tmp_path, None), QuantizationArgs(quant_method="torcha"), dtype=torch.float32)


def test_a_folder_in_a_format_we_do_not_know_is_left_to_transformers(tmp_path: Path) -> None:
    plan = plan_loading(make_folder(tmp_path, {"quant_method": "mxfp4"}), None, dtype=torch.float32)
    assert plan.quantizer is None and plan.options == {}


def test_a_damaged_config_is_said(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InvalidModel, match="cannot be read"):
        read_format(tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("settings", [None, {"quant_method": "eetq"}], ids=["while loading", "a quantized folder"])
def test_eetq_is_refused_without_a_gpu(tmp_path: Path, settings: dict[str, Any] | None) -> None:
    args = QuantizationArgs(quant_method="eetq")
    with pytest.raises(UnsupportedConfig, match=r"'eetq' computes on NVIDIA GPUs only.*choose bnb, hqq or torchao"):
        plan_loading(make_folder(tmp_path, settings), args, dtype=torch.float32)


def test_a_missing_package_is_named_with_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # The same code for each of them; no quantizer's package is missing everywhere.
    quantizer = load_quantizer("bnb")
    monkeypatch.setattr(type(quantizer), "requires", ("no_such_package",))
    with pytest.raises(MissingDependency, match=r"no_such_package is needed by .*'bnb'.*swift-tuners\[bnb\]"):
        quantizer.check_installed()


@pytest.mark.parametrize("name", QUANTIZERS.names())
def test_each_quantizer_fills_its_line_of_the_table(name: str) -> None:
    quantizer = load_quantizer(name)
    assert quantizer.name == name and quantizer.requires and quantizer.evidence
    assert all(find_quantizer(each) is not None for each in quantizer.formats)
    assert quantizer.bits or quantizer.formats, "it quantizes, or it reads"
    # Its library is imported where it is used, so that the table can be made without any of them.
    source = inspect.getsource(inspect.getmodule(type(quantizer)) or pytest.fail("no module"))
    tops = tuple(
        f"{word} {package}" for word in ("import", "from") for package in (*quantizer.requires, "transformers")
    )
    assert not [line for line in source.splitlines() if line.startswith(tops)]


def test_every_format_has_one_reader() -> None:
    formats = [each for quantizer in all_quantizers() for each in quantizer.formats]
    assert len(formats) == len(set(formats))
    assert {"bitsandbytes", "gptq", "awq", "aqlm", "hqq", "torchao", "eetq"} <= set(formats)


@pytest.mark.parametrize("module", [nn.Linear(4, 4), nn.Embedding(4, 4), nn.LayerNorm(4), nn.Sequential()])
def test_plain_modules_belong_to_no_quantizer(module: nn.Module) -> None:
    assert quantizer_of(module) is None


def test_a_base_with_tuners_is_not_dequantized() -> None:
    model = Swift.prepare_model(tiny_decoder(), LoraConfig(target_modules="all-linear"))
    with pytest.raises(UnsupportedConfig, match="the model has tuners on it"):
        dequantize_model(model)


def test_options_and_registry_import_no_torch() -> None:
    code = "import sys, swift_tuners.quantizer, swift_tuners.quantizer_args; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_load_model_quantizes_on_the_way(model_folder: Path) -> None:
    pytest.importorskip("bitsandbytes")
    loaded = load_model(ModelArgs(model=str(model_folder)), quantization=QuantizationArgs(quant_method="bnb"))
    found = {name: each.name for name, layer in loaded.model.named_modules() if (each := quantizer_of(layer))}
    assert set(found.values()) == {"bnb"} and len(found) == 14
    model = Swift.prepare_model(loaded.model, LoraConfig(target_modules="all-linear"))
    model(input_ids=torch.arange(3, 9)[None]).logits.float().square().mean().backward()
    gradients = [each.grad for each in model.parameters() if each.requires_grad]
    assert len(gradients) == 28 and all(each is not None for each in gradients)
