"""LoRA: a trainable low-rank update beside each frozen linear layer.

W x becomes W x + (alpha / r) B A x, with A: r x in, B: out x r, and B = 0 at the start: the output is unchanged.

Source: LoRA: Low-Rank Adaptation of Large Language Models, arXiv 2106.09685, section 4.1. rsLoRA: arXiv 2312.03732.
DoRA: arXiv 2402.09353. LoRA+: arXiv 2402.12354. The starts of `init_weights`: see `swift_tuners.peft_starts`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

from ..args import TunerArgs
from ..errors import MissingDependency, UnsupportedConfig

if TYPE_CHECKING:
    from peft import LoraConfig

    from ..peft_lora_plus import LoraPlusConfig
    from ..peft_unsloth import UnslothLoraConfig

_STARTS = ("true", "false", "gaussian", "orthogonal", "pissa", "olora", "loftq", "eva", "corda")
_NAMED_STARTS = re.compile(r"pissa_niter_[0-9]+")


_UNSLOTH_TAKES = ("rank", "alpha", "dropout", "bias", "target_modules", "modules_to_save", "use_rslora", "backend")
"""Options that mean the same with unsloth."""


@dataclass(kw_only=True)
class LoraArgs(TunerArgs):
    """Low-rank adapters beside the linear layers, by PEFT."""

    rank: int = 8
    """Rank r of the update."""
    alpha: float = 32
    """The update is scaled by alpha / rank."""
    dropout: float = 0.05
    """Share of the adapter's input that is zeroed in training."""
    bias: Literal["none", "all", "lora_only"] = "none"
    """Which bias vectors train too."""
    target_modules: list[str] = field(default_factory=lambda: ["all-linear"])
    """Layers that get an adapter: all-linear (without the head), or the ends of their names, such as q_proj v_proj."""
    target_regex: str | None = None
    """A regular expression over whole module names, instead of target_modules."""
    target_parameters: list[str] = field(default_factory=list)
    """Weights that get an adapter though no linear layer holds them, by the ends of their names: the experts of many
    mixture-of-experts models, such as mlp.experts.gate_up_proj."""
    modules_to_save: list[str] = field(default_factory=list)
    """Modules that train in full and are saved with the adapter, such as lm_head."""
    trainable_token_indices: list[int] = field(default_factory=list)
    """Tokens whose embeddings train too, by their numbers, such as new special tokens."""
    use_rslora: bool = False
    """Scale by alpha / sqrt(rank) instead."""
    use_dora: bool = False
    """Decompose weights into magnitude and direction (DoRA)."""
    lorap_lr_ratio: float | None = None
    """LoRA+: B learns with the learning rate times this, such as 16; by default A and B learn alike."""
    init_weights: str = "true"
    """How A and B start: true (B = 0), gaussian, orthogonal; pissa, pissa_niter_16 (faster) and olora take the main
    part of W into the adapter; loftq makes up for a quantized W; eva and corda start from what the model does on some
    data, which only Swift.prepare_model(..., calibration=...) can give; false is random."""
    loftq_bits: Literal[4, 8] = 4
    """With init_weights loftq: how many bits W is quantized to."""
    loftq_iter: int = 1
    """With init_weights loftq: how often quantizing and making up for it take turns."""
    backend: Literal["peft", "unsloth"] = "peft"
    """Who attaches them. unsloth trains faster on GPUs, where it is installed and has loaded the model itself
    (swift_tuners.peft_unsloth.load_for_unsloth); it takes neither another start nor DoRA, LoRA+, regular expressions,
    single parameters or tokens."""

    def build_config(self) -> LoraConfig | LoraPlusConfig | UnslothLoraConfig:
        """Return the PEFT config that these options describe, for LoRA+ and unsloth inside one of ours.

        Raises:
            UnsupportedConfig: there is no such start or backend, or the backend cannot do what another option asks for.
            MissingDependency: PEFT lacks a package for a start, or unsloth is not installed.
        """
        from peft import LoraConfig

        self._check_backend()

        every_linear = self.target_modules == ["all-linear"]
        try:
            lora = LoraConfig(
                r=self.rank,
                lora_alpha=self.alpha,  # type: ignore[arg-type]  # PEFT divides by it; only its annotation wants an int
                lora_dropout=self.dropout,
                bias=self.bias,
                target_modules=self.target_regex or ("all-linear" if every_linear else self.target_modules),
                target_parameters=self.target_parameters or None,
                modules_to_save=self.modules_to_save or None,
                trainable_token_indices=self.trainable_token_indices or None,
                use_rslora=self.use_rslora,
                use_dora=self.use_dora,
                task_type="CAUSAL_LM",
                **self._start_options(),
            )
        except ImportError as error:
            raise MissingDependency(f"init_weights {self.init_weights!r} needs another package: {error}") from error
        if self.backend == "unsloth":
            from ..peft_unsloth import UnslothLoraConfig

            return UnslothLoraConfig(lora=lora)
        if self.lorap_lr_ratio is None:
            return lora
        from ..peft_lora_plus import LoraPlusConfig

        return LoraPlusConfig(lora=lora, lr_ratio=self.lorap_lr_ratio)

    def _check_backend(self) -> None:
        if self.backend == "peft":
            return
        if self.backend != "unsloth":
            raise UnsupportedConfig(f"backend is {self.backend!r}; expected peft or unsloth")
        plain = type(self)()
        if self.init_weights.lower() in ("true", "false", "gaussian"):
            plain.init_weights = self.init_weights
        for option in fields(self):
            value = getattr(self, option.name)
            if option.name not in _UNSLOTH_TAKES and value != getattr(plain, option.name):
                raise UnsupportedConfig(f"{option.name}={value!r} is no option of LoRA by unsloth; use backend peft")
        from ..peft_unsloth import import_unsloth

        import_unsloth()

    def _start_options(self) -> dict[str, Any]:
        start = self.init_weights.lower()
        if start not in _STARTS and not _NAMED_STARTS.fullmatch(start):
            raise UnsupportedConfig(
                f"init_weights is {self.init_weights!r}; expected one of {', '.join(_STARTS)}, or pissa_niter_N"
            )
        if start in ("true", "false"):
            return {"init_lora_weights": start == "true"}
        options: dict[str, Any] = {"init_lora_weights": start}
        # PEFT warns if the options of these starts are not given.
        if start == "loftq":
            options["loftq_config"] = {"loftq_bits": self.loftq_bits, "loftq_iter": self.loftq_iter}
        elif start == "eva":
            from peft import EvaConfig

            options["eva_config"] = EvaConfig()
        elif start == "corda":
            from peft.tuners.lora.config import CordaConfig

            options["corda_config"] = CordaConfig()
        return options
