"""Quantized bases: who loads them, which of their layers are quantized, and what can be merged into those.

A tuner needs three answers of a quantized layer: that it is one, what its weights are as numbers, and whether an update
can be folded into it. Each `Quantizer` gives them for its own layers, so that methods and quantizers add up
and do not multiply. This module imports no torch and no quantization library.
"""

from __future__ import annotations

import importlib.util
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NoReturn

from .errors import CannotMerge, InvalidModel, MissingDependency, UnsupportedConfig
from .quantizer_args import QuantizationArgs
from .registry import Registry

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class LoadRequest:
    """What a quantizer is asked to load."""

    folder: Path
    """The model's folder, quantized or not."""
    bits: int
    """One of the quantizer's; 0 if the folder is quantized already."""
    dtype: torch.dtype
    """Type of the weights that are not quantized."""
    args: QuantizationArgs


class Quantizer(ABC):
    """One way of storing the weights of linear layers in few bits.

    A file in `quantizers/` holds one subclass; it imports its library inside its methods, so that the table of
    quantizers needs none of them.
    """

    name: ClassVar[str]
    """The file's name: what --quant_method takes, and the extra that installs it."""
    requires: ClassVar[tuple[str, ...]]
    """Packages that must be importable."""
    formats: ClassVar[frozenset[str]]
    """Values of quantization_config.quant_method in the config.json of folders that it reads."""
    bits: ClassVar[tuple[int, ...]]
    """What it can quantize to while loading, the default first; empty if it only reads quantized folders."""
    group_sizes: ClassVar[bool] = False
    """Whether quant_group_size has an effect."""
    can_save: ClassVar[bool] = False
    """Whether transformers writes a loaded model such that it can be loaded again."""
    evidence: ClassVar[str]
    """For the table: what was tested, and where."""

    @abstractmethod
    def load_options(self, request: LoadRequest) -> dict[str, object]:
        """Return what `from_pretrained` needs beyond the usual.

        Raises:
            UnsupportedConfig: this machine or folder cannot be served.
        """

    def adapt_config(self, settings: dict[str, object]) -> None:  # noqa: B027  # most have nothing to do
        """Correct the quantization_config of a folder before transformers reads it."""

    def finish(self, model: nn.Module, request: LoadRequest) -> None:  # noqa: B027  # most have nothing to do
        """Bring a model that `from_pretrained` returned into a state that is safe to train on."""

    @abstractmethod
    def is_quantized_layer(self, module: nn.Module) -> bool:
        """Say whether this is one of its linear layers."""

    @abstractmethod
    def dequantize(self, layer: nn.Module) -> Tensor:
        """Return the layer's weights as floats, (out, in), in memory of their own."""

    def settle(self, layer: nn.Module) -> None:  # noqa: B027  # most have nothing to do
        """Undo what wrapping the layer into an adapter has left on it."""

    def check_merge(self, layer: nn.Module) -> None:
        """Raise CannotMerge if an update cannot be folded into the layer; by default, always."""
        # Also with 8 bits: of SmolLM2-135M with a LoRA of six steps merged into 8-bit weights (bitsandbytes, hqq,
        # torchao), 31 to 40 % of the most likely tokens were those of before, since most of the update is smaller than
        # half a step of the weights. On the dequantized base the logits differ by 1e-4.
        raise CannotMerge(
            f"an update cannot be merged into a quantized base ({self.name}): rounding would undo it; merge into the "
            "unquantized model, or call swift_tuners.dequantize_model on the base first"
        )

    def check_installed(self) -> None:
        """Raise MissingDependency if a package is not there."""
        for package in self.requires:
            if importlib.util.find_spec(package) is None:
                raise MissingDependency(
                    f"{package} is needed by quantizer {self.name!r}; pip install 'swift-tuners[{self.name}]'"
                )


QUANTIZERS: Registry[Quantizer] = Registry(kind="quantizer", package="swift_tuners.quantizers", base=Quantizer)


@dataclass(frozen=True)
class LoadPlan:
    """How a model is loaded: `adapt_config`, then `from_pretrained` with the `options`, then `finish`."""

    quantizer: Quantizer | None = None
    request: LoadRequest | None = None
    options: dict[str, object] = field(default_factory=dict)

    def adapt_config(self, config: object) -> None:
        """Correct what transformers' config of the folder says of its quantization, before the model is loaded."""
        settings = getattr(config, "quantization_config", None)
        if self.quantizer is not None and isinstance(settings, dict):
            self.quantizer.adapt_config(settings)

    def finish(self, model: nn.Module) -> None:
        """Make the loaded model safe to train on, and refuse to save it where that would write a broken model."""
        if self.quantizer is None or self.request is None:
            return
        self.quantizer.finish(model, self.request)
        if not self.quantizer.can_save:
            # An attribute of this instance: partial of a function, so that deep copies have it too.
            vars(model)["save_pretrained"] = partial(_refuse_saving, self.quantizer.name, str(self.request.folder))


def plan_loading(folder: Path, args: QuantizationArgs | None, *, dtype: torch.dtype) -> LoadPlan:
    """Say how a folder is loaded, by its config.json and by what the user asks for.

    Args:
        folder: a whole model, quantized or not.
        args: the user's options; None is the same as the defaults: as the folder is.
        dtype: type of the weights that are not quantized.

    Returns:
        A plan, empty for a folder that needs nothing special.

    Raises:
        UnsupportedConfig: the options contradict the folder, the quantizer or this machine.
        UnknownName: there is no quantizer of this name.
        MissingDependency: its package is not installed.
    """
    args = args or QuantizationArgs()
    saved = read_format(folder)
    if saved is None and args.quant_method is None:
        _refuse_options_without_method(args)
        return LoadPlan()
    found = find_quantizer(saved) if saved is not None else load_quantizer(str(args.quant_method))
    if found is None:
        if args.quant_method is not None:
            raise UnsupportedConfig(f"{str(folder)!r} is quantized with {saved} already; leave out quant_method")
        # transformers knows more formats than we train on.
        return LoadPlan()
    bits = _choose_bits(found, folder, args, saved)
    found.check_installed()
    request = LoadRequest(folder=folder, bits=bits, dtype=dtype, args=args)
    return LoadPlan(found, request, found.load_options(request))


def load_quantizer(name: str) -> Quantizer:
    """Return a quantizer by its name. Raises UnknownName."""
    return QUANTIZERS.load_class(name)()


def all_quantizers() -> list[Quantizer]:
    """Return every registered quantizer, sorted by name."""
    if not _known:
        _known.extend(load_quantizer(name) for name in QUANTIZERS.names())
    return list(_known)


# The question is asked once for each module of a model, and the registry reads folders and entry points.
_known: list[Quantizer] = []


def find_quantizer(saved: str) -> Quantizer | None:
    """Return the quantizer that reads folders of a format, such as 'gptq'."""
    return next((each for each in all_quantizers() if saved in each.formats), None)


def quantizer_of(module: nn.Module) -> Quantizer | None:
    """Return the quantizer whose linear layer this is, or None."""
    return next((each for each in all_quantizers() if each.is_quantized_layer(module)), None)


def read_format(folder: Path) -> str | None:
    """Return the quant_method in a folder's config.json, or None if the model is not quantized.

    Raises:
        InvalidModel: the file is missing or damaged.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        settings = config.get("quantization_config")
        if settings is None:
            return None
        # Old folders of bitsandbytes do not name the method.
        method = settings.get("quant_method") or ("bitsandbytes" if "load_in_4bit" in settings else "unknown")
    except (OSError, ValueError, AttributeError) as error:
        raise InvalidModel(f"{str(path)!r} cannot be read: {error}; expected the config of a model") from error
    return str(method)


def is_instance_of(value: object, *names: str) -> bool:
    """Say whether an object is of a class, given as 'package.Class', without importing the package."""
    return any(f"{each.__module__.partition('.')[0]}.{each.__name__}" in names for each in type(value).__mro__)


def check_merge_into(layers: Iterable[nn.Module]) -> None:
    """Raise CannotMerge if an update cannot be folded into one of these layers; layers of floats are passed over."""
    for layer in layers:
        quantizer = quantizer_of(layer)
        if quantizer is not None:
            quantizer.check_merge(layer)


def _choose_bits(found: Quantizer, folder: Path, args: QuantizationArgs, saved: str | None) -> int:
    if saved is not None:
        if args.quant_method is not None and args.quant_method.replace("-", "_").lower() != found.name:
            raise UnsupportedConfig(
                f"quant_method is {args.quant_method!r}, but {str(folder)!r} is quantized with {saved} already; "
                "leave it out, or give the unquantized model"
            )
        if args.quant_bits is not None or args.quant_group_size is not None:
            raise UnsupportedConfig(
                f"{str(folder)!r} is quantized with {saved} already: its bits and group size cannot be chosen; "
                "leave out quant_bits and quant_group_size"
            )
        return 0
    if not found.bits:
        raise UnsupportedConfig(
            f"quant_method {found.name!r} does not quantize while loading, it needs data to do so; "
            f"give a model that is quantized with it already, or choose {_quantize_while_loading()}"
        )
    if args.quant_group_size is not None and not found.group_sizes:
        raise UnsupportedConfig(
            f"quant_group_size is {args.quant_group_size}, but {found.name} has blocks of a fixed size; leave it out"
        )
    bits = args.quant_bits or found.bits[0]
    if bits not in found.bits:
        offered = " or ".join(map(str, sorted(found.bits)))
        raise UnsupportedConfig(f"quant_bits is {bits}, {found.name} quantizes to {offered} bits")
    return bits


def _refuse_options_without_method(args: QuantizationArgs) -> None:
    if args.quant_bits is not None or args.quant_group_size is not None:
        raise UnsupportedConfig(
            "quant_bits or quant_group_size is given without quant_method; "
            f"say which method quantizes: {_quantize_while_loading()}"
        )


def _quantize_while_loading() -> str:
    return ", ".join(each.name for each in all_quantizers() if each.bits)


def _refuse_saving(name: str, folder: str, *_args: object, **_options: object) -> NoReturn:
    raise UnsupportedConfig(
        f"a model that was loaded with quantizer {name!r} cannot be saved: what would be written is broken, or nothing "
        f"could read it; save its tuners, and copy the files of {folder!r} where the base is needed"
    )
