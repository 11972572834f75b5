"""The contract checks find components that break their laws."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from swift_data.column_format import ColumnFormat, Layout
from swift_data.columns.alpaca import Alpaca
from swift_data.columns.messages import Messages
from swift_data.dataset_card import load_card
from swift_data.errors import BadRow
from swift_data.reward import Column, Reward
from swift_data.rewards.contains import Contains
from swift_data.source import RawRow
from swift_data.sources.jsonl import JsonLines
from swift_data.testing import check_column_format, check_dataset_card, check_reward, check_source
from swift_templates.messages import Message


class LosesRows(JsonLines):
    """Loses a file's last row."""

    def read(self, path: Path) -> Iterator[RawRow | BadRow]:
        """Drop the last row."""
        yield from list(super().read(path))[:-1]


class FirstDecides(Contains):
    """Scores all completions as the first."""

    def score(self, completions: Sequence[str], columns: Mapping[str, Column]) -> list[float]:
        """Repeat the first reward."""
        return super().score(completions, columns)[:1] * len(completions)


class NeedsNothing(Reward):
    """Does not say which column it needs."""

    examples = Contains.examples

    def score(self, completions: Sequence[str], columns: Mapping[str, Column]) -> list[float]:
        """Read a column that may not be there."""
        return Contains().score(completions, columns)


class ClaimsMessages(ColumnFormat):
    """Has another format's column."""

    layouts = (Layout(("messages",)),)
    examples = Messages.examples

    def to_messages(self, columns: Mapping[str, object], layout: Layout) -> list[Message]:
        """Do as the other format does."""
        return Messages().to_messages(columns, layout)


class Silent(ColumnFormat):
    """Has no example for its layout."""

    layouts = (Layout(("ask",), "reply"),)
    examples = ()

    def to_messages(self, columns: Mapping[str, object], layout: Layout) -> list[Message]:
        """Never get here."""
        raise NotImplementedError


class AcceptsAnything(Alpaca):
    """Turns whatever it finds into text."""

    def to_messages(self, columns: Mapping[str, object], layout: Layout) -> list[Message]:
        """Convert without a look."""
        return [Message(role="user", content=str(columns)), Message(role="assistant", content=str(layout))]


def test_check_source_finds_lost_rows(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="the example reads as"):
        check_source(LosesRows(), folder=tmp_path)


@pytest.mark.parametrize("reward", [FirstDecides(), NeedsNothing()], ids=lambda each: type(each).__name__)
def test_check_reward_finds_broken_laws(reward: Reward) -> None:
    with pytest.raises((AssertionError, KeyError)):
        check_reward(reward)


@pytest.mark.parametrize("wrong", [ClaimsMessages(), Silent(), AcceptsAnything()], ids=lambda each: type(each).__name__)
def test_check_column_format_finds_broken_laws(wrong: ColumnFormat) -> None:
    with pytest.raises(AssertionError):
        check_column_format(wrong)


def test_check_dataset_card_finds_missing_files(tmp_path: Path) -> None:
    card = load_card("harrowgate")
    with pytest.raises(AssertionError, match="is missing"):
        check_dataset_card(dataclasses.replace(card, files={"train": tmp_path / "train.jsonl"}))
    with pytest.raises(AssertionError, match="default"):
        check_dataset_card(dataclasses.replace(card, default="test"))
