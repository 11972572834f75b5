"""Dataset specs: the spellings that ms-swift's users know, and names of files that look like specs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from swift_data.dataset_card import DatasetCard
from swift_data.errors import InvalidSpec, UnsupportedDataset
from swift_data.spec import DatasetSpec, Hub, parse_spec


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("missing.jsonl", DatasetSpec("missing.jsonl")),
        ("missing.jsonl#500", DatasetSpec("missing.jsonl", count=500)),
        ("harrowgate:heldout", DatasetSpec("harrowgate", subsets=("heldout",))),
        ("harrowgate:train/heldout#7", DatasetSpec("harrowgate", subsets=("train", "heldout"), count=7)),
        ("harrowgate:all", DatasetSpec("harrowgate", subsets=("all",))),
        ("hf::org/name", DatasetSpec("org/name", hub="hf")),
        ("MS::org/name:main/extra#100", DatasetSpec("org/name", hub="ms", subsets=("main", "extra"), count=100)),
        ("hf::squad@v1.0:plain", DatasetSpec("squad", hub="hf", subsets=("plain",), revision="v1.0")),
        ("hf::org/name@v1.0", DatasetSpec("org/name", hub="hf", revision="v1.0")),
        (
            "org/name@refs/convert/parquet:a@test#3",
            DatasetSpec("org/name", None, ("a@test",), 3, "refs/convert/parquet"),
        ),
        ("ms::org/name:main@test", DatasetSpec("org/name", hub="ms", subsets=("main@test",))),
        ("me@home.jsonl", DatasetSpec("me@home.jsonl")),
        (r"C:\data\a.jsonl#5", DatasetSpec(r"C:\data\a.jsonl", count=5)),
        ("D:/data/a.jsonl", DatasetSpec("D:/data/a.jsonl")),
        (r"C:\data\set:main", DatasetSpec(r"C:\data\set", subsets=("main",))),
    ],
)
def test_a_spelling_is_taken_apart(text: str, expected: DatasetSpec) -> None:
    assert parse_spec(text) == expected


@pytest.mark.parametrize(
    "name", ["a#5.jsonl", "a:b.jsonl", "a.jsonl#5", "hf::a.jsonl", "C:a.jsonl", "10:30 #2/a.jsonl"]
)
def test_a_name_of_an_existing_file_is_that_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    assert parse_spec(str(path)) == DatasetSpec(str(path))
    if "#" not in path.name:
        assert parse_spec(f"{path}#12") == DatasetSpec(str(path), count=12)
    assert parse_spec(f"{path}:main#12") == DatasetSpec(str(path), subsets=("main",), count=12)


def test_a_relative_name_with_a_hub_in_it_is_a_file_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hf::a.jsonl").touch()
    assert parse_spec("hf::a.jsonl") == DatasetSpec("hf::a.jsonl")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("#5", "has no name"),
        (":main", "has no name"),
        ("hf::", "has no name"),
        ("a.jsonl#", "asks for '' rows"),
        ("a.jsonl#0", "asks for '0' rows"),
        ("a.jsonl#-3", "asks for '-3' rows"),
        ("a.jsonl#five", "a whole number above 0"),
        ("a.jsonl#1_000", "asks for '1_000' rows"),
        ("a.jsonl#\u0665", "asks for '\u0665' rows"),
        ("github::a", "names the hub 'github'; expected 'hf' or 'ms'"),
        ("a:", "empty subset"),
        ("a:x//y", "empty subset"),
        ("hf::org/name@", "empty revision"),
        ("a:all/x", "say ':all' alone"),
    ],
)
def test_a_wrong_spelling_is_refused(text: str, words: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        parse_spec(text)
    assert words in str(caught.value)


_NAMES = st.text("abcXYZ019-_.", min_size=2, max_size=8)


@settings(derandomize=True, database=None)
@given(
    name=_NAMES.map("no such file ".__add__),
    hub=st.sampled_from([None, "hf", "ms"]),
    subsets=st.lists(_NAMES.filter("all".__ne__), max_size=3),
    count=st.none() | st.integers(1, 10**9),
)
def test_a_spec_reads_as_it_is_written(name: str, hub: Hub | None, subsets: list[str], count: int | None) -> None:
    spec = DatasetSpec(name, hub=hub, subsets=tuple(subsets), count=count)
    assert parse_spec(str(spec)) == spec


def test_a_name_longer_than_file_systems_allow_is_no_file() -> None:
    assert parse_spec("x" * 10_000) == DatasetSpec("x" * 10_000)


@pytest.mark.parametrize("spelled", ["capitals", "capitals:main", "capitals:all#5"])
def test_a_card_that_names_only_a_hub_has_no_files(spelled: str) -> None:
    card = DatasetCard(
        name="capitals",
        description="Questions about the capitals of countries.",
        kind="chat",
        language=("en",),
        licence="CC0-1.0",
        hf_id="your-name/capitals",
    )
    with pytest.raises(UnsupportedDataset, match=r"'capitals' has no files of its own"):
        card.find_files(parse_spec(spelled))
