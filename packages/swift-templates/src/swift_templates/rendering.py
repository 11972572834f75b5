"""A conversation as the text that the model reads, with the model's own chat template.

Everything that decides about the text is here: which of a model's templates is taken, which variables it sees, where
the system prompt comes from, how reasoning is handed over, and that look-alikes of control tokens stay text.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from .box_writer import WrittenBoxes
from .errors import ChatTemplateError, SystemPromptNotFound, TemplateMismatch
from .jinja import ChatTemplate, compile_chat_template
from .lookalikes import Lookalikes, absent_marks
from .media.processor import Placed
from .message_variables import TemplateProbe, find_reasoning_name, to_variables
from .messages import JSON, Conversation, Message
from .reasoning import CLOSE, OPEN, join_reasoning
from .tokenizer import Tokenizer

logger = logging.getLogger(__name__)


class Renderer:
    """Renders conversations for one model.

    Args:
        chat_templates: Jinja texts by name; 'default' is the usual one, 'tool_use' the one for conversations with
            tools.
        tokenizer: names the special tokens, and knows their look-alikes.
        system: prompt for conversations that bring none: a text, or the path of a .txt file.
        enable_thinking: handed to the template unless None.
        placeholders: what the template writes for media, besides control tokens.

    Attributes:
        system: the text of that prompt, or None.
        own_lookalikes: finds added tokens that the chat templates write, and that are no control tokens.

    Raises:
        ChatTemplateError: a template does not compile.
        SystemPromptNotFound: the .txt file does not exist.
    """

    def __init__(
        self,
        chat_templates: Mapping[str, str],
        tokenizer: Tokenizer,
        *,
        system: str | None = None,
        enable_thinking: bool | None = None,
        placeholders: Iterable[str] = (),
    ) -> None:
        self._templates = {name: compile_chat_template(source) for name, source in chat_templates.items()}
        self.own_lookalikes = tokenizer.lookalikes_in(*chat_templates.values(), OPEN, CLOSE)
        self._lookalikes_of_dialect = tokenizer.lookalikes.and_of(placeholders)
        self._lookalikes_of_user = self._lookalikes_of_dialect.and_more(self.own_lookalikes)
        self._lookalikes_of_answer = tokenizer.answer_lookalikes.and_of(placeholders)
        self.system = _read_system(system)
        self._variables: dict[str, object] = {**tokenizer.named_tokens, "documents": None}
        self._probes: dict[ChatTemplate, TemplateProbe] = {}
        if enable_thinking is not None:
            self._variables["enable_thinking"] = enable_thinking
            if not any(template.mentions("enable_thinking") for template in self._templates.values()):
                logger.warning("enable_thinking=%s has no effect: the chat template does not know it", enable_thinking)

    def with_system(self, conversation: Conversation) -> Conversation:
        """Return the conversation with the default system prompt before it, if it has none of its own."""
        if self.system is None or (conversation.messages and conversation.messages[0].role == "system"):
            return conversation
        system = Message(role="system", content=self.system)
        return dataclasses.replace(conversation, messages=(system, *conversation.messages))

    def open(
        self,
        conversation: Conversation,
        placed: Placed | None = None,
        boxes: WrittenBoxes | None = None,
        *,
        by_dialect: bool = False,
        mark: str | None = None,
    ) -> Rendering:
        """Prepare a conversation, as it stands, to be rendered up to any of its messages.

        Args:
            conversation: what is rendered.
            placed: what the model sees of its media.
            boxes: what stands in the places of marks in its texts.
            by_dialect: a dialect wrote into its texts, where what the chat template writes stays whole.
            mark: breaks look-alikes in its texts already.

        Raises:
            TemplateMismatch: it has tools, calls, results or a system prompt, and the chat template does not show them.
            ChatTemplateError: the model has no chat template for it.
        """
        template = self._template_for(conversation)
        if conversation.tools and not template.mentions("tools"):
            raise TemplateMismatch(
                f"the conversation has {len(conversation.tools)} tools, but the chat template knows nothing of tools, "
                "so the model would not see them; leave them out, or use a model or a template family for tools"
            )
        reasoning_name = find_reasoning_name(template)
        probe = self._probe(template)
        form = probe.check(conversation)
        messages = [
            to_variables(message, call_form=form, reasoning_name=reasoning_name, parts=probe.parts)
            for message in conversation.messages
        ]
        tools: list[JSON] = list(conversation.tools)
        called = [[call.name for call in message.tool_calls] for message in conversation.messages]
        of_user = self._lookalikes_of_dialect if by_dialect else self._lookalikes_of_user
        if mark is None and not self._have_lookalikes(messages, of_user) and not of_user.occur_in(tools):
            return Rendering(template, self._variables, messages, tools, called=called, placed=placed, boxes=boxes)
        unbroken = messages if mark is None else [_without(mark, message) for message in messages]
        plain = Rendering(template, self._variables, unbroken, tools, called=called)
        if mark is None:
            [mark] = absent_marks([*messages, *tools], 1)
        broken = [self._broken(message, mark, of_user) for message in messages]
        broken_tools = of_user.broken(tools, mark)
        return Rendering(
            template,
            self._variables,
            broken,
            broken_tools,
            called=called,
            mark=mark,
            plain=plain,
            placed=placed,
            boxes=boxes,
        )

    def _template_for(self, conversation: Conversation) -> ChatTemplate:
        if conversation.tools and "tool_use" in self._templates:
            return self._templates["tool_use"]
        if "default" not in self._templates:
            raise ChatTemplateError(
                f"the model has chat templates named {', '.join(sorted(self._templates))}, but none named 'default'"
            )
        return self._templates["default"]

    def _probe(self, template: ChatTemplate) -> TemplateProbe:
        if template not in self._probes:
            self._probes[template] = TemplateProbe(template, self._variables)
        return self._probes[template]

    def _lookalikes(self, message: dict[str, JSON], name: str, of_user: Lookalikes) -> Lookalikes:
        # Only an answer's own text may open and close its thinking; what it hands to a function may not.
        answer = message["role"] == "assistant" and name != "tool_calls"
        return self._lookalikes_of_answer if answer else of_user

    def _have_lookalikes(self, messages: list[dict[str, JSON]], of_user: Lookalikes) -> bool:
        return any(
            self._lookalikes(message, name, of_user).occur_in(value)
            for message in messages
            for name, value in message.items()
        )

    def _broken(self, message: dict[str, JSON], mark: str, of_user: Lookalikes) -> dict[str, JSON]:
        return {name: self._lookalikes(message, name, of_user).broken(value, mark) for name, value in message.items()}


class Rendering:
    """One conversation, rendered up to any of its messages.

    Its texts may hold `mark` inside look-alikes; `Tokenizer.encode` takes the mark and drops it. But for the marks
    they are what `plain`, the same conversation without them, renders; that is checked.
    """

    def __init__(
        self,
        template: ChatTemplate,
        variables: Mapping[str, object],
        messages: list[dict[str, JSON]],
        tools: JSON,
        *,
        called: list[list[str]],
        mark: str | None = None,
        plain: Rendering | None = None,
        placed: Placed | None = None,
        boxes: WrittenBoxes | None = None,
    ) -> None:
        self._template = template
        self._variables = {**variables, "tools": tools or None}
        self._tools = tools
        self._messages = messages
        self._called = called
        self._plain = plain
        self._placed = placed
        self._boxes = boxes
        self.mark = mark

    @property
    def marks_generation(self) -> bool:
        """Whether the template says itself which text is the model's."""
        return self._template.marks_generation

    def answer_number(self, position: int) -> int:
        """Return which of the conversation's answers stands at a position, counted from 1."""
        return sum(message["role"] == "assistant" for message in self._messages[: position + 1])

    def texts_of(self, position: int) -> list[str]:
        """Return what must be found in the answer at a position: reasoning, content, names of called functions."""
        message = self._messages[position]
        texts = [text for name in ("reasoning_content", "content") if isinstance(text := message.get(name), str)]
        texts += [str(part["text"]) for part in _parts(message) if "text" in part]
        if self._boxes is not None:
            texts = list(map(self._boxes.put_in, texts))
        return [*texts, *self._called[position]]

    def said(self, position: int) -> tuple[str | None, str]:
        """Return the reasoning of an answer, and the text of its content."""
        message = self._messages[position]
        reasoning, content = message.get("reasoning_content"), _text_of(message)
        thought = reasoning if isinstance(reasoning, str) else None
        if self._boxes is None:
            return thought, content
        return thought and self._boxes.put_in(thought), self._boxes.put_in(content)

    def question_before(self, position: int) -> str:
        """Return what the user said last before an answer, without marks."""
        asked = [each for each in self._messages[:position] if each["role"] == "user"]
        text = _text_of(asked[-1]) if asked else ""
        return text if self.mark is None else text.replace(self.mark, "")

    def prompt(self, count: int) -> str:
        """Return the text that a server sends so that the first `count` messages are answered."""
        text = self._template.render(self._with(self._messages[:count], generation=True))
        if self._plain is not None:
            self._check_against(text, self._plain.prompt(count))
        self._check_calls(text, count)
        return self._put_in(text, count)

    def history(self, count: int) -> str:
        """Return the text of the first `count` messages and nothing more."""
        text = self._template.render(self._with(self._up_to(count), generation=False))
        if self._plain is not None:
            self._check_against(text, self._plain.history(count))
        self._check_calls(text, count)
        return self._put_in(text, count)

    def without_earlier_reasoning(self, position: int) -> Rendering | None:
        """Return the conversation without the reasoning of the messages before a position; None if there is none."""
        names = ("reasoning_content", find_reasoning_name(self._template))
        if not any(name in message for message in self._messages[:position] for name in names):
            return None
        other = copy.copy(self)
        other._messages = [
            {name: value for name, value in message.items() if at >= position or name not in names}
            for at, message in enumerate(self._messages)
        ]
        other._plain = None if self._plain is None else self._plain.without_earlier_reasoning(position)
        return other

    def marked_history(self, count: int) -> tuple[str, list[tuple[int, int]]]:
        """Return `history(count)`, and the character spans in it that the template marks as the model's own."""
        opening, closing = absent_marks([*self._messages, self._tools, self.mark], 2)
        marked = self._template.render_marked(
            self._with(self._up_to(count), generation=False), marks=(opening, closing)
        )
        marked = self._put_in(marked, count)
        pieces: list[str] = []
        spans: list[tuple[int, int]] = []
        length = begin = 0
        for piece in re.split(f"([{opening}{closing}])", marked):
            if piece == opening:
                begin = length
            elif piece == closing:
                spans.append((begin, length))
            else:
                pieces.append(piece)
                length += len(piece)
        return "".join(pieces), spans

    def has_calls(self, position: int) -> bool:
        """Whether the next message is the result of a call, or of what a dialect wrote for one."""
        return bool(self._called[position])

    def num_media(self, count: int) -> int:
        """Return how many media stand in the first `count` messages."""
        parts = [part for message in self._messages[:count] for part in _parts(message)]
        return sum(part.get("type") != "text" for part in parts)

    def _put_in(self, text: str, count: int) -> str:
        if self._placed is not None:
            text = self._placed.put_in(text, self.num_media(count))
        return text if self._boxes is None else self._boxes.put_in(text)

    def _up_to(self, count: int) -> list[dict[str, JSON]]:
        """Return messages the last of which carries its reasoning in a form that the template shows."""
        messages = self._messages[:count]
        if messages and find_reasoning_name(self._template) is None:
            messages[-1] = _with_written_reasoning(messages[-1])
        return messages

    def _check_calls(self, text: str, count: int) -> None:
        if not any(self._called):
            return
        called = Counter(name for names in self._called[:count] for name in names)
        plain = text if self.mark is None else text.replace(self.mark, "")
        for name, number in called.items():
            if plain.count(name) < number:
                raise TemplateMismatch(
                    f"the chat template leaves out or changes {name!r}, which is called, so the model would not see "
                    "it; name an agent_template, which writes calls as text, or a template family for tools"
                )

    def _check_against(self, text: str, plain: str) -> None:
        if self.mark is not None and text.replace(self.mark, "") != plain:
            raise ChatTemplateError(
                "the conversation has text that looks like a control token, and the chat template acts on it; "
                "remove that text, which would otherwise steer the model"
            )

    def _with(self, messages: list[dict[str, JSON]], *, generation: bool) -> dict[str, object]:
        return {**self._variables, "messages": messages, "add_generation_prompt": generation}


def _read_system(system: str | None) -> str | None:
    if system is None or not system.endswith(".txt") or "\n" in system:
        return system
    path = Path(system).expanduser()
    if not path.is_file():
        raise SystemPromptNotFound(
            f"system prompt {system!r} is not a file; expected a text, or the path of a .txt file"
        )
    return path.read_text(encoding="utf-8").strip()


def _without(mark: str, message: dict[str, JSON]) -> dict[str, JSON]:
    def clean(value: JSON) -> JSON:
        if isinstance(value, str):
            return value.replace(mark, "")
        if isinstance(value, dict):
            return {key.replace(mark, ""): clean(each) for key, each in value.items()}
        return [clean(each) for each in value] if isinstance(value, list) else value

    return {name: clean(value) for name, value in message.items()}


def _parts(message: dict[str, JSON]) -> list[dict[str, JSON]]:
    content = message["content"]
    return [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []


def _text_of(message: dict[str, JSON]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(str(part.get("text", "")) for part in _parts(message))


def _with_written_reasoning(message: dict[str, JSON]) -> dict[str, JSON]:
    reasoning, content = message.get("reasoning_content"), message["content"]
    if isinstance(reasoning, str) and isinstance(content, str):
        return {**message, "content": join_reasoning(reasoning, content)}
    if isinstance(reasoning, str) and _parts(message)[:1] and "text" in _parts(message)[0]:
        first, *others = _parts(message)
        return {**message, "content": [{**first, "text": join_reasoning(reasoning, str(first["text"]))}, *others]}
    return message
