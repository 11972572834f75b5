"""From rows to what is trained on: samples, the packs they go into, and a count of what happened on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
from swift_data.encoded_rows import EncodedRows
from swift_data.encoding import encode_dataset
from swift_data.encoding_cache import (
    fingerprint_package,
    fingerprint_rows,
    fingerprint_template,
    make_cache_key,
    sees_media,
)
from swift_data.packing import pack
from swift_data.row_outcomes import Outcome, fit_samples
from swift_data.rows import ChatRow
from swift_templates.args import PromptArgs
from swift_templates.errors import SwiftTemplatesError
from swift_templates.load import load_template
from swift_templates.media.policy import MediaPolicy
from swift_templates.template import Template
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from .algorithm import ALGORITHMS, Algorithm
from .errors import InvalidTrainArgs, NothingToTrain, RefusedRow

# How many rows that the template refuses are told with their places.
_SHOWN_REFUSALS: Final = 3
_NOTES: Final = (
    "label false, and their answers are trained on like all others; leave such rows out unless that is meant",
    "a rejected answer, which is not used; the better answer is trained on",
)


@dataclass(frozen=True)
class Samples:
    """Encoded rows, and what became of each."""

    encoded: EncodedRows
    """The samples, in the order of their rows."""
    refusals: tuple[str, ...] = ()
    """Where the first rows are that the template refuses, and why."""

    @property
    def num_rows(self) -> int:
        """Rows that went in."""
        return self.encoded.counts.num_rows

    @property
    def num_untrained(self) -> int:
        """Rows that train nothing, such as those whose answers all have `loss` false."""
        return self.encoded.counts.num_untrained

    @property
    def num_refused(self) -> int:
        """Rows that the template refuses, left out."""
        return sum(self.encoded.counts.errors.values())

    @property
    def num_cut(self) -> int:
        """Samples shortened to the maximal length, or split."""
        return self.encoded.counts.num_cut

    @property
    def num_left_out(self) -> int:
        """Samples left out because they are longer."""
        return self.encoded.counts.num_left_out

    @property
    def longest(self) -> int:
        """Tokens of the longest sample before that."""
        return self.encoded.counts.longest

    @property
    def largest_id(self) -> int:
        """The largest token id."""
        return self.encoded.counts.largest_id

    @property
    def have_media(self) -> bool:
        """Whether there are pictures, videos or sounds among them."""
        return bool(self.encoded.has_media.any())

    @property
    def num_tokens(self) -> int:
        """Tokens of all samples."""
        return self.encoded.num_tokens

    @property
    def num_trained(self) -> int:
        """Tokens that carry a weight."""
        return self.encoded.counts.num_trained


@dataclass(frozen=True, kw_only=True)
class RunData:
    """All that a run reads."""

    training: Samples
    validation: Samples | None
    training_rows: Sequence[ChatRow]
    """What the training samples were made of."""
    skipped_rows: Mapping[str, int]
    """How many bad rows were left out while loading, by reason."""

    @property
    def have_media(self) -> bool:
        """Whether there are pictures, videos or sounds among the samples."""
        return self.training.have_media or (self.validation is not None and self.validation.have_media)

    def name_sample(self, index: int) -> str:
        """Say which file and line a training sample is from."""
        return str(self.training_rows[int(self.training.encoded.row_indices[index])].origin)

    @property
    def longest(self) -> int:
        """Tokens of the longest sample."""
        every = [each for each in (self.training, self.validation) if each is not None]
        return max(int(each.encoded.lengths.max()) for each in every)


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """What turns rows into samples, in this process or another.

    Attributes:
        template: tokens and truncation.
        algorithm: turns a row into sequences; its registered name.
        build: makes the same template in another process: a function of a module, with plain arguments.
    """

    template: Template
    algorithm: str
    build: Callable[[], Template]

    def __call__(self, rows: Sequence[Any]) -> list[Outcome]:
        """Encode some rows: an outcome for each."""
        results = self._algorithm.encode_many(rows, self.template)
        return [_fit(result, self.template, _note(row)) for row, result in zip(rows, results, strict=True)]

    @cached_property
    def _algorithm(self) -> Algorithm[Any]:
        return ALGORITHMS.load_class(self.algorithm)()

    def key(self, rows: Sequence[ChatRow]) -> str:
        """Name what comes out: a change of rows, template, tokenizer or code changes it."""
        code = fingerprint_package("swift_train.algorithms")
        # A template without a processor refuses media, whatever they are.
        known = fingerprint_rows(rows, sees_media=sees_media(self.template))
        return make_cache_key(known, fingerprint_template(self.template), self.algorithm, code, _NOTES)


def build_template(
    folder: Path, args: PromptArgs, new_special_tokens: Sequence[str], model_length: int | None
) -> Template:
    """Return the template of a model folder, with the processor of media that it holds."""
    # The rows are the user's own, and so are the files that they name.
    policy = MediaPolicy.trusted(["/"], allow_remote=True)
    return load_template(
        folder, args, new_special_tokens=new_special_tokens, model_length=model_length, media_policy=policy
    )


def encode_rows(
    rows: Sequence[ChatRow],
    encoder: Encoder,
    *,
    name: str,
    show_progress: bool,
    on_bad_row: Literal["raise", "skip"] = "raise",
    cache_dir: Path | None = None,
    num_proc: int = 1,
    retry: bool = True,
) -> Samples:
    """Encode rows and apply the template's rule for long ones, or find that done.

    Args:
        rows: what the algorithm takes.
        encoder: turns them into samples.
        name: what the rows are called in messages, such as 'training'.
        show_progress: draw a progress bar.
        on_bad_row: whether a row that the template refuses is an error, or is left out and counted.
        cache_dir: where encoded rows are kept for the next run; None keeps nothing.
        num_proc: processes that encode.
        retry: see `encode_dataset`.

    Raises:
        RefusedRow: the template refuses a row; the message names it and counts its fellows.
        NothingToTrain: no sample is left, or none has a trained token.
    """
    with (
        tqdm(total=len(rows), desc=f"encode {name} rows", unit="row", disable=not show_progress, leave=False) as bar,
        logging_redirect_tqdm(),
    ):
        encoded = encode_dataset(
            rows,
            encoder,
            key=encoder.key(rows) if cache_dir is not None else "",
            cache_dir=cache_dir,
            num_proc=num_proc,
            build_encode=partial(_build_encoder, encoder.build, encoder.algorithm),
            retry=retry,
            on_progress=lambda done: _advance(bar, done),
        )
    first = encoded.failures[:_SHOWN_REFUSALS]
    samples = Samples(encoded, tuple(f"{rows[each.row].origin}: {each.message}" for each in first))
    if samples.num_refused and on_bad_row == "raise":
        num_others = samples.num_refused - 1
        others = f"{num_others} more rows are refused" if num_others else "no other row is refused"
        raise RefusedRow(
            f"{samples.refusals[0]}; {others}; correct the rows, or set on_bad_row to 'skip' to leave such out"
        )
    _check_something_is_left(samples, encoder.template, name)
    return samples


def plan_packs(samples: Samples, *, packing_length: int | None) -> list[list[int]]:
    """Say which samples share a batch row: each its own, or as many as fit into packing_length.

    Branches of one dialogue share a batch row where they fit; samples with media have one of their own.

    Raises:
        InvalidTrainArgs: a sample is longer than packing_length.
    """
    lengths: npt.NDArray[np.integer] = samples.encoded.lengths
    if packing_length is None:
        return [[index] for index in range(len(lengths))]
    if (longest := int(lengths.max())) > packing_length:
        raise InvalidTrainArgs(
            f"packing_length is {packing_length} but a sample has {longest} tokens; "
            "raise --packing_length, or lower --max_length"
        )
    return pack(lengths, packing_length, groups=samples.encoded.row_indices, alone=samples.encoded.has_media)


def _build_encoder(build: Callable[[], Template], algorithm: str) -> Encoder:
    return Encoder(template=build(), algorithm=algorithm, build=build)


def _note(row: object) -> tuple[str, ...]:
    """Return what a row says that training on conversations does not look at."""
    if not isinstance(row, ChatRow):
        return ()
    facts = (row.label is False, bool(row.rejected))
    return tuple(note for note, is_so in zip(_NOTES, facts, strict=True) if is_so)


def _fit(result: Outcome, template: Template, notes: tuple[str, ...]) -> Outcome:
    if isinstance(result, Exception):
        return result
    try:
        fitted = fit_samples(list(result), template.truncate)  # type: ignore[arg-type]  # samples of the algorithm
        return replace(fitted, notes=notes) if notes else fitted
    except SwiftTemplatesError as error:
        return error


def _advance(bar: tqdm[Any], done: int) -> None:
    bar.update(done - bar.n)


def _check_something_is_left(samples: Samples, template: Template, name: str) -> None:
    if not len(samples.encoded) and samples.num_left_out:
        raise NothingToTrain(
            f"none of the {samples.num_rows} {name} rows is left: the longest has {samples.longest} tokens and "
            f"max_length is {template.max_length}; raise --max_length, or cut them with --truncation_strategy"
        )
    if not samples.num_trained:
        raise NothingToTrain(
            f"no token of the {samples.num_rows} {name} rows is trained; expected at least one answer with a loss; "
            "look at the rows' 'loss' fields, or choose another --truncation_strategy than right"
        )
