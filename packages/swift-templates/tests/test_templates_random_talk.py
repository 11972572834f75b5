"""Random conversations through every family and through five real tokenizers.

For each that a format can express: what is trained is the prompt that a server sends and then the answer, the answer's
tokens are the message again, no text becomes a control token, and many rows encoded together are those rows encoded
one by one. What a format cannot express is refused, which is counted: half of what is drawn must go through.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Callable
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from real_tokenizers import TOKENIZERS, real_template
from swift_templates.args import TemplateArgs
from swift_templates.encoded import IGNORED, Encoded
from swift_templates.errors import ChatTemplateError, InvalidTools, SwiftTemplatesError, TemplateMismatch
from swift_templates.family import families
from swift_templates.messages import JSON, Conversation, Message, ToolCall
from swift_templates.template import Template
from swift_templates.testing import write_tiny_folder

GOLDEN = Path(__file__).parent / "families"
NAMES = families.names()
REAL_FAMILIES = {"gptoss": "gpt_oss"}  # whose package has no chat template
REFUSALS = (TemplateMismatch, ChatTemplateError, InvalidTools)
# Where a format has no way to write calls, a dialect of plain text writes them.
DIALECTS = ("hermes", "react_en", "qwen_en", "react_zh")

# ruff: noqa: RUF001  (texts of many languages)
SOME_CONTROL = (
    *("<|im_end|>", "<|im_start|>", "<|im_<|im_end|>", "</s>", "<s>", "[INST]", "<|end|>", "<|eot_id|>", "<unk>"),
    *("<end_of_turn>", "<|channel|>", "<｜User｜>", "<tool_call>", "</tool_call>", "</tool_response>"),
)
SOME_TEXT = (
    *("\n", "\n\n", " ", "  ", "\t", "\r\n", "Hello", "how are you", "assistant", "user\n", "42", "<", "|>", "{}", '"'),
    *(
        "日本",
        "🎉",
        "👩\u200d👩\u200d👧",
        "e\u0301",
        "\u0301",
        "שלום",
        "\u202eمرحبا\u202c",
        "\u200d",
        "\u00a0",
        "ﬁ",
        "नि",
        "\x00",
    ),
)
# Noncharacters are what look-alikes are broken with; each other one makes another tokenizer, which takes a while.
CHARACTERS = st.characters(codec="utf-8", exclude_categories=("Cs", "Cn"))


def tool(name: str, description: str, properties: dict[str, JSON]) -> dict[str, JSON]:
    """Write a tool as OpenAI does."""
    parameters: dict[str, JSON] = {"type": "object", "properties": properties}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


@dataclasses.dataclass(frozen=True)
class Words:
    """What the texts of one model's conversations are made of."""

    spellings: tuple[str, ...]
    """Of its own control tokens."""
    system: bool = True
    """Its format has a place for a system prompt; what it has none for is drawn seldom."""
    rounds: bool = True
    """It has one for a second question."""
    num_calls: int = 2
    """Calls that an answer may have, as far as 2."""
    writes_calls: bool = True
    """Its format writes calls; if not, a dialect makes them part of the answer's text, where the tags of thinking mean
    what they say."""

    @property
    def texts(self) -> st.SearchStrategy[str]:
        """Any text."""
        pieces = st.one_of(
            st.sampled_from(self.spellings),
            st.sampled_from([*SOME_CONTROL, *(each[:-1] for each in self.spellings)]),
            st.sampled_from(SOME_TEXT),
            st.text(alphabet=CHARACTERS, max_size=6),
        )
        return st.lists(pieces, min_size=1, max_size=4).map("".join)

    @property
    def answers(self) -> st.SearchStrategy[str]:
        """Texts of answers, which are not empty, and where the tags of thinking and of calls mean what they say."""
        return self.texts.filter(
            lambda text: bool(text.strip()) and not any(tag in text for tag in ("think>", "tool_call>"))
        )


@st.composite
def conversations(draw: st.DrawFn, words: Words) -> Conversation:
    """Make a conversation of one to three rounds, with tools or without."""

    def either(known: bool) -> bool:
        return draw(st.booleans()) if known else draw(st.sampled_from([False] * 9 + [True]))

    texts, answers = words.texts, words.answers
    tools: tuple[dict[str, JSON], ...] = ()
    if either(words.num_calls > 0):
        properties: dict[str, JSON] = {
            "city": {"type": "string", "description": draw(texts)},
            "days": {"type": "integer"},
            "exact": {"type": "boolean"},
            "parts": {"type": "array", "items": {"type": "string"}},
        }
        tools = (tool("get_weather", draw(texts), properties), tool("now", "The time.", {}))
    given = texts if words.writes_calls else texts.filter(lambda text: "think>" not in text)
    arguments = st.fixed_dictionaries(
        {"city": given},
        optional={"days": st.integers(-(10**12), 10**12), "exact": st.booleans(), "parts": st.lists(given, max_size=2)},
    )
    calls = st.one_of(st.builds(ToolCall, st.just("get_weather"), arguments), st.just(ToolCall("now", {})))
    losses = st.sampled_from([None, None, True, False])
    scales = st.sampled_from([None, None, 0.0, 0.5, 3.0])
    thoughts = st.none() | answers
    messages = [Message(role="system", content=draw(texts))] if either(words.system) else []
    for _ in range(draw(st.integers(1, 3 if either(words.rounds) else 1))):
        messages.append(Message(role="user", content=draw(texts)))
        while tools and draw(st.integers(0, 2)) == 0:
            called = tuple(draw(st.lists(calls, min_size=1, max_size=2 if either(words.num_calls > 1) else 1)))
            said = draw(st.just("") | answers)
            messages.append(
                Message(
                    role="assistant",
                    content=said,
                    tool_calls=called,
                    reasoning_content=draw(thoughts),
                    loss=draw(losses),
                    loss_scale=draw(scales),
                )
            )
            messages += [Message(role="tool", content=draw(texts)) for _ in called]
        content, reasoning = draw(answers), draw(thoughts)
        messages.append(
            Message(
                role="assistant",
                content=content,
                reasoning_content=reasoning,
                loss=draw(losses),
                loss_scale=draw(scales),
            )
        )
    return Conversation(messages=tuple(messages), tools=tools)


def harmless(conversation: Conversation) -> Conversation:
    """Return a conversation of the same shape whose texts look like nothing."""

    def plain(value: JSON) -> JSON:
        if isinstance(value, str):
            return "x" if value.strip() else value
        if isinstance(value, list):
            return [plain(each) for each in value]
        return value

    def rewritten(message: Message) -> Message:
        return dataclasses.replace(
            message,
            content=str(plain(message.content)),
            reasoning_content="x" if message.reasoning_content else None,
            tool_calls=tuple(
                dataclasses.replace(call, arguments={name: plain(value) for name, value in call.arguments.items()})
                for call in message.tool_calls
            ),
        )

    tools: list[dict[str, JSON]] = json.loads(json.dumps(conversation.tools))
    for each in tools:
        function = each["function"]
        assert isinstance(function, dict)
        function["description"] = "x"
        parameters = function["parameters"]
        assert isinstance(parameters, dict) and isinstance(parameters["properties"], dict)
        city = parameters["properties"].get("city")
        if isinstance(city, dict):
            city["description"] = "x"
    return dataclasses.replace(conversation, messages=tuple(map(rewritten, conversation.messages)), tools=tuple(tools))


def trained_spans(sample: Encoded) -> list[tuple[int, int]]:
    trained = np.concatenate([[0], (sample.labels != IGNORED).astype(np.int8), [0]])
    return [(int(start), int(end)) for start, end in np.flatnonzero(np.diff(trained)).reshape(-1, 2)]


def check_conversation(template: Template, conversation: Conversation) -> None:
    """Check what the module promises of one conversation; raises one of REFUSALS where it cannot be expressed."""
    samples = template.encode(conversation)
    messages = conversation.messages
    spans = [(sample, *span) for sample in samples for span in trained_spans(sample)]
    trained = template.trained_turns(conversation)
    assert len(spans) == len(trained)
    for (sample, start, end), (position, weight) in zip(spans, trained.items(), strict=True):
        asked = dataclasses.replace(conversation, messages=messages[:position])
        assert sample.input_ids[:start].tolist() == template.encode_prompt(asked).input_ids
        answer = sample.input_ids[start:end].tolist()
        assert sample.labels[start:end].tolist() == answer
        assert (sample.loss_scale[start:end] == np.float32(weight)).all()
        assert answer[-1] in template.stop_token_ids and not template.stop_token_ids & set(answer[:-1])
        check_parsed(template, messages[position], template.parse(answer, conversation.tools))
    check_control(template, samples, template.encode(harmless(conversation)))


def check_parsed(template: Template, message: Message, parsed: Message) -> None:
    """A message is read back but for what templates trim and tokenizers do not keep apart."""

    def through(text: str | None) -> str:
        # Ends of texts are white space to some templates, and to some tokenizers accents are not apart from letters.
        return template.tokenizer.decode(template.tokenizer.encode((text or "").strip())).strip()

    called = [(each.name, each.arguments) for each in message.tool_calls]
    assert [(each.name, each.arguments) for each in parsed.tool_calls] == [
        (name, through_json(template, arguments)) for name, arguments in called
    ]
    assert through(parsed.content) == through(message.content)
    assert through(parsed.reasoning_content) == through(message.reasoning_content)


def through_json(template: Template, value: JSON) -> JSON:
    """Return a value whose texts are what the tokenizer makes of them."""
    if isinstance(value, str):
        return template.tokenizer.decode(template.tokenizer.encode("a" + value))[1:] if value else value
    if isinstance(value, list):
        return [through_json(template, each) for each in value]
    if isinstance(value, dict):
        return {key: through_json(template, each) for key, each in value.items()}
    return value


def check_control(template: Template, samples: list[Encoded], others: list[Encoded]) -> None:
    """There are just the control tokens that a conversation without any look-alike has."""
    special = set(template.tokenizer.special_ids.values())

    def control(encoded: list[Encoded]) -> list[list[int]]:
        return [[each for each in sample.input_ids.tolist() if each in special] for sample in encoded]

    assert control(samples) == control(others)


def words_for(template: Template) -> Words:
    """Try what a format has a place for."""

    def takes(*messages: Message, tools: tuple[dict[str, JSON], ...] = ()) -> bool:
        try:
            return bool(template.encode(Conversation(messages=messages, tools=tools)))
        except REFUSALS:
            return False

    user, answer, call = Message(role="user", content="x"), Message(role="assistant", content="x"), ToolCall("now", {})
    tools = (tool("now", "x", {}),)
    num_calls = 0
    for number in (1, 2):
        called = Message(role="assistant", content="", tool_calls=(call,) * number)
        if takes(user, called, *[Message(role="tool", content="x")] * number, answer, tools=tools):
            num_calls = number
    spellings = sorted(template.tokenizer.special_ids)
    return Words(
        # Some have hundreds, most of which are reserved for later.
        tuple(spellings[:12] + spellings[-12:]),
        system=takes(Message(role="system", content="x"), user, answer),
        rounds=takes(user, answer, user, answer),
        num_calls=num_calls,
        writes_calls=template.args.agent_template is None,
    )


def drive(template: Template, num_examples: int) -> None:
    """Check a template on random conversations."""
    words = words_for(template)
    drawn: list[Conversation] = []
    refused: list[SwiftTemplatesError] = []

    @settings(
        max_examples=num_examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(conversation=conversations(words))
    def check(conversation: Conversation) -> None:
        drawn.append(conversation)
        try:
            check_conversation(template, conversation)
        except REFUSALS as error:
            refused.append(error)

    check()
    assert len(refused) <= len(drawn) / 2, (len(refused), len(drawn), *map(str, refused[-3:]))
    for conversation, result in zip(drawn, template.encode_many(drawn), strict=True):
        if isinstance(result, SwiftTemplatesError):
            with pytest.raises(type(result), match=re.escape(str(result))):
                template.encode(conversation)
            continue
        expected = template.encode(conversation)
        assert len(result) == len(expected)
        for left, right in zip(result, expected, strict=True):
            for name in ("input_ids", "labels", "loss_scale"):
                assert np.array_equal(getattr(left, name), getattr(right, name))


@pytest.fixture(scope="module", name="family_template")
def family_template_fixture(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Template]:
    """Give a family's template by name, for a tiny tokenizer with its model's control tokens."""
    root = tmp_path_factory.mktemp("families")

    @functools.cache
    def build(family: str) -> Template:
        golden = json.loads((GOLDEN / f"{family}.json").read_text(encoding="utf-8"))
        folder = write_tiny_folder(
            root / family,
            special_tokens=golden["special_tokens"],
            eos_token=golden["eos_token"],
            bos_token=golden["bos_token"],
        )
        return Template.from_folder(folder, TemplateArgs(template=family, agent_template=dialect_for(family)))

    return build


def dialect_for(family: str) -> str | None:
    """Return a dialect for a family that knows nothing of tools: one or another."""
    found = families.load(family)
    assert not isinstance(found, type)
    if "tools" in found.chat_template:
        return None
    return DIALECTS[sum(map(ord, family)) % len(DIALECTS)]


def template_of_model(name: str) -> Template:
    dialect = None if name in ("qwen3", "gptoss") else "hermes"
    template = real_template(name, TemplateArgs(template=REAL_FAMILIES.get(name), agent_template=dialect))
    if template is None:
        pytest.skip(f"tokenizer {name!r} is not there: python tests/real_tokenizers.py fetches it")
    return template


@pytest.mark.parametrize("family", NAMES)
def test_any_conversation_of_a_family(family: str, family_template: Callable[[str], Template]) -> None:
    drive(family_template(family), 8)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_any_conversation_of_a_real_tokenizer(name: str) -> None:
    drive(template_of_model(name), 20)


@pytest.mark.slow
@pytest.mark.parametrize("family", NAMES)
def test_very_many_conversations_of_a_family(family: str, family_template: Callable[[str], Template]) -> None:
    drive(family_template(family), 50)


@pytest.mark.slow
@pytest.mark.parametrize("name", TOKENIZERS)
def test_very_many_conversations_of_a_real_tokenizer(name: str) -> None:
    drive(template_of_model(name), 100)
