"""What a user may say about the model and the tuner; light, so that a help text needs no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

from .errors import InvalidCheckpoint

if TYPE_CHECKING:
    from .tuner import JSON, TunerConfig

DEFAULT_MODEL = "smollm2-135m-instruct"


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
    torch_dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of the weights; auto is bfloat16 where the hardware computes in it natively, else float32."""
    attn_impl: Literal["sdpa", "eager", "flash_attention_2", "flash_attention_3"] | None = None
    """Attention implementation; by default the model's own choice."""
    device_map: str | None = None
    """Where the weights go: a device such as cpu or cuda:0, or auto; by default the process's own device."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Only for sources you trust."""


@dataclass(kw_only=True)
class TunerArgs(ABC):
    """Options of one tuner; the subclass in `tuners/NAME.py` is what `--tuner NAME` selects."""

    @abstractmethod
    def build_config(self) -> TunerConfig:
        """Return what `Swift.prepare_model` attaches; heavy imports belong inside."""

    @classmethod
    def read_config(cls, saved: Mapping[str, JSON]) -> TunerConfig:
        """Return the config that a checkpoint of this tuner holds; by default, one with the fields of this class.

        Raises:
            InvalidCheckpoint: there are other fields.
        """
        unknown = sorted(set(saved) - {each.name for each in fields(cls)})
        if unknown:
            raise InvalidCheckpoint(
                f"a config of {cls.__name__} holds {unknown[0]!r}, which this version does not know"
            )
        return cls(**saved).build_config()
