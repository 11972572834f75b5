"""What a run says before it trains: one sample as the model sees it, and what it is about to cost."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from swift_templates.show import describe_sample
from swift_templates.template import Template
from torch import nn

from .memory import MemoryPlan
from .samples import RunData, Samples


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is about to happen, in numbers."""

    data: RunData
    num_packs: int
    num_steps: int
    global_batch: int
    memory: MemoryPlan


def describe_plan(plan: Plan, template: Template, model: nn.Module) -> Iterable[str]:
    """Yield the lines that are shown before training."""
    sample = plan.data.training.encoded[0]
    yield "A sample as the model sees it; the marked tokens are trained:"
    yield describe_sample(template, sample, color=sys.stdout.isatty())
    yield ""
    yield f"training:    {_count(plan.data.training)}"
    yield from _describe_rows(plan.data.training)
    if plan.num_packs != len(plan.data.training.encoded):
        yield f"             packed into {plan.num_packs:,} batch rows"
    if plan.data.validation is not None:
        yield f"validation:  {_count(plan.data.validation)}"
        yield from _describe_rows(plan.data.validation)
    if plan.data.skipped_rows:
        total = sum(plan.data.skipped_rows.values())
        yield f"bad rows:    {total:,} left out (--on_bad_row skip): {_by_reason(plan.data.skipped_rows)}"
    trained = sum(each.numel() for each in model.parameters() if each.requires_grad)
    total = sum(each.numel() for each in model.parameters())
    yield f"parameters:  {trained:,} of {total:,} train ({trained / total:.2%})"
    yield f"steps:       {plan.num_steps:,} of {plan.global_batch:,} batch rows each"
    memory = plan.memory.estimate
    activations = "unknown" if memory.activations_mib is None else f"{memory.activations_mib:,.0f}"
    yield (
        f"memory:      about {memory.total_mib:,.0f} MiB at the peak of a step (weights {memory.weights_mib:,.0f}, "
        f"gradients {memory.gradients_mib:,.0f}, optimizer {memory.optimizer_mib:,.0f}, activations {activations}"
        f"{', computed again in the backward pass' if plan.memory.checkpointing else ''})"
    )


def _describe_rows(samples: Samples) -> Iterable[str]:
    """Yield what there is to say about some of the rows: why the first were refused, and what of others is not used."""
    for refusal in samples.refusals:
        yield f"             refused: {refusal}"
    for noted, count in samples.encoded.counts.notes.items():
        yield f"             note: {count:,} rows have {noted}"


def _by_reason(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda each: -each[1])
    return ", ".join(f"{count:,} {reason!r}" for reason, count in ordered)


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
        reasons = _by_reason(samples.encoded.counts.errors)
        parts.append(f"{samples.num_refused:,} rows left out, refused by the template (--on_bad_row skip): {reasons}")
    if samples.num_untrained:
        parts.append(f"{samples.num_untrained:,} rows train nothing (their answers have no loss)")
    if samples.num_cut:
        parts.append(f"{samples.num_cut:,} samples cut to max_length (the longest had {samples.longest:,})")
    if lost := samples.encoded.counts.num_lost:
        parts.append(f"{lost:,} trained tokens lost by max_length")
    return ", ".join(parts)
