"""Contract checks: the laws that every source, column format, dataset card and reward obeys.

Each raises AssertionError with the law that is broken. Run them over your own components, as this package's tests run
them over its own.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from swift_templates.messages import Conversation, check_conversation

from .column_format import ColumnFormat, Layout, find_format, layouts_by_format
from .dataset_card import DatasetCard
from .errors import BadRow, InvalidArgument, MissingColumn, SwiftDataError
from .reward import Column, Reward
from .source import RawRow, Source, find_source
from .spec import ALL, DatasetSpec, parse_spec

EXAMPLE_ROWS: Final[Sequence[Mapping[str, str]]] = (
    {"query": "What is 2 + 2?", "response": "4"},
    {"query": "Größe?", "response": "日本\u2028語", "solution": "語"},
)
"""What every source's example file holds; U+2028 ends a line for careless readers."""

# Random bytes, a text without structure, and an archive's beginning: files that no source should choke on.
_FOREIGN_CONTENTS = (b"\xff\xfe\x00\x80", b"hello\nworld\n", b"PK\x03\x04" + bytes(100))


def check_source(source: Source, *, folder: Path) -> None:
    """Check a source's laws; `folder` is an empty one for files.

    Its example reads as `EXAMPLE_ROWS`, with rising line numbers, and again the same; an empty file has no rows;
    foreign content gives `BadRow`s or an error of this package; a missing file is an OSError.
    """
    assert source.suffixes, "a source names at least one suffix"
    for suffix in source.suffixes:
        assert suffix.startswith("."), f"suffix {suffix!r} does not begin with '.'"
        assert suffix == suffix.lower(), f"suffix {suffix!r} is not in lower case"
    path = folder / f"example{source.suffixes[0]}"
    path.write_bytes(source.example)
    rows = [row for row in source.read(path) if isinstance(row, RawRow)]
    assert [dict(row.columns) for row in rows] == list(EXAMPLE_ROWS), f"the example reads as {rows!r}"
    assert all(row.origin.path == str(path) for row in rows), "an origin names the file as it was given"
    lines = [row.origin.line for row in rows]
    assert [0, *lines] == sorted({0, *lines}), f"lines {lines} do not rise from 1 on"
    assert list(source.read(path)) == rows, "a second reading differs"
    path.write_bytes(b"")
    assert list(source.read(path)) == [], "an empty file has rows"
    for content in _FOREIGN_CONTENTS:
        path.write_bytes(content)
        try:
            found = list(source.read(path))
        except SwiftDataError:
            continue
        assert all(isinstance(row, BadRow) for row in found), f"{content!r} reads as rows"
    path.unlink()
    try:
        list(source.read(path))
    except OSError:
        return
    raise AssertionError("a missing file is no OSError")


def check_column_format(column_format: ColumnFormat) -> None:
    """Check a column format's laws.

    Its layouts are its own; each has an example; examples are recognised as this format, are not changed, and become
    conversations that end with an answer; without a column of the layout, or with something odd in it, a row is bad.
    """
    layouts = set(column_format.layouts)
    assert layouts, "a format has at least one layout"
    others = {layout.columns for each, layout in layouts_by_format() if type(each) is not type(column_format)}
    shared = others & {layout.columns for layout in layouts}
    assert not shared, f"another format has the same columns: {shared}"
    shown = set()
    for example in column_format.examples:
        found, layout = find_format(example)
        assert type(found) is type(column_format), f"{example!r} is taken for {type(found).__name__}"
        shown.add(layout)
        before = copy.deepcopy(example)
        conversation = Conversation(messages=tuple(column_format.to_messages(example, layout)))
        check_conversation(conversation)
        assert example == before, "converting a row changes it"
        for name in layout.columns:
            _check_not_found({key: value for key, value in example.items() if key != name}, layout)
            for wrong in (7, [7], [{"type": "text", "text": "4"}], {"text": "4"}):
                _check_bad(column_format, {**example, name: wrong}, layout)
    assert shown == layouts, f"no example shows {[str(layout) for layout in layouts - shown]}"


def check_dataset_card(card: DatasetCard) -> None:
    """Check a card's laws: it says what it is, its name can be spelled, and its files are there and readable."""
    said = (card.description, card.language, card.licence)
    assert all(said), f"a card says what it is, in which language, and its licence; not {said}"
    assert parse_spec(card.name) == DatasetSpec(card.name), f"{card.name!r} reads as a spec with parts"
    assert card.files or card.hf_id or card.ms_id, "a card says where the rows are"
    for subset, path in card.files.items():
        spelled = DatasetSpec(card.name, subsets=(subset,))
        assert subset != ALL, f"{ALL!r} stands for all subsets"
        assert parse_spec(str(spelled)) == spelled, f"{subset!r} cannot be spelled as a subset"
        assert path.is_file(), f"the file of {subset!r} is missing: {path}"
        find_source(path)
    assert card.default is None or card.default in card.files, f"the default {card.default!r} has no file"
    if card.files:
        assert card.find_files(DatasetSpec(card.name, subsets=(ALL,))) == list(card.files.values())


def check_reward(reward: Reward) -> None:
    """Check a reward's laws.

    Its examples get the reward that they say, one by one and together, forwards and backwards; further columns do not
    matter; no completions get no rewards; a column that it needs must be there, and of the right length.
    """
    examples = reward.examples
    assert examples, "a reward has at least one example"
    expected = [example.reward for example in examples]
    for example in examples:
        alone = reward([example.completion], **{name: [value] for name, value in example.columns.items()})
        assert _equal(alone, [example.reward]), f"{example!r} gets {alone!r}"
    completions = [example.completion for example in examples]
    names = dict.fromkeys(name for example in examples for name in example.columns)
    columns: dict[str, Column] = {name: [example.columns.get(name) for example in examples] for name in names}
    before = copy.deepcopy((completions, columns))
    assert _equal(reward(completions, **columns), expected), "the examples together get other rewards than one by one"
    backwards = reward(completions[::-1], **{name: column[::-1] for name, column in columns.items()})
    assert _equal(backwards, expected[::-1]), "the order of the completions matters"
    assert _equal(reward(completions, unrelated=completions, **columns), expected), "an unrelated column matters"
    assert (completions, columns) == before, "a reward changes what it is given"
    assert reward([], **{name: [] for name in reward.needs}) == [], "no completions get rewards"
    for name in reward.needs:
        without = {key: value for key, value in columns.items() if key != name}
        _check_refused(reward, completions, without, MissingColumn)
        _check_refused(reward, completions, {**columns, name: columns[name][1:]}, InvalidArgument)


def _check_not_found(raw: Mapping[str, object], layout: Layout) -> None:
    try:
        # Another layout may be left: an Alpaca row without its input is a question and an answer.
        assert find_format(raw)[1] != layout, f"{raw!r} is taken for '{layout}', whose columns it lacks"
    except BadRow:
        return


def _check_bad(column_format: ColumnFormat, raw: Mapping[str, object], layout: Layout) -> None:
    try:
        messages = column_format.to_messages(raw, layout)
    except BadRow:
        return
    raise AssertionError(f"{raw!r} becomes {messages!r}; expected a BadRow")


def _check_refused(
    reward: Reward, completions: Sequence[str], columns: Mapping[str, Column], error: type[SwiftDataError]
) -> None:
    try:
        rewards = reward(completions, **columns)
    except error:
        return
    raise AssertionError(f"columns {dict(columns)!r} give {rewards!r} instead of {error.__name__}")


def _equal(rewards: Sequence[float], expected: Sequence[float]) -> bool:
    return len(rewards) == len(expected) and all(
        isinstance(one, float) and (one == other or (math.isnan(one) and math.isnan(other)))
        for one, other in zip(rewards, expected, strict=True)
    )
