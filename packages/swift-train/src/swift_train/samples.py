"""From rows to what is trained on: samples, the packs they go into, and a count of what happened on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from swift_data.packing import pack
from swift_data.rows import ChatRow
from swift_templates.encoded import Encoded
from swift_templates.errors import SwiftTemplatesError
from swift_templates.template import Template
from tqdm import tqdm

from .algorithm import Algorithm
from .errors import InvalidTrainArgs, NothingToTrain, RefusedRow

CHUNK_ROWS = 256
"""Rows that are encoded at once: the tokenizer takes many texts in less time than one by one."""


@dataclass(kw_only=True)
class Samples:
    """Encoded rows, and what became of each.

    Attributes:
        encoded: the samples, in the order of their rows.
        num_rows: rows that went in.
        num_untrained: rows that train nothing, such as those whose answers all have `loss` false.
        num_refused: rows that the template refuses, left out.
        num_cut: samples shortened to the maximal length.
        num_left_out: samples left out because they are longer.
        longest: tokens of the longest sample before that.
    """

    encoded: list[Encoded] = field(default_factory=list)
    num_rows: int = 0
    num_untrained: int = 0
    num_refused: int = 0
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
    rows: Sequence[ChatRow],
    template: Template,
    algorithm: Algorithm[Any],
    *,
    name: str,
    show_progress: bool,
    on_bad_row: Literal["raise", "skip"] = "raise",
) -> Samples:
    """Encode rows and apply the template's rule for long ones.

    Args:
        rows: what the algorithm takes.
        template: tokens and truncation.
        algorithm: turns a row into sequences.
        name: what the rows are called in messages, such as 'training'.
        show_progress: draw a progress bar.
        on_bad_row: whether a row that the template refuses is an error, or is left out and counted.

    Raises:
        RefusedRow: the template refuses a row; the message names it and counts its fellows.
        NothingToTrain: no sample is left, or none has a trained token.
    """
    samples = Samples(num_rows=len(rows))
    refused: list[tuple[ChatRow, SwiftTemplatesError]] = []
    with tqdm(total=len(rows), desc=f"encode {name} rows", unit="row", disable=not show_progress, leave=False) as bar:
        for start in range(0, len(rows), CHUNK_ROWS):
            chunk = rows[start : start + CHUNK_ROWS]
            for row, result in zip(chunk, algorithm.encode_many(chunk, template), strict=True):
                if isinstance(result, SwiftTemplatesError):
                    refused.append((row, result))
                else:
                    _add_row(samples, result, template)
            bar.update(len(chunk))
    if refused and on_bad_row == "raise":
        row, first = refused[0]
        others = f"{len(refused) - 1} more rows are refused" if len(refused) > 1 else "no other row is refused"
        raise RefusedRow(
            f"{row.origin}: {first}; {others}; correct the rows, or set on_bad_row to 'skip' to leave such out"
        ) from first
    samples.num_refused = len(refused)
    if not samples.encoded and samples.num_left_out:
        raise NothingToTrain(
            f"none of the {len(rows)} {name} rows is left: the longest has {samples.longest} tokens and max_length is "
            f"{template.max_length}; raise --max_length, or cut them with --truncation_strategy"
        )
    if not samples.num_trained:
        raise NothingToTrain(
            f"no token of the {len(rows)} {name} rows is trained; expected at least one answer with a loss; "
            "look at the rows' 'loss' fields, or choose another --truncation_strategy than right"
        )
    return samples


def _add_row(samples: Samples, sequences: list[Encoded], template: Template) -> None:
    samples.num_untrained += not sequences
    for encoded in sequences:
        samples.longest = max(samples.longest, len(encoded))
        kept = template.truncate(encoded)
        samples.num_left_out += not kept
        samples.num_cut += sum(map(len, kept)) < len(encoded) if kept else 0
        samples.encoded += kept


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
