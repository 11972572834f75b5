"""What PEFT's prompt methods refuse: hosts, options, calls and checkpoints that they cannot work with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from swift_tuners import Swift, TunerConfig
from swift_tuners.errors import CannotMerge, CheckpointMismatch, SwiftTunersError, UnsupportedConfig
from swift_tuners.testing import disturb, tiny_decoder, tiny_decoder_inputs, toy_mlp
from swift_tuners.virtual_tokens import is_continuation
from torch import nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
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
    "p-tuning": p_tuning,
    "prefix": prefix,
    "projected prefix": lambda: prefix(prefix_projection=True),
    "cartridge": cartridge,
    "adaption": adaption,
}
on_each = pytest.mark.parametrize("make_config", CONFIGS.values(), ids=CONFIGS.keys())
of_virtual_tokens = pytest.mark.parametrize(
    "make_config", [value for key, value in CONFIGS.items() if key != "adaption"], ids=[*CONFIGS][:-1]
)


@of_virtual_tokens
def test_packed_rows_are_refused_and_padded_ones_are_not(make_config: Config) -> None:
    ours = Swift.prepare_model(tiny_decoder(), make_config())
    packed = torch.tensor([[0, 1, 2, 0, 1, 0, 1]])
    for arguments in ({"position_ids": packed}, {"cu_seq_lens_q": torch.tensor([0, 3, 5, 7])}):
        with pytest.raises(UnsupportedConfig, match="train without packing"):
            ours(input_ids=IDS[:1], **arguments)
    # Positions as generation gives them to padded rows: zero at the padding, on either side.
    positions = torch.tensor([[0, 0, 0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 0, 0]])
    mask = torch.tensor([[0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0, 0]])
    assert ours(input_ids=IDS, position_ids=positions, attention_mask=mask).logits.shape == (2, 7, 64)


REFUSED_CALLS: dict[str, tuple[dict[str, Any], str]] = {
    "mask of four dimensions": ({"attention_mask": torch.ones(2, 1, 7, 7)}, "attention_mask of 4 dimensions"),
    "tuple output": ({"return_dict": False}, "leave return_dict=False out"),
}


@of_virtual_tokens
@pytest.mark.parametrize(("arguments", "message"), REFUSED_CALLS.values(), ids=REFUSED_CALLS.keys())
def test_calls_that_cannot_be_extended_are_refused(
    make_config: Config, arguments: dict[str, Any], message: str
) -> None:
    ours = Swift.prepare_model(tiny_decoder(), make_config())
    with pytest.raises(UnsupportedConfig, match=message):
        ours(input_ids=IDS, **arguments)


@pytest.mark.parametrize("make_config", [prompt, prefix], ids=["prompt", "prefix"])
def test_caches_that_do_not_fit_are_refused(make_config: Config) -> None:
    ours = Swift.prepare_model(tiny_decoder().eval(), make_config())
    with pytest.raises(UnsupportedConfig, match="use a dynamic cache"):
        ours.generate(input_ids=IDS, max_new_tokens=2, cache_implementation="static")
    ours.deactivate()
    cache = ours(input_ids=IDS, use_cache=True).past_key_values
    ours.activate("default")
    with pytest.raises(UnsupportedConfig, match="fill the cache with this tuner active"):
        ours(input_ids=IDS[:, :1], attention_mask=torch.ones(2, 8), past_key_values=cache)


def test_a_cache_that_does_not_tell_what_it_holds_is_refused() -> None:
    # Such as RWKV's, a list of tensors.
    with pytest.raises(UnsupportedConfig, match="state is a list"):
        is_continuation({"input_ids": IDS, "state": [torch.zeros(1)]})


def test_one_prompt_is_active_at_a_time() -> None:
    ours = Swift.prepare_model(tiny_decoder(), {"first": prompt()})
    disturb(ours)
    first = ours(input_ids=IDS).logits
    with pytest.raises(UnsupportedConfig, match="deactivate 'first' first"):
        Swift.prepare_model(ours, {"second": prefix()})
    ours.deactivate("first")
    Swift.prepare_model(ours, {"second": prefix()})
    second = ours(input_ids=IDS).logits
    with pytest.raises(UnsupportedConfig, match="virtual tokens before the input too"):
        ours.activate("first")
    assert ours.active_tuners == ["second"]
    ours.set_active_tuners("first")
    assert torch.equal(ours(input_ids=IDS).logits, first)
    ours.set_active_tuners("second")
    assert torch.equal(ours(input_ids=IDS).logits, second)


@on_each
def test_no_prompt_can_be_merged(make_config: Config) -> None:
    ours = Swift.prepare_model(tiny_decoder(), make_config())
    with pytest.raises(CannotMerge, match="save it instead"):
        ours.merge_and_unload()


def test_a_text_of_another_tokenizer_than_the_models_is_refused(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "answer": 5, "verse": 64}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]").save_pretrained(tmp_path)
    config = peft.PromptTuningConfig(
        num_virtual_tokens=2,
        prompt_tuning_init="TEXT",
        prompt_tuning_init_text="answer verse",
        tokenizer_name_or_path=str(tmp_path),
        task_type="CAUSAL_LM",
    )
    host = tiny_decoder()
    modules = dict(host.named_modules())
    with pytest.raises(UnsupportedConfig, match=r"has token 64, and the vocabulary of the model ends at 63"):
        Swift.prepare_model(host, config)
    assert dict(host.named_modules()) == modules
    assert not host.get_input_embeddings()._forward_pre_hooks


def test_no_network_is_asked_for_a_tokenizer() -> None:
    config = prompt(
        prompt_tuning_init="TEXT", prompt_tuning_init_text="answer", tokenizer_name_or_path="nobody/no-such-tokenizer"
    )
    host = tiny_decoder()
    with pytest.raises(UnsupportedConfig, match="no tokenizer on this machine"):
        Swift.prepare_model(host, config)
    assert not hasattr(host, "swift_default")


def make_gpt2() -> nn.Module:
    config = GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2)
    return GPT2LMHeadModel(config)


def make_t5() -> nn.Module:
    return T5ForConditionalGeneration(T5Config(vocab_size=64, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2))


def make_classifier() -> nn.Module:
    return LlamaForSequenceClassification(tiny_decoder().config)


REFUSED: dict[str, tuple[Callable[[], nn.Module], Callable[[], TunerConfig], str]] = {
    "no transformers config": (toy_mlp, prompt, "a transformers config and input embeddings, which ToyMLP has not"),
    "prefix without config": (toy_mlp, prefix, "a transformers config"),
    "adaption without config": (toy_mlp, adaption, "models of type llama, mistral"),
    "encoder-decoder": (make_t5, prompt, "encoder-decoder"),
    "classifier": (make_classifier, prompt, "the head of LlamaForSequenceClassification"),
    "adaption on gpt2": (make_gpt2, adaption, "is 'gpt2'"),
    "adaption too deep": (tiny_decoder, lambda: adaption(adapter_layers=5), "adapter_layers of .* is 5"),
    "adaption target": (tiny_decoder, lambda: adaption(target_modules="attn"), "names no module"),
    "no number": (tiny_decoder, lambda: peft.PromptTuningConfig(), "num_virtual_tokens of PromptTuningConfig is None"),
    "task": (
        tiny_decoder,
        lambda: peft.PromptTuningConfig(num_virtual_tokens=2, task_type="SEQ_CLS"),
        "task_type of PromptTuningConfig",
    ),
    "two stacks": (tiny_decoder, lambda: prompt(num_transformer_submodules=2), "num_transformer_submodules"),
    "width": (tiny_decoder, lambda: prompt(token_dim=48), "token_dim of .* is 48"),
    "depth": (tiny_decoder, lambda: prefix(num_layers=7), "num_layers of .* is 7"),
    "multitask": (
        tiny_decoder,
        lambda: peft.MultitaskPromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM"),
        "takes task_ids with each call",
    ),
    "cpt": (
        tiny_decoder,
        lambda: peft.CPTConfig(cpt_token_ids=[3, 4], task_type="CAUSAL_LM"),
        "a loss of its own",
    ),
}


@pytest.mark.parametrize(("make_model", "make_config", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_work_is_refused_and_changes_nothing(
    make_model: Callable[[], nn.Module], make_config: Callable[[], TunerConfig], message: str
) -> None:
    host = make_model()
    modules = [name for name, _ in host.named_modules()]
    with pytest.raises(SwiftTunersError, match=message):
        Swift.prepare_model(host, make_config())
    assert [name for name, _ in host.named_modules()] == modules
    assert not host._forward_pre_hooks and not host._forward_hooks


@on_each
def test_a_checkpoint_of_a_model_of_other_sizes_is_refused(make_config: Config, tmp_path: Path) -> None:
    other = LlamaConfig(
        vocab_size=64,
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        pad_token_id=PAD,
    )
    peft.get_peft_model(LlamaForCausalLM(other), make_config()).save_pretrained(str(tmp_path))
    host = tiny_decoder()
    with pytest.raises(CheckpointMismatch, match="made for"):
        Swift.from_pretrained(host, tmp_path)
    assert not host._forward_pre_hooks


def test_checkpointing_that_drops_the_prefix_is_refused() -> None:
    ours = Swift.prepare_model(tiny_decoder(), prefix())
    ours.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
    with pytest.raises(UnsupportedConfig, match="turn gradient checkpointing off"):
        ours.train()(input_ids=IDS)
    # GPT-2 takes the cache away before its layers are called.
    ours = Swift.prepare_model(make_gpt2(), prefix())
    ours.gradient_checkpointing_enable()
    with pytest.raises(UnsupportedConfig, match="GPT2LMHeadModel goes without"):
        ours.train()(input_ids=IDS)
    ours.gradient_checkpointing_disable()
    assert ours(input_ids=IDS).logits.shape == (2, 7, 64)
