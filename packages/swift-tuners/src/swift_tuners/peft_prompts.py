"""Prompt tuning, P-tuning, prefix tuning and cartridges of PEFT on a host that stays what it is.

PEFT's own encoder becomes a child of the host. A hook before the host's forward puts what it encodes before the input,
as embeddings or as cached keys and values; a hook after it takes the virtual positions off the output.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from peft import (
    CartridgeEncoder,
    PeftConfig,
    PeftType,
    PrefixEncoder,
    PromptEmbedding,
    PromptEncoder,
)
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .errors import InvalidName, UnsupportedConfig
from .models.key_value_cache import (
    checkpoints_drop_cache,
    fill_cache,
    is_checkpointing,
    let_checkpoints_drop_cache,
    let_checkpoints_keep_cache,
)
from .peft_checkpoint import PEFT_WEIGHTS_FILE, name_of, write_peft_config
from .peft_prefix import CACHED, check_host, check_method, fill_in, split_prefix
from .tuner import TRAINING_STATE_FILE, AnyTuner, Phase, Tuner
from .virtual_tokens import (
    Call,
    check_first_call,
    cut_output,
    follow_cached,
    follow_continuation,
    input_shape,
    is_continuation,
    name_arguments,
    prepend_embeddings,
    without_cache,
)
from .weights import check_state, read_safetensors, write_safetensors

_KEY = "prompt_embeddings"


class PromptTuner(Tuner[PeftConfig]):
    """A tuner that puts trained virtual tokens before the input. Of several on one model, one can be active.

    P-tuning, and prefixes with a projection, train a network that makes the virtual tokens. PEFT's checkpoint holds
    what the network made; ours has the network beside it, for training on.

    Args:
        config: PEFT's config; it is copied, never changed.
        name: the tuner's name.
        from_checkpoint: the config was saved with an adapter.
    """

    phase = Phase.HOOK

    def __init__(self, config: PeftConfig, *, name: str, from_checkpoint: bool = False) -> None:
        self._model: nn.Module | None = None
        super().__init__(copy.deepcopy(config), name=name)
        self.from_checkpoint = from_checkpoint
        self._handles: list[RemovableHandle] = []
        self._num_prepended, self._gave_cache = 0, False
        self._keeping_cache: list[nn.Module] = []

    @property
    def kind(self) -> str:
        """PEFT's type in lower case, such as 'prompt_tuning'."""
        return str(getattr(self.config.peft_type, "value", self.config.peft_type)).lower()

    @property
    def model(self) -> nn.Module:
        """The host."""
        assert self._model is not None, "the tuner is not attached"
        return self._model

    @property
    def trainable(self) -> bool:
        """Whether the tuner trains, or only answers."""
        return self._trainable

    @trainable.setter
    def trainable(self, trainable: bool) -> None:
        if trainable and self._model is not None and self._is_frozen_result():
            raise UnsupportedConfig(
                f"{self.kind} tuner {self.name!r} was loaded to answer, without the network that makes its virtual "
                "tokens; load it with trainable=True"
            )
        self._trainable = trainable

    def attach(self, model: nn.Module) -> None:
        """Make the encoder, a child of the host, and hook it in.

        Raises:
            UnsupportedConfig: the method is none that works here, or the host lacks what it needs; or another prompt
                is active.
            CheckpointMismatch: the config was saved with an adapter of a model of other sizes.
            InvalidName: the host has a part of the encoder's name.
        """
        check_method(self.config)
        embedding = check_host(self.config, model)
        self._check_alone(model)
        if hasattr(model, self._child):
            raise InvalidName(
                f"the tuner's name {self.name!r} gives {self._child!r}, which the model has; choose another"
            )
        fill_in(self.config, model, embedding, from_checkpoint=self.from_checkpoint)
        # Loaded to answer, PEFT's encoder is only what a network once made.
        self.config.inference_mode = self.from_checkpoint and not self.trainable
        encoder = _build_encoder(self.config, embedding)
        weight = next(embedding.parameters())
        encoder.to(weight.device, torch.float32).train(model.training)
        model.add_module(self._child, encoder)
        self._model, self.active = model, True
        self._handles = [
            model.register_forward_pre_hook(self._before, with_kwargs=True),
            model.register_forward_hook(self._after, with_kwargs=True),
        ]
        self._keep_cache(True)

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return the encoder's trained parameters, by their names in the host."""
        kept = getattr(self._encoder, "frozen_embedding", None)
        named = self._encoder.named_parameters(self._child)
        return {name: parameter for name, parameter in named if parameter is not kept}

    def tensors(self) -> list[Tensor]:
        """Return all of the encoder's parameters, also those of a cartridge that never train."""
        return list(self._encoder.parameters())

    def activate(self, active: bool) -> None:
        """Let the hooks act, or pass on what comes. Raises UnsupportedConfig if another prompt is active."""
        if active and not self.active:
            self._check_alone(self.model)
        self.active = active
        self._keep_cache(active)

    def detach(self) -> None:
        """Take hooks and encoder off."""
        self._keep_cache(False)
        for handle in self._handles:
            handle.remove()
        del self.model._modules[self._child]
        self._model, self._handles = None, []

    def state(self) -> dict[str, Tensor]:
        """Return what PEFT saves: the virtual tokens, as the encoder makes them."""
        if self._has_network():
            return {_KEY: self._encode_at_rest()}
        encoder = cast("Any", self._encoder)
        return {_KEY: encoder.embedding.weight.detach()}

    def load_state(self, state: Mapping[str, Tensor], *, origin: str = "the state") -> None:
        """Copy virtual tokens such as `state` returns into the tuner.

        Raises:
            CheckpointMismatch: names or shapes are not this tuner's; nothing is copied.
            UnsupportedConfig: the tuner has a network, which cannot be found from what it made.
        """
        self._check_state(state, origin)
        if self._has_network():
            raise UnsupportedConfig(
                f"{origin} holds the virtual tokens of {self.kind} tuner {self.name!r}, but not the network that "
                f"makes them, as saved by PEFT; load it with trainable=False, or from a checkpoint with "
                f"{TRAINING_STATE_FILE}"
            )
        encoder = cast("Any", self._encoder)
        if self.config.peft_type == PeftType.CARTRIDGE:
            encoder.load_prompt_embeddings(state[_KEY])
        else:
            encoder.embedding.weight.detach().copy_(state[_KEY])

    def training_state(self) -> dict[str, Tensor]:
        """Return the network's weights, if there is one."""
        return dict(self._encoder.state_dict()) if self._has_network() else {}

    def load_training_state(self, state: Mapping[str, Tensor]) -> None:
        """Copy the network's weights, if the tuner has the network. Raises CheckpointMismatch."""
        if self._has_network():
            own = self._encoder.state_dict()
            check_state(state, own, origin=TRAINING_STATE_FILE, base=self._compare_bases())
            for name, tensor in own.items():
                tensor.copy_(state[name])

    def save(self, folder: Path) -> None:
        """Write PEFT's adapter_config.json and adapter_model.safetensors, and the network for training on."""
        folder.mkdir(parents=True, exist_ok=True)
        write_safetensors(self.state(), folder / PEFT_WEIGHTS_FILE)
        write_peft_config(self.config, self.model, folder)
        self.save_training_state(folder)

    def load(self, folder: Path) -> None:
        """Read a checkpoint of PEFT's or ours.

        Raises:
            InvalidCheckpoint: the file is missing, truncated or foreign.
            CheckpointMismatch: it belongs to another model or config.
            UnsupportedConfig: it is to train on, and PEFT saved it, without the network.
        """
        tensors, origin = read_safetensors(folder / PEFT_WEIGHTS_FILE), f"adapter {str(folder)!r}"
        if self._has_network() and (folder / TRAINING_STATE_FILE).is_file():
            self._check_state(tensors, origin)
            self.read_training_state(folder)
        else:
            self.load_state(tensors, origin=origin)

    @property
    def _child(self) -> str:
        return f"swift_{self.name}"

    @property
    def _encoder(self) -> nn.Module:
        return self.model.get_submodule(self._child)

    @property
    def _num_virtual(self) -> int:
        return int(cast("Any", self.config).num_virtual_tokens)

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: Call) -> tuple[tuple[Any, ...], Call] | None:
        self._num_prepended, self._gave_cache = 0, False
        if not self.active:
            return None
        call, owner = name_arguments(module, args, kwargs), f"{self.kind} tuner {self.name!r}"
        if is_continuation(call):
            if self._keeping_cache and is_checkpointing(module):
                raise UnsupportedConfig(f"{owner} got a filled cache under gradient checkpointing; call without one")
            follow_continuation(call, self._num_virtual, owner)
            return (), call
        check_first_call(call, owner)
        if self.config.peft_type in CACHED:
            self._give_prefix(module, call, owner)
        else:
            embed = cast("Any", module).get_input_embeddings()
            prepend_embeddings(call, embed, self._encode())
            self._num_prepended = self._num_virtual
        return (), call

    def _after(self, module: nn.Module, _args: tuple[Any, ...], kwargs: Call, output: Any) -> Any:  # noqa: ANN401  # the host's
        if self._num_prepended:
            cut_output(output, kwargs, self._num_prepended)
        elif self._gave_cache:
            wanted, text = kwargs.get("use_cache"), cast("Any", module).config.get_text_config()
            if not (getattr(text, "use_cache", True) if wanted is None else wanted):
                return without_cache(output)
        return output

    def _give_prefix(self, module: nn.Module, call: Call, owner: str) -> None:
        host, twice = cast("Any", module), is_checkpointing(module)
        if twice and checkpoints_drop_cache(module):
            raise UnsupportedConfig(
                f"{owner} stands in the cache, which {type(module).__name__} goes without under gradient checkpointing "
                "(with use_reentrant=True every model does); turn gradient checkpointing off"
            )
        prefix = self._encode().to(host.dtype)
        pairs = split_prefix(prefix, self.config, input_shape(call)[0])
        self._gave_cache = call.get("past_key_values") is None
        call["past_key_values"] = fill_cache(call.get("past_key_values"), host.config, pairs, read_only=twice)
        follow_cached(call, self._num_virtual)

    def _keep_cache(self, keep: bool) -> None:
        """Have checkpointed layers keep the cache that holds a prefix, or do what they do without one."""
        let_checkpoints_drop_cache(self._keeping_cache)
        self._keeping_cache = []
        if keep and self.config.peft_type in CACHED:
            self._keeping_cache = let_checkpoints_keep_cache(self.model)

    def _encode(self) -> Tensor:
        """Return what stands for each virtual token: an embedding, or the keys and values of all layers."""
        encoder = cast("Any", self._encoder)
        # By their number, for all rows at once: they are the same for each.
        index = torch.arange(self._num_virtual, device=next(self._encoder.parameters()).device)[None]
        encoded: Tensor = (encoder.embedding if self._is_frozen_result() else encoder)(index)
        return encoded[0]

    def _encode_at_rest(self) -> Tensor:
        """Return the virtual tokens without dropout and gradients."""
        training = self._encoder.training
        self._encoder.eval()
        try:
            with torch.no_grad():
                return self._encode()
        finally:
            self._encoder.train(training)

    def _uses_network(self) -> bool:
        projects = getattr(self.config, "prefix_projection", False)
        return self.config.peft_type == PeftType.P_TUNING or bool(projects)

    def _has_network(self) -> bool:
        return self._uses_network() and not self.config.inference_mode

    def _is_frozen_result(self) -> bool:
        return self._uses_network() and bool(self.config.inference_mode)

    def _check_state(self, state: Mapping[str, Tensor], origin: str) -> None:
        check_state(state, self.state(), origin=origin, base=self._compare_bases())

    def _compare_bases(self) -> str:
        here = name_of(self.model) or type(self.model).__name__
        return f"it was made for {self.config.base_model_name_or_path!r}, this is {here!r}"

    def _check_alone(self, model: nn.Module) -> None:
        owners: list[AnyTuner | None] = [getattr(each, "__self__", None) for each in model._forward_pre_hooks.values()]
        for other in owners:
            if isinstance(other, PromptTuner) and other is not self and other.active:
                raise UnsupportedConfig(
                    f"tuner {other.name!r} ({other.kind}) is active, and tuner {self.name!r} ({self.kind}) puts "
                    f"virtual tokens before the input too; deactivate {other.name!r} first"
                )


@contextmanager
def _checked_ids(embedding: nn.Module, tokenizer: str) -> Iterator[None]:
    """Refuse ids that the embedding has no rows for: it would raise an IndexError, or stop a GPU."""

    def check(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
        size, largest = cast("Any", embedding).num_embeddings, int(args[0].max())
        if largest >= size:
            raise UnsupportedConfig(
                f"tokenizer_name_or_path {tokenizer!r} has token {largest}, and the vocabulary of the model ends at "
                f"{size - 1}; give the model's own tokenizer, or resize its embeddings first"
            )

    handle = embedding.register_forward_pre_hook(check)
    try:
        yield
    finally:
        handle.remove()


def _build_encoder(config: PeftConfig, embedding: nn.Module) -> nn.Module:
    """Return a new encoder of PEFT's.

    Raises:
        UnsupportedConfig: the tokenizer of a text to start from is not on this machine; or an option is wrong.
    """
    config = copy.deepcopy(config)
    options = cast("Any", config)
    if config.peft_type == PeftType.PROMPT_TUNING:
        if options.prompt_tuning_init == "TEXT":
            # Nobody is asked over the network without the user's knowing.
            options.tokenizer_kwargs = {**(options.tokenizer_kwargs or {}), "local_files_only": True}
        try:
            with _checked_ids(embedding, str(options.tokenizer_name_or_path)):
                prompt: nn.Module = PromptEmbedding(config, embedding)
        except OSError as error:
            raise UnsupportedConfig(
                f"tokenizer_name_or_path {options.tokenizer_name_or_path!r} is no tokenizer on this machine: {error}; "
                "give a folder that holds one"
            ) from error
        return prompt
    classes = {
        PeftType.P_TUNING: PromptEncoder,
        PeftType.PREFIX_TUNING: PrefixEncoder,
        PeftType.CARTRIDGE: CartridgeEncoder,
    }
    try:
        encoder: nn.Module = classes[PeftType(config.peft_type)](config)
    except ValueError as error:
        raise UnsupportedConfig(f"PEFT cannot build {type(config).__name__}: {error}") from error
    return encoder
