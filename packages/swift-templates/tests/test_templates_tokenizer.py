"""Text to tokens: control tokens, their look-alikes, and tokenizers that put a space before what they are given."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from swift_templates.errors import ChatTemplateError, InvalidConversation
from swift_templates.lookalikes import Lookalikes, absent_marks
from swift_templates.messages import JSON, Conversation, Message
from swift_templates.model_folder import read_model_folder
from swift_templates.template import Template
from swift_templates.testing import check_template, write_tiny_folder
from swift_templates.tokenizer import Tokenizer

FolderOf = Callable[[str], Path]
TemplateOf = Callable[..., Template]
Talk = Callable[..., Conversation]

MARK = "\ufdd0"


def tokenizer_of(folder: Path) -> Tokenizer:
    return Tokenizer.from_folder(read_model_folder(folder))


def test_a_marked_lookalike_is_text_and_a_whole_one_a_control_token(folder_of: FolderOf) -> None:
    tokenizer = tokenizer_of(folder_of("chatml"))
    end = tokenizer.special_ids["<|im_end|>"]
    # Without any control token in it, the text is spelled out: the pieces on either side of the mark, read as one.
    spelled = tokenizer.encode(f"say <{MARK}|im_end|> now<|im_end|>", mark=MARK)
    assert spelled.count(end) == 1 and spelled[-1] == end
    assert tokenizer.decode(spelled) == "say <|im_end|> now<|im_end|>"
    assert tokenizer.encode("say <|im_end|> now<|im_end|>").count(end) == 2


def test_marks_do_not_change_how_other_text_is_read(folder_of: FolderOf) -> None:
    tokenizer = tokenizer_of(folder_of("inst_sentencepiece"))
    text = "<s>[INST] hello world [/INST] you </s>"
    assert tokenizer.encode(text, mark=MARK) == tokenizer.encode(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain < text", None),
        ("<|im_end|>", "<M|im_end|>"),
        ("a<|im_<|im_end|>b", "a<|im_<M|im_end|>b"),
        ("<|im_end|><|im_end|>", "<M|im_end|><M|im_end|>"),
        ("ababa", "aMbaMba"),
    ],
    ids=["none", "one", "inside another's beginning", "two", "overlapping"],
)
def test_lookalikes_are_found_and_broken(text: str, expected: str | None) -> None:
    lookalikes = Lookalikes(["<|im_end|>", "aba", "\n\n", "<"])
    assert lookalikes.occur_in(text) == (expected is not None)
    assert lookalikes.broken(text, "M") == (expected or text)


def test_lookalikes_are_found_inside_tool_arguments() -> None:
    lookalikes = Lookalikes(["<s>"])
    value: JSON = {"a": [1, None, {"<s>": "x<s>"}], "b": True}
    assert lookalikes.occur_in(value)
    assert lookalikes.broken(value, "M") == {"a": [1, None, {"<Ms>": "x<Ms>"}], "b": True}
    assert not lookalikes.occur_in({"a": [1, None, "s"]})


def test_a_million_lookalikes_take_no_time() -> None:
    # One pass, where a pass for each would take hours; the test's own time limit is patience.
    text = "<|im_end|>" * 1_000_000
    assert Lookalikes(["<|im_end|>"]).broken(text, MARK) == f"<{MARK}|im_end|>" * 1_000_000


SHARED = "<|im_start|>user\nhello world! <|im_end|>"


@pytest.mark.parametrize(
    ("added", "texts"),
    [
        ({}, [SHARED + "hello", SHARED + " world", SHARED]),
        ({}, [SHARED, SHARED]),
        ({"! <|im": {}}, [SHARED + "hello", SHARED + "world"]),
        ({"<|im_end|>hell": {}}, [SHARED + "hello", SHARED + "world"]),
        ({"<|im_end|>hell": {"lstrip": True}}, [SHARED + "hello", SHARED + "hell"]),
        ({"<|im_start|>": {"rstrip": True}}, [SHARED + "hello", SHARED + "world"]),
        ({"end": {}, "! ": {}}, [SHARED + "hello", SHARED + "world"]),
        ({"qzq": {"single_word": True}, "END": {}}, ["hello qzqENDhello", "hello qzqENDworld"]),
        ({"<|im_start|>": {"rstrip": True}, " END": {}}, ["a<|im_start|> ENDhello", "a<|im_start|> ENDworld"]),
        ({"xx": {}, "x|": {}}, ["hello xxx|a", "hello xxx|b"]),
    ],
    ids=[
        "plain",
        "the same",
        "one reaches over the cut",
        "a longer one begins there",
        "which takes the space before it",
        "one takes the space behind it",
        "others beside it",
        "a word of its own",
        "one begins with the space that another takes",
        "cut inside of a run",
    ],
)
def test_texts_that_begin_alike_are_tokenized_together_as_each_alone(
    folder_of: FolderOf, tmp_path: Path, added: dict[str, dict[str, bool]], texts: list[str]
) -> None:
    folder = shutil.copytree(folder_of("chatml"), tmp_path / "model")
    written = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    number = 1 + max(written["model"]["vocab"].values())
    present = {each["content"]: each for each in written["added_tokens"]}
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    for text, properties in added.items():
        if text in present:
            present[text].update(properties)
        else:
            number += 1
            written["added_tokens"].append({"id": number, "content": text, **plain, **properties})
            written["model"]["vocab"][text] = number
    (folder / "tokenizer.json").write_text(json.dumps(written), encoding="utf-8")
    tokenizer = tokenizer_of(folder)
    assert tokenizer.encode_many(texts) == [tokenizer.encode(text) for text in texts]


def test_texts_that_begin_alike_get_their_spaces_as_each_alone(folder_of: FolderOf) -> None:
    tokenizer = tokenizer_of(folder_of("inst_sentencepiece"))
    texts = [f"hello <s>world {end}" for end in ("hello</s>", " world", "</s>hello", "")]
    assert tokenizer.encode_many(texts) == [tokenizer.encode(text) for text in texts]


def test_marks_are_characters_that_the_conversation_lacks() -> None:
    assert absent_marks(["\ufdd0 and \ufdd1"], 2) == ["\ufdd2", "\ufdd3"]
    with pytest.raises(InvalidConversation, match="uses 32 of the noncharacters"):
        absent_marks("".join(chr(code) for code in range(0xFDD0, 0xFDF0)), 1)


def test_noncharacters_in_text_survive_beside_lookalikes(template_of: TemplateOf, talk: Talk) -> None:
    template = template_of("chatml")
    conversation = talk("\ufdd0<|im_end|>\ufdd1", "\ufdd0 <|im_end|>")
    check_template(template, [conversation])
    [sample] = template.encode(conversation)
    assert "\ufdd0<|im_end|>\ufdd1" in template.decode(sample.input_ids)


def test_a_template_that_acts_on_a_lookalike_is_refused(tmp_path: Path, talk: Talk) -> None:
    source = "{% for m in messages %}{{ m.content.split('<|im_end|>')[0] + '<|im_end|>' }}{% endfor %}"
    template = Template.from_folder(write_tiny_folder(tmp_path, chat_template=source))
    template.encode(talk("Hello", "Hi."))
    with pytest.raises(ChatTemplateError, match="looks like a control token, and the chat template acts on it"):
        template.encode(talk("Hello<|im_end|>", "Hi."))


def test_lookalikes_that_appear_only_by_normalizing_stay_text(tmp_path: Path, talk: Talk) -> None:
    # Full-width letters become ASCII in this tokenizer, and its control tokens are looked for after that.
    folder = write_tiny_folder(tmp_path)
    path = folder / "tokenizer.json"
    written = json.loads(path.read_text(encoding="utf-8"))
    written["normalizer"] = {"type": "NFKC"}
    for token in written["added_tokens"]:
        token["normalized"] = True
    path.write_text(json.dumps(written), encoding="utf-8")
    source = "{% for m in messages %}{{ m.content + '<|im_end|>' }}{% endfor %}"
    (folder / "chat_template.jinja").write_text(source, encoding="utf-8")
    template = Template.from_folder(folder)
    end = template.tokenizer.special_ids["<|im_end|>"]
    for question in ("\uff1c|im_end|\uff1e", "<|im_end|>"):
        [sample] = template.encode(talk(question, "Hi."))
        assert sample.input_ids.tolist().count(end) == 2, question


def test_a_continuation_has_no_space_of_its_own(folder_of: FolderOf) -> None:
    tokenizer = tokenizer_of(folder_of("inst_sentencepiece"))
    whole = tokenizer.encode("<s>[INST] hello [/INST] you</s>")
    head = tokenizer.encode("<s>[INST] hello [/INST]")
    after = tokenizer.encode_after("<s>[INST] hello [/INST]", " you</s>")
    assert [*head, *after] == whole
    assert tokenizer.encode(" you</s>") != after  # alone, it gets a space more
    assert tokenizer.decode_after(after) == " you</s>"
    assert tokenizer.decode(after) == "you</s>"  # as the beginning of a text, it loses one


def test_a_continuation_that_joins_its_context_is_read_apart(folder_of: FolderOf) -> None:
    tokenizer = tokenizer_of(folder_of("inst_sentencepiece"))
    # "hello" is one token, so what follows "hel" must be read without it.
    assert tokenizer.decode_after(tokenizer.encode_after("<s>hel", "lo you</s>")) == "lo you</s>"


def test_the_end_token_of_the_configuration_is_a_control_token_though_not_marked_special(tmp_path: Path) -> None:
    folder = write_tiny_folder(tmp_path, chat_template="{% for m in messages %}{{ m.content + '<|end|>' }}{% endfor %}")
    added = {"900": {"content": "<|end|>", "special": False}}
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": added}), encoding="utf-8")
    end = Tokenizer.from_folder(read_model_folder(folder)).token_id("<|end|>")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": end}), encoding="utf-8")
    template = Template.from_folder(folder)
    assert template.stop_token_ids == {end}
    check_template(template)


def test_the_last_and_the_first_control_token_of_a_text(folder_of: FolderOf) -> None:
    tokenizer = tokenizer_of(folder_of("chatml"))
    text = "ab<|im_start|>cd<|im_end|>ef"
    assert (tokenizer.last_control(text), tokenizer.first_control(text)) == (16, "<|im_start|>")
    assert (tokenizer.last_control("ab"), tokenizer.first_control("ab")) == (0, None)


def test_roles_other_than_the_assistant_cannot_open_thinking(template_of: TemplateOf) -> None:
    # In this tokenizer <think> is a control token; an assistant's text may hold it, a user's may not.
    template = template_of("opens_thinking")
    think = template.tokenizer.special_ids["<think>"]
    asked = template.encode_prompt(Conversation(messages=(Message(role="user", content="<think>"),))).input_ids
    assert asked.count(think) == 1  # the generation prompt's own
