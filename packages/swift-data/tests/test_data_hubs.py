"""Datasets on hubs: found without a network in the caches that the hubs' own libraries read; clear words otherwise."""

from __future__ import annotations

import importlib
import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from swift_data.args import DataArgs
from swift_data.dataset_card import DatasetCard
from swift_data.dataset_layout import inferred_subsets, match_files
from swift_data.errors import DatasetNotFound, InvalidSpec, UnreadableDataset, UnsupportedDataset
from swift_data.hub_datasets import find_in_folder
from swift_data.lookup import find_dataset
from swift_data.rows import load_rows
from swift_data.spec import DatasetSpec, parse_spec

constants = pytest.importorskip("huggingface_hub.constants")
needs_modelscope = pytest.mark.skipif(importlib.util.find_spec("modelscope") is None, reason="needs modelscope")

README = """---
license: mit
configs:
- config_name: en
  default: true
  data_files:
  - split: train
    path: en/train-*.jsonl
  - split: test
    path:
    - en/test.jsonl
- config_name: zh
  data_files: "zh/*.jsonl"
- config_name: folder
  data_dir: extra
---
# Lamps
"""


def put(path: Path, *answers: str) -> None:
    """Write a JSONL file with these answers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"query": "x", "response": answer}) + "\n" for answer in answers))


def fill(folder: Path) -> Path:
    """Lay out a dataset with declared subsets."""
    put(folder / "en" / "train-00000-of-00002.jsonl", "en0")
    put(folder / "en" / "train-00001-of-00002.jsonl", "en1")
    put(folder / "en" / "test.jsonl", "en-test")
    put(folder / "zh" / "a.jsonl", "zh0", "zh1")
    put(folder / "extra" / "deep" / "b.jsonl", "extra")
    put(folder / "left_over.jsonl", "of no subset")
    (folder / "README.md").write_text(README)
    return folder


COMMIT = "0123456789abcdef0123456789abcdef01234567"


def to_hf(folder: Path, cache: Path) -> None:
    """Lay a folder out as huggingface_hub does, but for its symbolic links into `blobs`."""
    repository = cache / "datasets--owner--lamps.v1"
    shutil.copytree(folder, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)


def to_ms(folder: Path, cache: Path) -> None:
    """Lay a folder out as modelscope does since 1.38."""
    shutil.copytree(folder, cache / "datasets" / "owner--lamps.v1" / "snapshots" / "master")


def to_old_ms(folder: Path, cache: Path) -> None:
    """Lay a folder out as modelscope did before."""
    shutil.copytree(folder, cache / "datasets" / "owner" / "lamps___v1")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for both hubs, whose addresses are a closed port: a call to the network fails at once."""
    closed = "http://127.0.0.1:9"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", closed)
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", closed)
    if importlib.util.find_spec("modelscope_hub") is not None:
        config = importlib.import_module("modelscope_hub.config")
        monkeypatch.setattr(config, "_default_config", config.HubConfig(cache_dir=tmp_path / "cache"))
    return tmp_path / "cache"


def answers_of(spec: str, *, use_hf: bool = False) -> list[str]:
    """Return the answers of a dataset's rows."""
    return [row.conversation.messages[-1].content for row in load_rows([spec], DataArgs(), use_hf=use_hf).rows]


HUBS = [
    pytest.param(to_hf, "hf", id="hf"),
    pytest.param(to_ms, "ms", id="ms", marks=needs_modelscope),
    pytest.param(to_old_ms, "ms", id="ms before 1.38", marks=needs_modelscope),
]


@pytest.mark.parametrize(("lay_out", "hub"), HUBS)
@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ("", ["en0", "en1"]),
        (":en", ["en0", "en1"]),
        (":en@test", ["en-test"]),
        (":test", ["en-test"]),
        (":zh", ["zh0", "zh1"]),
        (":folder/zh", ["extra", "zh0", "zh1"]),
        (":all", ["en0", "en1", "zh0", "zh1", "extra"]),
        (":zh#3", ["zh0", "zh1", "zh1"]),
    ],
)
def test_subsets_and_splits_are_found_in_the_cache(
    lay_out: Callable[[Path, Path], None], hub: str, parts: str, expected: list[str], cache: Path, tmp_path: Path
) -> None:
    lay_out(fill(tmp_path / "made"), cache)
    found = answers_of(f"{hub}::owner/lamps.v1{parts}")
    assert found[:2] == expected[:2] and len(found) == len(expected)
    # An id without a hub is one of the hub that use_hf says.
    assert answers_of(f"owner/lamps.v1{parts}", use_hf=hub == "hf") == found


@pytest.mark.parametrize("offline", [False, True])
def test_hugging_faces_cache_serves_with_and_without_the_offline_switch(
    offline: bool, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    to_hf(fill(tmp_path / "made"), cache)
    for revision in ("", "@main", f"@{COMMIT}"):
        assert answers_of(f"hf::owner/lamps.v1{revision}:test") == ["en-test"]
    with pytest.raises(DatasetNotFound) as caught:
        answers_of("hf::owner/lamps.v1@v2:test")
    assert "at revision 'v2'" in str(caught.value)
    assert ("HF_HUB_OFFLINE forbids" if offline else "cannot be reached") in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("hf::owner/none", "'owner/none' is no file, no folder, no known name and not whole in the local cache"),
        pytest.param("ms::owner/none", "127.0.0.1:9 cannot be reached", marks=needs_modelscope),
        pytest.param("owner/none#5", "check the spelling or the network", marks=needs_modelscope),
        ("hf::owner/none/more", "is no id of Hugging Face"),
    ],
)
def test_what_is_not_in_the_cache_and_cannot_be_fetched_is_an_error(spec: str, words: str, cache: Path) -> None:
    with pytest.raises(DatasetNotFound) as caught:
        answers_of(spec)
    assert words in str(caught.value)


@pytest.mark.parametrize(("lay_out", "hub"), HUBS)
def test_a_cache_that_lacks_a_file_is_not_enough(
    lay_out: Callable[[Path, Path], None], hub: str, cache: Path, tmp_path: Path
) -> None:
    made = fill(tmp_path / "made")
    (made / "en" / "train-00001-of-00002.jsonl").unlink()
    (made / "zh" / "a.jsonl").unlink()
    lay_out(made, cache)
    for part in ("en", "zh", "all"):
        with pytest.raises(DatasetNotFound, match="not whole in the local cache"):
            answers_of(f"{hub}::owner/lamps.v1:{part}")
    assert answers_of(f"{hub}::owner/lamps.v1:test") == ["en-test"]
    with pytest.raises(UnreadableDataset, match="lacks 1 of the 2 files en/train-"):
        find_in_folder(made, DatasetSpec("owner/lamps.v1"))


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("eng", "has no subset 'eng'; did you mean 'en'?"),
        ("en@trian", "did you mean 'en@train'?"),
        ("xyzzy", "known are: all, en, folder, test, train, zh"),
    ],
)
def test_an_unknown_subset_has_the_nearest_names(part: str, words: str, cache: Path, tmp_path: Path) -> None:
    to_hf(fill(tmp_path / "made"), cache)
    with pytest.raises(InvalidSpec) as caught:
        answers_of(f"hf::owner/lamps.v1:{part}")
    assert words in str(caught.value)


def test_a_dataset_that_needs_its_own_script_is_refused(cache: Path, tmp_path: Path) -> None:
    put(tmp_path / "made" / "rows.jsonl", "y")
    (tmp_path / "made" / "lamps.v1.py").write_text("raise SystemExit('it was run')")
    to_hf(tmp_path / "made", cache)
    with pytest.raises(UnsupportedDataset) as caught:
        answers_of("hf::owner/lamps.v1")
    assert "lamps.v1.py, which is not run" in str(caught.value)
    assert "hf::owner/lamps.v1@refs/convert/parquet" in str(caught.value)


def test_files_that_lie_elsewhere_are_not_followed(tmp_path: Path) -> None:
    for path in ("https://host/a.jsonl", "/etc/a.jsonl", "../a.jsonl"):
        (tmp_path / "README.md").write_text(f"---\nconfigs:\n- config_name: x\n  data_files: {path}\n---\n")
        with pytest.raises(UnsupportedDataset, match="has files elsewhere"):
            find_in_folder(tmp_path, DatasetSpec("owner/name"))


@pytest.mark.parametrize("head", ["configs: [", "configs: 7", "configs: !!python/object/apply:os.getcwd []"])
def test_a_head_that_is_no_yaml_or_says_nothing_is_no_harm(head: str, tmp_path: Path) -> None:
    put(tmp_path / "a.jsonl", "y")
    (tmp_path / "README.md").write_text(f"---\n{head}\n---\n")
    if head == "configs: 7":
        assert find_in_folder(tmp_path, DatasetSpec("owner/name")) == [tmp_path / "a.jsonl"]
    else:
        with pytest.raises(UnsupportedDataset, match="the head of"):
            find_in_folder(tmp_path, DatasetSpec("owner/name"))


def test_a_clone_of_a_dataset_is_a_folder_with_subsets(tmp_path: Path) -> None:
    folder = fill(tmp_path / "made")
    assert answers_of(str(folder)) == ["en0", "en1"]
    assert answers_of(f"{folder}:zh") == ["zh0", "zh1"]


def test_the_names_of_files_say_what_their_split_is() -> None:
    files = ["data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet", "dev.jsonl", "latest.jsonl"]
    (subset,) = inferred_subsets(files)
    assert subset.splits == {"train": files[:1], "test": files[1:2], "validation": files[2:3]}
    (subset,) = inferred_subsets(["a.jsonl", "contest.jsonl"])
    assert subset.splits == {"train": ["a.jsonl", "contest.jsonl"]}


def test_the_hubs_own_parquet_copies_have_a_folder_for_each_subset(tmp_path: Path) -> None:
    names = ["main/train/0000.parquet", "main/train/0001.parquet", "main/test/0000.parquet", "other/train/0000.parquet"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find_in_folder(tmp_path, parse_spec("hf::o/n:main")) == [tmp_path / name for name in names[:2]]
    assert find_in_folder(tmp_path, parse_spec("hf::o/n:main@test")) == [tmp_path / names[2]]
    with pytest.raises(InvalidSpec, match="needs a subset, such as 'o/n:main'"):
        find_in_folder(tmp_path, parse_spec("hf::o/n"))


def test_folders_and_files_can_be_asked_for_where_nothing_is_declared(tmp_path: Path) -> None:
    for name in ("exam/a.jsonl", "exam/b.jsonl", "wiki.jsonl"):
        put(tmp_path / name, "y")
    assert find_in_folder(tmp_path, parse_spec("ms::o/n:wiki/exam")) == [
        tmp_path / name for name in ("wiki.jsonl", "exam/a.jsonl", "exam/b.jsonl")
    ]
    assert len(find_in_folder(tmp_path, parse_spec("ms::o/n"))) == 3


@pytest.mark.parametrize(
    ("pattern", "matching"),
    [
        ("**", "a.jsonl b/c.jsonl b/d/e.jsonl"),
        ("*.jsonl", "a.jsonl"),
        ("**/*.jsonl", "a.jsonl b/c.jsonl b/d/e.jsonl"),
        ("b", "b/c.jsonl b/d/e.jsonl"),
        ("b/*", "b/c.jsonl b/d/e.jsonl"),
        ("?.jsonl", "a.jsonl"),
        ("[a-b].jsonl", "a.jsonl"),
        ("b/[!d].jsonl", "b/c.jsonl"),
        ("a", ""),
    ],
)
def test_patterns_mean_what_they_mean_on_hubs(pattern: str, matching: str) -> None:
    assert match_files(["b/d/e.jsonl", "a.jsonl", "b/c.jsonl"], [pattern]) == matching.split()


def test_a_known_dataset_is_taken_from_the_hub_that_is_chosen(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "made"
    for split in ("train", "train_sft"):
        (made / "main").mkdir(parents=True, exist_ok=True)
        (made / "main" / f"{split}.jsonl").write_text(json.dumps({"ask": "x", "reply": split}))
    configs = [
        {"config_name": name, "data_files": [{"split": split, "path": f"main/{split}.jsonl"} for split in splits]}
        for name, splits in {"main": ["train", "train_sft"], "other": ["train"]}.items()
    ]
    (made / "README.md").write_text(f"---\nconfigs: {json.dumps(configs)}\n---\n")
    to_hf(made, cache)
    card = DatasetCard(
        name="lamps",
        description="Lamps.",
        kind="chat",
        language=("en",),
        licence="MIT",
        hf_id="owner/lamps.v1",
        ms_id="owner/elsewhere",
        hub_subset="main",
        split="train_sft",
        columns={"ask": "query", "reply": "response"},
    )
    monkeypatch.setattr("swift_data.lookup.load_card", lambda name: card)
    assert answers_of("lamps", use_hf=True) == ["train_sft"]
    assert answers_of("lamps:other", use_hf=True) == ["train"]
    found = find_dataset(parse_spec("lamps#3"), use_hf=True)
    assert found.card is card and [path.name for path in found.files] == ["train_sft.jsonl"]
    with pytest.raises(DatasetNotFound, match="'owner/elsewhere'"):
        answers_of("lamps")
