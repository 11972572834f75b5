"""From a conversation to its answer: template, engine and sampling in one object."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

from swift_templates import Conversation, Message, Template
from swift_templates.generation import SamplingParams

from .engine import Engine


class Asked:
    """An engine, a template and how tokens are chosen: everything between a conversation and its answer.

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

    def answers(self, conversations: list[Conversation]) -> list[list[Message]]:
        """Return `num_return_sequences` answers to each conversation."""
        prompts = [replace(self.template.encode_prompt(each), adapter=self.adapter) for each in conversations]
        return [
            [self.template.parse(completion.token_ids) for completion in completions]
            for completions in self.engine.generate(prompts, self.sampling)
        ]

    def stream(self, conversation: Conversation) -> Generator[str, None, None]:
        """Yield the answer's text in pieces, each as soon as its characters are complete."""
        prompt = replace(self.template.encode_prompt(conversation), adapter=self.adapter)
        tokens: list[int] = []
        shown = ""
        for token in self.engine.stream(prompt, self.sampling):
            tokens.append(token)
            text = self.template.decode(tokens)
            # A character of several tokens decodes to the replacement sign until its last token is there.
            if text.endswith("\ufffd"):
                continue
            yield text[len(shown) :]
            shown = text
