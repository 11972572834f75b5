"""What a user may say about the model and the tuner; light, so that a help text needs no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import TYPE_CHECKING, ClassVar, Literal

from .errors import InvalidCheckpoint
from .laws import Laws
from .option_types import find_misfit
from .quantizer_args import QuantizationArgs

if TYPE_CHECKING:
    from .tuner import JSON, TunerConfig

DEFAULT_MODEL = "smollm2-135m-instruct"

ANSWERING_OPTIONS = frozenset(
    {"task_type", "num_labels", "problem_type", "rope_scaling", "max_model_len", "new_special_tokens"}
    | {each.name for each in fields(QuantizationArgs)}
)
"""Fields of ModelArgs and QuantizationArgs that change what a model answers; a checkpoint records them."""


@dataclass(kw_only=True)
class ModelArgs:
    """Which model, and how it is loaded."""

    model: str | None = None
    """A local folder, a .gguf file, or a hub id such as Qwen/Qwen3-0.6B; by default the embedded smollm2-135m-instruct,
    or what the checkpoint stands on."""
    model_revision: str | None = None
    """Branch, tag or commit of a hub id."""
    use_hf: bool = False
    """Take hub ids from Hugging Face; otherwise from ModelScope."""
    task_type: Literal["causal_lm", "seq_cls"] = "causal_lm"
    """What the model is for: causal_lm writes text (about pictures too, where the model sees), seq_cls sorts texts into
    classes or scores them."""
    num_labels: int | None = None
    """With seq_cls: how many classes, or scores; by default what the model's config says."""
    problem_type: Literal["regression", "single_label_classification", "multi_label_classification"] | None = None
    """With seq_cls: which loss; by default what the labels look like."""
    torch_dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of the weights; auto is bfloat16 where the hardware computes in it natively, else float32."""
    attn_impl: (
        Literal["sdpa", "eager", "flex_attention", "flash_attn", "flash_attention_2", "flash_attention_3"] | None
    ) = None
    """Attention implementation; by default the model's own choice. flash_attn is flash_attention_2."""
    device_map: str | None = None
    """Where the weights go: a device such as cpu or cuda:0, auto to spread them over all devices, or a JSON object of
    devices by module name; by default the process's own device."""
    max_memory: dict[str, str] = field(default_factory=dict)
    """How much each device takes at most where device_map spreads the weights: {"0": "20GiB", "cpu": "60GiB"}."""
    rope_scaling: str | None = None
    """Stretch rotary positions to longer texts: linear, dynamic, yarn or llama3, or a JSON object as in config.json."""
    max_model_len: int | None = None
    """With rope_scaling: how many tokens the model shall take; gives the factor where rope_scaling has none."""
    new_special_tokens: list[str] = field(default_factory=list)
    """Tokens that the vocabulary gets besides its own; their embeddings start at the mean of all others."""
    use_safetensors: bool = True
    """Refuse weights that come as pickles (.bin), which can run code; with false, torch reads tensors from them and
    refuses the rest."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Only for sources you trust."""


@dataclass(kw_only=True)
class TunerArgs(ABC):
    """Options of one tuner; the subclass in `tuners/NAME.py` is what `--tuner NAME` selects."""

    laws: ClassVar[Laws] = Laws()
    """What the method promises: the tests hold it to that, and the README's table shows it."""

    @abstractmethod
    def build_config(self) -> TunerConfig:
        """Return what `Swift.prepare_model` attaches; heavy imports belong inside."""

    @classmethod
    def read_config(cls, saved: Mapping[str, JSON]) -> TunerConfig:
        """Return the config that a checkpoint of this tuner holds; by default, one with the fields of this class.

        Raises:
            InvalidCheckpoint: there are other fields, values of other types, or a field is missing.
        """
        unknown = sorted(set(saved) - {each.name for each in fields(cls)})
        if unknown:
            raise InvalidCheckpoint(
                f"a config of {cls.__name__} holds {unknown[0]!r}, which this version does not know"
            )
        misfit = find_misfit(cls, saved)
        if misfit:
            raise InvalidCheckpoint(f"a config of {cls.__name__} is damaged: {misfit}")
        for each in fields(cls):
            if each.init and each.default is MISSING and each.default_factory is MISSING and each.name not in saved:
                raise InvalidCheckpoint(f"a config of {cls.__name__} lacks {each.name!r}; the file is incomplete")
        return cls(**saved).build_config()


def chosen_options(args: ModelArgs | QuantizationArgs) -> dict[str, JSON]:
    """Return those of ANSWERING_OPTIONS that are not at their defaults."""
    usual = type(args)()
    names = (each.name for each in fields(args) if each.name in ANSWERING_OPTIONS)
    return {name: getattr(args, name) for name in names if getattr(args, name) != getattr(usual, name)}
