"""The laws that every tuner keeps, and small models to try them on.

A new tuner is tested by calling `check_tuner` with its config; the tests of this package do so for everything
registered.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .model import SwiftModel
from .swift import Swift
from .tuner import TunerConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Inputs = Mapping[str, Tensor]


class ToyMLP(nn.Module):
    """Two linear layers, without anything that transformers models have."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(8, 16)
        self.act = nn.GELU()
        self.down = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 8) to (B, 4)."""
        out: Tensor = self.down(self.act(self.up(x)))
        return out


def toy_mlp() -> ToyMLP:
    """Return the same small MLP at each call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ToyMLP()


def toy_mlp_inputs() -> dict[str, Tensor]:
    """Return arguments for `toy_mlp`."""
    return {"x": torch.randn(3, 8, generator=torch.Generator().manual_seed(1))}


def tiny_decoder(*, tie_word_embeddings: bool = True, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Return the same Llama of two layers, 64 tokens and some 20,000 random weights at each call."""
    from .models.tiny import build_tiny_llama

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_tiny_llama(tie_word_embeddings=tie_word_embeddings, dtype=dtype)


def tiny_decoder_inputs() -> dict[str, Tensor]:
    """Return arguments for `tiny_decoder`."""
    return {"input_ids": torch.randint(3, 64, (2, 7), generator=torch.Generator().manual_seed(1))}


def disturb(model: SwiftModel, *, scale: float = 0.05) -> None:
    """Give all that trains other values, the same at each call: most tuners do nothing before they have learnt."""
    generator = torch.Generator().manual_seed(2)
    for parameter in model.parameters():
        if parameter.requires_grad:
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data += scale * noise.to(parameter.device, parameter.dtype)


def answer(model: nn.Module, inputs: Inputs) -> Tensor:
    """Return a model's output as one tensor: the logits, if it has some."""
    with torch.no_grad():
        output = model(**inputs)
    tensor: Tensor = getattr(output, "logits", output)
    return tensor


@dataclass(frozen=True)
class _Case:
    make_config: Callable[[], TunerConfig]
    make_model: Callable[[], nn.Module]
    inputs: Inputs

    def host(self) -> nn.Module:
        return self.make_model().eval()

    def tuned(self, host: nn.Module | None = None) -> SwiftModel:
        model = Swift.prepare_model(self.host() if host is None else host, {"probe": self.make_config()})
        disturb(model)
        return model


def check_tuner(
    make_config: Callable[[], TunerConfig],
    make_model: Callable[[], nn.Module],
    inputs: Inputs,
    *,
    starts_unchanged: bool = True,
    several: bool = True,
    mergeable: bool = True,
    merge_tolerance: float = 1e-5,
) -> None:
    """Check that a tuner keeps the laws.

    Args:
        make_config: returns a config, equal at each call.
        make_model: returns a model, equal at each call, which the tuner fits.
        inputs: arguments of its forward.
        starts_unchanged: the method promises that an untrained tuner changes nothing.
        several: two such tuners may be on one model.
        mergeable: the method can be folded into the host's weights.
        merge_tolerance: largest absolute difference between merged and unmerged output; rounding makes some.

    Raises:
        AssertionError: a law is broken; the message says which.
    """
    case = _Case(make_config, make_model, inputs)
    if starts_unchanged:
        _check_start(case)
    _check_switching(case)
    _check_training(case)
    _check_saving(case)
    _check_removal(case)
    _check_copy(case)
    if several:
        _check_company(case)
    if mergeable:
        _check_merge(case, merge_tolerance)


def _check_start(case: _Case) -> None:
    model = Swift.prepare_model(case.host(), {"probe": case.make_config()})
    _require(_same(answer(model, case.inputs), answer(case.host(), case.inputs)), "an untrained tuner changes nothing")


def _check_switching(case: _Case) -> None:
    plain, model = answer(case.host(), case.inputs), case.tuned()
    on = answer(model, case.inputs)
    _require(not _same(on, plain), "a tuner with other weights changes the output")
    model.deactivate("probe")
    _require(_same(answer(model, case.inputs), plain), "a deactivated tuner leaves the host's output, bit for bit")
    model.activate("probe")
    _require(_same(answer(model, case.inputs), on), "an activated tuner answers as before it was off, bit for bit")


def _check_training(case: _Case) -> None:
    model = case.tuned()
    own = model.tuners["probe"].parameters()
    _require(bool(own), "a tuner has parameters")
    training = {name for name, parameter in model.host.named_parameters() if parameter.requires_grad}
    _require(training == set(own), f"exactly the tuner's own parameters train, not {sorted(training ^ set(own))}")
    before = {name: parameter.detach().clone() for name, parameter in model.host.named_parameters()}
    output = model(**case.inputs)
    getattr(output, "logits", output).float().square().mean().backward()
    torch.optim.SGD([dict(group) for group in model.param_groups(learning_rate=0.1)]).step()
    changed = {name for name, parameter in model.host.named_parameters() if not _same(parameter, before[name])}
    _require(bool(changed), "a step changes the tuner's parameters")
    _require(changed <= set(own), f"a step changes only the tuner's parameters, not {sorted(changed - set(own))}")


def _check_saving(case: _Case) -> None:
    model = case.tuned()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        loaded = Swift.from_pretrained(case.host(), folder)
        pickled = [path.name for path in Path(folder).rglob("*") if path.suffix in {".bin", ".pt", ".pkl"}]
    _require(not pickled, "a checkpoint holds no pickle")
    _require(
        _same(answer(loaded, case.inputs), answer(model, case.inputs)),
        "a reloaded tuner answers bit for bit as the saved one",
    )
    _require(loaded.count_parameters().trainable == 0, "a tuner that is loaded to answer does not train")


def _check_removal(case: _Case) -> None:
    host = case.host()
    modules, weights = dict(host.named_modules()), copy.deepcopy(host.state_dict())
    flags, attributes = _flags(host), {name: set(vars(module)) for name, module in modules.items()}
    plain = answer(host, case.inputs)
    _require(case.tuned(host).unload() is host, "unload returns the host")
    left = dict(host.named_modules())
    _require(
        left.keys() == modules.keys(), f"removal leaves the host's modules, not {sorted(left.keys() ^ modules.keys())}"
    )
    _require(all(left[name] is module for name, module in modules.items()), "the host's modules are the same objects")
    _require(
        {name: set(vars(module)) for name, module in left.items()} == attributes, "removal leaves no attribute behind"
    )
    _require(list(host.state_dict()) == list(weights), "the state dict has the same keys in the same order")
    _require(all(_same(value, weights[name]) for name, value in host.state_dict().items()), "the weights are the same")
    _require(_flags(host) == flags, "the same parameters require gradients")
    _require(_same(answer(host, case.inputs), plain), "the host answers as before, bit for bit")


def _check_copy(case: _Case) -> None:
    model = case.tuned()
    before = answer(model, case.inputs)
    twin = copy.deepcopy(model)
    _require(_same(answer(twin, case.inputs), before), "a deep copy answers as the original")
    disturb(twin)
    _require(not _same(answer(twin, case.inputs), before), "a deep copy runs with its own weights")
    twin.unload()
    _require(_same(answer(model, case.inputs), before), "what happens to a deep copy does not reach the original")


def _check_company(case: _Case) -> None:
    model = Swift.prepare_model(case.host(), {"first": case.make_config()})
    disturb(model)
    alone = answer(model, case.inputs)
    Swift.prepare_model(model, {"second": case.make_config()})
    disturb(model)
    model.set_active_tuners("second")
    second = answer(model, case.inputs)
    model.detach("first")
    _require(_same(answer(model, case.inputs), second), "detaching a tuner does not touch another one")
    _require(not _same(second, alone), "two tuners have weights of their own")


def _check_merge(case: _Case, tolerance: float) -> None:
    host = case.host()
    keys, types = list(host.state_dict()), {name: type(module) for name, module in host.named_modules()}
    model = case.tuned(host)
    before = answer(model, case.inputs)
    merged = model.merge_and_unload()
    _require(list(merged.state_dict()) == keys, "a merged model has the host's state dict keys")
    _require(
        {name: type(module) for name, module in merged.named_modules()} == types,
        "a merged model has the host's modules",
    )
    difference = (answer(merged, case.inputs) - before).abs().max().item()
    _require(difference <= tolerance, f"merged answers as unmerged: {difference} is more than {tolerance}")


def _flags(model: nn.Module) -> dict[str, bool]:
    return {name: parameter.requires_grad for name, parameter in model.named_parameters()}


def _same(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one.detach(), other.detach())


def _require(condition: bool, law: str) -> None:
    # Not `assert`: the checks hold under `python -O` too.
    if not condition:
        raise AssertionError(f"broken law: {law}")
