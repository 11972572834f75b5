"""One `Template` for trainer and server: conversations to token ids, and an answer's token ids back to a message.

The model's own chat template is the truth. Training tokens are, by construction, the prompt that a server sends
followed by what the model should then say; `spans` finds them in the text and `branches` in the tokens.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from .answers import AnswerReader, find_form
from .args import PromptArgs, TemplateArgs
from .box_writer import BoxWriter
from .branches import Encoding, encode_text, encode_together, encode_turns
from .dialect import Dialect, Tool
from .encoded import Encoded
from .errors import ChatTemplateNotFound, SampleTooLong, SwiftTemplatesError
from .family import families, load_family
from .generation import Prompt
from .grounding import Grounded, PictureSize
from .loss_scale import read_loss_scale
from .media.policy import MediaPolicy
from .media.processor import MediaProcessor, MediaShow, SeenMedia, Shown
from .messages import Conversation, Message, check_conversation, is_text
from .model_folder import read_model_folder
from .rendering import Renderer, Rendering
from .spans import find_turn
from .tokenizer import Tokenizer
from .tool_use import ToolUse
from .truncation import truncate


class Template:
    """Turns conversations into samples and prompts for one model, and answers back into messages.

    Args:
        tokenizer: the model's tokenizer.
        chat_templates: Jinja texts by name; 'default' is the usual one.
        stop_token_ids: tokens that end an answer, beside the one that the chat template puts after it.
        model_length: tokens that the model was built for.
        answer_pattern: see `Family`.
        model_type: what config.json calls the model; says how it writes boxes.
        media: shows pictures, videos and sounds to the model; without it, conversations with such are refused.
        media_policy: where they may come from, and how large they may be.
        args: what the user said; `PromptArgs` are `TemplateArgs` with the defaults of what matters in training only.

    Attributes:
        args: what the user said.
        tokenizer: the tokenizer.
        stop_token_ids: every token that ends an answer.
        pad_token_id: the token to fill up with; one that ends answers where the model names none.
        max_length: most tokens of a sample, or None.

    Raises:
        ChatTemplateError: a chat template does not compile.
        SystemPromptNotFound: the system prompt is the name of a .txt file that does not exist.
        UnknownName, InvalidLossScale: see `read_loss_scale`.
        ValueError: max_length is less than 1.
    """

    def __init__(
        self,
        *,
        tokenizer: Tokenizer,
        chat_templates: Mapping[str, str],
        stop_token_ids: Iterable[int] = (),
        model_length: int | None = None,
        answer_pattern: str | None = None,
        model_type: str | None = None,
        args: PromptArgs | None = None,
        media: MediaProcessor | None = None,
        media_policy: MediaPolicy | None = None,
    ) -> None:
        self.args = TemplateArgs.complete(args)
        self._media = MediaShow(media, media_policy or MediaPolicy())
        if self.args.max_length is not None and self.args.max_length < 1:
            raise ValueError(f"max_length is {self.args.max_length!r}; expected at least 1")
        self._weighing = read_loss_scale(self.args.loss_scale)
        self.tokenizer = tokenizer
        self._renderer = Renderer(
            chat_templates,
            tokenizer,
            system=self.args.system,
            enable_thinking=self.args.enable_thinking,
            placeholders=() if media is None else media.placeholders.values(),
        )
        self.max_length = self.args.max_length or model_length
        eos = tokenizer.named_id("eos_token")
        self.stop_token_ids = frozenset(stop_token_ids) | (frozenset() if eos is None else {eos})
        self._box_writer = BoxWriter(self.args.box_notation, model_type)
        self._tool_use = ToolUse(self._renderer, tokenizer, self.args.agent_template)
        form = find_form(self._renderer, tokenizer)
        if form.stop is not None:
            self.stop_token_ids |= {form.stop}
        self._reader = AnswerReader(
            tokenizer,
            form=form,
            stop_token_ids=self.stop_token_ids,
            prefix=self.args.response_prefix,
            pattern=answer_pattern,
        )
        spellings = sorted(filter(None, map(tokenizer.special_text, self.stop_token_ids)), key=len, reverse=True)
        self._stops = re.compile("|".join(map(re.escape, spellings)) or r"(?!)")
        pad = tokenizer.named_id("pad_token")
        self.pad_token_id: int = pad if pad is not None else min(self.stop_token_ids, default=0)

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        args: PromptArgs | None = None,
        *,
        new_special_tokens: Sequence[str] = (),
        model_length: int | None = None,
        media: MediaProcessor | None = None,
        media_policy: MediaPolicy | None = None,
    ) -> Template:
        """Read a model folder; transformers is not needed.

        Args:
            folder: holds tokenizer.json, and what there is of tokenizer_config.json, chat_template.jinja,
                special_tokens_map.json, config.json and generation_config.json.
            args: what the user said; `args.template` names a family to use instead of the model's chat template.
            new_special_tokens: control tokens that the tokenizer gets besides its own, in the order of their ids.
            model_length: tokens that the model takes, where that is not what the folder says.
            media: shows pictures, videos and sounds to the model.
            media_policy: where they may come from, and how large they may be.

        Raises:
            TokenizerNotFound: there is no tokenizer.json.
            ChatTemplateNotFound: there is no chat template and no family is named.
            InvalidModelFolder: a file is not what its name says.
            UnknownName: no such family.
            TemplateMismatch: the tokenizer lacks a token that ends the family's answers.
        """
        found = read_model_folder(Path(folder).expanduser())
        tokenizer = Tokenizer.from_folder(found, new_special_tokens=new_special_tokens)
        return cls.build(
            tokenizer,
            chat_templates=found.chat_templates,
            stop_token_ids=found.eos_token_ids,
            model_length=model_length or found.max_length,
            args=args,
            origin=f"model folder {str(found.path)!r}",
            model_type=found.model_type,
            media=media,
            media_policy=media_policy,
        )

    @classmethod
    def build(
        cls,
        tokenizer: Tokenizer,
        *,
        chat_templates: Mapping[str, str],
        stop_token_ids: frozenset[int],
        model_length: int | None,
        args: PromptArgs | None,
        origin: str,
        model_type: str | None = None,
        media: MediaProcessor | None = None,
        media_policy: MediaPolicy | None = None,
    ) -> Template:
        """Choose between a model's chat template and the family that the user names.

        Args:
            tokenizer: the model's tokenizer.
            chat_templates: the model's own, by name; may be empty if a family is named.
            stop_token_ids: tokens that the model's configuration says end an answer.
            model_length: tokens that the model was built for.
            args: what the user said.
            origin: what the model is called in messages.
            model_type: what config.json calls the model.
            media: shows pictures, videos and sounds to the model.
            media_policy: where they may come from, and how large they may be.

        Raises:
            ChatTemplateNotFound: the model has none and no family is named.
            UnknownName: no such family.
            TemplateMismatch: the tokenizer lacks a token that ends the family's answers.
        """
        pattern = None
        if args is not None and args.template is not None:
            family = load_family(args.template, tokenizer)
            chat_templates, pattern = {"default": family.chat_template}, family.answer_pattern
            stop_token_ids |= {tokenizer.special_ids[text] for text in family.stop_tokens}
        elif not chat_templates:
            raise ChatTemplateNotFound(
                f"{origin} has no chat template (looked for chat_template.jinja, and chat_template in "
                f"tokenizer_config.json); name a template family: {', '.join(families.names())}"
            )
        return cls(
            tokenizer=tokenizer,
            chat_templates=chat_templates,
            stop_token_ids=stop_token_ids,
            model_length=model_length,
            answer_pattern=pattern,
            model_type=model_type,
            args=args,
            media=media,
            media_policy=media_policy,
        )

    @property
    def system(self) -> str | None:
        """The system prompt for conversations that bring none: its text, where `args.system` may name a file."""
        return self._renderer.system

    def encode(self, conversation: Conversation) -> list[Encoded]:
        """Turn a conversation into training samples: one, or one for each branch; a lone answer is a plain text.

        Every sample is a prompt that a server would send, followed by the answer, which is trained. Several answers
        share a sample where each one's prompt begins, token for token, with the sample so far. Nothing is truncated.

        Returns:
            The samples in the order of their answers; none if none is to be trained (`trained_turns`).

        Raises:
            InvalidConversation: see `check_conversation`.
            TemplateMismatch: the template's texts for training and serving do not fit together.
            ResponsePrefixMissing: an answer to train on does not begin with the response prefix.
            ChatTemplateError: the template refuses the conversation.
            InvalidTools: see `ToolUse.written`.
        """
        [result] = self.encode_many([conversation])
        if isinstance(result, SwiftTemplatesError):
            raise result
        return result

    def encode_many(self, conversations: Iterable[Conversation]) -> list[list[Encoded] | SwiftTemplatesError]:
        """Do what `encode` does for several conversations, in less time; errors stand in the places of results."""
        return encode_together(map(self._start, conversations), self.tokenizer)

    def _start(self, conversation: Conversation) -> tuple[Encoding, str | None] | SwiftTemplatesError:
        """Return what makes a conversation's samples, and the mark in its texts; or why it makes none."""
        try:
            return self._begin(conversation)
        except SwiftTemplatesError as error:
            return error

    def _begin(self, conversation: Conversation) -> tuple[Encoding, str | None]:
        check_conversation(conversation)
        if is_text(conversation):
            return encode_text(conversation.messages[0], self.tokenizer)
        conversation, shown, rendering = self._open(conversation)
        see = shown.see_first if shown else None
        return self._encode_turns(rendering, self.trained_turns(conversation), see), rendering.mark

    def _open(self, conversation: Conversation) -> tuple[Conversation, Shown | None, Rendering]:
        """Return a conversation as the chat template takes it, its media, and how it renders."""
        conversation, by_dialect, mark = self._tool_use.written(self._renderer.with_system(conversation))
        shown = self._media.show(conversation)
        conversation, boxes = self._box_writer.write(conversation, shown)
        placed = shown.placed if shown else None
        rendering = self._renderer.open(conversation, placed, boxes, by_dialect=by_dialect, mark=mark)
        return conversation, shown, rendering

    def encode_prompt(self, conversation: Conversation) -> Prompt:
        """Turn a conversation that ends with a question into what a server sends to the model.

        Raises:
            InvalidConversation: see `check_conversation`.
            ChatTemplateError: the template refuses the conversation.
        """
        check_conversation(conversation, prompt=True)
        conversation, shown, rendering = self._open(conversation)
        text = rendering.prompt(len(conversation.messages)) + self.args.response_prefix
        ids = self.tokenizer.encode(text, mark=rendering.mark)
        if shown is None:
            return Prompt(input_ids=ids)
        own, seen = np.array(ids, dtype=np.int64), shown.placed.seen
        own = own if seen.own_ids is None else seen.own_ids(own)
        return Prompt(input_ids=own.tolist(), media=seen.arrays_for(own))

    def render(self, conversation: Conversation, *, generation_prompt: bool = False) -> str:
        """Return a conversation's text, with the generation prompt after it or not. Raises as `encode_prompt`."""
        answered = any(message.role == "assistant" for message in conversation.messages[-1:])
        check_conversation(conversation, prompt=not answered)
        conversation, _, rendering = self._open(conversation)
        render = rendering.prompt if generation_prompt else rendering.history
        text = render(len(conversation.messages))
        return text if rendering.mark is None else text.replace(rendering.mark, "")

    def trained_turns(self, conversation: Conversation) -> dict[int, float]:
        """Return the positions of the answers that `encode` trains, and their weights.

        A message's own `loss` decides; without one `args.loss_scale` does. A weight of 0 is not trained.
        """
        answers = _answers(conversation)
        trained = {}
        for at in answers:
            message = conversation.messages[at]
            usual = self._weighing.rule != "last_round" or at == answers[-1]
            weight = 1.0 if message.loss_scale is None else message.loss_scale
            if (usual if message.loss is None else message.loss) and weight > 0:
                trained[at] = weight
        return trained

    def extends(self, conversation: Conversation) -> bool:
        """Whether each answer's prompt goes on from the answer before, so that all fit in one sample.

        False for templates that change the history, such as by taking reasoning out. Raises as `encode`.
        """
        messages = tuple(
            dataclasses.replace(each, loss=True, loss_scale=None) if each.role == "assistant" else each
            for each in conversation.messages
        )
        return len(self.encode(dataclasses.replace(conversation, messages=messages))) == 1

    @property
    def dialect(self) -> Dialect | None:
        """How the model writes calls, if that is a known dialect."""
        return self._tool_use.dialect

    def parse(self, token_ids: Iterable[int], tools: Sequence[Tool] = ()) -> Message:
        """Turn the tokens of an answer into a message.

        The answer ends at the first stop token. A response prefix, which is in the prompt, is put back before the text.
        What stands in <think>...</think> becomes the reasoning. A call that is malformed or cut off stays text.

        Args:
            token_ids: the answer's.
            tools: those that the model was told of; without any, calls stay text.
        """
        return self._reader.parse(token_ids, self.dialect if tools else None, tools)

    def parse_boxes(self, token_ids: Iterable[int], size: PictureSize) -> Grounded:
        """Return the boxes in an answer's tokens, in pixels of the picture.

        Raises:
            TemplateMismatch: nothing says how the model writes boxes.
        """
        return self._box_writer.read(self._reader.text_of(token_ids), size)

    def stream_text(self, tokens: Iterable[int]) -> Iterator[str]:
        """Yield the text of an answer in pieces while its tokens are made; they join to what `parse` takes apart.

        A character comes out when it is complete. Tokens after the first stop token are not asked for.
        """
        return self._reader.stream_text(tokens)

    def decode(self, token_ids: Iterable[int], skip_special: bool = True) -> str:
        """Return the text of token ids."""
        return self.tokenizer.decode(token_ids, skip_special=skip_special)

    def truncate(self, encoded: Encoded) -> list[Encoded]:
        """Fit a sample into `max_length` by `args.truncation_strategy`; see `truncation.truncate`.

        Raises:
            SampleTooLong: it is too long and the strategy is 'raise'.
        """
        if self.max_length is None or len(encoded) <= self.max_length:
            return [encoded]
        if self.args.truncation_strategy == "raise":
            raise SampleTooLong(
                f"a sample has {len(encoded)} tokens; expected at most max_length={self.max_length} (raise it, or "
                "choose truncation_strategy delete, left, right or split)"
            )
        return truncate(encoded, self.max_length, self.args.truncation_strategy)

    def _encode_turns(
        self, rendering: Rendering, weights: Mapping[int, float], see: Callable[[int], SeenMedia] | None
    ) -> Encoding:
        fixed = (self._stops, self.args.response_prefix, self._weighing, self._reader.split)
        return encode_turns(
            [find_turn(rendering, at, weight, *fixed) for at, weight in weights.items()],
            self.tokenizer,
            mark=rendering.mark,
            stop_token_ids=self.stop_token_ids,
            everything=self._weighing.rule == "all",
            see=see,
        )


def _answers(conversation: Conversation) -> list[int]:
    return [at for at, message in enumerate(conversation.messages) if message.role == "assistant"]
