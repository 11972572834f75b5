"""One architecture through the whole life of an adapter: attach, train a step, save, load, merge.

What the page of architectures reports, and what its tests run on a sample.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..bypassed import is_bypassed
from ..errors import SwiftTunersError
from ..host_modules import host_modules, is_linear
from ..model import SwiftModel
from ..module_map import ModuleMap, map_modules
from ..swift import Swift
from ..targets import find_expert_parameters
from ..tuner import TunerConfig
from .patch import apply_patches
from .tiny_architectures import Task, build_tiny
from .tiny_inputs import Inputs, has_picture, logits_of, tiny_inputs

# Of merged and unmerged logits in float32: the order of two sums differs, in two layers. The largest seen is 6e-6.
MERGE_TOLERANCE = 1e-4

# Whatever an architecture may raise that is not built, called or tuned as others are.
FAILURES = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError, LookupError),
    *(RuntimeError, TypeError, ValueError, SwiftTunersError),
)


@dataclass(kw_only=True)
class ArchitectureReport:
    """What was found and done with one architecture."""

    model_type: str
    task: Task
    failed_at: str = ""
    """The step that failed; '' where all went well."""
    reason: str = ""
    """Why it failed."""
    patches: list[str] = field(default_factory=list)
    """Repairs that the model got when it was loaded."""
    modules: ModuleMap | None = None
    experts: list[str] = field(default_factory=list)
    """Weights of experts, which only `target_parameters` reaches."""
    picture: bool = False
    """Whether a picture was among the inputs."""
    trained: int = 0
    """How many tensors trained."""
    idle: list[str] = field(default_factory=list)
    """Which of them got no gradient from these inputs."""
    bypassed: list[str] = field(default_factory=list)
    """Linear layers of the language side that got no adapter, since they are never called."""
    loss: float = float("nan")
    merge_error: float = 0.0
    """Largest difference between logits before and after merging."""

    @property
    def works(self) -> bool:
        """Whether every step went well."""
        return not self.failed_at


class CheckFailed(SwiftTunersError, AssertionError):
    """An architecture does something else than a tuned model must."""


def check_architecture(model_type: str, task: Task, *, experts: bool = True) -> ArchitectureReport:
    """Train a LoRA on all linear layers of the language side for one step, save, load and merge it.

    Args:
        model_type: the architecture, as transformers calls it.
        task: for which of the architecture's models.
        experts: whether weights of experts get an adapter too, where the model holds them in one tensor.

    Returns:
        What happened; a failure is in the report, not raised.
    """
    report = ArchitectureReport(model_type=model_type, task=task)
    step = "build"
    try:
        model = build_tiny(model_type, task)
        step = "call"
        inputs = tiny_inputs(model)
        report.picture = has_picture(inputs)
        step = "map"
        _describe(model, report)
        chosen: list[list[str]] = [[], report.experts] if report.experts and experts else [[]]
        for target_parameters in chosen:
            prefix = "experts: " if target_parameters else ""
            step = f"{prefix}attach"
            tuned = _attach(_load(model_type, task), lora_config(target_parameters), inputs, report)
            step = f"{prefix}train"
            _train_step(tuned, inputs, report)
            step = f"{prefix}reload"
            _check_reload(tuned, inputs, report)
            step = f"{prefix}merge"
            report.merge_error = max(_check_merge(tuned, inputs), report.merge_error)
    except FAILURES as error:
        report.failed_at, report.reason = step, f"{type(error).__name__}: {error}"
    return report


def _load(model_type: str, task: Task) -> PreTrainedModel:
    """Return the model as `load_model` would: with the patches that it needs."""
    model = build_tiny(model_type, task)
    apply_patches(model)
    return model


def _describe(model: PreTrainedModel, report: ArchitectureReport) -> None:
    report.patches = apply_patches(model)
    report.modules = map_modules(model)
    report.experts = find_expert_parameters(model)
    modules = dict(host_modules(model))
    report.bypassed = [
        name
        for name, module in modules.items()
        if report.modules.part_of(name) == "language" and is_linear(module) and is_bypassed(modules, name)
    ]


def lora_config(target_parameters: list[str]) -> TunerConfig:
    """Return a LoRA for all linear layers, and for these weights of experts."""
    from ..tuners.lora import LoraArgs

    return LoraArgs(rank=4, alpha=8, dropout=0.0, target_parameters=target_parameters).build_config()


def run(model: nn.Module, inputs: Inputs) -> Tensor:
    """Return the logits; what a model draws at random is the same at each call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return logits_of(model(**inputs))


def token_loss(logits: Tensor, inputs: Inputs) -> Tensor:
    """Return the mean cross-entropy of each next token, for any model's logits (..., T, V)."""
    name = "decoder_input_ids" if "decoder_input_ids" in inputs else "input_ids"
    ids = inputs[name]
    assert isinstance(ids, Tensor)
    length = min(logits.shape[-2], ids.shape[-1])
    predictions = logits[..., -length:-1, :].flatten(0, -2).float()
    return nn.functional.cross_entropy(predictions, ids[..., -length + 1 :].flatten())


def _attach(model: PreTrainedModel, config: TunerConfig, inputs: Inputs, report: ArchitectureReport) -> SwiftModel:
    with torch.no_grad():
        before = run(model, inputs)
    tuned = Swift.prepare_model(model, config)
    tuned.eval()
    with torch.no_grad():
        if not torch.equal(run(tuned, inputs), before):
            raise CheckFailed("the new adapter changes the output, though it starts at zero")
    if report.modules is not None:
        for name in tuned.tuners["default"].parameters():
            part = report.modules.part_of(name)
            if part != "language":
                raise CheckFailed(f"{name} trains, which is of the part {part!r}, not of the language side")
    return tuned


def _train_step(tuned: SwiftModel, inputs: Inputs, report: ArchitectureReport) -> None:
    parameters = tuned.tuners["default"].parameters()
    optimizer = torch.optim.SGD(parameters.values(), lr=0.1)
    tuned.train()
    # With A random and B zero, A has no gradient in the first step: both are given values.
    with torch.no_grad():
        generator = torch.Generator().manual_seed(3)
        for parameter in parameters.values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    loss = token_loss(run(tuned, inputs), inputs)
    report.loss = loss.item()
    if not torch.isfinite(loss):
        raise CheckFailed(f"the loss is {loss.item()}")
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in parameters.items()}
    broken = [
        name for name, gradient in gradients.items() if gradient is not None and not torch.isfinite(gradient).all()
    ]
    if broken:
        raise CheckFailed(f"the gradient of {broken[0]} is not finite")
    report.trained = len(gradients)
    report.idle = [name for name, gradient in gradients.items() if gradient is None or not gradient.any()]
    if len(report.idle) == report.trained:
        raise CheckFailed("no adapter got a gradient")
    others = [
        name
        for name, parameter in tuned.named_parameters()
        if parameter.grad is not None and not parameter.requires_grad
    ]
    if others:
        raise CheckFailed(f"{others[0]} is frozen and got a gradient")
    optimizer.step()
    optimizer.zero_grad()
    tuned.eval()


def _check_reload(tuned: SwiftModel, inputs: Inputs, report: ArchitectureReport) -> None:
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        Swift.save(tuned, folder)
        again = Swift.from_pretrained(_load(report.model_type, report.task), folder)
        again.eval()
        if not torch.equal(run(again, inputs), run(tuned, inputs)):
            raise CheckFailed("the model answers otherwise after saving and loading the adapter")


def _check_merge(tuned: SwiftModel, inputs: Inputs) -> float:
    with torch.no_grad():
        before = run(tuned, inputs)
        merged = Swift.merge(tuned)
        error = (run(merged, inputs) - before).abs().max().item()
    if not error <= MERGE_TOLERANCE * max(1.0, before.abs().max().item()):
        raise CheckFailed(f"the merged model's logits differ by up to {error:.1e}")
    return error
