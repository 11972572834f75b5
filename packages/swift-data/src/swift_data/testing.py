"""Contract checks: the laws that every source, column format, dataset card and reward obeys.

Each raises AssertionError with the law that is broken. Run them over your own components, as this package's tests run
them over its own.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path

from .chat_row import to_row
from .column_format import ColumnFormat, Layout, find_format, layouts_by_format
from .dataset_card import DatasetCard
from .errors import BadRow, SwiftDataError
from .reward_check import check_reward as check_reward
from .source import EXAMPLE_ROWS as EXAMPLE_ROWS
from .source import Origin, RawRow, Source, find_source
from .spec import ALL, DatasetSpec, parse_spec

# Random bytes, a text without structure, and an archive's beginning: files that no source should choke on.
_TEXT = b"hello\nworld\n"
_FOREIGN_CONTENTS = (b"\xff\xfe\x00\x80", _TEXT, b"PK\x03\x04" + bytes(100))


def check_source(source: Source, *, folder: Path) -> None:
    """Check a source's laws; `folder` is an empty one for files.

    Its example reads as `example_rows`, with rising line numbers, and again the same; by number and from each mark the
    rows are the same as read through; an empty file has no rows; foreign content gives `BadRow`s or an error of this
    package, but for text where a source says that any is rows; a missing file is an OSError.
    """
    assert source.suffixes, "a source names at least one suffix"
    for suffix in source.suffixes:
        assert suffix.startswith("."), f"suffix {suffix!r} does not begin with '.'"
        assert suffix == suffix.lower(), f"suffix {suffix!r} is not in lower case"
    path = folder / f"example{source.suffixes[0]}"
    path.write_bytes(source.example)
    rows = [row for row in source.read(path) if isinstance(row, RawRow)]
    columns = [{name: value for name, value in row.columns.items() if value is not None} for row in rows]
    assert columns == list(source.example_rows), f"the example reads as {rows!r}"
    assert all(row.origin.path == str(path) for row in rows), "an origin names the file as it was given"
    lines = [row.origin.line for row in rows]
    assert [0, *lines] == sorted({0, *lines}), f"lines {lines} do not rise from 1 on"
    assert list(source.read(path)) == rows, "a second reading differs"
    _check_places(source, path, rows)
    path.write_bytes(b"")
    assert list(source.read(path)) == [], "an empty file has rows"
    for content in _FOREIGN_CONTENTS:
        if content == _TEXT and source.reads_any_text:
            continue
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


def _check_places(source: Source, path: Path, rows: Sequence[RawRow]) -> None:
    table = source.open_rows(path)
    assert [next(table.read(index, index + 1)) for index in range(len(table))] == rows, "rows by number differ"
    marks = [found.mark for found in source.scan(path)]
    for index, mark in enumerate(marks):
        assert [found.get() for found in source.scan(path, mark)] == rows[index:], f"rows from {mark} on differ"
    fetched = [(found.mark, found.get()) for found in source.fetch(path, marks[1:])]
    assert fetched == list(zip(marks[1:], rows[1:], strict=True)), "rows at their marks differ"


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
        to_row(example, origin=Origin("example", 1))
        assert example == before, "converting a row changes it"
        for name in layout.columns:
            _check_not_found({key: value for key, value in example.items() if key != name}, layout)
            for wrong in (7, [7], [{"type": "text", "text": "4"}], {"text": "4"}):
                _check_bad(column_format, {**example, name: wrong}, layout)
    assert shown == layouts, f"no example shows {[str(layout) for layout in layouts - shown]}"


def check_dataset_card(card: DatasetCard) -> None:
    """Check a card's laws: it says what it is, its name can be spelled, its examples are rows, its files are there."""
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
    for raw in card.examples:
        to_row(card.convert(raw), origin=Origin("example", 1), answers="optional")
    if card.files:
        assert card.find_files(DatasetSpec(card.name, subsets=(ALL,))) == list(card.files.values())


def _check_not_found(raw: Mapping[str, object], layout: Layout) -> None:
    try:
        # Another layout may be left: an Alpaca row without its input is a question and an answer.
        assert find_format(raw)[1] != layout, f"{raw!r} is taken for '{layout}', whose columns it lacks"
    except BadRow:
        return


def _check_bad(column_format: ColumnFormat, raw: Mapping[str, object], layout: Layout) -> None:
    try:
        messages = [*column_format.to_messages(raw, layout), *column_format.to_rejected(raw, layout)]
    except BadRow:
        return
    raise AssertionError(f"{raw!r} becomes {messages!r}; expected a BadRow")
