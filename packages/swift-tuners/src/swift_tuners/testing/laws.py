"""`check_tuner`: one tuner on one model keeps the laws."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UnsupportedConfig
from ..laws import Laws
from ..model import SwiftModel
from ..swift import Swift
from ..tuner import TunerConfig
from .models import Inputs, answer, disturb, forward


@dataclass(frozen=True)
class _Case:
    make_config: Callable[[], TunerConfig]
    make_model: Callable[[], nn.Module]
    inputs: Inputs
    laws: Laws

    def host(self) -> nn.Module:
        return frozen(self.make_model())

    def tuned(self, host: nn.Module | None = None) -> SwiftModel:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = Swift.prepare_model(self.host() if host is None else host, {"probe": self.make_config()})
        disturb(model)
        return model


def check_tuner(
    make_config: Callable[[], TunerConfig],
    make_model: Callable[[], nn.Module],
    inputs: Inputs,
    laws: Laws | None = None,
    *,
    compiled: bool = True,
    **exceptions: Any,  # noqa: ANN401  # the fields of Laws, which checks them
) -> None:
    """Check that a tuner keeps the laws.

    Args:
        make_config: returns a config, equal at each call.
        make_model: returns a model, equal at each call, which the tuner fits.
        inputs: arguments of its forward; the first dimension of each is the rows of the batch.
        laws: what the method promises; by default what its config declares as `laws`, or all of them.
        compiled: whether torch.compile is tried too, which takes seconds, for large models many.
        **exceptions: fields of `Laws` that are otherwise here.

    Raises:
        AssertionError: a law is broken; the message says which.
    """
    declared: Laws = laws if laws is not None else getattr(make_config(), "laws", Laws())
    case = _Case(make_config, make_model, inputs, replace(declared, **exceptions))
    _check_start(case)
    _check_switching(case)
    _check_training(case)
    _check_half_precision(case)
    _check_checkpointing(case)
    _check_saving(case)
    _check_removal(case)
    if case.laws.has_parameters:
        _check_trained(case)
    _check_copy(case)
    if compiled:
        _check_compilation(case)
    if case.laws.has_parameters and case.laws.acts_outside_training:
        _check_offloading(case)
        _check_rows(case)
        if case.laws.several:
            _check_company(case)
    if case.laws.mergeable:
        _check_merge(case)


def _check_start(case: _Case) -> None:
    if not case.laws.starts_unchanged:
        return
    model = Swift.prepare_model(case.host(), {"probe": case.make_config()})
    started, plain = answer(model, case.inputs), answer(case.host(), case.inputs)
    difference = _distance(started, plain)
    require(difference <= case.laws.start_tolerance, f"an untrained tuner changes nothing; this one by {difference}")


def _check_switching(case: _Case) -> None:
    plain, model = answer(case.host(), case.inputs), case.tuned()
    on = answer(model, case.inputs)
    require(not same(on, plain) or not case.laws.acts_outside_training, "a tuner with other weights changes the output")
    model.deactivate("probe")
    require(same(answer(model, case.inputs), plain), "a deactivated tuner leaves the host's output, bit for bit")
    model.activate("probe")
    require(same(answer(model, case.inputs), on), "an activated tuner answers as before it was off, bit for bit")


def _check_training(case: _Case) -> None:
    model = case.tuned()
    tuner = model.tuners["probe"]
    own = tuner.parameters()
    require(bool(own) is case.laws.has_parameters, f"a tuner has parameters: {case.laws.has_parameters}")
    training = {name for name, parameter in model.host.named_parameters() if parameter.requires_grad}
    require(training == set(tuner.trained_now()), f"only the tuner's own train, not {sorted(training ^ set(own))}")
    require(training <= set(own), f"what trains now is the tuner's own, not {sorted(training - set(own))}")
    if not case.laws.has_parameters:
        return
    before = {name: parameter.detach().clone() for name, parameter in model.host.named_parameters()}
    _train(model, case.inputs)
    changed = {name for name, parameter in model.host.named_parameters() if not same(parameter, before[name])}
    require(bool(changed), "a step changes the tuner's parameters")
    require(changed <= set(own), f"a step changes only the tuner's parameters, not {sorted(changed - set(own))}")


def _train(model: SwiftModel, inputs: Inputs) -> None:
    """Make one step."""
    model.train()
    forward(model, inputs).float().square().mean().backward()
    optimizer = torch.optim.SGD([dict(group) for group in model.param_groups(learning_rate=0.1)])
    optimizer.step()
    model.on_step(1, optimizer)
    model.eval()


def _check_trained(case: _Case) -> None:
    """Hold that training leaves nothing behind but what the tuner saves and takes away, buffers included."""
    model = case.tuned()
    _train(model, case.inputs)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        loaded = Swift.from_pretrained(case.host(), folder)
    model.set_trainable("probe", False)
    difference = _distance(answer(loaded, case.inputs), answer(model, case.inputs))
    require(
        difference <= case.laws.start_tolerance, f"trained and reloaded answers as trained; this one by {difference}"
    )
    model.deactivate("probe")
    plain = answer(case.host(), case.inputs)
    require(
        same(answer(model, case.inputs), plain), "a trained tuner that is off leaves the host's output, bit for bit"
    )
    require(same(answer(model.unload(), case.inputs), plain), "a trained tuner that is gone leaves the host as it was")


def _check_half_precision(case: _Case) -> None:
    inputs = {name: each.bfloat16() if each.is_floating_point() else each for name, each in case.inputs.items()}
    plain = answer(case.host().bfloat16(), inputs)
    model = case.tuned(case.host().bfloat16())
    output = forward(model, inputs)
    require(output.dtype == plain.dtype, f"a bfloat16 host answers in bfloat16, not in {output.dtype}")
    if case.laws.has_parameters:
        output.float().square().mean().backward()
        gradients = [each.grad for each in model.host.parameters() if each.requires_grad and each.grad is not None]
        require(bool(gradients), "a tuner on a bfloat16 host gets gradients")
        require(all(bool(torch.isfinite(each).all()) for each in gradients), "its gradients are finite")
    model.deactivate("probe")
    require(same(answer(model, inputs), plain), "off, a bfloat16 host answers bit for bit as without the tuner")


def _check_checkpointing(case: _Case) -> None:
    """Hold gradients equal with and without checkpointing; only transformers' models have it."""
    if not getattr(case.host(), "supports_gradient_checkpointing", False) or not case.laws.has_parameters:
        return
    found: list[list[Tensor]] = []
    for checkpointing in (False, True):
        model = case.tuned()
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.train()
        torch.manual_seed(3)
        forward(model, case.inputs).float().square().mean().backward()
        found.append([each.grad for each in model.host.parameters() if each.grad is not None])
    require(
        len(found[0]) == len(found[1]) and all(_distance(*pair) < 1e-6 for pair in zip(*found, strict=True)),
        "gradient checkpointing leaves the gradients as they are",
    )


def _check_saving(case: _Case) -> None:
    model = case.tuned()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        loaded = Swift.from_pretrained(case.host(), folder)
        pickled = [path.name for path in Path(folder).rglob("*") if path.suffix in {".bin", ".pt", ".pkl"}]
    require(not pickled, "a checkpoint holds no pickle")
    # torch may choose other kernels for weights that need gradients.
    model.set_trainable("probe", False)
    difference = _distance(answer(loaded, case.inputs), answer(model, case.inputs))
    # A start that took weights apart is saved as what it amounts to, which rounds.
    require(
        difference <= case.laws.start_tolerance, f"a reloaded tuner answers as the saved one; this one by {difference}"
    )
    require(loaded.count_parameters().trainable == 0, "a tuner that is loaded to answer does not train")


def _check_removal(case: _Case) -> None:
    host = case.host()
    unchanged = remember(host, case.inputs)
    require(case.tuned(host).unload() is host, "unload returns the host")
    unchanged()


def frozen(host: nn.Module) -> nn.Module:
    """Return a host as it is under tuners: torch chooses other kernels for weights that need gradients."""
    return host.eval().requires_grad_(False)


def remember(host: nn.Module, inputs: Inputs) -> Callable[[], None]:
    """Return a function that checks whether a host is as it is now: modules, attributes, weights, flags, answer."""
    # First, since transformers' models set attributes on themselves at the first call.
    plain = answer(host, inputs)
    modules, weights = dict(host.named_modules()), copy.deepcopy(host.state_dict())
    flags, attributes = _flags(host), {name: set(vars(module)) for name, module in modules.items()}
    hooks = {name: _count_hooks(module) for name, module in modules.items()}

    def check() -> None:
        left = dict(host.named_modules())
        surplus = sorted(left.keys() ^ modules.keys())
        require(not surplus, f"removal leaves the host's modules, not {surplus}")
        require(
            all(left[name] is module for name, module in modules.items()), "the host's modules are the same objects"
        )
        present = {name: set(vars(module)) for name, module in left.items()}
        changed = [
            (name, sorted(present[name] ^ names)) for name, names in attributes.items() if present[name] != names
        ]
        require(not changed, f"removal leaves no attribute behind, not {changed[:2]}")
        require({name: _count_hooks(module) for name, module in left.items()} == hooks, "removal leaves no hook behind")
        require(list(host.state_dict()) == list(weights), "the state dict has the same keys in the same order")
        require(
            all(same(value, weights[name]) for name, value in host.state_dict().items()), "the weights are the same"
        )
        require(_flags(host) == flags, "the same parameters require gradients")
        require(same(answer(host, inputs), plain), "the host answers as before, bit for bit")

    return check


def _check_copy(case: _Case) -> None:
    model = case.tuned()
    before = answer(model, case.inputs)
    twin = copy.deepcopy(model)
    require(same(answer(twin, case.inputs), before), "a deep copy answers as the original")
    if case.laws.has_parameters and case.laws.acts_outside_training:
        disturb(twin)
        require(not same(answer(twin, case.inputs), before), "a deep copy runs with its own weights")
    twin.unload()
    require(same(answer(model, case.inputs), before), "what happens to a deep copy does not reach the original")


def _check_compilation(case: _Case) -> None:
    model = case.tuned()
    before = answer(model, case.inputs)
    # Captured and differentiated, but not turned into machine code, which takes seconds a model.
    compiled: nn.Module = torch.compile(model, backend="eager")  # type: ignore[assignment]  # it stays a module
    difference = _distance(answer(compiled, case.inputs), before)
    torch._dynamo.reset()
    require(difference < 1e-5, f"a compiled model answers as before; this one by {difference}")


def _check_offloading(case: _Case) -> None:
    plain, model = answer(case.host(), case.inputs), case.tuned()
    on = answer(model, case.inputs)
    tuner = model.tuners["probe"]
    kept = {id(each) for each in tuner.host_parameters()}
    own = {name: each for name, each in tuner.parameters().items() if id(each) not in kept}
    num_bytes = sum(each.numel() * each.element_size() for each in own.values())
    freed = model.offload("probe", device="meta")
    require(freed >= num_bytes, f"an offloaded tuner frees its {num_bytes} bytes, not {freed}")
    stay = [name for name in own if model.host.get_parameter(name).device.type != "meta"]
    require(not stay, f"an offloaded tuner's weights are on meta, not {stay[:2]}")
    require(same(answer(model, case.inputs), plain), "with its tuner offloaded the host answers as without")
    model.activate("probe")
    require(same(answer(model, case.inputs), on), "a tuner that came back answers as before, bit for bit")


def _check_rows(case: _Case) -> None:
    model = case.tuned()
    on = answer(model, case.inputs)
    model.deactivate()
    plain, num_rows = answer(model, case.inputs), len(on)
    names = ["probe" if row % 2 else None for row in range(num_rows)]
    try:
        with model.rows(names):
            mixed = answer(model, case.inputs)
    except UnsupportedConfig:
        require(same(answer(model, case.inputs), plain), "a refused choice of rows leaves the tuners as they were")
        return
    for row in range(num_rows):
        expected = on[row] if row % 2 else plain[row]
        # A matrix product of fewer rows may round otherwise.
        difference = _distance(mixed[row], expected)
        require(difference < 1e-5, f"row {row} answers as with its own tuner alone; this one by {difference}")
    require(same(answer(model, case.inputs), plain), "after a choice of rows the tuners are as before")


def _check_company(case: _Case) -> None:
    model = Swift.prepare_model(case.host(), {"first": case.make_config()})
    disturb(model)
    alone = answer(model, case.inputs)
    Swift.prepare_model(model, {"second": case.make_config()})
    disturb(model)
    model.set_active_tuners("second")
    second = answer(model, case.inputs)
    model.detach("first")
    require(same(answer(model, case.inputs), second), "detaching a tuner does not touch another one")
    require(not same(second, alone), "two tuners have weights of their own")


def _check_merge(case: _Case) -> None:
    host = case.host()
    keys, types = list(host.state_dict()), {name: type(module) for name, module in host.named_modules()}
    model = case.tuned(host)
    grows = model.tuners["probe"].phase == 0
    before = answer(model, case.inputs)
    merged = model.merge_and_unload()
    if not grows:
        require(list(merged.state_dict()) == keys, "a merged model has the host's state dict keys")
        now = {name: type(module) for name, module in merged.named_modules()}
        require(now == types, "a merged model has the host's modules")
    difference = _distance(answer(merged, case.inputs), before)
    tolerance = case.laws.merge_tolerance
    require(difference <= tolerance, f"merged answers as unmerged: {difference} is more than {tolerance}")


def _flags(model: nn.Module) -> dict[str, bool]:
    return {name: parameter.requires_grad for name, parameter in model.named_parameters()}


def _count_hooks(module: nn.Module) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, kind)) for kind in kinds)


def same(one: Tensor, other: Tensor) -> bool:
    """Say whether two tensors are equal bit for bit."""
    return torch.equal(one.detach(), other.detach())


def _distance(one: Tensor, other: Tensor) -> float:
    return (one.detach().float() - other.detach().float()).abs().max().item()


def require(condition: bool, law: str) -> None:
    """Raise AssertionError if a law is broken."""
    # Not `assert`: the checks hold under `python -O` too.
    if not condition:
        raise AssertionError(f"broken law: {law}")
