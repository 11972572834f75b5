"""Which of PEFT's prompt methods can stand in which host, and the keys and values that its prefixes stand for.

What a method needs from a host is looked up before anything is changed, so that a refusal says what is missing.
"""

from __future__ import annotations

import copy
import inspect
from typing import Any, cast

from peft import PeftConfig, PeftType, TaskType
from peft.utils import _prepare_prompt_learning_config
from torch import Tensor, nn

from .errors import CheckpointMismatch, UnsupportedConfig
from .models.key_value_cache import layers_without_cache
from .peft_checks import check_numbers, find_embedding

EMBEDDED = (PeftType.PROMPT_TUNING, PeftType.P_TUNING)
"""Methods whose virtual tokens are embeddings in front of the input's."""
CACHED = (PeftType.PREFIX_TUNING, PeftType.CARTRIDGE)
"""Methods whose virtual tokens are keys and values of every layer."""
_REFUSED = {
    PeftType.MULTITASK_PROMPT_TUNING: "it takes task_ids with each call, which a model's forward and generate do not",
    PeftType.CPT: "it trains on a loss of its own, with labels for the virtual tokens and an input_type_mask",
}
_TASKS = (TaskType.CAUSAL_LM, TaskType.FEATURE_EXTRACTION)
# Configs of models whose layers keep keys and values of other sizes than heads and head size say.
_UNEVEN_CACHES = ("kv_lora_rank", "num_kv_shared_layers", "per_layer_config", "global_head_dim")


def check_method(config: PeftConfig) -> None:
    """Refuse methods and options that do not work on a host which stays what it is.

    Raises:
        UnsupportedConfig: with the reason.
    """
    kind, method = type(config).__name__, config.peft_type
    if method not in EMBEDDED + CACHED:
        reason = _REFUSED.get(
            PeftType(method), "only prompt tuning, P-tuning, prefix tuning and cartridges are known here"
        )
        raise UnsupportedConfig(
            f"{kind} is not supported: {reason}; use PromptTuningConfig, PromptEncoderConfig or PrefixTuningConfig"
        )
    check_numbers(config, kind)
    num_virtual = getattr(config, "num_virtual_tokens", None)
    if not isinstance(num_virtual, int) or num_virtual < 1:
        raise UnsupportedConfig(f"num_virtual_tokens of {kind} is {num_virtual!r}; expected a number above 0")
    if getattr(config, "num_transformer_submodules", None) not in (None, 1):
        raise UnsupportedConfig(f"num_transformer_submodules of {kind} must be 1: encoder-decoders are not supported")
    if config.task_type not in (None, *_TASKS):
        raise UnsupportedConfig(
            f"task_type of {kind} is {config.task_type!r}; expected one of {[each.value for each in _TASKS]}"
        )


def check_host(config: PeftConfig, model: nn.Module) -> nn.Module:
    """Return the host's embedding, if the method can work on this host.

    Raises:
        UnsupportedConfig: the host lacks something; the message says what.
    """
    kind, host = type(config).__name__, type(model).__name__
    if not hasattr(getattr(model, "config", None), "to_dict") or not hasattr(model, "get_input_embeddings"):
        raise UnsupportedConfig(
            f"{kind} needs a model with a transformers config and input embeddings, which {host} has not; "
            "use a method for any module, such as LoRA"
        )
    own: Any = model.config
    if getattr(own, "is_encoder_decoder", False):
        raise UnsupportedConfig(f"{kind} works on models with one stack of layers; {host} is an encoder-decoder")
    embedding = find_embedding(model)
    if embedding is None:
        raise UnsupportedConfig(f"{kind} puts tokens before a model's input; {host} has no input embeddings")
    if config.peft_type in CACHED:
        _check_cache(kind, model, own)
    elif _has_head_of_its_own(model):
        raise UnsupportedConfig(
            f"{kind} moves the positions that the head of {host} reads; use PrefixTuningConfig, or a language model"
        )
    return embedding


def fill_in(config: PeftConfig, model: nn.Module, embedding: nn.Module, *, from_checkpoint: bool) -> None:
    """Complete a config by the host's sizes, as PEFT does when it wraps a model.

    Raises:
        UnsupportedConfig, CheckpointMismatch: it has sizes already, which are not the host's; the latter if it comes
            from a checkpoint.
    """
    options: Any = config
    options.num_transformer_submodules = 1
    if options.task_type is None:
        # PEFT does not load a prompt without.
        options.task_type = TaskType.FEATURE_EXTRACTION if _is_headless(model) else TaskType.CAUSAL_LM
    if config.peft_type in EMBEDDED and options.token_dim is None:
        # Not always the hidden size, which PEFT takes.
        options.token_dim = cast("Any", embedding).embedding_dim
    before = copy.copy(options)
    own: Any = model.config
    try:
        _prepare_prompt_learning_config(options, own)
    except (ValueError, KeyError) as error:
        if config.peft_type not in EMBEDDED:
            raise UnsupportedConfig(f"the config of {type(model).__name__} lacks what PEFT reads: {error}") from error
        # PEFT wants these of any model, Mamba's too, but embeddings do not depend on them.
        options.num_layers, options.num_attention_heads = options.num_layers or 1, options.num_attention_heads or 1
        _prepare_prompt_learning_config(options, own)
    if config.peft_type in EMBEDDED:
        expected = {"token_dim": int(cast("Any", embedding).embedding_dim)}
    else:
        expected = {"num_layers": int(own.get_text_config().num_hidden_layers)}
        if from_checkpoint:
            expected["token_dim"] = int(options.token_dim)
    for name, size in expected.items():
        found = getattr(before, name)
        if found not in (None, size):
            error_type = CheckpointMismatch if from_checkpoint else UnsupportedConfig
            base = f"; it was made for {config.base_model_name_or_path!r}" if from_checkpoint else ""
            raise error_type(
                f"{name} of {type(config).__name__} is {found}, that of {type(model).__name__} is {size}{base}"
            )


def split_prefix(prefix_VX: Tensor, config: PeftConfig, num_rows: int) -> list[tuple[Tensor, Tensor]]:
    """Return keys and values for each layer, (rows, heads, virtual tokens, head size).

    Args:
        prefix_VX: PEFT's prefix: for each virtual token all layers' keys and values in a row.
        config: filled in.
        num_rows: rows of the batch, which get the same ones.
    """
    sizes: Any = config
    heads = sizes.num_attention_heads
    states = prefix_VX.view(prefix_VX.shape[0], 2 * sizes.num_layers, heads, sizes.token_dim // heads)
    states = states.permute(1, 2, 0, 3).unsqueeze(1).expand(-1, num_rows, -1, -1, -1)
    return [(states[2 * layer], states[2 * layer + 1]) for layer in range(sizes.num_layers)]


def _is_headless(model: nn.Module) -> bool:
    return getattr(model, "base_model", None) is model


def _has_head_of_its_own(model: nn.Module) -> bool:
    """Say whether the model ends in something else than logits or hidden states for each token."""
    head = getattr(model, "get_output_embeddings", lambda: None)()
    return not _is_headless(model) and head is None


def _check_cache(kind: str, model: nn.Module, config: Any) -> None:  # noqa: ANN401  # a config of transformers
    host, text = type(model).__name__, config.get_text_config()
    if "past_key_values" not in inspect.signature(model.forward).parameters:
        raise UnsupportedConfig(f"{kind} gives keys and values; the forward of {host} takes no past_key_values")
    bare = layers_without_cache(text)
    if bare:
        raise UnsupportedConfig(
            f"{kind} gives keys and values to every layer; layer {bare[0]} of {host} keeps none; use PromptTuningConfig"
        )
    # Of the dictionary, since configs work out some of these for every model.
    stated = text.to_dict()
    uneven = [name for name in _UNEVEN_CACHES if stated.get(name)]
    if uneven:
        raise UnsupportedConfig(
            f"{kind} gives each layer keys and values of one size; {host} keeps others ({uneven[0]}); "
            "use PromptTuningConfig"
        )
