"""RoPE scaling: frequencies by hand, answers at long positions, and what cannot be scaled."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from swift_tuners import LoadedModel, ModelArgs, load_model
from swift_tuners.errors import UnsupportedConfig
from swift_tuners.models.tiny_architectures import build_tiny
from swift_tuners.testing import answer, tiny_decoder, tiny_vlm
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny Llama of 64 tokens, trained on up to 128."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_decoder().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return shutil.copytree(saved, tmp_path / "tiny")


def load(folder: Path, **options: Any) -> LoadedModel:  # noqa: ANN401  # options of ModelArgs
    return load_model(ModelArgs(model=str(folder), **{"torch_dtype": "float32", **options}))


def change_config(folder: Path, **fields: Any) -> None:  # noqa: ANN401  # JSON
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def load_attentive(folder: Path, **options: Any) -> torch.nn.Module:  # noqa: ANN401  # options of ModelArgs
    """Return a model that looks at other tokens more than random weights do."""
    model = load(folder, **options).model
    for name, parameter in model.named_parameters():
        if "q_proj" in name:
            parameter.data *= 100
    return model


def logits_at(model: torch.nn.Module, positions: Tensor) -> Tensor:
    ids = torch.randint(3, 64, positions.shape, generator=torch.Generator().manual_seed(0))
    return answer(model, {"input_ids": ids, "position_ids": positions})


# By hand from each method's formula: head width 8 and theta 10,000 give 1, 0.1, 0.01, 0.001 without scaling; the
# trained length is 128 and the factor 2. Llama 3 keeps wavelengths below 128 / 4, halves the frequencies of those above
# 128 / 1, and 2 pi / 0.1 = 62.83 lies at (128 / 62.83 - 1) / 3 between. YaRN's ramp is 0, 1/2, 1, 1.
BETWEEN = (128 / (20 * math.pi) - 1) / 3
FREQUENCIES = {
    "linear": [0.5, 0.05, 0.005, 0.0005],
    "llama3": [1.0, 0.05 * (1 - BETWEEN) + 0.1 * BETWEEN, 0.005, 0.0005],
    "yarn": [1.0, 0.075, 0.005, 0.0005],
}


@pytest.mark.parametrize("kind", FREQUENCIES)
@pytest.mark.parametrize(
    "options", [{"max_model_len": 256}, {"factor": 2.0}, {"factor": 2, "max_model_len": 256}], ids=str
)
def test_rotary_frequencies_are_scaled(kind: str, options: dict[str, Any], saved: Path) -> None:
    factor, length = options.get("factor"), options.get("max_model_len")
    scaling = kind if factor is None else json.dumps({"type": kind, "factor": factor})
    model: Any = load(saved, rope_scaling=scaling, max_model_len=length).model
    rotary = model.model.rotary_emb
    torch.testing.assert_close(rotary.inv_freq, torch.tensor(FREQUENCIES[kind]), rtol=1e-6, atol=0)
    # YaRN also sharpens attention, by 0.1 ln(factor) + 1.
    assert rotary.attention_scaling == pytest.approx(0.1 * math.log(2) + 1 if kind == "yarn" else 1)
    assert model.config.max_position_embeddings == 256


def test_linear_scaling_answers_at_stretched_positions_as_the_model_did_at_trained_ones(saved: Path) -> None:
    positions = torch.arange(16)[None]
    plain = load_attentive(saved)
    stretched = load_attentive(saved, rope_scaling="linear", max_model_len=256)
    expected = logits_at(plain, positions)
    torch.testing.assert_close(logits_at(stretched, 2 * positions), expected, rtol=0, atol=1e-5)
    assert (logits_at(stretched, positions) - expected).abs().max() > 1e-3


def test_dynamic_scaling_begins_beyond_the_trained_length(saved: Path) -> None:
    plain = load_attentive(saved)
    dynamic: Any = load_attentive(saved, rope_scaling="dynamic", max_model_len=256)
    short, long = torch.arange(16)[None], torch.arange(200, 216)[None]
    assert torch.equal(logits_at(dynamic, short), logits_at(plain, short))
    assert (logits_at(dynamic, long) - logits_at(plain, long)).abs().max() > 1e-3
    # Theta grows by (factor L / 128 - (factor - 1)) ^ (8 / 6), L being the length so far.
    theta = 10_000 * (2 * 216 / 128 - 1) ** (8 / 6)
    rotary: Any = dynamic.model.rotary_emb
    torch.testing.assert_close(rotary.inv_freq, theta ** (-torch.arange(0, 8, 2) / 8), rtol=1e-5, atol=0)


def test_the_factor_is_the_exact_ratio_and_is_saved_with_the_model(saved: Path, tmp_path: Path) -> None:
    model = load(saved, rope_scaling="yarn", max_model_len=160).model
    model.save_pretrained(tmp_path)
    again: Any = load(tmp_path).model
    assert again.config.rope_parameters["factor"] == 160 / 128
    assert again.config.rope_parameters["original_max_position_embeddings"] == 128
    assert torch.equal(again.model.rotary_emb.inv_freq, model.model.rotary_emb.inv_freq)


def test_another_scaling_replaces_the_models_own_and_is_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    own = {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 64, "rope_theta": 500.0}
    change_config(folder, rope_parameters=own)
    model: Any = load(folder, rope_scaling="linear", max_model_len=256).model
    assert model.config.rope_parameters == {"rope_type": "linear", "factor": 4.0, "rope_theta": 500.0}
    assert "the model's own RoPE scaling, yarn, is replaced by linear" in caplog.text


def test_a_vlm_is_scaled_on_its_language_side(tmp_path: Path) -> None:
    tiny_vlm().save_pretrained(tmp_path)
    length = tiny_vlm().config.get_text_config().max_position_embeddings
    config = load(tmp_path, rope_scaling="linear", max_model_len=2 * length).model.config
    assert config.get_text_config().rope_parameters["factor"] == 2


def test_layers_of_several_kinds_are_scaled_where_they_see_all_tokens(tmp_path: Path) -> None:
    model = build_tiny("gemma3_text")
    model.save_pretrained(tmp_path)
    before = model.config.rope_parameters
    after = load(
        tmp_path, rope_scaling="linear", max_model_len=2 * model.config.max_position_embeddings
    ).model.config.rope_parameters
    assert after["sliding_attention"] == before["sliding_attention"]
    assert (after["full_attention"]["rope_type"], after["full_attention"]["factor"]) == ("linear", 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_model_len": 256}, "max_model_len=256 has no effect alone"),
        ({"rope_scaling": "yarn"}, "needs max_model_len, or a factor"),
        ({"rope_scaling": "yarm", "max_model_len": 256}, "did you mean 'yarn'"),
        ({"rope_scaling": "[1]"}, "neither linear, dynamic, yarn or llama3 nor a JSON object"),
        ({"rope_scaling": '{"rope_type": "ntk"}'}, "rope_type 'ntk' in rope_scaling is unknown"),
        ({"rope_scaling": '{"factor": 2}'}, "rope_type None in rope_scaling is unknown"),
        ({"rope_scaling": '{"type": "yarn", "beta_fats": 2}'}, "has no 'beta_fats'; did you mean 'beta_fast'"),
        ({"rope_scaling": '{"type": "linear", "factor": 0.5}'}, "factor of rope_scaling is 0.5; expected 1 or more"),
        ({"rope_scaling": '{"type": "linear", "factor": "2"}'}, "factor of rope_scaling is '2'; expected a number"),
        ({"rope_scaling": '{"type": "longrope", "factor": 2}'}, "needs 'short_factor', a list of numbers"),
        (
            {"rope_scaling": '{"type": "linear", "factor": Infinity}'},
            "factor of rope_scaling is inf; expected a number",
        ),
        ({"rope_scaling": '{"type": "yarn", "factor": NaN}'}, "factor of rope_scaling is nan; expected a number"),
        (
            {"rope_scaling": '{"type": "yarn", "factor": 2, "original_max_position_embeddings": "64"}'},
            "original_max_position_embeddings of rope_scaling is '64'; expected a number of tokens",
        ),
        # The tiny model has heads of 8 features, which make 4 frequencies.
        (
            {"rope_scaling": '{"type": "longrope", "factor": 2, "short_factor": [1, 1, 1], "long_factor": [1]}'},
            "short_factor of rope_scaling is 3 values; 'llama' has 4 rotary frequencies",
        ),
        (
            {"rope_scaling": '{"type": "longrope", "factor": 2, "short_factor": [1, 1, 1, 1], "long_factor": 3}'},
            "long_factor of rope_scaling is 3; 'llama' has 4",
        ),
        (
            {"rope_scaling": '{"type": "longrope", "factor": 2, "short_factor": [1, 1, 1, "x"], "long_factor": [1]}'},
            "short_factor of rope_scaling is 4 values; .*: expected as many finite numbers",
        ),
        ({"rope_scaling": "yarn", "max_model_len": 64}, "max_model_len=64 is less than the 128 tokens"),
        ({"rope_scaling": '{"type": "yarn", "factor": 2}', "max_model_len": 512}, "a factor of 2 stretches 128 tokens"),
    ],
)
def test_wrong_rope_scaling_is_refused(options: dict[str, Any], message: str, saved: Path) -> None:
    with pytest.raises(UnsupportedConfig, match=message):
        load(saved, **options)


def test_a_model_without_rotary_embeddings_cannot_be_scaled(tmp_path: Path) -> None:
    GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=16, n_layer=1, n_head=2, n_positions=32)).save_pretrained(tmp_path)
    with pytest.raises(UnsupportedConfig, match="'gpt2' has none in its config"):
        load(tmp_path, rope_scaling="yarn", max_model_len=64)
