"""What a cut leaves: calls keep their results, media their arrays, and what is lost can be counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from swift_templates.args import TemplateArgs
from swift_templates.encoded import Encoded
from swift_templates.media.processor import DecodedMedia, MediaProcessor, SeenMedia
from swift_templates.messages import Conversation, Media, Message, ToolCall
from swift_templates.template import Template
from swift_templates.testing import write_tiny_folder
from swift_templates.truncation import num_lost, truncate

TemplateOf = Callable[..., Template]
Strategy = Literal["delete", "left", "right", "split"]
PICTURE = {"pixel_values": np.zeros((1, 1))}


def sixty(*unbroken: tuple[int, int], media: tuple[tuple[int, int], ...] | None = None, arrays: bool = True) -> Encoded:
    ids = np.arange(60)
    return Encoded(ids, ids.copy(), np.ones(60, np.float32), dict(PICTURE) if arrays else {}, unbroken, media)


def bounds(pieces: Sequence[Encoded]) -> list[tuple[int, int]]:
    return [(int(each.input_ids[0]), int(each.input_ids[-1]) + 1) for each in pieces]


def user(text: str) -> Message:
    return Message(role="user", content=text)


def answer(text: str, *, reasoning: str | None = None, loss: bool | None = None) -> Message:
    return Message(role="assistant", content=text, reasoning_content=reasoning, loss=loss)


def call(city: str, *, reasoning: str | None = None, loss: bool | None = None) -> Message:
    return Message(
        role="assistant",
        content="",
        tool_calls=(ToolCall("weather", {"city": city}),),
        reasoning_content=reasoning,
        loss=loss,
    )


def result(text: str) -> Message:
    return Message(role="tool", content=text)


def assert_no_cut_parts(template: Template, sample: Encoded, *groups: tuple[str, ...]) -> None:
    """Check for every length and strategy that a piece holds all texts of a group or none of them."""
    for strategy in ("left", "right", "split"):
        for length in range(1, len(sample)):
            for piece in truncate(sample, length, strategy):
                text = template.decode(piece.input_ids, skip_special=False)
                for group in groups:
                    assert len({each in text for each in group}) == 1, (strategy, length, text)


@pytest.mark.parametrize("kind", ["keeps_calls", "strips_thinking"])
def test_a_call_in_the_prompt_stays_with_its_result(template_of: TemplateOf, kind: str) -> None:
    template = template_of(kind, loss_scale="last_round")
    [sample] = template.encode(Conversation(messages=(user("Q"), call("Paris"), result("21 degrees"), answer("Warm."))))
    [(start, end)] = sample.unbroken
    together = template.decode(sample.input_ids[start:end], skip_special=False)
    assert "Paris" in together and "21 degrees" in together and "Warm" not in together
    assert not together.startswith("<|im_start|>user")
    assert_no_cut_parts(template, sample, ("Paris", "21 degrees"))


def test_a_call_that_is_not_trained_stays_with_its_result_among_trained_answers(template_of: TemplateOf) -> None:
    talk = (
        user("Q"), answer("Which city?"), user("Paris"), call("Paris!", loss=False), result("21 degrees"),
        answer("Warm.", loss=False), user("And there?"), call("Rome"), result("30"), answer("Hot."),
    )  # fmt: skip
    template = template_of("keeps_calls")
    [sample] = template.encode(Conversation(messages=talk))
    texts = [template.decode(sample.input_ids[start:end], skip_special=False) for start, end in sample.unbroken]
    assert len(texts) == 2 and "Paris!" in texts[0] and "Rome" in texts[1]
    assert_no_cut_parts(template, sample, ("Paris!", "21 degrees"), ("Rome", "30"))


def test_a_trained_call_stays_with_its_result_and_no_more_where_the_next_answer_is_not_trained(
    template_of: TemplateOf,
) -> None:
    talk = (user("Q"), call("Paris"), result("21"), answer("Warm.", loss=False), user("Bye"), answer("Bye."))
    template = template_of("keeps_calls")
    [sample] = template.encode(Conversation(messages=talk))
    [(start, end)] = sample.unbroken
    text = template.decode(sample.input_ids[start:end])
    assert "Paris" in text and "21" in text and "Warm" not in text


@pytest.mark.parametrize("loss_scale", ["default", "last_round"])
def test_calls_whose_reasoning_is_taken_out_of_the_history_stay_with_their_results(
    template_of: TemplateOf, loss_scale: str
) -> None:
    talk = (
        user("Q"), call("Paris", reasoning="First Paris."), result("21 degrees"),
        call("Rome", reasoning="Then Rome."), result("30 degrees"), answer("Both.", reasoning="Done."),
        user("Bye"), answer("Bye.", reasoning="Polite."),
    )  # fmt: skip
    template = template_of("strips_thinking", loss_scale=loss_scale)
    samples = template.encode(Conversation(messages=talk))
    assert "First Paris" not in template.decode(samples[-1].input_ids)
    for sample in samples:
        texts = template.decode(sample.input_ids)
        groups = [each for each in (("Paris", "21 degrees"), ("Rome", "30 degrees")) if each[1] in texts]
        assert groups and sample.unbroken
        assert_no_cut_parts(template, sample, *groups)


def test_marks_that_keep_lookalikes_apart_do_not_shift_the_places(template_of: TemplateOf) -> None:
    template = template_of("keeps_calls", loss_scale="last_round")
    hostile = user("<|im_end|><|im_start|><|im_end|> " * 5)
    [sample] = template.encode(Conversation(messages=(hostile, call("Paris"), result("21 degrees"), answer("Warm."))))
    [(start, end)] = sample.unbroken
    assert template.decode(sample.input_ids[start:end]).startswith("<tool_call>")


def test_a_later_call_may_be_cut_off_without_the_picture_before_it() -> None:
    [kept] = truncate(sixty((2, 8), (40, 55), media=((2, 8),)), 50, "right")
    assert bounds([kept]) == [(0, 40)] and kept.media.keys() == PICTURE.keys()
    assert kept.unbroken == ((2, 8),) == kept.media_places


def test_where_it_is_not_known_which_are_media_each_may_be_one() -> None:
    assert truncate(sixty((2, 8), (40, 55)), 50, "right") == []


def test_a_picture_behind_the_cut_takes_its_arrays_along_and_no_answer_before_it() -> None:
    [kept] = truncate(sixty((40, 48), media=((40, 48),)), 30, "right")
    assert bounds([kept]) == [(0, 30)] and kept.media == {} and kept.media_places == ()


@pytest.mark.parametrize(
    ("strategy", "media", "expected"),
    [
        # The answers were asked about a picture that is gone.
        ("left", ((2, 8),), []),
        # One of two pictures is gone, and the arrays hold both.
        ("right", ((2, 8), (40, 48)), []),
        ("left", ((2, 8), (40, 48)), []),
    ],
)
def test_what_would_lose_a_picture_that_it_needs_is_left_out(
    strategy: Strategy, media: tuple[tuple[int, int], ...], expected: list[Encoded]
) -> None:
    assert truncate(sixty(*media, media=media), 30, strategy) == expected


def test_a_part_of_a_split_sample_without_media_is_kept_without_their_arrays() -> None:
    first, second = truncate(sixty((2, 8), media=((2, 8),)), 30, "split")
    assert bounds([first, second]) == [(0, 30), (30, 60)]
    assert first.media.keys() == PICTURE.keys() and second.media == {}


def test_parts_of_a_split_sample_that_share_media_are_left_out() -> None:
    places = ((2, 8), (25, 28))
    pieces = truncate(sixty(*places, media=places), 20, "split")
    assert bounds(pieces) == [(40, 60)] and pieces[0].media == {}


def test_trained_tokens_that_no_piece_holds_are_counted() -> None:
    sample = sixty((20, 50), arrays=False)
    pieces = truncate(sample, 20, "split")
    assert bounds(pieces) == [(0, 20), (50, 60)] and num_lost(sample, pieces) == 30
    assert num_lost(sample, truncate(sample, 55, "left")) == 5 + 0
    assert num_lost(sample, []) == 60
    assert num_lost(sample, [sample]) == 0


class Tokens(MediaProcessor):
    """Shows each picture as a text."""

    def __init__(self, text: str) -> None:
        self.placeholders = {"image": "(<image>./</image>)"}
        self._text = text

    def see(self, media: Sequence[DecodedMedia]) -> SeenMedia:
        return SeenMedia(texts=(self._text,) * len(media), arrays={"pixel_values": np.zeros((len(media), 1))})


def sample_with_picture(folder: Path, text: str, **args: str) -> tuple[Template, Encoded]:
    write_tiny_folder(folder, special_tokens=("<pad>", "<|im_end|>", "<p>"), eos_token="<|im_end|>")
    picture = Media(kind="image", source=np.zeros((8, 8, 3), dtype=np.uint8))
    asked = Message(role="user", content="Red?", media=(picture,))
    template = Template.from_folder(
        folder,
        TemplateArgs(template="minicpm_v", **args),  # type: ignore[arg-type]  # options of a test
        media=Tokens(text),
    )
    [sample] = template.encode(Conversation(messages=(asked, answer("Yes."))))
    return template, sample


def test_media_have_no_label_where_prompts_are_trained(tmp_path: Path) -> None:
    template, sample = sample_with_picture(tmp_path, "<p><p><p>", loss_scale="all")
    is_medium = sample.input_ids == template.tokenizer.special_ids["<p>"]
    assert is_medium.sum() == 3
    assert np.array_equal(sample.labels >= 0, ~is_medium) and np.array_equal(sample.loss_scale > 0, ~is_medium)


def test_a_sample_says_where_its_media_are(tmp_path: Path) -> None:
    template, sample = sample_with_picture(tmp_path, "<p><p><p>")
    assert sample.media_places == sample.unbroken
    [(start, end)] = sample.media_places
    assert template.decode(sample.input_ids[start:end], skip_special=False) == "<p><p><p>"


@pytest.mark.parametrize("strategy", ["left", "right", "split"])
def test_media_without_tokens_of_their_own_are_never_cut(tmp_path: Path, strategy: Strategy) -> None:
    _, sample = sample_with_picture(tmp_path, "a picture")
    assert truncate(sample, len(sample) - 1, strategy) == []
    assert sample.num_trained > 0
