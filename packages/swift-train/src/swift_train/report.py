"""What a run says before it trains: one sample as the model sees it, and what it is about to cost."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass

from swift_templates.show import describe_sample
from swift_templates.template import Template
from torch import nn

from .memory import MemoryEstimate
from .samples import Samples


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is about to happen, in numbers."""

    training: Samples
    validation: Samples | None
    num_skipped_rows: int
    num_packs: int
    num_steps: int
    global_batch: int
    memory: MemoryEstimate


def describe_plan(plan: Plan, template: Template, model: nn.Module) -> Iterable[str]:
    """Yield the lines that are shown before training."""
    sample = plan.training.encoded[0]
    yield "A sample as the model sees it; the marked tokens are trained:"
    yield describe_sample(template, sample, color=sys.stdout.isatty())
    yield ""
    yield f"training:    {_count(plan.training)}"
    if plan.num_packs != len(plan.training.encoded):
        yield f"             packed into {plan.num_packs:,} batch rows"
    if plan.validation is not None:
        yield f"validation:  {_count(plan.validation)}"
    if plan.num_skipped_rows:
        yield f"bad rows:    {plan.num_skipped_rows:,} left out (--on_bad_row skip)"
    trained = sum(each.numel() for each in model.parameters() if each.requires_grad)
    total = sum(each.numel() for each in model.parameters())
    yield f"parameters:  {trained:,} of {total:,} train ({trained / total:.2%})"
    yield f"steps:       {plan.num_steps:,} of {plan.global_batch:,} batch rows each"
    memory = plan.memory
    activations = "unknown" if memory.activations_mib is None else f"{memory.activations_mib:,.0f}"
    yield (
        f"memory:      about {memory.total_mib:,.0f} MiB at the peak of a step (weights {memory.weights_mib:,.0f}, "
        f"gradients {memory.gradients_mib:,.0f}, optimizer {memory.optimizer_mib:,.0f}, activations {activations})"
    )


def _count(samples: Samples) -> str:
    parts = [
        f"{samples.num_rows:,} rows",
        f"{len(samples.encoded):,} samples",
        f"{samples.num_tokens:,} tokens",
        f"{samples.num_trained:,} of them trained",
    ]
    if samples.num_left_out:
        parts.append(f"{samples.num_left_out:,} samples left out, too long (the longest: {samples.longest:,})")
    if samples.num_refused:
        parts.append(f"{samples.num_refused:,} rows left out, refused by the template (--on_bad_row skip)")
    if samples.num_untrained:
        parts.append(f"{samples.num_untrained:,} rows train nothing (their answers have no loss)")
    if samples.num_cut:
        parts.append(f"{samples.num_cut:,} samples cut to max_length (the longest had {samples.longest:,})")
    return ", ".join(parts)
