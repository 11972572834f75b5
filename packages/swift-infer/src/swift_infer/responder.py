"""From a conversation to its answer: template, engine and sampling in one object."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from swift_templates import Conversation, Message, Template
from swift_templates.generation import SamplingParams

from .engine import Engine


class StreamedAnswer:
    """An answer while it is made: iterate over it for pieces of text; `message` is what was said so far.

    Args:
        template: tokens to text.
        token_ids: the answer's tokens, as an engine yields them.
    """

    def __init__(self, template: Template, token_ids: Iterator[int]) -> None:
        self._template = template
        self._source = token_ids
        self._seen: list[int] = []

    def __iter__(self) -> Iterator[str]:
        return self._template.stream_text(self._remember())

    @property
    def message(self) -> Message:
        """The answer so far, as the template parses it: text, and reasoning apart from it."""
        return self._template.parse(self._seen)

    def close(self) -> None:
        """Stop generating."""
        close = getattr(self._source, "close", None)
        if close is not None:
            close()

    def _remember(self) -> Iterator[int]:
        for token_id in self._source:
            self._seen.append(token_id)
            yield token_id


class Responder:
    """Answers conversations.

    Args:
        engine: answers.
        template: conversations to tokens and back.
        sampling: how tokens are chosen.
        adapter: which adapter answers; None is the base model.
    """

    def __init__(
        self, engine: Engine, template: Template, sampling: SamplingParams, *, adapter: str | None = None
    ) -> None:
        self.engine = engine
        self.template = template
        self.sampling = sampling
        self.adapter = adapter

    def answer(self, conversations: list[Conversation]) -> list[list[Message]]:
        """Return `num_return_sequences` answers to each conversation."""
        prompts = [replace(self.template.encode_prompt(each), adapter=self.adapter) for each in conversations]
        return [
            [self.template.parse(completion.token_ids) for completion in completions]
            for completions in self.engine.generate(prompts, self.sampling)
        ]

    def stream(self, conversation: Conversation) -> StreamedAnswer:
        """Begin to answer a conversation."""
        prompt = replace(self.template.encode_prompt(conversation), adapter=self.adapter)
        return StreamedAnswer(self.template, self.engine.stream(prompt, self.sampling))
