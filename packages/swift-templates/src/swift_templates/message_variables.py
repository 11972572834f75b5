"""Messages as the variables that a chat template reads.

Templates do not agree on names and forms: some want reasoning under another name, arguments as JSON text, or null as
the content of an answer that only calls. Which one a template wants is found by looking.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from .errors import ChatTemplateError
from .jinja import ChatTemplate
from .messages import JSON, Message, ToolCall

_WORD = "heliotrope"
_THINKING = re.compile(r"""\.thinking\b|['"]thinking['"]""")
_PROBE = (
    Message(role="user", content="ask"),
    Message(role="assistant", content="", tool_calls=(ToolCall("look_up", {"word": "rain"}, "abcdefghi"),)),
)


@dataclass(frozen=True, kw_only=True)
class CallForm:
    """How a template takes calls."""

    null_content: bool = False
    """An answer that only calls has no content, not an empty one."""
    text_arguments: bool = False
    """Arguments are JSON text."""


_FORMS = (
    CallForm(),
    CallForm(null_content=True),
    CallForm(text_arguments=True),
    CallForm(null_content=True, text_arguments=True),
)


def find_call_form(template: ChatTemplate, variables: Mapping[str, object]) -> CallForm:
    """Return the first form in which a call is shown; the usual one if none is."""
    for form in _FORMS:
        messages = [to_variables(message, call_form=form) for message in _PROBE]
        try:
            text = template.render({**variables, "messages": messages, "tools": None, "add_generation_prompt": False})
        except ChatTemplateError:
            continue
        # Python's own quotes mean that the template takes the arguments for text.
        if "look_up" in text and "rain" in text and "'rain'" not in text:
            return form
    return _FORMS[0]


@functools.lru_cache(maxsize=64)
def find_reasoning_name(template: ChatTemplate) -> str | None:
    """Return the name by which a template asks for reasoning; None if it knows of none."""
    if template.mentions("reasoning_content"):
        return "reasoning_content"
    return "thinking" if _THINKING.search(template.source) else None


def takes_parts(template: ChatTemplate, variables: Mapping[str, object]) -> bool:
    """Whether a template shows texts only where they stand in a list of parts, as those of LLaVA and Idefics do."""

    def shows(content: JSON) -> bool:
        messages = [{"role": "user", "content": content}]
        try:
            text = template.render({**variables, "messages": messages, "tools": None, "add_generation_prompt": False})
        except ChatTemplateError:
            return False
        return _WORD in text

    return not shows(_WORD) and shows([{"type": "text", "text": _WORD}])


def to_variables(
    message: Message, *, call_form: CallForm | None = None, reasoning_name: str | None = None, parts: bool = False
) -> dict[str, JSON]:
    """Return a message as a template reads it; `reasoning_content` is there under its own name too."""
    form = call_form or _FORMS[0]
    variables: dict[str, JSON] = {"role": message.role, "content": message.content}
    if message.media or (parts and message.content):
        variables["content"] = _split_at_media(message)
    if message.reasoning_content:
        variables["reasoning_content"] = message.reasoning_content
        if reasoning_name is not None:
            variables[reasoning_name] = message.reasoning_content
    if message.tool_calls:
        variables["tool_calls"] = [_call_variables(call, form) for call in message.tool_calls]
        if form.null_content and variables["content"] == "":
            variables["content"] = None
    if message.tool_call_id is not None:
        variables["tool_call_id"] = message.tool_call_id
    return variables


def _split_at_media(message: Message) -> list[JSON]:
    """Return the content in the parts that chat templates know: texts, and for each medium its kind."""
    parts: list[JSON] = []
    begin = 0
    for medium in message.media:
        if medium.at > begin:
            parts.append({"type": "text", "text": message.content[begin : medium.at]})
        parts.append({"type": medium.kind})
        begin = medium.at
    if begin < len(message.content):
        parts.append({"type": "text", "text": message.content[begin:]})
    return parts


def _call_variables(call: ToolCall, form: CallForm) -> JSON:
    arguments: JSON = json.dumps(call.arguments, ensure_ascii=False) if form.text_arguments else call.arguments
    variables: dict[str, JSON] = {"type": "function", "function": {"name": call.name, "arguments": arguments}}
    if call.id is not None:
        variables["id"] = call.id
    return variables
