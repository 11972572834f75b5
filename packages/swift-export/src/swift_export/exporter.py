"""What every export is: a trained model in, a folder out, and the measured proof that both answer alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from swift_templates.registry import Registry

if TYPE_CHECKING:
    from swift_templates.template import Template
    from swift_tuners.args import ModelArgs
    from swift_tuners.checkpoint import SwiftConfig
    from swift_tuners.models.resolve import ResolvedModel


@dataclass(frozen=True, kw_only=True)
class ExportSource:
    """What is exported: a base model and adapters on it, in order of attachment; the record is the first adapter's."""

    model: ModelArgs
    adapters: list[Path]
    template: Template
    record: SwiftConfig
    resolved: ResolvedModel | None = None


@dataclass(frozen=True, kw_only=True)
class ParityReport:
    """How an exported model compares to the trained one, on the same prompts.

    Attributes:
        num_prompts: prompts that both models saw.
        num_tokens: positions compared.
        same_choice: share of positions where both find the same token likeliest.
        max_difference: largest difference of a log-probability, in nats, over all tokens and positions.
        mean_divergence: mean Kullback-Leibler divergence from the trained to the exported model, in nats.
    """

    num_prompts: int
    num_tokens: int
    same_choice: float
    max_difference: float
    mean_divergence: float

    def __str__(self) -> str:
        return (
            f"{self.same_choice:.2%} of {self.num_tokens} tokens on {self.num_prompts} prompts are chosen alike; "
            f"log-probabilities differ by at most {self.max_difference:.3g} nats, "
            f"mean divergence {self.mean_divergence:.3g} nats"
        )


class Exporter(ABC):
    """One kind of export; a component file in `exporters/` defines one subclass."""

    @abstractmethod
    def export(self, source: ExportSource, folder: Path) -> ParityReport:
        """Write the exported model into a new folder and compare it with its source.

        Raises:
            ParityLost: the exported model answers otherwise; the folder is left for inspection.
        """


EXPORTERS: Registry[Exporter] = Registry(kind="exporter", package="swift_export.exporters", base=Exporter)
