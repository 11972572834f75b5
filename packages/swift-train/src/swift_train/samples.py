"""From rows to what is trained on: samples, the packs they go into, and a count of what happened on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from swift_data.packing import pack
from swift_data.rows import ChatRow
from swift_templates.encoded import Encoded
from swift_templates.template import Template
from tqdm import tqdm

from .algorithm import Algorithm
from .errors import InvalidTrainArgs, NothingToTrain


@dataclass(kw_only=True)
class Samples:
    """Encoded rows, and what became of each.

    Attributes:
        encoded: the samples, in the order of their rows.
        num_rows: rows that went in.
        num_untrained: rows that train nothing, such as those whose answers all have `loss` false.
        num_cut: samples shortened to the maximal length.
        num_left_out: samples left out because they are longer.
        longest: tokens of the longest sample before that.
    """

    encoded: list[Encoded] = field(default_factory=list)
    num_rows: int = 0
    num_untrained: int = 0
    num_cut: int = 0
    num_left_out: int = 0
    longest: int = 0

    @property
    def num_tokens(self) -> int:
        """Tokens of all samples."""
        return sum(map(len, self.encoded))

    @property
    def num_trained(self) -> int:
        """Tokens that carry a weight."""
        return sum(int((each.loss_scale != 0).sum()) for each in self.encoded)


def encode_rows(
    rows: Sequence[ChatRow], template: Template, algorithm: Algorithm[Any], *, name: str, show_progress: bool
) -> Samples:
    """Encode rows and apply the template's rule for long ones.

    Args:
        rows: what the algorithm takes.
        template: tokens and truncation.
        algorithm: turns a row into sequences.
        name: what the rows are called in messages, such as 'training'.
        show_progress: draw a progress bar.

    Raises:
        NothingToTrain: no sample is left, or none has a trained token.
    """
    samples = Samples(num_rows=len(rows))
    for row in tqdm(rows, desc=f"encode {name} rows", unit="row", disable=not show_progress, leave=False):
        sequences = algorithm.encode(row, template)
        samples.num_untrained += not sequences
        for encoded in sequences:
            samples.longest = max(samples.longest, len(encoded))
            kept = template.truncate(encoded)
            if kept is None:
                samples.num_left_out += 1
                continue
            samples.num_cut += len(kept) < len(encoded)
            samples.encoded.append(kept)
    if not samples.encoded and samples.num_left_out:
        raise NothingToTrain(
            f"none of the {len(rows)} {name} rows is left: the longest has {samples.longest} tokens and max_length is "
            f"{template.max_length}; raise --max_length, or choose --truncation_strategy left or right"
        )
    if not samples.num_trained:
        raise NothingToTrain(
            f"no token of the {len(rows)} {name} rows is trained; expected at least one answer with a loss; "
            "look at the rows' 'loss' fields, or choose another --truncation_strategy than right"
        )
    return samples


def plan_packs(samples: Samples, *, packing_length: int | None) -> list[list[int]]:
    """Say which samples share a batch row: each its own, or as many as fit into packing_length.

    Raises:
        InvalidTrainArgs: a sample is longer than packing_length.
    """
    lengths = [len(each) for each in samples.encoded]
    if packing_length is None:
        return [[index] for index in range(len(lengths))]
    if max(lengths) > packing_length:
        raise InvalidTrainArgs(
            f"packing_length is {packing_length} but a sample has {max(lengths)} tokens; "
            "raise --packing_length, or lower --max_length"
        )
    return pack(lengths, packing_length)
