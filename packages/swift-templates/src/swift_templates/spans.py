"""Which text the model is to produce: exactly what it would have to say after exactly what a server sends.

For the answer at position k of a conversation, the *prompt* is what the template renders for the messages before it,
with the generation prompt at the end: the text a server sends. The *completion* is what the template adds to it when
the answer is there, up to and including the first stop token, where a server stops listening. Nothing is searched for
inside the text, so nothing is guessed; where a template's two texts do not fit together, that is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from .answer_places import AnswerPlace
from .errors import ResponsePrefixMissing, TemplateMismatch
from .loss_scale import Weighing
from .reasoning import CLOSE, OPEN, split_reasoning
from .rendering import Rendering

_CLOSED_THINKING = re.compile(rf"{OPEN}\s*{CLOSE}\s*\Z")


class Turn(NamedTuple):
    """One answer: what a server sends for it, and what the model then says."""

    prompt: str
    completion: str
    weight: float = 1.0
    char_weights: list[float] | None = None
    """What each character of the completion weighs, times `weight`; None is 1 for all."""
    num_media: int = 0
    """Pictures, videos and sounds in prompt and completion."""
    has_calls: bool = False
    """The results of its calls come next."""
    place: AnswerPlace | None = None
    """Where it stands in its conversation."""


def find_turn(
    rendering: Rendering,
    position: int,
    weight: float,
    stops: re.Pattern[str],
    response_prefix: str = "",
    weighing: Weighing | None = None,
    split: Callable[[str], tuple[str | None, str] | None] | None = None,
) -> Turn:
    """Find the prompt and the completion of the answer at a position.

    Args:
        rendering: the conversation.
        position: index of an assistant message.
        weight: kept with the turn.
        stops: matches the spelling of every stop token.
        response_prefix: belongs to the prompt; the answer must begin with it.
        weighing: weighs parts of the answer.
        split: how a server takes reasoning and content apart; see `AnswerReader.split`.

    Raises:
        TemplateMismatch: the template's texts for training and serving do not fit together, or no stop token ends
            the answer, or its reasoning would be read back as something else, or the template's own generation markers
            say otherwise.
        ResponsePrefixMissing: the answer does not begin with the response prefix.
        ChatTemplateError: the template refuses the conversation.
    """
    number = rendering.answer_number(position)
    prompt = rendering.prompt(position)
    whole = rendering.history(position + 1)
    start = None if whole.startswith(prompt) else _start_without_reasoning(rendering, position, whole)
    if start is None:
        start = _completion_start(prompt, whole, number)
    stop = stops.search(whole, start)
    if stop is None:
        raise TemplateMismatch(
            f"answer {number}: the chat template ends the answer with {whole[start:][-40:]!r}, which has no stop "
            "token, so the model would never learn to stop; name a template family, or correct the chat template or "
            "the eos_token_id in generation_config.json"
        )
    if rendering.marks_generation:
        marked, spans = rendering.marked_history(position + 1)
        if marked != whole:
            raise TemplateMismatch("the chat template renders something else when its generation markers are looked at")
        _check_markers(spans, whole, start, stop.start(), number)
    completion = whole[start : stop.end()]
    _check_nothing_is_lost(rendering.texts_of(position), completion, number)
    found = None if split is None else split(whole[start : stop.start()])
    if found is not None:
        _check_reads_back(found, rendering, position, number)
    if not completion.startswith(response_prefix):
        raise ResponsePrefixMissing(
            f"answer {number}: the answer begins with {completion[: len(response_prefix) + 10]!r}; expected the "
            f"response_prefix {response_prefix!r}, which serving puts before every answer; correct the row or "
            "the option"
        )
    weights = _weigh(weighing, rendering, position, completion, stop.end() - stop.start())
    cut = len(response_prefix)
    return Turn(
        prompt + response_prefix,
        completion[cut:],
        weight,
        weights and weights[cut:],
        rendering.num_media(position + 1),
        rendering.has_calls(position),
        AnswerPlace(rendering, position, stops),
    )


def _weigh(
    weighing: Weighing | None, rendering: Rendering, position: int, completion: str, stop_length: int
) -> list[float] | None:
    """Return the weights of the completion's characters; the stop token weighs 1."""
    if weighing is None or not weighing.scales:
        return None
    answer = completion[: len(completion) - stop_length]
    plain = answer if rendering.mark is None else answer.replace(rendering.mark, "")
    weights = weighing.weights_of(rendering.question_before(position), plain)
    if weights is None:
        return None
    found = iter(weights)
    return [*(1.0 if each == rendering.mark else next(found) for each in answer), *[1.0] * stop_length]


def _start_without_reasoning(rendering: Rendering, position: int, whole: str) -> int | None:
    """Return where the answer begins in a text that shows no earlier reasoning, though its prompt does; else None.

    Harmony keeps the reasoning before a call in the prompt of what follows, and takes it out as soon as the history
    has the final answer. So the text is the same without that reasoning, and the answer is what it adds to the prompt
    without it; a server sends the prompt that has it.
    """
    bare = rendering.without_earlier_reasoning(position)
    if bare is None or bare.history(position + 1) != whole:
        return None
    prompt = bare.prompt(position)
    return len(prompt) if whole.startswith(prompt) else None


def _completion_start(prompt: str, whole: str, number: int) -> int:
    """Return where in `whole` the text begins that follows the prompt."""
    if whole.startswith(prompt):
        return len(prompt)
    # Thinking switched off: the prompt ends with an empty think block that the history does not show. The answer
    # follows the block in serving, and its header in the history.
    block = _CLOSED_THINKING.search(prompt)
    if block is not None and whole.startswith(prompt[: block.start()]):
        if not whole.startswith(OPEN, block.start()):
            return block.start()
        raise TemplateMismatch(
            f"answer {number} has reasoning, but the prompt ends with an empty think block; leave the reasoning "
            "out of the row, or do not set enable_thinking to false"
        )
    same = next((at for at, (left, right) in enumerate(zip(prompt, whole, strict=False)) if left != right), len(whole))
    raise TemplateMismatch(
        f"answer {number}: the chat template's prompt is not how its conversation begins: after "
        f"{prompt[max(0, same - 40) : same]!r} the prompt goes on with {prompt[same : same + 40]!r}, the conversation "
        f"with {whole[same : same + 40]!r}; name a template family, or correct the chat template"
    )


def _check_nothing_is_lost(texts: list[str], completion: str, number: int) -> None:
    for text in dict.fromkeys(texts):
        # A function that is called twice must be there twice. Templates may trim what they are given.
        wanted = texts.count(text)
        if completion.count(text) < wanted and _bare(completion).count(_bare(text)) < wanted:
            raise TemplateMismatch(
                f"answer {number}: the chat template leaves out or changes {text[:60]!r}, so the model would not learn "
                "it; correct the row, the chat template, or name a template family"
            )


def _check_reads_back(found: tuple[str | None, str], rendering: Rendering, position: int, number: int) -> None:
    reasoning, content = rendering.said(position)
    if reasoning is None and CLOSE in content:
        # Rows write their thinking into the content, too; it has to end there.
        reasoning, content = split_reasoning(content)
    # Templates may trim what they are given; calls and the texts of media stand around the content.
    if _bare(found[0] or "") != _bare(reasoning or "") or _bare(content) not in _bare(found[1]):
        raise TemplateMismatch(
            f"answer {number} would be read back with the reasoning {(found[0] or '')[-60:]!r} and the content "
            f"{found[1][:60]!r}, which is not what it has; take {OPEN} and {CLOSE} out of its texts, or put the "
            "reasoning into reasoning_content"
        )


def _bare(text: str) -> str:
    return "".join(text.split())


def _check_markers(spans: list[tuple[int, int]], whole: str, start: int, stop: int, number: int) -> None:
    """Hold the found answer against what the template marks with {% generation %}.

    A marker may begin earlier (with the turn's header, which is the prompt's) and end later (after the stop token).
    It may end before the stop token, which the model must say all the same. What it leaves out otherwise would have
    to be in the prompt, and is not.
    """
    covered = start
    for left, right in spans:
        if left <= covered:
            covered = max(covered, right)
    if whole[covered:stop].strip():
        raise TemplateMismatch(
            f"answer {number}: the template's generation markers leave out {whole[covered:stop][:60]!r}, which is not "
            "in the prompt either, so no server would send it; correct the markers in the chat template"
        )
