"""Models that accelerate has spread over devices and a disk, and adapters on embeddings that are tied to the head."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, cast

import peft
import pytest
import torch
from swift_tuners import LoraConfig, Swift
from swift_tuners.errors import CannotMerge, UnsupportedConfig
from swift_tuners.peft_starts import start_of
from swift_tuners.testing import answer, disturb, tiny_decoder, tiny_decoder_inputs
from swift_tuners.tuners.adapters import AdapterConfig
from swift_tuners.tuners.full import FullConfig
from torch import nn
from transformers import AutoModelForCausalLM

LINEAR = ["q_proj", "down_proj"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a saved model."""
    path = tmp_path_factory.mktemp("host")
    tiny_decoder().save_pretrained(path)
    return path


def load(folder: Path, **options: Any) -> nn.Module:  # noqa: ANN401  # of from_pretrained
    model: nn.Module = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options).eval()
    return model


def load_offloaded(folder: Path, aside: Path) -> nn.Module:
    """Return the model with its last layer and its last norm on a disk."""
    places: dict[str, str] = dict.fromkeys(("model.embed_tokens", "model.rotary_emb", "lm_head"), "cpu")
    layers = len(cast("Any", load(folder)).model.layers)
    places |= {f"model.layers.{number}": "cpu" for number in range(layers)}
    places |= {f"model.layers.{layers - 1}": "disk", "model.norm": "disk"}
    model = load(folder, device_map=places, offload_folder=aside)
    assert any(parameter.is_meta for parameter in model.parameters())
    return model


def gradients(model: nn.Module, names: list[str]) -> list[torch.Tensor | None]:
    inputs = tiny_decoder_inputs()
    model.train()
    cast("Any", model)(**inputs, labels=inputs["input_ids"]).loss.backward()
    parameters = dict(model.named_parameters())
    found = [parameters[name].grad for name in names]
    model.eval()
    return found


METHODS: dict[str, Any] = {
    "lora": LoraConfig(r=4, target_modules=LINEAR),
    "lora and bias": LoraConfig(r=4, target_modules=["q_proj"], bias="all", modules_to_save=["lm_head"]),
    "adalora": peft.AdaLoraConfig(target_modules=LINEAR, total_step=9),
    "ia3": peft.IA3Config(target_modules=LINEAR, feedforward_modules=["down_proj"]),
    "vera": peft.VeraConfig(r=4, target_modules=LINEAR),
    "oft": peft.OFTConfig(target_modules=["q_proj"], oft_block_size=4),
    "adapters": AdapterConfig(),
}


@pytest.mark.parametrize("config", METHODS.values(), ids=METHODS)
def test_tuners_on_offloaded_layers_do_what_they_do_on_others(config: Any, folder: Path, tmp_path: Path) -> None:  # noqa: ANN401  # PEFT's or ours
    models = []
    for host in (load(folder), load_offloaded(folder, tmp_path / "aside")):
        torch.manual_seed(1)
        model = Swift.prepare_model(host, copy.deepcopy(config))
        disturb(model)
        models.append(model)
    plain, model = models
    parameters = model.tuners["default"].parameters()
    assert not any(parameter.is_meta for parameter in parameters.values())
    tuned = answer(plain, tiny_decoder_inputs())
    assert torch.equal(answer(model, tiny_decoder_inputs()), tuned)
    names = [
        name for name, parameter in model.named_parameters() if any(parameter is each for each in parameters.values())
    ]
    for own, expected in zip(gradients(model, names), gradients(plain, names), strict=True):
        torch.testing.assert_close(own, expected)
    model.save_pretrained(tmp_path / "saved")
    for host in (load(folder), load_offloaded(folder, tmp_path / "other")):
        assert torch.equal(answer(Swift.from_pretrained(host, tmp_path / "saved"), tiny_decoder_inputs()), tuned)
    assert torch.equal(answer(copy.deepcopy(model), tiny_decoder_inputs()), tuned)
    host = model.unload()
    assert torch.equal(answer(host, tiny_decoder_inputs()), answer(load(folder), tiny_decoder_inputs()))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            LoraConfig(target_modules=LINEAR, use_dora=True),
            "needs the weights of 'model.layers.*give this module a device",
        ),
        (LoraConfig(target_modules=["k_proj"], modules_to_save=["q_proj"]), "needs the weights of"),
        (LoraConfig(target_modules=LINEAR, init_lora_weights="pissa"), "device_map has offloaded its weight"),
        (peft.HRAConfig(target_modules=LINEAR), "hra tuner 'default' needs the weights"),
        (peft.LNTuningConfig(target_modules=["input_layernorm"]), "ln_tuning tuner 'default' needs the weights"),
        (FullConfig(), "would train 'model.layers.*', which device_map has offloaded"),
    ],
    ids=lambda value: "" if isinstance(value, str) else start_of(value) or type(value).__name__,
)
def test_what_needs_offloaded_weights_is_refused(config: Any, message: str, folder: Path, tmp_path: Path) -> None:  # noqa: ANN401  # as above
    host = load_offloaded(folder, tmp_path)
    with pytest.raises(UnsupportedConfig, match=message):
        Swift.prepare_model(host, config)
    assert torch.equal(answer(host, tiny_decoder_inputs()), answer(load(folder), tiny_decoder_inputs()))


def test_an_adapter_is_not_merged_into_offloaded_weights(folder: Path, tmp_path: Path) -> None:
    model = Swift.prepare_model(load_offloaded(folder, tmp_path), LoraConfig(target_modules=LINEAR))
    disturb(model)
    tuned = answer(model, tiny_decoder_inputs())
    with pytest.raises(CannotMerge, match="whose weights device_map has offloaded"):
        model.merge_and_unload()
    assert torch.equal(answer(model, tiny_decoder_inputs()), tuned)


def tied(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    model: Any = tiny_decoder(tie_word_embeddings=True)
    return cast("nn.Module", model.to(dtype).eval())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tied_adapters_share_memory_and_can_be_copied(dtype: torch.dtype, tmp_path: Path) -> None:
    config = LoraConfig(r=2, target_modules=["embed_tokens"], ensure_weight_tying=True)
    model = Swift.prepare_model(tied(dtype), config)
    own = model.tuners["default"].parameters()
    pairs = [
        ("model.embed_tokens.lora_embedding_A.default", "lm_head.lora_B.default.weight"),
        ("model.embed_tokens.lora_embedding_B.default", "lm_head.lora_A.default.weight"),
    ]
    for first, second in pairs:
        # In bfloat16 PEFT casts each to float32 by itself, and they part.
        assert own[first].data_ptr() == own[second].data_ptr()
    disturb(model)
    for first, second in pairs:
        assert torch.equal(own[first], own[second].t())
    inputs = {"input_ids": torch.arange(10).reshape(2, 5)}
    tuned = answer(model, inputs)
    # PEFT keeps what is no leaf in the layer, which torch refuses to copy.
    assert torch.equal(answer(copy.deepcopy(model), inputs), tuned)
    model.save_pretrained(tmp_path)
    assert torch.equal(answer(Swift.from_pretrained(tied(dtype), tmp_path), inputs), tuned)
