"""PEFT's prompt methods on a host without a wrapper: equal to plain PEFT in numbers, files and greedy answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file
from swift_tuners import LoraConfig, Swift
from swift_tuners.errors import UnsupportedConfig
from swift_tuners.model import SwiftModel
from swift_tuners.testing import (
    check_tuner,
    disturb,
    tiny_decoder,
    tiny_decoder_inputs,
    tiny_vlm,
    tiny_vlm_inputs,
)
from torch import Tensor
from transformers import (
    LlamaModel,
    MambaConfig,
    MambaForCausalLM,
    PreTrainedTokenizerFast,
)

NUM_VIRTUAL = 3
PAD = 2
IDS = tiny_decoder_inputs()["input_ids"]
Config = Callable[[], peft.PeftConfig]


def prompt(**options: Any) -> peft.PromptTuningConfig:  # noqa: ANN401  # of PEFT's config
    return peft.PromptTuningConfig(num_virtual_tokens=NUM_VIRTUAL, task_type="CAUSAL_LM", **options)


def p_tuning(**options: Any) -> peft.PromptEncoderConfig:  # noqa: ANN401  # of PEFT's config
    return peft.PromptEncoderConfig(num_virtual_tokens=NUM_VIRTUAL, task_type="CAUSAL_LM", **options)


def prefix(**options: Any) -> peft.PrefixTuningConfig:  # noqa: ANN401  # of PEFT's config
    return peft.PrefixTuningConfig(num_virtual_tokens=NUM_VIRTUAL, task_type="CAUSAL_LM", **options)


def cartridge() -> peft.CartridgeConfig:
    return peft.CartridgeConfig(num_virtual_tokens=NUM_VIRTUAL, task_type="CAUSAL_LM")


def adaption(**options: Any) -> peft.AdaptionPromptConfig:  # noqa: ANN401  # of PEFT's config
    return peft.AdaptionPromptConfig(**{"adapter_len": 4, "adapter_layers": 1, "task_type": "CAUSAL_LM", **options})


CONFIGS: dict[str, Config] = {
    "prompt": prompt,
    "prompt from words": lambda: prompt(prompt_tuning_init="SAMPLE_VOCAB"),
    "p-tuning": p_tuning,
    "p-tuning lstm": lambda: p_tuning(encoder_reparameterization_type="LSTM", encoder_dropout=0.5),
    "prefix": prefix,
    "projected prefix": lambda: prefix(prefix_projection=True),
    "cartridge": cartridge,
    "adaption": adaption,
}
on_each = pytest.mark.parametrize("make_config", CONFIGS.values(), ids=CONFIGS.keys())
of_virtual_tokens = pytest.mark.parametrize(
    "make_config", [value for key, value in CONFIGS.items() if key != "adaption"], ids=[*CONFIGS][:-1]
)


def lively_decoder() -> Any:  # noqa: ANN401  # a Llama
    """Return a host whose greedy answers differ from token to token, which small weights don't give."""
    model = tiny_decoder(tie_word_embeddings=False).eval()
    generator = torch.Generator().manual_seed(5)
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            scale = 1.0 if "embed" in name else 1.5 / parameter.shape[-1] ** 0.5
            parameter.data = scale * torch.randn(parameter.shape, generator=generator)
    return model


def plain_peft(config: peft.PeftConfig, host: Any = None) -> Any:  # noqa: ANN401  # PEFT's model
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = peft.get_peft_model(lively_decoder() if host is None else host, config).eval()
        for name, parameter in model.named_parameters():
            if "adaption_" in name:
                parameter.data = torch.randn(parameter.shape)
    return model


def ours_from(model: Any, folder: Path, host: Any = None) -> SwiftModel:  # noqa: ANN401  # models of transformers
    """Return what Swift makes of a model of PEFT's."""
    model.save_pretrained(folder)
    return Swift.from_pretrained(lively_decoder() if host is None else host, folder)


def virtual(model: Any) -> int:  # noqa: ANN401  # PEFT's model
    """Return how many positions PEFT's logits have more than the input."""
    return NUM_VIRTUAL if model.peft_config["default"].peft_type in ("PROMPT_TUNING", "P_TUNING") else 0


# Each takes seconds, and the others differ from these in how they begin or in what makes the virtual tokens.
SLOW = ("prompt from words", "p-tuning lstm", "projected prefix", "cartridge")


@pytest.mark.parametrize(
    "make_config",
    [pytest.param(each, id=name, marks=[pytest.mark.slow] if name in SLOW else []) for name, each in CONFIGS.items()],
)
def test_prompt_methods_keep_the_laws(make_config: Config) -> None:
    starts = make_config().is_adaption_prompt
    # torch's LSTM has another kernel where gradients are wanted, which rounds otherwise: the last digit of float32.
    rounding = 1e-6 if getattr(make_config(), "encoder_reparameterization_type", None) == "LSTM" else 0.0
    departs: dict[str, Any] = {"starts_unchanged": starts, "several": starts, "start_tolerance": rounding}
    check_tuner(make_config, tiny_decoder, tiny_decoder_inputs(), mergeable=False, **departs)


@pytest.mark.parametrize("make_config", [prompt, prefix], ids=["prompt", "prefix"])
def test_prompts_stand_before_images_too(make_config: Config, tmp_path: Path) -> None:
    theirs = plain_peft(make_config(), tiny_vlm().eval())
    ours = ours_from(theirs, tmp_path, tiny_vlm().eval())
    inputs = tiny_vlm_inputs()
    logits = ours(**inputs).logits
    assert torch.equal(logits, theirs(**inputs).logits[:, virtual(theirs) :])
    darker = {**inputs, "pixel_values": inputs["pixel_values"] - 1}
    assert not torch.equal(ours(**darker).logits, logits), "the image is seen"


@on_each
def test_logits_and_loss_are_those_of_plain_peft(make_config: Config, tmp_path: Path) -> None:
    theirs = plain_peft(make_config())
    ours = ours_from(theirs, tmp_path)
    mask, labels = torch.ones_like(IDS), IDS.clone()
    mask[1, 5:], labels[1, 5:], labels[:, :2] = 0, -100, -100
    for arguments in ({"labels": labels}, {"attention_mask": mask, "labels": labels}):
        expected, found = theirs(input_ids=IDS, **arguments), ours(input_ids=IDS, **arguments)
        assert found.logits.shape == (2, 7, 64)
        assert torch.equal(found.logits, expected.logits[:, virtual(theirs) :])
        assert torch.equal(found.loss, expected.loss)


@on_each
def test_what_we_save_is_what_peft_saves(make_config: Config, tmp_path: Path) -> None:
    theirs = plain_peft(make_config())
    ours = ours_from(theirs, tmp_path / "theirs")
    Swift.save(ours, tmp_path / "ours")
    written, expected = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("ours", "theirs"))
    assert written.keys() == expected.keys()
    assert all(torch.equal(written[key], expected[key]) for key in expected)
    configs = [json.loads((tmp_path / name / "adapter_config.json").read_text()) for name in ("ours", "theirs")]
    assert configs[0] == configs[1]
    loaded = peft.PeftModel.from_pretrained(lively_decoder(), str(tmp_path / "ours")).eval()
    assert torch.equal(loaded(input_ids=IDS).logits, theirs(input_ids=IDS).logits)


@on_each
def test_a_new_tuner_of_ours_loads_in_plain_peft(make_config: Config, tmp_path: Path) -> None:
    config = make_config()
    if not config.is_adaption_prompt:
        # PEFT cannot load a prompt without; we fill it in.
        config.task_type = None
    ours = Swift.prepare_model(lively_decoder(), config)
    disturb(ours)
    Swift.save(ours, tmp_path)
    theirs = peft.PeftModel.from_pretrained(lively_decoder(), str(tmp_path)).eval()
    logits = theirs(input_ids=IDS).logits[:, virtual(theirs) :]
    # Networks are run once by us, and once for each row by PEFT, which may round otherwise.
    torch.testing.assert_close(ours(input_ids=IDS).logits, logits, rtol=0, atol=1e-5)


@of_virtual_tokens
def test_gradients_are_those_of_plain_peft(make_config: Config) -> None:
    theirs, ours = plain_peft(make_config()), Swift.prepare_model(lively_decoder(), make_config())
    encoder = theirs.prompt_encoder["default"]
    ours.host.get_submodule("swift_default").load_state_dict(encoder.state_dict())
    theirs(input_ids=IDS, labels=IDS).loss.backward()
    ours(input_ids=IDS, labels=IDS).loss.backward()
    found = ours.tuners["default"].parameters()
    expected = {f"swift_default.{name}": each for name, each in encoder.named_parameters() if each.requires_grad}
    assert found.keys() == expected.keys()
    for name, parameter in expected.items():
        gradient = found[name].grad
        assert gradient is not None
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-4, atol=1e-6)


GENERATION = {"max_new_tokens": 10, "do_sample": False, "eos_token_id": None}


@on_each
def test_greedy_answers_are_those_of_plain_peft(make_config: Config, tmp_path: Path) -> None:
    theirs = plain_peft(make_config())
    ours = ours_from(theirs, tmp_path)
    expected = theirs.generate(input_ids=IDS, attention_mask=torch.ones_like(IDS), **GENERATION)
    assert len(set(expected[0, 7:].tolist())) > 3, "a constant answer would show nothing"
    assert ours.generate(input_ids=IDS, **GENERATION).tolist() == expected.tolist()
    assert ours.generate(input_ids=IDS, use_cache=False, **GENERATION).tolist() == expected.tolist()
    # The virtual tokens go into the cache once, not at each call.
    answer = ours.generate(input_ids=IDS, return_dict_in_generate=True, **GENERATION)
    added = 0 if make_config().is_adaption_prompt else NUM_VIRTUAL
    assert answer.past_key_values.get_seq_length() == added + 7 + 10 - 1


@on_each
def test_left_padded_rows_answer_as_each_row_alone(make_config: Config, tmp_path: Path) -> None:
    # Alone, as PEFT does it: its padded rows count the padding between prompt and text, so they answer otherwise.
    theirs = plain_peft(make_config())
    ours = ours_from(theirs, tmp_path)
    padded, mask = IDS.clone(), torch.ones_like(IDS)
    padded[0, :3], mask[0, :3] = PAD, 0
    answers = ours.generate(input_ids=padded, attention_mask=mask, **GENERATION)[:, 7:]
    for row, start in ((0, 3), (1, 0)):
        alone = IDS[row : row + 1, start:]
        expected = theirs.generate(input_ids=alone, attention_mask=torch.ones_like(alone), **GENERATION)
        assert answers[row].tolist() == expected[0, alone.shape[1] :].tolist()


@pytest.mark.parametrize("make_config", [prefix, cartridge], ids=["prefix", "cartridge"])
def test_left_padded_prefixes_answer_as_plain_peft(make_config: Config, tmp_path: Path) -> None:
    theirs = plain_peft(make_config())
    ours = ours_from(theirs, tmp_path)
    padded, mask = IDS.clone(), torch.ones_like(IDS)
    padded[0, :3], mask[0, :3] = PAD, 0
    expected = theirs.generate(input_ids=padded, attention_mask=mask, num_beams=2, **GENERATION)
    found = ours.generate(input_ids=padded, attention_mask=mask, num_beams=2, **GENERATION)
    assert found.tolist() == expected.tolist()


def test_a_long_prompt_may_be_read_in_chunks(tmp_path: Path) -> None:
    ours = ours_from(plain_peft(prefix()), tmp_path)
    mask = torch.ones_like(IDS)
    mask[0, :2] = 0
    whole = ours.generate(input_ids=IDS, attention_mask=mask, **GENERATION)
    chunks = ours.generate(input_ids=IDS, attention_mask=mask, prefill_chunk_size=4, **GENERATION)
    assert chunks.tolist() == whole.tolist()


def make_mamba() -> Any:  # noqa: ANN401  # a Mamba
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = MambaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2, state_size=4, pad_token_id=PAD)
        return MambaForCausalLM(config).eval()


def test_a_model_without_attention_takes_a_prompt(tmp_path: Path) -> None:
    ours = Swift.prepare_model(make_mamba(), prompt())
    disturb(ours, scale=1.0)
    # Plain PEFT, told a number of heads, gives the same logits; its generation prompts Mamba anew at each token.
    Swift.save(ours, tmp_path)
    theirs = peft.PeftModel.from_pretrained(make_mamba(), str(tmp_path)).eval()
    logits = ours(input_ids=IDS).logits
    assert torch.equal(logits, theirs(input_ids=IDS).logits[:, NUM_VIRTUAL:])
    cached = ours.generate(input_ids=IDS, **GENERATION)
    assert cached.tolist() == ours.generate(input_ids=IDS, use_cache=False, **GENERATION).tolist()
    with pytest.raises(UnsupportedConfig, match="takes no past_key_values"):
        Swift.prepare_model(make_mamba(), prefix())


@of_virtual_tokens
def test_arguments_and_outputs_are_the_hosts(make_config: Config, tmp_path: Path) -> None:
    ours = ours_from(plain_peft(make_config()), tmp_path)
    mask = torch.ones_like(IDS)
    expected = ours(input_ids=IDS, attention_mask=mask).logits
    embeds = ours.get_input_embeddings()(IDS)
    positions = torch.arange(7)[None]
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((IDS, mask), {}),
        ((), {"inputs_embeds": embeds}),
        ((), {"input_ids": IDS, "position_ids": positions}),
        ((), {"input_ids": IDS, "position_ids": positions, "attention_mask": mask}),
    ]
    for args, kwargs in calls:
        torch.testing.assert_close(ours(*args, **kwargs).logits, expected, rtol=0, atol=1e-5)
    for kept in (1, 9, torch.tensor([0, 3, -1])):
        rows = expected[:, -kept:] if isinstance(kept, int) else expected[:, kept]
        torch.testing.assert_close(ours(input_ids=IDS, logits_to_keep=kept).logits, rows, rtol=0, atol=1e-5)
    output = ours(input_ids=IDS, output_hidden_states=True)
    assert {each.shape for each in output.hidden_states} == {(2, 7, 32)}


def test_a_model_without_a_head_takes_a_prompt() -> None:
    host = lively_decoder().model
    assert isinstance(host, LlamaModel)
    ours = Swift.prepare_model(host, peft.PromptTuningConfig(num_virtual_tokens=NUM_VIRTUAL))
    assert ours(input_ids=IDS).last_hidden_state.shape == (2, 7, 32)
    assert ours.tuners["default"].config.task_type == "FEATURE_EXTRACTION"


@pytest.mark.parametrize("make_config", [p_tuning, lambda: prefix(prefix_projection=True)], ids=["p", "prefix"])
def test_networks_train_on_from_our_checkpoints_only(make_config: Config, tmp_path: Path) -> None:
    theirs = plain_peft(make_config())
    theirs.save_pretrained(tmp_path / "theirs")
    with pytest.raises(UnsupportedConfig, match="but not the network"):
        Swift.from_pretrained(lively_decoder(), tmp_path / "theirs", trainable=True)
    ours = Swift.prepare_model(lively_decoder(), make_config())
    disturb(ours)
    Swift.save(ours, tmp_path / "ours")
    resumed = Swift.from_pretrained(lively_decoder(), tmp_path / "ours", trainable=True)
    found, expected = (each.tuners["default"].parameters() for each in (resumed, ours))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) and found[name].requires_grad for name in expected)
    assert torch.equal(resumed(input_ids=IDS).logits, ours(input_ids=IDS).logits)
    answering = Swift.from_pretrained(lively_decoder(), tmp_path / "ours")
    with pytest.raises(UnsupportedConfig, match="load it with trainable=True"):
        answering.set_trainable("default", True)
    assert answering.count_parameters().trainable == 0


@pytest.mark.parametrize("make_config", [prompt, prefix, cartridge, adaption], ids=["prompt", "prefix", "cart", "ada"])
def test_plain_weights_of_peft_train_on(make_config: Config, tmp_path: Path) -> None:
    plain_peft(make_config()).save_pretrained(tmp_path)
    ours = Swift.from_pretrained(lively_decoder(), tmp_path, trainable=True)
    ours(input_ids=IDS, labels=IDS).loss.backward()
    gradients = [each.grad for each in ours.tuners["default"].parameters().values()]
    assert gradients and all(each is not None and each.abs().max() > 0 for each in gradients)


def test_dropout_of_a_network_does_not_reach_what_is_saved(tmp_path: Path) -> None:
    ours = Swift.prepare_model(lively_decoder(), CONFIGS["p-tuning lstm"]())
    ours.train()
    states = [ours.tuners["default"].state()["prompt_embeddings"] for _ in range(2)]
    assert torch.equal(*states)
    assert all(module.training for module in ours.host.get_submodule("swift_default").modules())


def test_the_first_token_of_a_cartridge_does_not_train() -> None:
    ours = Swift.prepare_model(tiny_decoder(), cartridge())
    assert list(ours.tuners["default"].parameters()) == ["swift_default.trainable_embedding"]
    assert not ours.host.get_parameter("swift_default.frozen_embedding").requires_grad
    # Offloading moves it all the same.
    assert sum(each.numel() for each in ours.tuners["default"].tensors()) == NUM_VIRTUAL * 2 * 2 * 16


@on_each
@pytest.mark.parametrize("together", [True, False], ids=["one call", "two calls"])
def test_prompts_live_with_lora(make_config: Config, together: bool) -> None:
    lora, host = LoraConfig(target_modules="all-linear"), lively_decoder()
    if together:
        ours = Swift.prepare_model(host, {"prompt": make_config(), "lora": lora})
    else:
        ours = Swift.prepare_model(Swift.prepare_model(host, {"lora": lora}), {"prompt": make_config()})
    plain = lively_decoder()(input_ids=IDS).logits
    disturb(ours, scale=0.5)
    answers: dict[str, Tensor] = {}
    for names in (["prompt", "lora"], ["prompt"], ["lora"]):
        ours.set_active_tuners(names)
        answers[" ".join(names)] = ours(input_ids=IDS).logits.detach()
    found = list(answers.values())
    assert all(not torch.equal(one, other) for one, other in [(found[0], found[1]), (found[0], found[2])])
    ours.detach("lora")
    ours.activate("prompt")
    assert torch.equal(ours(input_ids=IDS).logits, answers["prompt"])
    assert torch.equal(ours.unload()(input_ids=IDS).logits, plain)


def make_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "answer": 5, "in": 9, "verse": 11}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]").save_pretrained(folder)


def test_a_prompt_starts_from_a_text(tmp_path: Path) -> None:
    make_tokenizer(tmp_path)
    config = prompt(
        prompt_tuning_init="TEXT", prompt_tuning_init_text="answer verse", tokenizer_name_or_path=str(tmp_path)
    )
    ours = Swift.prepare_model(lively_decoder(), config)
    # PEFT repeats a text that is too short.
    expected = ours.get_input_embeddings().weight[[5, 11, 5]]
    assert torch.equal(ours.host.get_parameter("swift_default.embedding.weight"), expected)
    assert ours.tuners["default"].config.tokenizer_kwargs is None
