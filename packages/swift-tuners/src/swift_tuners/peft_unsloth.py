"""LoRA attached by unsloth, whose kernels train it faster on GPUs. Written, never run with the real library.

unsloth needs a GPU, and a model that it loaded itself: it exchanges the forward of whole classes then. What it injects
are PEFT's layers, so that all else, checkpoints included, is PEFT's. What is called here was read in unsloth's source.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from .errors import MissingDependency, UnsupportedConfig
from .peft_inject import Injection
from .peft_tuner import LoraConfig, PeftTuner
from .targets import find_targets

if TYPE_CHECKING:
    import torch
    from peft.tuners.tuners_utils import BaseTuner
    from torch import nn

# unsloth knows one adapter, of this name.
ADAPTER = "default"
_TAKEN = ("r", "lora_alpha", "lora_dropout", "bias", "use_rslora", "init_lora_weights", "layers_to_transform")
# Said by unsloth itself, or of no effect on what is attached.
_IGNORED = ("target_modules", "modules_to_save", "task_type", "peft_type", "base_model_name_or_path", "peft_version")


@dataclass(frozen=True, kw_only=True)
class UnslothLoraConfig:
    """A LoRA config of PEFT that unsloth attaches; the model must come from `load_for_unsloth`."""

    lora: LoraConfig
    """What is attached, and saved in PEFT's format. Dropout other than 0, or trained biases, cost unsloth's speed."""
    seed: int = 3407
    """Seed of the first weights."""

    def build_tuner(self, name: str) -> UnslothTuner:
        """Return the tuner that this config describes, not yet attached. Raises MissingDependency."""
        return build_unsloth(self.lora, name=name, seed=self.seed)


def build_unsloth(config: LoraConfig, *, name: str, seed: int = 3407) -> UnslothTuner:
    """Return a LoRA that unsloth will attach.

    Args:
        config: PEFT's config.
        name: the tuner's name.
        seed: of its first weights.

    Raises:
        MissingDependency: unsloth is not installed, or finds no GPU.
    """
    import_unsloth()
    return UnslothTuner(config, name=name, seed=seed)


def load_for_unsloth(folder: Path, *, dtype: torch.dtype, max_length: int) -> nn.Module:
    """Load a model by unsloth, which exchanges methods of its classes for the whole process.

    Args:
        folder: a whole model, such as `resolve_model` finds.
        dtype: type of the weights.
        max_length: the longest text, in tokens.

    Raises:
        MissingDependency: unsloth is not installed, or finds no GPU.
    """
    model, _ = import_unsloth().FastLanguageModel.from_pretrained(
        model_name=str(folder), max_seq_length=max_length, dtype=dtype, load_in_4bit=False, trust_remote_code=False
    )
    return cast("nn.Module", model)


class UnslothTuner(PeftTuner):
    """A LoRA of PEFT's layers with unsloth's kernels around them.

    Args:
        config: PEFT's config.
        name: the adapter's name.
        seed: of its first weights.
    """

    def __init__(self, config: LoraConfig, *, name: str, seed: int) -> None:
        super().__init__(config, name=name)
        self.seed = seed
        self._methods: list[tuple[nn.Module, dict[str, Callable[..., Any]]]] = []

    def check_supported(self, model: nn.Module) -> None:
        """Raise UnsupportedConfig if unsloth cannot attach this config to this model; nothing has changed yet."""
        super().check_supported(model)
        if self.name != ADAPTER:
            raise UnsupportedConfig(f"unsloth knows one tuner, named {ADAPTER!r}; this one is named {self.name!r}")
        if getattr(model, "peft_config", None):
            raise UnsupportedConfig("unsloth attaches one LoRA only, and the model has an adapter; attach it first")
        if not hasattr(model, "_saved_temp_tokenizer"):
            raise UnsupportedConfig(
                f"unsloth attaches LoRA to models that it loaded, and this {type(model).__name__} is none; "
                "load it with load_for_unsloth"
            )
        plain = LoraConfig()
        for field in dataclasses.fields(self.config):
            value = getattr(self.config, field.name)
            if field.name not in (*_TAKEN, *_IGNORED) and value != getattr(plain, field.name):
                raise UnsupportedConfig(f"{field.name}={value!r} is no option of LoRA by unsloth; leave it out")

    def _inject(self, model: nn.Module) -> None:
        self._methods = [(module, _own_methods(module)) for module in model.modules()]
        config = cast("LoraConfig", self.config)
        tuned = import_unsloth().FastLanguageModel.get_peft_model(
            model,
            **{name: getattr(config, name) for name in _TAKEN},
            target_modules=_shorten(model, config.target_modules),
            modules_to_save=config.modules_to_save,
            # Whether activations are kept or computed again is the trainer's choice.
            use_gradient_checkpointing=False,
            random_state=self.seed,
        )
        # It returns PEFT's wrapper of the host, which stays aside: the layers stand in the host.
        self._injection = _ForeignInjection(tuned.base_model, model, self.name)

    def _remove_from(self, model: nn.Module) -> None:
        super()._remove_from(model)
        for module, methods in self._methods:
            for name in _own_methods(module).keys() - methods.keys():
                delattr(module, name)
            for name, method in methods.items():
                setattr(module, name, method)
        self._methods = []


class _ForeignInjection(Injection):
    """An adapter that another library injected, alone on its host."""

    def __init__(self, tuner: BaseTuner, model: nn.Module, name: str) -> None:
        self.name = name
        self.tuner = tuner
        self._model = model
        # Layers of LoRA share nothing.
        self._shared = []


def _own_methods(module: nn.Module) -> dict[str, Callable[..., Any]]:
    """Return functions set on this very module, such as a forward in the place of its class's."""
    return {name: value for name, value in vars(module).items() if callable(value)}


def _shorten(model: nn.Module, targets: Any) -> list[str] | str:  # noqa: ANN401  # PEFT's: a set, a list or a text
    """Return ends of names where they mean the same modules: unsloth tells by them which kernels fit."""
    if isinstance(targets, str):
        raise UnsupportedConfig(f"target_modules={targets!r} is no list of names, which unsloth needs")
    ends = sorted({name.rpartition(".")[2] for name in targets})
    return ends if set(find_targets(model, ends)) == set(find_targets(model, sorted(targets))) else sorted(targets)


def import_unsloth() -> Any:  # noqa: ANN401  # a package that cannot be installed where types are checked
    """Return the package. Raises MissingDependency: it is not installed, or finds no GPU."""
    try:
        return importlib.import_module("unsloth")
    except (ImportError, NotImplementedError) as error:
        raise MissingDependency(
            f"LoRA by unsloth needs the package unsloth and a GPU: {error}; pip install unsloth on a machine with one, "
            "or use LoRA without it"
        ) from error
