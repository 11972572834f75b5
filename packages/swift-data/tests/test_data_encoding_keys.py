"""Keys of encodings: whatever decides about the samples changes them, and nothing else does."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from swift_data.args import DataArgs
from swift_data.chat_row import ChatRow
from swift_data.encoding_cache import (
    default_cache_dir,
    fingerprint_package,
    fingerprint_rows,
    fingerprint_template,
    make_cache_key,
)
from swift_data.row_sequence import Rows
from swift_data.rows import load_rows
from swift_data.source import Origin
from swift_templates.args import TemplateArgs
from swift_templates.media.policy import MediaPolicy
from swift_templates.media.processor import DecodedMedia, MediaProcessor, SeenMedia
from swift_templates.messages import Conversation, Media, Message, ToolCall
from swift_templates.template import Template
from swift_templates.testing import write_tiny_folder

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def chat_row(question: str = "2 + 2?", **changes: object) -> ChatRow:
    """Return a row with some fields changed."""
    messages = (Message(role="user", content=question), Message(role="assistant", content="4"))
    row = ChatRow(conversation=Conversation(messages=messages), origin=Origin("a.jsonl", 1))
    return dataclasses.replace(row, **changes)  # type: ignore[arg-type]  # the tests below know the fields


def with_messages(*messages: Message, **changes: object) -> ChatRow:
    return chat_row(conversation=Conversation(messages=messages, **changes))  # type: ignore[arg-type]  # as above


def answer(**changes: object) -> ChatRow:
    said = Message(role="assistant", content="4", **changes)  # type: ignore[arg-type]  # as above
    return with_messages(Message(role="user", content="2 + 2?"), said)


def picture(source: object, at: int = 0) -> ChatRow:
    asked = Message(role="user", content="What?", media=(Media(kind="image", source=source, at=at),))
    return with_messages(asked, Message(role="assistant", content="4"))


ROWS = {
    "as it is": chat_row(),
    "question": chat_row("2 + 3?"),
    "role": with_messages(Message(role="system", content="2 + 2?"), Message(role="assistant", content="4")),
    "tools": with_messages(*chat_row().conversation.messages, tools=({"name": "f", "x": 1},)),
    "tools in another order": with_messages(*chat_row().conversation.messages, tools=({"x": 1, "name": "f"},)),
    "reasoning": answer(reasoning_content="hm"),
    "loss": answer(loss=True),
    "no loss": answer(loss=False),
    "loss_scale": answer(loss_scale=0.5),
    "call": answer(tool_calls=(ToolCall("f", {"a": 1}),)),
    "call with an id": answer(tool_calls=(ToolCall("f", {"a": 1}, "0"),)),
    "rejected": chat_row(rejected=(Message(role="assistant", content="5"),)),
    "label": chat_row(label=True),
    "solution": chat_row(solution="4"),
    "channel": chat_row(channel="4"),
    "objects": chat_row(objects={"ref": ["a"], "bbox": [[1, 2, 3, 4]]}),
    "extras": chat_row(extras={"level": 3}),
    "address": picture("https://example.org/a.png"),
    "another address": picture("https://example.org/b.png"),
    "another place": picture("https://example.org/a.png", at=2),
    "bytes": picture(b"a"),
    "other bytes": picture(b"b"),
    "array": picture(np.zeros((2, 2, 3), np.uint8)),
    "other array": picture(np.ones((2, 2, 3), np.uint8)),
    "array of another shape": picture(np.zeros((4, 1, 3), np.uint8)),
}


def test_whatever_a_row_says_changes_its_fingerprint() -> None:
    found = {name: fingerprint_rows([row]) for name, row in ROWS.items()}
    assert len(set(found.values())) == len(found), found
    assert fingerprint_rows(iter(ROWS.values())) == fingerprint_rows(list(ROWS.values()))
    assert fingerprint_rows([chat_row(), chat_row("a")]) != fingerprint_rows([chat_row("a"), chat_row()])
    assert fingerprint_rows([chat_row()] * 2) != fingerprint_rows([chat_row()])
    # Where it came from is not what it says.
    assert fingerprint_rows([chat_row(origin=Origin("b.jsonl", 7))]) == found["as it is"]


def test_a_changed_file_of_media_changes_the_fingerprint(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    row = picture(str(path))
    found = {fingerprint_rows([row])}
    path.write_bytes(b"1")
    found.add(fingerprint_rows([row]))
    path.write_bytes(b"12")
    os.utime(path, ns=(1, 1))
    found.add(fingerprint_rows([row]))
    os.utime(path, ns=(2, 2))
    found.add(fingerprint_rows([row]))
    assert len(found) == 4
    assert fingerprint_rows([row]) in found


class Pictures(MediaProcessor):
    """Shows each picture as one token; says what it does, or not."""

    def __init__(self, fingerprint: str | None) -> None:
        self.placeholders = {"image": "<|endoftext|>"}
        self.fingerprint = fingerprint

    def see(self, media: Sequence[DecodedMedia]) -> SeenMedia:
        return SeenMedia(texts=("<|endoftext|>",) * len(media), arrays={})


def write_folder(folder: Path, **options: object) -> Path:
    return write_tiny_folder(folder, **{"chat_template": CHATML, **options})  # type: ignore[arg-type]  # its own


def test_whatever_decides_about_tokens_changes_a_templates_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder(tmp_path / "model")
    own = tmp_path / "own_scale.py"
    code = (
        "from swift_templates.loss_scale import LossScale\nclass Own(LossScale):\n    def weigh(self, *_): return []\n"
    )
    own.write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    scale, system = tmp_path / "scale.json", tmp_path / "system.txt"
    scale.write_text('{"keywords": {"Action:": [1, 2]}}')
    system.write_text("Be brief.")

    def args_of(**changes: object) -> str:
        return fingerprint_template(Template.from_folder(folder, TemplateArgs(**changes)))  # type: ignore[arg-type]

    def folder_of(name: str, **options: object) -> str:
        return fingerprint_template(Template.from_folder(write_folder(tmp_path / name, **options)))

    def made(**changes: object) -> str:
        return fingerprint_template(Template.from_folder(folder, **changes))  # type: ignore[arg-type]  # its own

    same = made()
    found = {
        "as it is": same,
        "family": args_of(template="chatml"),
        "system": args_of(system="Be nice."),
        "system file": args_of(system=str(system)),
        "dialect": args_of(agent_template="react_en"),
        "max_length": args_of(max_length=7),
        "truncation": args_of(truncation_strategy="left"),
        "prefix": args_of(response_prefix="<think>\n"),
        "thinking": args_of(enable_thinking=True),
        "loss_scale": args_of(loss_scale="last_round"),
        "loss_scale react": args_of(loss_scale="last_round+react"),
        "loss_scale file": args_of(loss_scale=str(scale)),
        "own loss_scale": args_of(loss_scale="own_scale:Own"),
        "chat template": folder_of("a", chat_template=CHATML + " "),
        "stop token": folder_of("b", eos_token="<|endoftext|>"),
        "vocabulary": folder_of("c", special_tokens=("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|x|>")),
        "model length": folder_of("d", max_length=99),
        "new tokens": made(new_special_tokens=["<|y|>"]),
        "given length": made(model_length=77),
        "media": made(media=Pictures("a")),
        "other media": made(media=Pictures("b")),
        "media policy": made(media=Pictures("a"), media_policy=MediaPolicy(max_pixels=9)),
    }
    assert len(set(found.values())) == len(found), found
    # Another folder with the same in it is the same.
    assert folder_of("e") == same == args_of()
    scale.write_text('{"keywords": {"Action:": [1, 3]}}')
    system.write_text("Be long.")
    assert args_of(loss_scale=str(scale)) != found["loss_scale file"]
    assert args_of(system=str(system)) != found["system file"]
    own.write_text(code + "# changed\n")
    assert args_of(loss_scale="own_scale:Own") != found["own loss_scale"]


def test_a_processor_of_media_that_says_nothing_is_never_found_again(tmp_path: Path) -> None:
    template = Template.from_folder(write_folder(tmp_path), media=Pictures(None))
    assert fingerprint_template(template) != fingerprint_template(template)


def test_a_changed_source_file_changes_a_packages_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some_scales.py").write_text("a = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = fingerprint_package("some_scales")
    assert fingerprint_package("some_scales") == before
    (tmp_path / "some_scales.py").write_text("a = 2\n")
    assert fingerprint_package("some_scales") != before
    assert fingerprint_package("swift_data") != fingerprint_package("swift_templates")


def test_a_key_is_of_all_its_parts() -> None:
    keys = [
        make_cache_key("a", "b"),
        make_cache_key("ab"),
        make_cache_key("a", "b", {"beta": 1}),
        make_cache_key("b", "a"),
    ]
    assert len(set(keys)) == 4
    # A folder's name, on any system.
    assert all(each.isalnum() and len(each) == 40 for each in keys)
    assert make_cache_key({"a": 1, "b": 2}) == make_cache_key({"b": 2, "a": 1})


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWIFT_CACHE", "/some/where")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert default_cache_dir() == Path("/some/where/encoded")
    monkeypatch.delenv("SWIFT_CACHE")
    assert default_cache_dir() == Path("/xdg/swift/encoded")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_dir() == Path.home() / ".cache/swift/encoded"


def write_rows(path: Path, count: int = 5, answer: str = "4") -> Path:
    path.write_text("".join(json.dumps({"query": f"{each}?", "response": answer}) + "\n" for each in range(count)))
    return path


def test_rows_of_files_are_known_without_being_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(path: Path, **options: object) -> Rows:
        rows = load_rows([str(path)], DataArgs(**options)).rows  # type: ignore[arg-type]  # options of this test
        assert isinstance(rows, Rows)
        return rows

    def known(rows: Rows) -> str:
        return fingerprint_rows(rows, sees_media=False)

    path = write_rows(tmp_path / "a.jsonl")
    rows, other = load(path), load(write_rows(tmp_path / "b.jsonl", answer="5"))
    turned = load(path, columns={"query": "response", "response": "query"})
    (tmp_path / "copy").mkdir()
    copied = load(write_rows(tmp_path / "copy" / "a.jsonl"))
    by_content = fingerprint_rows(rows)
    with monkeypatch.context() as patched:
        patched.setattr(Rows, "__iter__", lambda _: pytest.fail("rows are read"))
        first = known(rows)
        assert first == known(copied) == known(load(path))
        assert len({first, known(rows[:4]), known(rows[::-1]), known(other), known(turned)}) == 5
    # A file that is another by now says nothing about the rows that are still held.
    write_rows(tmp_path / "new.jsonl", answer="6").replace(path)
    assert known(rows) == by_content
    assert known(load(path)) not in (first, by_content)
    path.unlink()
    assert known(rows) == by_content


def test_media_are_looked_at_where_they_matter(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"1")
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"query": "<image>?", "response": "4", "images": ["a.png"]}))
    rows = load_rows([str(path)], DataArgs()).rows
    before = fingerprint_rows(rows)
    (tmp_path / "a.png").write_bytes(b"12")
    assert fingerprint_rows(rows) != before


@pytest.mark.parametrize("dated", [True, False])
def test_a_template_that_writes_the_date_is_another_tomorrow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dated: bool
) -> None:
    class Tomorrow(datetime.date):
        @classmethod
        def today(cls) -> Tomorrow:
            return cls(2999, 1, 1)

    source = ("{{ strftime_now('%d %b %Y') }}" if dated else "") + CHATML
    template = Template.from_folder(write_folder(tmp_path / "model", chat_template=source))
    before = fingerprint_template(template)
    monkeypatch.setattr("swift_data.encoding_cache.date", Tomorrow)
    assert (fingerprint_template(template) != before) == dated
