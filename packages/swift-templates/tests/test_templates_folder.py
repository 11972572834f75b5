"""What is read from a model folder, and what is said of a folder that lacks something."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from swift_templates.args import PromptArgs, TemplateArgs
from swift_templates.errors import (
    ChatTemplateError,
    ChatTemplateNotFound,
    InvalidModelFolder,
    SystemPromptNotFound,
    TemplateMismatch,
    TokenizerNotFound,
    UnknownName,
)
from swift_templates.messages import Conversation, Message
from swift_templates.model_folder import read_model_folder
from swift_templates.template import Template
from swift_templates.testing import write_tiny_folder

HELLO = Conversation(messages=(Message(role="user", content="Hello"),))
LINE = "{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}"


def write(folder: Path, name: str, value: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return folder


def test_an_empty_folder_has_no_facts(tmp_path: Path) -> None:
    facts = read_model_folder(tmp_path)
    assert (facts.named_tokens, facts.chat_templates, facts.eos_token_ids, facts.max_length) == (
        {},
        {},
        frozenset(),
        None,
    )


def test_the_chat_template_is_found_where_transformers_writes_it(tmp_path: Path) -> None:
    named = [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]
    one = write(tmp_path / "text", "tokenizer_config.json", {"chat_template": "d"})
    several = write(tmp_path / "list", "tokenizer_config.json", {"chat_template": named})
    file = write(tmp_path / "file", "tokenizer_config.json", {"chat_template": "old"})
    write(file, "chat_template.jinja", "d")
    write(file / "additional_chat_templates", "tool_use.jinja", "t")
    assert read_model_folder(one).chat_templates == {"default": "d"}
    assert read_model_folder(several).chat_templates == {"default": "d", "tool_use": "t"}
    assert read_model_folder(file).chat_templates == {"default": "d", "tool_use": "t"}


def test_special_tokens_are_texts_or_objects_and_the_configuration_wins(tmp_path: Path) -> None:
    write(tmp_path, "special_tokens_map.json", {"bos_token": {"content": "<s>"}, "eos_token": "</s>"})
    write(
        tmp_path, "tokenizer_config.json", {"eos_token": {"content": "<end>"}, "pad_token": None, "add_bos_token": True}
    )
    assert read_model_folder(tmp_path).named_tokens == {"bos_token": "<s>", "eos_token": "<end>"}


def test_eos_ids_come_from_both_configurations(tmp_path: Path) -> None:
    write(tmp_path, "config.json", {"text_config": {"eos_token_id": 5}})
    write(tmp_path, "generation_config.json", {"eos_token_id": [1, 7]})
    assert read_model_folder(tmp_path).eos_token_ids == {1, 5, 7}


@pytest.mark.parametrize(
    ("config", "tokenizer", "expected"),
    [
        ({"max_position_embeddings": 100}, {"model_max_length": 50}, 100),
        ({"text_config": {"max_position_embeddings": 100}}, {}, 100),
        ({}, {"model_max_length": 50}, 50),
        ({}, {"model_max_length": 1000000000000000019884624838656}, None),
    ],
    ids=["model", "text model in a model", "tokenizer", "unknown"],
)
def test_the_length_is_what_the_model_was_built_for(
    config: object, tokenizer: object, expected: int | None, tmp_path: Path
) -> None:
    write(tmp_path, "config.json", config)
    write(tmp_path, "tokenizer_config.json", tokenizer)
    assert read_model_folder(tmp_path).max_length == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "config.json' is not JSON"),
        ("[]", "holds a list; expected a JSON object"),
        ('{"chat_template": 3}', "chat_template is neither a text nor a list"),
        ('{"chat_template": [{"name": "default"}]}', "chat_template is neither a text nor a list"),
    ],
)
def test_a_broken_configuration_is_a_clear_error(text: str, said: str, tmp_path: Path) -> None:
    write(tmp_path, "tokenizer_config.json", text)
    with pytest.raises(InvalidModelFolder, match=said):
        read_model_folder(tmp_path)


def test_a_folder_without_tokenizer_says_what_was_looked_for_and_what_helps(tmp_path: Path) -> None:
    write(tmp_path, "tokenizer.model", "x")
    with pytest.raises(TokenizerNotFound) as caught:
        Template.from_folder(tmp_path)
    said = str(caught.value)
    assert str(tmp_path) in said and "no tokenizer.json" in said
    assert "it holds tokenizer.model" in said and "pip install 'swift-templates[hf]'" in said


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TokenizerNotFound, match="there is no such folder"):
        Template.from_folder(tmp_path / "nowhere")


def test_a_broken_tokenizer_is_a_clear_error(tmp_path: Path) -> None:
    write(tmp_path, "tokenizer.json", "{}")
    with pytest.raises(InvalidModelFolder, match=r"tokenizer.json' is not a tokenizer"):
        Template.from_folder(tmp_path)


def test_a_model_without_chat_template_lists_the_families(folder_of: Callable[[str], Path]) -> None:
    with pytest.raises(
        ChatTemplateNotFound, match=r"has no chat template .*name a template family: .*chatml"
    ) as caught:
        Template.from_folder(folder_of("chatml"))
    assert str(folder_of("chatml")) in str(caught.value)


def test_an_unknown_family_gets_the_nearest_name(folder_of: Callable[[str], Path]) -> None:
    with pytest.raises(UnknownName, match=r"template family 'chatlm' is unknown; did you mean .*'chatml'"):
        Template.from_folder(folder_of("chatml"), TemplateArgs(template="chatlm"))


def test_a_family_needs_its_stop_token(folder_of: Callable[[str], Path]) -> None:
    with pytest.raises(
        TemplateMismatch, match=r"'chatml' ends an answer with '<\|im_end\|>', which is no special token"
    ):
        Template.from_folder(folder_of("inst"), TemplateArgs(template="chatml"))


def test_a_family_is_used_instead_of_the_models_template(folder_of: Callable[[str], Path]) -> None:
    template = Template.from_folder(folder_of("default_system"), TemplateArgs(template="chatml"))
    assert template.render(HELLO) == "<|im_start|>user\nHello<|im_end|>\n"


def test_the_template_for_tools_is_used_with_tools(tmp_path: Path) -> None:
    write_tiny_folder(tmp_path)
    named = [
        {"name": "default", "template": LINE},
        {"name": "tool_use", "template": "{{ tools | length }} tools: " + LINE},
    ]
    write(tmp_path, "tokenizer_config.json", {"chat_template": named, "eos_token": "<|im_end|>"})
    template = Template.from_folder(tmp_path)
    assert template.render(HELLO) == "Hello<|im_end|>"
    assert template.render(
        Conversation(messages=HELLO.messages, tools=({"type": "function", "function": {"name": "f"}},))
    ) == ("1 tools: Hello<|im_end|>")


def test_tools_that_the_template_would_not_show_are_refused(tmp_path: Path) -> None:
    template = Template.from_folder(write_tiny_folder(tmp_path, chat_template=LINE))
    with pytest.raises(TemplateMismatch, match="has 1 tools, but the chat template knows nothing of tools"):
        template.render(Conversation(messages=HELLO.messages, tools=({"type": "function", "function": {"name": "f"}},)))


def test_named_templates_without_a_default_are_refused(tmp_path: Path) -> None:
    write_tiny_folder(tmp_path)
    write(tmp_path, "tokenizer_config.json", {"chat_template": [{"name": "rag", "template": LINE}]})
    with pytest.raises(ChatTemplateError, match="templates named rag, but none named 'default'"):
        Template.from_folder(tmp_path).render(HELLO)


def test_tokens_that_only_the_configuration_names_are_added(tmp_path: Path) -> None:
    write_tiny_folder(tmp_path, chat_template=LINE)
    added = {"700": {"content": "<extra>", "special": True}, "600": {"content": "<early>", "special": False}}
    write(
        tmp_path,
        "tokenizer_config.json",
        {"eos_token": "<eos>", "pad_token": "<nowhere>", "bos_token": "assistant", "added_tokens_decoder": added},
    )
    template = Template.from_folder(tmp_path)
    tokenizer = template.tokenizer
    known = [tokenizer.token_id(text) for text in ("<early>", "<extra>", "<eos>")]
    assert known == list(range(known[0] or -1, (known[0] or -1) + 3))  # in the order of their ids, then the named ones
    assert set(tokenizer.special_ids) >= {"<extra>", "<eos>", "assistant"} and "<early>" not in tokenizer.special_ids
    assert tokenizer.token_id("<nowhere>") is None  # padding with a token that the model has no row for helps nobody
    assert template.pad_token_id == min(template.stop_token_ids)


def test_the_system_prompt_may_stand_in_a_file(tmp_path: Path, folder_of: Callable[[str], Path]) -> None:
    (tmp_path / "prompt.txt").write_text("Be brief.\n", encoding="utf-8")
    args = TemplateArgs(template="chatml", system=str(tmp_path / "prompt.txt"))
    text = Template.from_folder(folder_of("chatml"), args).render(HELLO)
    assert text == "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"


def test_a_system_prompt_file_that_is_missing_is_named(folder_of: Callable[[str], Path]) -> None:
    with pytest.raises(SystemPromptNotFound, match=r"'nowhere.txt' is not a file; expected a text, or the path"):
        Template.from_folder(folder_of("chatml"), TemplateArgs(template="chatml", system="nowhere.txt"))


def test_a_length_below_one_is_refused(folder_of: Callable[[str], Path]) -> None:
    with pytest.raises(ValueError, match="max_length is 0; expected at least 1"):
        Template.from_folder(folder_of("chatml"), TemplateArgs(template="chatml", max_length=0))


def test_the_system_prompt_is_told_as_text_and_not_as_a_path(tmp_path: Path, folder_of: Callable[[str], Path]) -> None:
    (tmp_path / "prompt.txt").write_text("Be brief.\n", encoding="utf-8")
    asked = [(str(tmp_path / "prompt.txt"), "Be brief."), ("Be long.", "Be long."), (None, None)]
    for system, expected in asked:
        template = Template.from_folder(folder_of("chatml"), TemplateArgs(template="chatml", system=system))
        assert template.system == expected


def test_options_of_prompts_are_enough_and_training_ones_have_their_defaults(folder_of: Callable[[str], Path]) -> None:
    prompt = PromptArgs(
        template="chatml", system="Be brief.", max_length=9, enable_thinking=False, response_prefix="Well"
    )
    template = Template.from_folder(folder_of("chatml"), prompt)
    assert template.args == TemplateArgs(
        template="chatml", system="Be brief.", max_length=9, enable_thinking=False, response_prefix="Well"
    )
    assert {field.name for field in dataclasses.fields(TemplateArgs)} - {
        field.name for field in dataclasses.fields(PromptArgs)
    } == {"truncation_strategy", "loss_scale"}
