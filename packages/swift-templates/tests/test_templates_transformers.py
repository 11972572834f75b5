"""Our tokens are those of transformers' `apply_chat_template`, on tiny models and on the real SmolLM2."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from swift_templates.args import TemplateArgs
from swift_templates.errors import ChatTemplateNotFound, InvalidModelFolder
from swift_templates.messages import JSON, Conversation, Message, ToolCall
from swift_templates.template import Template
from swift_templates.testing import check_template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

transformers = pytest.importorskip("transformers", reason="transformers, the reference here, is not installed")

KINDS = (
    "default_system",
    "inst",
    "inst_sentencepiece",
    "headers",
    "strips_thinking",
    "opens_thinking",
    "generation_marks",
    "final_eos",
    "final_eos_rstrip",
)
TOOL: dict[str, JSON] = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALL = ToolCall("weather", {"city": "Zürich", "days": 2})

USER = Message(role="user", content="How are you?")
ANSWER = Message(role="assistant", content="Fine.")
QUESTIONS = {
    "one round": (USER,),
    "system": (Message(role="system", content="Be brief."), USER),
    "several rounds": (USER, ANSWER, Message(role="user", content="2+2?"), ANSWER, USER),
    "edges": (Message(role="user", content="\n  a\n\n b \n"), ANSWER, Message(role="user", content=" ")),
    "unicode": (
        Message(role="user", content="日本語 🎉 e\u0301 \u200b\x00"),
        ANSWER,
        Message(role="user", content="ﬁ"),
    ),
    "reasoning": (USER, Message(role="assistant", content="4", reasoning_content="Two\nand two."), USER),
    "empty": (Message(role="user", content=""),),
}


def plain(message: Message) -> dict[str, Any]:
    """Write a message as transformers takes it."""
    written: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.reasoning_content is not None:
        written["reasoning_content"] = message.reasoning_content
    if message.tool_calls:
        written["tool_calls"] = [
            {"type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    return written


def reference(tokenizer: PreTrainedTokenizerBase, messages: tuple[Message, ...], **options: object) -> list[int]:
    ids: list[int] = tokenizer.apply_chat_template(  # type: ignore[assignment]  # its type does not tell the options apart
        [plain(message) for message in messages],
        add_generation_prompt=True,
        return_dict=False,
        **options,  # type: ignore[arg-type]  # handed on as they are
    )
    return ids


@pytest.mark.parametrize("messages", QUESTIONS.values(), ids=QUESTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_prompts_are_those_of_transformers(
    kind: str, messages: tuple[Message, ...], folder_of: Callable[[str], Path]
) -> None:
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(str(folder_of(kind)))
    ours = Template.from_folder(folder_of(kind)).encode_prompt(Conversation(messages=messages)).input_ids
    assert ours == reference(tokenizer, messages)


def test_prompts_with_tools_and_without_thinking_are_those_of_transformers(folder_of: Callable[[str], Path]) -> None:
    folder = folder_of("strips_thinking")
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(str(folder))
    messages = (USER, Message(role="assistant", content="", tool_calls=(CALL,)), Message(role="tool", content="22"))
    template = Template.from_folder(folder, TemplateArgs(enable_thinking=False))
    ours = template.encode_prompt(Conversation(messages=messages)).input_ids
    assert ours == reference(tokenizer, messages, enable_thinking=False)


@pytest.mark.slow  # reading the GGUF file takes seconds
def test_prompts_of_the_real_smollm2_are_those_of_transformers(smollm2_folder: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(smollm2_folder))
    template = Template.from_folder(smollm2_folder)
    for name, messages in QUESTIONS.items():
        ours = template.encode_prompt(Conversation(messages=messages)).input_ids
        assert ours == reference(tokenizer, messages), name


@pytest.mark.slow
def test_the_real_smollm2_keeps_the_laws(smollm2_folder: Path) -> None:
    template = Template.from_folder(smollm2_folder)
    check_template(template)
    [sample] = template.encode(Conversation(messages=(USER, ANSWER)))
    # The ids of SmolLM2's vocabulary: "Fine", ".", <|im_end|>.
    assert template.decode(sample.labels[sample.labels >= 0], skip_special=False) == "Fine.<|im_end|>"
    assert sample.labels[-1] == 2


def test_what_transformers_converts_becomes_a_template(tmp_path: Path, folder_of: Callable[[str], Path]) -> None:
    from swift_templates.hf import save_tokenizer, template_from_pretrained

    # A folder of the older kind: vocabulary and merges apart, no tokenizer.json.
    written = json.loads((folder_of("chatml") / "tokenizer.json").read_text(encoding="utf-8"))
    old = tmp_path / "old"
    old.mkdir()
    vocabulary = written["model"]["vocab"] | {token["content"]: token["id"] for token in written["added_tokens"]}
    (old / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (old / "merges.txt").write_text(
        "#version: 0.2\n" + "\n".join(" ".join(pair) for pair in written["model"]["merges"]), encoding="utf-8"
    )
    special = {"eos_token": "<|im_end|>", "bos_token": "<|im_start|>", "unk_token": "<|endoftext|>"}
    (old / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "GPT2Tokenizer", **special}), encoding="utf-8"
    )
    (old / "config.json").write_text('{"model_type": "gpt2", "n_positions": 99}', encoding="utf-8")

    conversation = Conversation(messages=(USER, ANSWER))
    args = TemplateArgs(template="chatml")
    [expected] = Template.from_folder(folder_of("chatml"), args).encode(conversation)
    converted = template_from_pretrained(old, args)
    [sample] = converted.encode(conversation)
    assert sample.input_ids.tolist() == expected.input_ids.tolist()
    assert converted.max_length == 99

    save_tokenizer(old, tmp_path / "new")
    [again] = Template.from_folder(tmp_path / "new", args).encode(conversation)
    assert again.input_ids.tolist() == expected.input_ids.tolist()
    with pytest.raises(ChatTemplateNotFound, match="has no chat template"):
        template_from_pretrained(old)


def test_a_tokenizer_object_of_transformers_becomes_a_template(folder_of: Callable[[str], Path]) -> None:
    from swift_templates.hf import template_from_pretrained

    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(str(folder_of("headers")))
    template = template_from_pretrained(tokenizer)
    check_template(template)
    assert template.encode_prompt(Conversation(messages=(USER,))).input_ids == reference(tokenizer, (USER,))


def test_a_tokenizer_written_in_python_is_refused() -> None:
    from swift_templates.hf import template_from_pretrained

    with pytest.raises(InvalidModelFolder, match=r"ByT5Tokenizer .* is written in Python"):
        template_from_pretrained(transformers.ByT5Tokenizer())


def test_a_folder_that_transformers_cannot_load_is_named(tmp_path: Path) -> None:
    from swift_templates.hf import template_from_pretrained

    with pytest.raises(InvalidModelFolder, match="transformers cannot load a tokenizer from"):
        template_from_pretrained(tmp_path)
