"""Every family and every kind of chat template keeps the laws, on any conversation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings
from swift_templates.errors import LawBroken
from swift_templates.messages import Conversation, Message
from swift_templates.template import Template
from swift_templates.testing import check_template

KINDS = (
    "chatml",
    "default_system",
    "inst",
    "inst_sentencepiece",
    "headers",
    "strips_thinking",
    "keeps_calls",
    "opens_thinking",
    "generation_marks",
    "final_eos",
    "final_eos_rstrip",
)

# Pieces that make trouble: control tokens' spellings whole, in part and overlapping, edges of white space, and any
# text.
PIECES = st.one_of(
    st.sampled_from(
        ["<|im_end|>", "<|im_start|>", "<|im_<|im_end|>", "</s>", "<s>", "[INST]", "<|end|>", "<|eot_id|>", "<unk>"]
    ),
    st.sampled_from(
        ["\n", "\n\n", " ", "  ", "\t", "Hello", "how are you", "assistant", "42", "日本", "🎉", "e\u0301", "<"]
    ),
    st.text(alphabet=st.characters(codec="utf-8"), max_size=8),
)
TEXTS = st.lists(PIECES, min_size=1, max_size=5).map("".join)
# Thinking is told from text by its tags, so these may not be in the text itself.
ANSWERS = TEXTS.filter(lambda text: bool(text.strip()) and "think>" not in text)


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    """Make a conversation of one to three rounds that ends with an answer."""
    messages = [Message(role="system", content=draw(TEXTS))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        messages.append(Message(role="user", content=draw(TEXTS)))
        messages.append(
            Message(
                role="assistant",
                content=draw(ANSWERS),
                reasoning_content=draw(st.none() | ANSWERS),
                loss=draw(st.sampled_from([None, None, True, False])),
                loss_scale=draw(st.sampled_from([None, 0.0, 0.5, 3.0])),
            )
        )
    return Conversation(messages=tuple(messages))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "args",
    [{}, {"loss_scale": "last_round"}, {"enable_thinking": False}, {"system": "Be <|im_end|> brief."}],
    ids=["default", "last_round", "no_thinking", "system"],
)
def test_chat_template_keeps_the_laws(kind: str, args: dict[str, object], template_of: Callable[..., Template]) -> None:
    check_template(template_of(kind, **args))


@pytest.mark.parametrize("kind", ["chatml", "default_system", "headers", "final_eos"])
def test_a_response_prefix_keeps_the_laws(kind: str, template_of: Callable[..., Template]) -> None:
    check_template(template_of(kind, response_prefix="Well, "))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(conversation=conversations())
def test_any_conversation_keeps_the_laws(
    kind: str, template_of: Callable[..., Template], conversation: Conversation
) -> None:
    check_template(template_of(kind), [conversation])


def test_the_check_finds_a_template_whose_answers_parse_wrong(template_of: Callable[..., Template]) -> None:
    template = template_of("default_system")
    # broken on purpose: takes text away that is the answer's
    template._reader._form = dataclasses.replace(template._reader._form, before="Hi")
    with pytest.raises(LawBroken, match="parsing gives"):
        check_template(template)


def test_the_check_finds_a_template_that_serves_another_prompt(template_of: Callable[..., Template]) -> None:
    template = template_of("default_system")
    # broken on purpose: the prompt gets a text that training knows nothing of
    template.encode_prompt = template_of("default_system", response_prefix="Sure: ").encode_prompt  # type: ignore[method-assign]  # see above
    with pytest.raises(LawBroken, match="another prompt"):
        check_template(template)
