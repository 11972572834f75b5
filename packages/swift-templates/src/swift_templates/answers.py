"""An answer's tokens back to a message, whole or while they are made."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from .dialect import Dialect, Tool
from .errors import ChatTemplateError
from .family import families
from .lookalikes import absent_marks
from .messages import JSON, Conversation, Message, ToolCall
from .reasoning import CLOSE, OPEN, split_reasoning
from .rendering import Renderer
from .streaming import decode_stream, stream_matched, trim_stream
from .tokenizer import Tokenizer

_PROBE = "answer"


@dataclass(frozen=True, kw_only=True)
class AnswerForm:
    """What a chat template puts around the text of an answer.

    Attributes:
        stop: the token that ends it; None where the template shows none.
        before: white space that the template puts before the text.
        after: white space that it puts after the text.
        opens_thinking: the prompt ends inside of the reasoning.
        pattern: see `Family.answer_pattern`; that of the family that writes answers in the same way.
    """

    stop: int | None = None
    before: str = ""
    after: str = ""
    opens_thinking: bool = False
    pattern: str | None = None


def find_form(renderer: Renderer, tokenizer: Tokenizer) -> AnswerForm:
    """Render a tiny conversation, and see what stands around its answer."""
    question, answer = Message(role="user", content="ask"), Message(role="assistant", content=_PROBE)
    rendering = renderer.open(Conversation(messages=(question, answer)))
    try:
        prompt, whole = rendering.prompt(1), rendering.history(2)
    except ChatTemplateError:
        # It refuses this one, and will say so about real ones itself if they are no better.
        return AnswerForm()
    opens_thinking = prompt.rstrip().endswith(OPEN)
    before, found, after = whole.rpartition(_PROBE)
    stop = tokenizer.first_control(after)
    ending = "" if stop is None else after.partition(stop)[0]
    if not found or stop is None or ending.strip():
        return AnswerForm(opens_thinking=opens_thinking)
    beginning = before.removeprefix(prompt) if before.startswith(prompt) else None
    return AnswerForm(
        stop=tokenizer.special_ids[stop],
        before="" if beginning is None or CLOSE in beginning else beginning,
        after="" if beginning is None else ending,
        opens_thinking=opens_thinking,
        pattern=None if beginning is None or tokenizer.first_control(beginning) is None else _find_pattern(beginning),
    )


def _find_pattern(before: str) -> str | None:
    """Return the pattern of the first family that sees the answer behind control tokens; None if there is none."""
    for name in families.names():
        pattern = families.load(name).answer_pattern
        found = None if pattern is None else re.fullmatch(pattern, before + _PROBE, re.DOTALL)
        if found is not None and found["content"] == _PROBE:
            return pattern
    return None


class AnswerReader:
    """Reads answers of one model.

    Args:
        tokenizer: the tokenizer.
        form: what stands around the text.
        stop_token_ids: tokens that end an answer.
        prefix: text that every answer begins with, and which stands in the prompt.
        pattern: see `Family.answer_pattern`; by default the form's.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        form: AnswerForm,
        stop_token_ids: frozenset[int],
        prefix: str,
        pattern: str | None,
    ) -> None:
        self._tokenizer = tokenizer
        self._form = form
        self._stops = stop_token_ids
        self._prefix = prefix
        pattern = pattern or form.pattern
        self._pattern = None if pattern is None else re.compile(pattern, re.DOTALL)

    def parse(self, token_ids: Iterable[int], dialect: Dialect | None = None, tools: Sequence[Tool] = ()) -> Message:
        """Return the message, with its calls if there is a dialect to read them by."""
        ids = [int(token_id) for token_id in self._until_stop(token_ids)]
        if dialect is None:
            return self._parse(ids)
        # The marks of many dialects are control tokens, so these stay; text that looks like one is broken meanwhile.
        text, mark = self._spelled(ids)
        text = self._prefix + text
        # A call that is only thought of is none, so the reasoning is taken off before calls are looked for.
        if self._pattern is None:
            thought, rest = self._split(text)
            parsed = dialect.parse(rest, tools)
            if not parsed.calls:
                return self._parse(ids)
            reasoning, content = thought, self._without_control(parsed.content)
        else:
            found = self._pattern.match(text)
            start, stop = (0, 0) if found is None or found["reasoning"] is None else found.span("reasoning")
            parsed = dialect.parse((text[:start] + text[stop:]).removeprefix(self._form.before), tools)
            plain = found is None and bool(dialect.parse(self._without_control(text), tools).calls)
            if plain and self._tokenizer.first_control(text) is not None:
                # A dialect of plain text calls in the content only, and this answer has not come to that.
                return self._parse(ids)
            if not parsed.calls:
                return self._with_inner_calls(self._parse(ids), dialect, tools)
            reasoning, content = self._apart(parsed.content)
            reasoning = text[start:stop] or reasoning
        return Message(
            role="assistant",
            content=content.strip().replace(mark, ""),
            reasoning_content=reasoning and reasoning.replace(mark, ""),
            tool_calls=tuple(_without(call, mark) for call in parsed.calls),
        )

    def _with_inner_calls(self, said: Message, dialect: Dialect, tools: Sequence[Tool]) -> Message:
        """Return an answer with the calls that a dialect of plain text wrote into its content."""
        inside = dialect.parse(said.content, tools)
        if not inside.calls:
            return said
        return dataclasses.replace(said, content=inside.content.strip(), tool_calls=inside.calls)

    def split(self, text: str) -> tuple[str | None, str] | None:
        """Return the reasoning of an answer's text, as `parse` finds it, and the rest, control tokens included.

        Args:
            text: what follows the prompt, without the stop token; what only looks like a control token is broken.

        Returns:
            None where thinking is not written between <think> and </think>, or there is neither.
        """
        if self._pattern is not None or not (self._form.opens_thinking or OPEN in text or CLOSE in text):
            return None
        return self._split(text)

    def _split(self, text: str) -> tuple[str | None, str]:
        """Return the reasoning and the rest, control tokens included, of a text that no pattern takes apart."""
        text = text.removeprefix(self._form.before)
        bare = text
        while (first := self._tokenizer.first_control(bare)) and first not in (OPEN, CLOSE) and bare.startswith(first):
            bare = bare.removeprefix(first)
        # Control tokens before the thinking are not said; others may begin a call.
        return split_reasoning(bare if bare.lstrip().startswith(OPEN) else text, opened=self._form.opens_thinking)

    def _without_control(self, text: str) -> str:
        return self._tokenizer.answer_lookalikes.replaced(text, lambda _: "")

    def _spelled(self, ids: list[int]) -> tuple[str, str]:
        """Return the text with its control tokens, and the mark that breaks what only looks like one."""
        tokenizer = self._tokenizer
        text = tokenizer.decode_after(ids)
        [mark] = absent_marks([self._prefix, text], 1)
        if not tokenizer.answer_lookalikes.occur_in(tokenizer.decode_after(tokenizer.without_control(ids))):
            return text, mark
        runs = itertools.groupby(ids, lambda token_id: tokenizer.special_text(token_id) is not None)
        texts = [(is_control, tokenizer.decode_after(list(run))) for is_control, run in runs]
        return "".join(
            text if is_control else str(tokenizer.answer_lookalikes.broken(text, mark)) for is_control, text in texts
        ), mark

    def _parse(self, ids: list[int]) -> Message:
        if self._pattern is not None:
            found = self._pattern.fullmatch(self._prefix + self._tokenizer.decode_after(ids))
            if found is not None:
                return Message(role="assistant", content=found["content"], reasoning_content=found["reasoning"] or None)
        text = self._prefix + self._tokenizer.decode_after(self._tokenizer.without_control(ids))
        text = text.removeprefix(self._before).removesuffix(self._form.after)
        reasoning, content = split_reasoning(text, opened=self._form.opens_thinking)
        return Message(role="assistant", content=content, reasoning_content=reasoning)

    def text_of(self, token_ids: Iterable[int]) -> str:
        """Return an answer's text with its control tokens spelled out."""
        return self._prefix + self._tokenizer.decode_after(int(each) for each in self._until_stop(token_ids))

    def _apart(self, text: str) -> tuple[str | None, str]:
        """Return the reasoning and the content of what an answer says beside its calls."""
        if self._pattern is not None:
            last = self._tokenizer.last_control(text)
            spelling = self._tokenizer.first_control(text[last:]) or ""
            before, after = text[: last + len(spelling)], text[last + len(spelling) :]
            # What is said beside a call may have no header of its own.
            found = self._pattern.fullmatch(text) or self._pattern.fullmatch(before + self._form.before + after)
            if found is not None:
                return found["reasoning"] or None, found["content"]
        rest = self._without_control(text)
        return split_reasoning(rest.removeprefix(self._form.before), opened=self._form.opens_thinking)

    def stream_text(self, tokens: Iterable[int]) -> Iterator[str]:
        """Yield pieces that join to the text that `parse` takes apart."""
        if self._pattern is not None:
            return stream_matched(
                self._pattern,
                self._tokenizer,
                self._until_stop(tokens),
                self._prefix,
                before=self._before,
                after=self._form.after,
            )
        pieces = decode_stream(self._tokenizer, self._until_stop(tokens))
        return trim_stream(itertools.chain([self._prefix], pieces), before=self._before, after=self._form.after)

    @property
    def _before(self) -> str:
        """What stands before the text that has lost its control tokens."""
        return self._without_control(self._form.before)

    def _until_stop(self, token_ids: Iterable[int]) -> Iterator[int]:
        return itertools.takewhile(lambda token_id: token_id not in self._stops, token_ids)


def _without(call: ToolCall, mark: str) -> ToolCall:
    def clean(value: JSON) -> JSON:
        if isinstance(value, str):
            return value.replace(mark, "")
        if isinstance(value, dict):
            return {key.replace(mark, ""): clean(each) for key, each in value.items()}
        return [clean(each) for each in value] if isinstance(value, list) else value

    arguments = {key.replace(mark, ""): clean(each) for key, each in call.arguments.items()}
    return dataclasses.replace(call, name=call.name.replace(mark, ""), arguments=arguments)
