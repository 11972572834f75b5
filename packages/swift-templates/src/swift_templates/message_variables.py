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

from .errors import ChatTemplateError, TemplateMismatch
from .jinja import ChatTemplate
from .messages import JSON, Conversation, Message, ToolCall

# Words that no chat template has of its own.
_WORD = "heliotrope"
_NAME = "look_up_heliotropes"
_THINKING = re.compile(r"""\.thinking\b|['"]thinking['"]""")
_PROBE = (
    Message(role="user", content="ask"),
    Message(role="assistant", content="", tool_calls=(ToolCall(_NAME, {"word": _WORD}, "abcdefghi"),)),
)
_TOOL: JSON = {
    "type": "function",
    "function": {
        "name": "other",
        "description": "Does other things.",
        "parameters": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
    },
}
_RESULT = Message(role="tool", content=_WORD, tool_call_id="abcdefghi")


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


class TemplateProbe:
    """What one chat template shows, found by letting it render tiny conversations; each is rendered once.

    Args:
        template: the template.
        variables: what it sees besides.
    """

    def __init__(self, template: ChatTemplate, variables: Mapping[str, object]) -> None:
        self._template = template
        self._variables = variables
        self._shows_results: dict[CallForm | None, bool] = {}

    @functools.cached_property
    def parts(self) -> bool:
        """See `takes_parts`."""
        return takes_parts(self._template, self._variables)

    @functools.cached_property
    def call_form(self) -> CallForm | None:
        """See `find_call_form`."""
        return find_call_form(self._template, self._variables, parts=self.parts)

    @functools.cached_property
    def system(self) -> bool:
        """See `shows_system`."""
        return shows_system(self._template, self._variables, parts=self.parts)

    def results(self, form: CallForm | None) -> bool:
        """See `shows_results`."""
        if form not in self._shows_results:
            self._shows_results[form] = shows_results(self._template, self._variables, form, parts=self.parts)
        return self._shows_results[form]

    def check(self, conversation: Conversation) -> CallForm | None:
        """Return how the template takes the conversation's calls, if it has any.

        Raises:
            TemplateMismatch: the template leaves out the calls, the results or the system prompt.
        """
        messages, form = conversation.messages, None
        if any(message.tool_calls for message in messages):
            form = self.call_form
            if form is None:
                raise _left_out("tool calls", "name an agent_template, which writes calls as text")
        if any(message.role == "tool" for message in messages) and not self.results(form):
            raise _left_out("messages from 'tool'", "name an agent_template that writes results otherwise")
        if messages and messages[0].role == "system" and not self.system:
            raise _left_out("a system prompt", "take it out of the row or the options")
        return form


def _left_out(what: str, advice: str) -> TemplateMismatch:
    return TemplateMismatch(
        f"the conversation has {what}, and the chat template leaves out such, so the model would not see it; {advice}, "
        "or name a template family that has a place for it"
    )


def find_call_form(template: ChatTemplate, variables: Mapping[str, object], *, parts: bool = False) -> CallForm | None:
    """Return the first form in which a call is shown; None if the template leaves calls out.

    A template that refuses the tiny conversation gets the usual form: it will say itself what it refuses of others.
    """
    rendered = 0
    for tools in (None, [_TOOL]):
        for form in _FORMS:
            for rest in ((), (_RESULT,)):
                text = _rendered(template, variables, (*_PROBE, *rest), form=form, tools=tools, parts=parts)
                rendered += text is not None
                # Python's own quotes mean that the template takes the arguments for text.
                if text and _NAME in text and f"'{_WORD}'" not in text and text.count(_WORD) > len(rest):
                    return form
    return None if rendered else _FORMS[0]


def shows_results(
    template: ChatTemplate, variables: Mapping[str, object], form: CallForm | None, *, parts: bool = False
) -> bool:
    """Whether a template shows what tools answer; one that refuses to say counts as such.

    Args:
        template: the template.
        variables: what it sees besides.
        form: that of the calls; None if they stand in the texts.
        parts: see `takes_parts`.
    """
    call = ToolCall(_NAME, {"word": "rain"}, "abcdefghi")
    asked = Message(role="assistant", content="" if form else "go", tool_calls=(call,) if form else ())
    done = Message(role="assistant", content="done")
    for tools in (None, [_TOOL]):
        for rest in ((), (done,)):
            messages = (_PROBE[0], asked, _RESULT, *rest)
            text = _rendered(template, variables, messages, form=form, tools=tools, parts=parts)
            if text is None or _WORD in text:
                return True
    return False


def shows_system(template: ChatTemplate, variables: Mapping[str, object], *, parts: bool) -> bool:
    """Whether a template shows the system prompt; one that refuses to say counts as such."""
    messages = (Message(role="system", content=_WORD), _PROBE[0])
    text = _rendered(template, variables, messages, parts=parts)
    return text is None or _WORD in text


def _rendered(
    template: ChatTemplate,
    variables: Mapping[str, object],
    messages: tuple[Message, ...],
    *,
    form: CallForm | None = None,
    tools: list[JSON] | None = None,
    parts: bool = False,
) -> str | None:
    written = [to_variables(message, call_form=form, parts=parts) for message in messages]
    try:
        return template.render({**variables, "messages": written, "tools": tools, "add_generation_prompt": False})
    except ChatTemplateError:
        return None


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
