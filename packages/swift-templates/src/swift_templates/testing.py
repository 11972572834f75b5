"""The laws that every template keeps, as a check for tests; and a tiny model folder to try things on.

The laws: what is trained on follows exactly what a server would send; what is trained is exactly the answer; tokens
parsed are the message again; text never becomes a control token; the same conversation always gives the same samples.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as TokenizersTokenizer

from .encoded import IGNORED, Encoded
from .errors import ChatTemplateError, LawBroken
from .messages import Conversation, Message
from .reasoning import CLOSE, OPEN
from .template import Template

_CORPUS = (
    "You are a helpful assistant. Answer the question of the user in a few words. Hello, how are you today? "
    "The capital of France is Paris. Two and two is four; 12 and 30 are 42. system user assistant tool think "
    "What is this? This is an example, and it is only here so that common words become one token. "
)


def write_tiny_folder(
    folder: str | Path,
    *,
    chat_template: str | None = None,
    special_tokens: Sequence[str] = ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    eos_token: str = "<|im_end|>",
    bos_token: str | None = None,
    max_length: int = 2048,
) -> Path:
    """Write the files of a tiny model's tokenizer: byte-level BPE with a few hundred tokens, which can spell any text.

    Args:
        folder: where; made if it is not there.
        chat_template: Jinja text; without one, a template family has to be named.
        special_tokens: the control tokens; the first one is for padding.
        eos_token: ends an answer.
        bos_token: begins a text, if the chat template writes it.
        max_length: tokens that the model is said to be built for.

    Returns:
        The folder.
    """
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    tokenizer = TokenizersTokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=[AddedToken(text, special=True, normalized=False) for text in special_tokens],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([_CORPUS], trainer)
    tokenizer.save(str(path / "tokenizer.json"))
    named = {"eos_token": eos_token, "pad_token": special_tokens[0]} | ({"bos_token": bos_token} if bos_token else {})
    (path / "tokenizer_config.json").write_text(json.dumps(named), encoding="utf-8")
    (path / "config.json").write_text(json.dumps({"max_position_embeddings": max_length}), encoding="utf-8")
    if chat_template is not None:
        (path / "chat_template.jinja").write_text(chat_template, encoding="utf-8")
    return path


def check_template(template: Template, conversations: Iterable[Conversation] | None = None) -> None:
    """Check the laws of a template on conversations that end with an answer.

    Args:
        template: what is checked.
        conversations: what it is checked on; by default a few that are known to make trouble, of which those that the
            chat template refuses are passed over.

    Raises:
        LawBroken: a law does not hold; the message says which, on which conversation.
    """
    if conversations is not None:
        for conversation in conversations:
            _check(template, conversation)
        return
    checked = 0
    for conversation in _troublesome(template):
        try:
            template.render(conversation)
        except ChatTemplateError:
            continue
        _check(template, conversation)
        checked += 1
    _require(checked > 0, "the chat template refuses every conversation")


def _check(template: Template, conversation: Conversation) -> None:
    where = f"on {conversation.messages!r}"
    samples = template.encode(conversation)
    again = template.encode(conversation)
    _require(
        len(samples) == len(again) and all(map(_is_same, samples, again)), f"encoding twice gives two results {where}"
    )
    trained = template.trained_turns(conversation)
    spans = []
    for sample in samples:
        _check_arrays(sample, where)
        spans += [(sample, start, end) for start, end in _trained_spans(sample)]
    _require(len(spans) == len(trained), f"{len(spans)} answers are trained, expected {len(trained)} {where}")
    for (sample, start, end), (position, weight) in zip(spans, trained.items(), strict=True):
        _check_answer(template, conversation, position, sample, start, end)
        weights = sample.loss_scale[start:end]
        _require(bool(np.all(weights == np.float32(weight))), f"answer at {position} weighs {weights!r} {where}")
    _check_control_tokens(template, conversation, samples, where)


def _check_arrays(sample: Encoded, where: str) -> None:
    trained = sample.labels != IGNORED
    _require(len(sample.input_ids) == len(sample.labels) == len(sample.loss_scale), f"arrays differ in length {where}")
    _require(bool(np.all(trained == (sample.loss_scale > 0))), f"a weight without a label, or the reverse {where}")
    _require(bool(np.all(sample.loss_scale >= 0)), f"a weight is negative {where}")
    _require(bool(np.all(sample.labels[trained] == sample.input_ids[trained])), f"a label is not its token {where}")


def _check_answer(
    template: Template, conversation: Conversation, position: int, sample: Encoded, start: int, end: int
) -> None:
    messages = conversation.messages
    where = f"for the answer at {position} of {messages!r}"
    asked = dataclasses.replace(conversation, messages=messages[:position])
    sent = template.encode_prompt(asked).input_ids
    _require(sample.input_ids[:start].tolist() == sent, f"trained on another prompt than a server sends {where}")
    answer = sample.input_ids[start:end].tolist()
    _require(answer[-1] in template.stop_token_ids, f"no stop token ends what is trained {where}")
    _require(not template.stop_token_ids & set(answer[:-1]), f"a stop token stands inside what is trained {where}")
    message, parsed = messages[position], template.parse(answer, conversation.tools)
    if message.tool_calls and template.dialect is not None and conversation.tools:
        called = [(each.name, each.arguments) for each in message.tool_calls]
        _require(
            called == [(each.name, each.arguments) for each in parsed.tool_calls], f"parsing gives {parsed!r} {where}"
        )
    elif not message.tool_calls:
        _require(_means_the_same(template, conversation, position, parsed), f"parsing gives {parsed!r} {where}")


def _means_the_same(template: Template, conversation: Conversation, position: int, parsed: Message) -> bool:
    """Whether a message is the one at a position, but for what tokenizer or template do not keep apart."""

    def through(text: str | None) -> str:
        return template.tokenizer.decode(template.tokenizer.encode(text or ""))

    message = conversation.messages[position]
    if (message.content, message.reasoning_content) == (parsed.content, parsed.reasoning_content):
        return True
    # Tokenizers may compose accents, or drop what they have no token for.
    if (through(message.content), through(message.reasoning_content)) == (
        parsed.content,
        parsed.reasoning_content or "",
    ):
        return True
    # Templates may trim.
    before = conversation.messages[:position]
    there = template.render(dataclasses.replace(conversation, messages=(*before, message)))
    back = template.render(dataclasses.replace(conversation, messages=(*before, parsed)))
    return through(there) == through(back)


def _check_control_tokens(
    template: Template, conversation: Conversation, samples: Sequence[Encoded], where: str
) -> None:
    """Text in contents that looks like control tokens must give none: harmless text in its place gives as many."""
    tokenizer = template.tokenizer

    def without(message: Message) -> Message:
        lookalikes = tokenizer.answer_lookalikes if message.role == "assistant" else tokenizer.lookalikes
        return dataclasses.replace(message, content=lookalikes.replaced(message.content, lambda _: "x"))

    harmless = [without(message) for message in conversation.messages]
    expected = template.encode(dataclasses.replace(conversation, messages=tuple(harmless)))
    special = set(tokenizer.special_ids.values())
    for sample, other in zip(samples, expected, strict=True):
        found = [each for each in sample.input_ids.tolist() if each in special]
        wanted = [each for each in other.input_ids.tolist() if each in special]
        _require(found == wanted, f"text became a control token, or the reverse {where}")


def _trained_spans(sample: Encoded) -> list[tuple[int, int]]:
    trained = np.concatenate([[0], (sample.labels != IGNORED).astype(np.int8), [0]])
    edges = np.flatnonzero(np.diff(trained))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def _is_same(left: Encoded, right: Encoded) -> bool:
    names = ("input_ids", "labels", "loss_scale")
    return all(np.array_equal(getattr(left, name), getattr(right, name)) for name in names)


def _troublesome(template: Template) -> list[Conversation]:
    prefix = template.args.response_prefix

    def talk(*texts: str, system: str | None = None, reasoning: str | None = None) -> Conversation:
        messages = [
            Message(role="assistant", content=prefix + text, reasoning_content=reasoning)
            if at % 2
            else Message(role="user", content=text)
            for at, text in enumerate(texts)
        ]
        head = [] if system is None else [Message(role="system", content=system)]
        return Conversation(messages=(*head, *messages))

    control = sorted(template.tokenizer.special_ids)
    spellings = " ".join(control[:20])
    answered = " ".join([text for text in control if text not in (OPEN, CLOSE)][:20])
    conversations = [
        talk("Hello", "Hi."),
        talk("Hello", "Hi.", "And?", "No.", "Well?", "Yes.", system="Be brief."),
        talk("\nedges \n", "\n\nof lines\n", " and ", " spaces ", "\t", "."),
        talk("日本語 🎉 e\u0301", "ﬁne \u200b\u00a0ok", "\x00", "\x07"),
        talk(f"say {spellings}", f"I say {answered}.", spellings, "Done."),
    ]
    if template.args.enable_thinking is not False and not prefix:
        conversations.append(talk("Think.", "42", "Again.", "43", reasoning="Let me see.\nIt is clear."))
    return conversations


def _require(holds: bool, law: str) -> None:
    if not holds:
        raise LawBroken(law)
