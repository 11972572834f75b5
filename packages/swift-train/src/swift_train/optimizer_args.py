"""What a user may say about the optimizer; light, so that a help text needs no torch.

Each file in `optimizers/` is a name for `--optim`. What only one method knows is said by `--optim_args`, as name=value
pairs that the method's own dataclass reads; GaLore has flags, since users know them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, TypeVar

from swift_templates.registry import nearest

from .errors import InvalidTrainArgs

Options = TypeVar("Options")

OPTIMIZER_ALIASES: Mapping[str, str] = {
    "adamw_torch_fused": "adamw",
    "adamw_bnb_8bit": "adamw_8bit",
    "galore_adamw": "galore",
    "apollo_adamw": "apollo",
}
"""Names of transformers for what has a file here; any other name that transformers knows is passed on to it."""

_LAYERWISE = "_layerwise"
_PROJECTING = ("galore", "q_galore", "apollo", "apollo_mini")
_QUANTIZING = ("int8_weights", "proj_group_size", "cos_threshold", "gamma_proj", "queue_size")


@dataclass(frozen=True)
class NoOptions:
    """What `--optim_args` may say where a method has no further options: nothing."""


@dataclass(kw_only=True)
class OptimizerArgs:
    """The optimizer and its options."""

    optim: str = "adamw_torch_fused"
    """Optimizer: adamw, adamw_8bit, paged_adamw_8bit, paged_adamw_32bit, adafactor, galore, q_galore, apollo,
    apollo_mini, muon, lion, adam_mini, badam, or any name that transformers knows."""
    optim_args: str | None = None
    """Further options of this optimizer, such as rank=64,scale=2 for apollo, or switch_interval=100 for badam."""
    adam_beta1: float = 0.9
    """First moment's decay, in Adam and what derives from it."""
    adam_beta2: float = 0.95
    """Second moment's decay."""
    adam_epsilon: float = 1e-8
    """Added to the root of the second moment."""
    vit_lr: float | None = None
    """Learning rate of the towers for pictures, video and sound; by default the run's."""
    aligner_lr: float | None = None
    """Learning rate of what brings their output to the language model; by default the run's."""
    use_galore: bool = False
    """The same as --optim galore; with galore_quantization, as --optim q_galore."""
    galore_rank: int = 128
    """Rank of the space that gradients are projected to; at most a weight's smaller side."""
    galore_target_modules: list[str] = field(default_factory=lambda: ["all-linear"])
    """Layers whose gradients GaLore or APOLLO projects: all-linear (without the head), or parts of their names, such as
    self_attn or q_proj."""
    galore_update_proj_gap: int = 50
    """Steps between two choices of the space."""
    galore_scale: float = 1.0
    """Projected updates are scaled by this."""
    galore_proj_type: Literal["std", "reverse_std", "right", "left", "full"] = "std"
    """Which side of a gradient is projected: std the smaller, reverse_std the larger, right its columns, left its rows,
    full both."""
    galore_optim_per_parameter: bool = False
    """With GaLore or APOLLO: update each weight in the backward pass, as soon as its gradient is there, and free the
    gradient. For one process; max_grad_norm has no effect."""
    galore_with_embedding: bool = False
    """Let GaLore or APOLLO project the gradients of embedding and head too."""
    galore_quantization: bool = False
    """Q-GaLore: projections in 4 bits, moments in 8 bits, spaces chosen anew only where they still turn."""
    galore_int8_weights: bool = False
    """With Q-GaLore: keep the projected layers' weights in 8 bits, rounded stochastically after each step."""
    galore_proj_group_size: int = 256
    """With Q-GaLore: numbers that share a scale."""
    galore_cos_threshold: float = 0.4
    """With Q-GaLore: spaces this alike, by the mean cosine of their first vectors, are chosen anew more rarely."""
    galore_gamma_proj: float = 2.0
    """With Q-GaLore: by which factor more rarely."""
    galore_queue_size: int = 5
    """With Q-GaLore: over how many choices that mean is taken."""


def resolve_optimizer(args: OptimizerArgs) -> OptimizerArgs:
    """Return the arguments with the name of a file in `optimizers/`, or of transformers, in the place of an alias.

    Raises:
        InvalidTrainArgs: use_galore beside another optimizer, or an option that does not go with it.
    """
    name = args.optim.replace("-", "_").lower()
    layerwise = args.galore_optim_per_parameter
    if name.removesuffix(_LAYERWISE) in OPTIMIZER_ALIASES and name.endswith(_LAYERWISE):
        name, layerwise = name.removesuffix(_LAYERWISE), True
    name = OPTIMIZER_ALIASES.get(name, name)
    if args.use_galore:
        if name not in (OPTIMIZER_ALIASES[OptimizerArgs().optim], "galore", "q_galore"):
            raise InvalidTrainArgs(
                f"use_galore is true beside optim {args.optim!r}; expected one of them: leave --optim out"
            )
        name = "q_galore" if name == "q_galore" else "galore"
    if args.galore_quantization and name in ("galore", "q_galore"):
        name = "q_galore"
    args = replace(args, optim=name, use_galore=False, galore_optim_per_parameter=layerwise)
    if name in ("galore", "q_galore") and args.optim_args:
        # As users of transformers say it.
        known = {each: getattr(args, f"galore_{each}") for each in ("rank", "update_proj_gap", "scale", "proj_type")}
        given = _read_pairs(args.optim_args, known, optimizer=name)
        args = replace(args, optim_args=None, **{f"galore_{option}": value for option, value in given.items()})
    _check(args, name)
    return args


def find_optimizer_options_without_effect(args: OptimizerArgs) -> list[str]:
    """Return a phrase for each option that was given and changes nothing with this optimizer. Raises as above."""
    name, usual = resolve_optimizer(args).optim, OptimizerArgs()
    given = [each.name for each in fields(args) if getattr(args, each.name) != getattr(usual, each.name)]
    quantizing = {f"galore_{option}" for option in _QUANTIZING}
    shared = {"galore_target_modules", "galore_optim_per_parameter", "galore_with_embedding"}
    found = []
    for option in given:
        if option in quantizing:
            works, needed = name == "q_galore", "--galore_quantization true"
        elif option in shared:
            works, needed = name in _PROJECTING, "--optim galore or apollo"
        elif option.startswith("galore_"):
            works, needed = name in ("galore", "q_galore"), "--use_galore true"
        elif option.startswith("adam_"):
            works, needed = name not in ("lion", "adafactor"), "an --optim that derives from Adam"
        else:
            continue
        if not works:
            found.append(f"{option} without {needed}")
    return found


def _check(args: OptimizerArgs, name: str) -> None:
    if args.galore_int8_weights and name != "q_galore":
        raise InvalidTrainArgs("galore_int8_weights is true without Q-GaLore; add --galore_quantization true")
    counts = {
        "galore_rank": args.galore_rank,
        "galore_update_proj_gap": args.galore_update_proj_gap,
        "galore_queue_size": args.galore_queue_size,
    }
    for option, value in counts.items():
        if value < 1:
            raise InvalidTrainArgs(f"{option} is {value}; expected 1 or more")
    if args.galore_proj_type not in ("std", "reverse_std", "right", "left", "full"):
        raise InvalidTrainArgs(
            f"galore_proj_type is {args.galore_proj_type!r}; expected std, reverse_std, right, left or full"
        )
    if args.galore_proj_group_size < 2 or args.galore_proj_group_size % 2:
        raise InvalidTrainArgs(f"galore_proj_group_size is {args.galore_proj_group_size}; expected an even number")
    if not args.galore_gamma_proj >= 1:
        raise InvalidTrainArgs(f"galore_gamma_proj is {args.galore_gamma_proj}; expected 1 or more")
    for option in ("adam_beta1", "adam_beta2"):
        if not 0 <= getattr(args, option) < 1:
            raise InvalidTrainArgs(f"{option} is {getattr(args, option)}; expected 0 or more, below 1")
    for option in ("vit_lr", "aligner_lr"):
        value = getattr(args, option)
        if value is not None and not value > 0:
            raise InvalidTrainArgs(f"{option} is {value}; expected a positive number")


def read_options(kind: type[Options], text: str | None, *, optimizer: str) -> Options:
    """Read `--optim_args`, such as 'rank=64,scale=2', into a dataclass of numbers, words and truths.

    Raises:
        InvalidTrainArgs: there is no such option, or its value is of another type; the message names those that are.
    """
    usual = kind()
    known = {each.name: getattr(usual, each.name) for each in fields(kind)}  # type: ignore[arg-type]  # a dataclass
    return kind(**_read_pairs(text or "", known, optimizer=optimizer))


def _read_pairs(text: str, known: Mapping[str, object], *, optimizer: str) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for pair in text.replace(" ", "").split(","):
        name, equals, value = pair.partition("=")
        if not pair:
            continue
        if not equals or name not in known:
            expected = f"name=value, and {nearest(name, known)}" if known else "none: it has no further options"
            raise InvalidTrainArgs(f"optim_args of {optimizer!r} holds {pair!r}; expected {expected}")
        given[name] = _read(name, value, known[name])
    return given


def _read(name: str, value: str, usual: object) -> object:
    if isinstance(usual, bool):
        truths = {"true": True, "1": True, "false": False, "0": False}
        if value.lower() in truths:
            return truths[value.lower()]
        raise InvalidTrainArgs(f"{name}={value!r} in optim_args; expected true or false")
    if isinstance(usual, str):
        return value
    try:
        return int(value) if isinstance(usual, int) else float(value)
    except ValueError as error:
        expected = "a whole number" if isinstance(usual, int) else "a number"
        raise InvalidTrainArgs(f"{name}={value!r} in optim_args; expected {expected}") from error
