"""Answers become samples: several in one sample where each prompt goes on from the last answer, else one sample each.

A later prompt is tokenized as a whole by a server. Only if that begins with the earlier prompt's tokens and the
earlier answer's tokens, one for one, may both be trained in one sequence. Where it does not, because thinking was
taken out of the history or because the tokenizer joins what stood apart, the later answer gets a sequence of its own.

Control tokens cut a text into parts that are tokenized each for itself. So a later prompt's tokens are found without
reading its beginning again: only the part where prompt and answer meet, and what follows the stop token.
"""

from __future__ import annotations

import contextlib
import gc
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from .answer_places import AnswerPlace, EarlierAnswer, KnownTexts
from .encoded import IGNORED, Encoded
from .errors import SwiftTemplatesError, TemplateMismatch
from .lookalikes import absent_marks
from .media.processor import SeenMedia
from .messages import Message
from .spans import Turn
from .tokenizer import Tokenizer


@dataclass
class _Branch:
    """A sequence that grows."""

    text: str = ""
    ids: list[int] = field(default_factory=list)
    spans: list[tuple[int, int, list[float] | float]] = field(default_factory=list)
    """Where the answers are, and what each weighs, as a whole or token by token."""
    calls: list[bool] = field(default_factory=list)
    """Of each answer, whether a result follows."""
    prompt: str = ""
    """What a server sends for the last answer."""
    positions: list[int] = field(default_factory=list)
    """Of each answer, its place in the conversation, where that is known."""
    place: AnswerPlace | None = None
    """That of the last answer."""
    num_media: int = 0

    def add(self, prompt_ids: list[int], completion_ids: list[int], turn: Turn, weights: list[float] | float) -> None:
        self.text = turn.prompt + turn.completion
        self.prompt, self.place = turn.prompt, turn.place
        self.positions.append(-1 if turn.place is None else turn.place.position)
        self.num_media = turn.num_media
        self.calls.append(turn.has_calls)
        start = len(prompt_ids)
        self.ids = prompt_ids + completion_ids
        self.spans.append((start, len(self.ids), weights))


IntArray: TypeAlias = npt.NDArray[np.int64]
Encoding: TypeAlias = Generator[str, list[int], list[Encoded]]
"""Yields texts to be tokenized, is sent the tokens of each, and returns the samples. Whoever drives many of them asks
the tokenizer for a text of each at once."""


def encode_together(
    started: Iterable[tuple[Encoding, str | None] | SwiftTemplatesError], tokenizer: Tokenizer
) -> list[list[Encoded] | SwiftTemplatesError]:
    """Make the samples of several conversations, with one call of the tokenizer for a text of each.

    Args:
        started: of each, what makes its samples and the mark in its texts; or why there is none, which is returned.
        tokenizer: the tokenizer.

    Returns:
        The samples of each; an error stands in the place of those that it prevents.
    """
    results: list[list[Encoded] | SwiftTemplatesError] = []
    asked: list[tuple[int, Encoding, str | None, list[int] | None]] = []
    with _without_collector():
        for index, found in enumerate(started):
            if isinstance(found, SwiftTemplatesError):
                results.append(found)
            else:
                results.append([])
                asked.append((index, *found, None))
        while asked:
            going: list[tuple[int, Encoding, str | None, str]] = []
            for index, encoding, mark, ids in asked:
                try:
                    going.append((index, encoding, mark, next(encoding) if ids is None else encoding.send(ids)))
                except StopIteration as end:
                    results[index] = end.value
                except SwiftTemplatesError as error:
                    results[index] = error
            tokens = iter(tokenizer.encode_many([text for _, _, mark, text in going if mark is None]))
            asked = [
                (index, encoding, mark, next(tokens) if mark is None else tokenizer.encode(text, mark=mark))
                for index, encoding, mark, text in going
            ]
    return results


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Let Python not look for garbage among many small lists, which are all needed: it takes 5 % of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def encode_turns(
    turns: Sequence[Turn],
    tokenizer: Tokenizer,
    *,
    mark: str | None = None,
    stop_token_ids: frozenset[int],
    everything: bool = False,
    see: Callable[[int], SeenMedia] | None = None,
) -> Encoding:
    """Tokenize answers into as few samples as is exact.

    Args:
        turns: the answers of one conversation that are trained, in order.
        tokenizer: the tokenizer.
        mark: the character that breaks look-alikes in the texts, if there are any.
        stop_token_ids: the tokens one of which ends each answer.
        everything: prompts are trained too, with a weight of 1, but for answers that are not among the turns.
        see: returns what the model sees of the conversation's first media, so many.

    Raises:
        TemplateMismatch: the tokenizer does not keep an answer apart, or does not see its stop token.
    """
    branches: list[_Branch] = []
    previous: Turn | None = None
    for turn in turns:
        prompt_ids = None
        if previous is not None:
            prompt_ids = yield from _continue(branches[-1], previous, turn, tokenizer)
        if prompt_ids is None:
            branches.append(_Branch())
            prompt_ids = yield turn.prompt
        completion_ids, weights = yield from _complete(turn, tokenizer, mark, stop_token_ids)
        branches[-1].add(prompt_ids, completion_ids, turn, weights)
        previous = turn
    trained = {position for branch in branches for position in branch.positions}
    known: KnownTexts = {}
    # Those of the last turn, which is the furthest; found once, since a conversation may have as many branches.
    answers = previous.place.earlier() if previous is not None and previous.place is not None else []
    samples = []
    for branch in branches:
        earlier = list(_find_earlier(branch, answers, tokenizer, mark, known, every=everything))
        untrained = [each for each in earlier if everything and each.position not in trained]
        sample = _to_encoded(branch, earlier, untrained, everything=everything)
        if see is not None and branch.num_media:
            _put_media(sample, see(branch.num_media), tokenizer)
        samples.append(sample)
    return samples


def encode_text(message: Message, tokenizer: Tokenizer) -> tuple[Encoding, str | None]:
    """Tokenize a plain text, as in pre-training: no template, all of it trained, and the token that ends it too.

    Args:
        message: holds the text, whether it is trained, and its weight.
        tokenizer: the tokenizer; what it puts before every text is not trained.

    Returns:
        What makes the sample, and the mark in its text.
    """
    [mark] = absent_marks([message.content], 1)
    text = str(tokenizer.lookalikes.broken(message.content, mark))
    weight = 1.0 if message.loss_scale is None else message.loss_scale
    weight = 0.0 if message.loss is False else weight
    return _encode_text(text, tokenizer, weight), None if text == message.content else mark


def _encode_text(text: str, tokenizer: Tokenizer, weight: float) -> Encoding:
    ids = yield text
    beginning, end = tokenizer.beginning_ids, tokenizer.named_id("eos_token")
    branch = _Branch(ids=[*beginning, *ids, *([] if end is None else [end])])
    branch.spans.append((len(beginning), len(branch.ids), weight))
    return [_to_encoded(branch, [], [], everything=False)] if weight > 0 else []


def _complete(
    turn: Turn, tokenizer: Tokenizer, mark: str | None, stops: frozenset[int]
) -> Generator[str, list[int], tuple[list[int], list[float] | float]]:
    """Return the completion's tokens, and what they weigh."""
    weights: list[float] | float = turn.weight
    if turn.char_weights is None and not tokenizer.joins_to_context:
        ids = yield turn.completion
    else:
        try:
            tokens = tokenizer.tokens_after(turn.prompt, turn.completion, mark=mark)
        except ValueError as error:
            raise TemplateMismatch(f"an answer cannot be told from its prompt: {error}") from error
        ids = [token_id for token_id, _ in tokens]
        if turn.char_weights is not None:
            weights = [turn.weight * _weight_at(start, turn) for _, start in tokens]
    if not ids or ids[-1] not in stops:
        raise TemplateMismatch(f"the tokenizer does not end {turn.completion[-40:]!r} with a stop token of its own")
    return ids, weights


def _weight_at(start: int, turn: Turn) -> float:
    """Return the weight of a token by its first character that is no space, since most tokens begin with one."""
    assert turn.char_weights is not None
    text = turn.completion
    while start + 1 < len(text) and text[start] == " ":
        start += 1
    return turn.char_weights[min(start, len(text) - 1)]


def _continue(
    branch: _Branch, previous: Turn, turn: Turn, tokenizer: Tokenizer
) -> Generator[str, list[int], list[int] | None]:
    """Return the tokens of the turn's whole prompt if they begin with the branch's, else None."""
    if not turn.prompt.startswith(branch.text):
        return None
    start, end, _ = branch.spans[-1]
    # Where the answer begins: does the tokenizer, reading on from the last control token, see the same tokens?
    before = previous.prompt[tokenizer.last_control(previous.prompt) :]
    before_ids = yield before
    joint_ids = yield before + previous.completion
    if joint_ids != [*before_ids, *branch.ids[start:end]]:
        return None
    # Where it ends: what follows the stop token, read with it, since some control tokens take white space with them.
    stop = tokenizer.special_text(branch.ids[-1])
    if stop is None:
        whole = yield turn.prompt
        return whole if whole[: len(branch.ids)] == branch.ids else None
    after = yield stop + turn.prompt[len(branch.text) :]
    return [*branch.ids, *after[1:]] if after[:1] == branch.ids[-1:] else None


def _find_earlier(
    branch: _Branch, answers: list[int], tokenizer: Tokenizer, mark: str | None, known: KnownTexts, *, every: bool
) -> Iterator[EarlierAnswer]:
    """Yield where answers stand, in tokens, that are in the branch's last prompt and not trained in the branch.

    Only those next to a call matter, before its result or behind it, unless all are asked for.
    """
    if branch.place is None:
        return
    answers = [at for at in answers if at < branch.place.position]
    after_call = {after for at, after in pairwise(answers) if branch.place.rendering.has_calls(at)}
    wanted = [
        at
        for at in answers
        if at not in branch.positions and (every or at in after_call or branch.place.rendering.has_calls(at))
    ]
    if not wanted:
        return
    length = branch.spans[-1][0]
    tokens = tokenizer.tokens_after("", branch.prompt, mark=mark)
    if [token_id for token_id, _ in tokens] != branch.ids[:length]:
        # The tokens do not tell where they stand in the text; so all of the prompt stays together.
        for at in wanted:
            yield EarlierAnswer(at, 0, length, length, branch.place.rendering.has_calls(at))
        return
    starts = list(accumulate((start for _, start in tokens), max))
    for each in branch.place.find(branch.prompt, wanted, answers, known):
        first = bisect_left(starts, each.start)
        if first == length or starts[first] > each.start:
            first = max(0, bisect_right(starts, each.start) - 1)
        yield each._replace(
            start=first, end=bisect_left(starts, each.end), next_start=bisect_left(starts, each.next_start)
        )


def _put_media(sample: Encoded, seen: SeenMedia, tokenizer: Tokenizer) -> None:
    """Give a sample its media: they have no labels, and no cut goes through them."""
    places = list(_find_media(seen, sample.input_ids, tokenizer))
    if seen.own_ids is not None:
        sample.input_ids = seen.own_ids(sample.input_ids)
    for start, end in places:
        sample.loss_scale[start:end] = 0.0
        sample.labels[start:end] = IGNORED
    sample.media = seen.arrays_for(sample.input_ids, sample.labels)
    if len(places) < len(seen.texts):
        # One has no token of its own, so any cut might take it away.
        places = [(0, len(sample))]
    sample.media_places = tuple(places)
    sample.unbroken = tuple(sorted({*sample.unbroken, *places}))


def _find_media(seen: SeenMedia, input_ids: IntArray, tokenizer: Tokenizer) -> Iterator[tuple[int, int]]:
    """Yield where the tokens are that stand for media, in their order."""
    # Ordinary tokens may stand between them, and are the same wherever they stand.
    places = np.array([at for at, each in enumerate(input_ids) if tokenizer.special_text(int(each)) is not None])
    control = input_ids[places] if len(places) else input_ids[:0]
    start = 0
    for text in seen.texts:
        wanted = [each for each in tokenizer.encode(text) if tokenizer.special_text(each) is not None]
        # Media side by side may share the token between them; the next place is this medium's, and later ones others'.
        runs = [(_find_run(control, tokens, start), len(tokens)) for tokens in (wanted, wanted[1:], wanted[:-1])]
        found = [(at, -size) for at, size in runs if at is not None]
        if found:
            at, size = min(found)
            start = at - size
            yield int(places[at]), int(places[start - 1]) + 1


def _find_run(tokens: IntArray, wanted: list[int], start: int) -> int | None:
    """Return where some tokens stand one after the other, from `start` on."""
    if not wanted:
        return None
    first, size = wanted[0], len(wanted)
    for at in np.flatnonzero(tokens[start : len(tokens) - size + 1] == first) + start:
        if np.array_equal(tokens[at : at + size], wanted):
            return int(at)
    return None


def _to_encoded(
    branch: _Branch, earlier: list[EarlierAnswer], untrained: list[EarlierAnswer], *, everything: bool
) -> Encoded:
    input_ids = np.array(branch.ids, dtype=np.int64)
    loss_scale = np.full(len(input_ids), 1.0 if everything else 0.0, dtype=np.float32)
    for each in untrained:
        loss_scale[each.start : each.end] = 0.0
    for start, end, weights in branch.spans:
        loss_scale[start:end] = weights
    labels = np.where(loss_scale > 0, input_ids, IGNORED)
    # From a call to the next answer.
    together = {(each.start, each.next_start) for each in earlier if each.has_calls}
    starts = [start for start, _, _ in branch.spans]
    for start, after, position, calls in zip(starts, starts[1:], branch.positions, branch.calls, strict=False):
        if calls:
            later = (each.start for each in earlier if each.position > position and each.start > start)
            together.add((start, min([after, *later])))
    return Encoded(
        input_ids, labels, loss_scale, unbroken=tuple(sorted(each for each in together if each[0] < each[1]))
    )
