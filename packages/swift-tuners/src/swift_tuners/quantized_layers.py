"""Quantized layers under a tuner: whether a method really works on them, and plain ones in their place.

A quantized layer often looks like torch's own, and a method that reads its weight directly would train on packed bytes
without a word. So one layer of each kind is compared with a plain one that has the same weights as floats.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from .errors import UnsupportedConfig
from .host_modules import host_modules, is_wrapper, unwrap
from .quantizer import Quantizer, quantizer_of

TOLERANCE = 0.1
"""Largest relative difference between a quantized layer and the plain one of the same weights: 8-bit layers of
bitsandbytes round their inputs too, which makes 0.01; a method that takes packed bytes for weights is
off by 1 or more."""

_MARKS = ("hf_quantizer", "is_quantized", "quantization_method", "is_loaded_in_4bit", "is_loaded_in_8bit")
"""What transformers says of a quantized model, on the model itself."""


def check_wrapped(model: nn.Module, layers: Iterable[nn.Module], *, method: str) -> None:
    """Check that freshly attached adapters work on the quantized layers inside them; others are passed over.

    Args:
        model: the host.
        layers: PEFT's wrappers, with the adapter active.
        method: the tuner's kind, for the message.

    Raises:
        UnsupportedConfig: an adapter fails on a quantized layer, or computes something else there than on a plain
            layer of the same weights.
    """
    tried: set[tuple[type, type, type]] = set()
    for layer in layers:
        base = unwrap(layer)
        quantizer = quantizer_of(base)
        if quantizer is None:
            continue
        quantizer.settle(base)
        # torch's own linear layers are one type, whatever type their weight has.
        kind = (type(layer), type(base), type(getattr(base, "weight", None)))
        if kind not in tried and not any(each.is_meta for each in (*base.parameters(), *base.buffers())):
            tried.add(kind)
            _check_layer(layer, base, quantizer, method, _dtype_of(model))


def dequantize_model(model: nn.Module, *, dtype: torch.dtype | None = None) -> nn.Module:
    """Put plain linear layers in the place of quantized ones, in place: then adapters can be merged, and all saved.

    An adapter that was trained on the quantized model fits this one exactly, and the unquantized original less well.

    Args:
        model: a quantized model without tuners.
        dtype: type of the new weights; by default that of the model's others.

    Returns:
        The model.

    Raises:
        UnsupportedConfig: tuners are attached.
    """
    if any(is_wrapper(module) for module in model.modules()):
        raise UnsupportedConfig("the model has tuners on it; save them, unload() the model, and dequantize it then")
    dtype = dtype or _dtype_of(model)
    for name, layer in list(host_modules(model)):
        quantizer = quantizer_of(layer)
        if quantizer is not None:
            model.set_submodule(name, _plain_layer(layer, quantizer.dequantize(layer).to(dtype)))
    # transformers would go on treating the model as a quantized one, and refuse to move, train or save it.
    for mark in ("save_pretrained", *_MARKS):
        vars(model).pop(mark, None)
    config = getattr(model, "config", None)
    if config is not None and hasattr(config, "quantization_config"):
        del config.quantization_config
    return model


def _check_layer(layer: nn.Module, base: nn.Module, quantizer: Quantizer, method: str, dtype: torch.dtype) -> None:
    weight = quantizer.dequantize(base).to(dtype)
    refusal = f"{method} does not work on layers that are quantized with {quantizer.name}: "
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        # As large as the inputs of a layer in a model, which norms keep near 1.
        inputs = torch.randn(8, weight.shape[1], device=weight.device, dtype=dtype)
        try:
            # Untrained adapters mostly do nothing: both copies get the same other values.
            probe = copy.deepcopy(layer, {id(base): base}).eval()
            _disturb(probe, {id(each) for each in base.parameters()})
            found = _run(probe, inputs)
        except _FAILURES as error:
            raise UnsupportedConfig(f"{refusal}{error!r:.200}; {_ADVICE}") from error
        try:
            expected = _run(copy.deepcopy(probe, {id(base): _plain_layer(base, weight)}).eval(), inputs)
        except _FAILURES:
            # The adapter is made for this quantizer and fits no plain layer. Such ones change nothing at the start.
            found = _run(copy.deepcopy(layer, {id(base): base}).eval(), inputs)
            expected = _run(base, inputs)
    for what, one, other in zip(("output", "gradient"), found, expected, strict=True):
        difference = (one - other).norm().item() / max(other.norm().item(), 1e-12)
        if not difference <= TOLERANCE:
            raise UnsupportedConfig(
                f"{refusal}its {what} is off by {difference:.0%} of what the weights give; {_ADVICE}"
            )


_ADVICE = "choose lora, or an unquantized model"
# What layers raise when they meet a weight of another shape or type than they expect.
_FAILURES = (RuntimeError, TypeError, ValueError, AttributeError, IndexError, AssertionError, KeyError)


def _dtype_of(model: nn.Module) -> torch.dtype:
    # The first one is an embedding's, as a rule; it decides what the layers are given.
    return next((each.dtype for each in model.parameters() if each.is_floating_point()), torch.float32)


def _run(layer: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the output and the gradient of the input."""
    own = inputs.clone().requires_grad_()
    output: Tensor = layer(own)
    output.float().square().sum().backward()
    if own.grad is None:
        raise RuntimeError("no gradient comes through the layer")
    return output.detach().float(), own.grad.float()


def _disturb(layer: nn.Module, host: set[int]) -> None:
    for parameter in layer.parameters():
        if id(parameter) not in host and parameter.is_floating_point():
            noise = torch.randn(parameter.shape).to(parameter.device, parameter.dtype)
            parameter.data = parameter.data + 0.02 * noise
            parameter.requires_grad_()


def _plain_layer(layer: nn.Module, weight: Tensor) -> nn.Linear:
    bias = getattr(layer, "bias", None)
    plain = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    plain.weight = nn.Parameter(weight)
    if isinstance(bias, Tensor):
        plain.bias = nn.Parameter(bias.detach().to(weight.dtype).clone())
    plain.training = layer.training
    return plain
