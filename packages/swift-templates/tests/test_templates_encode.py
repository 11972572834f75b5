"""Samples as numbers: ids, labels, weights, truncation, prompts, and answers parsed back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from swift_templates.encoded import Encoded
from swift_templates.errors import InvalidConversation, SampleTooLong
from swift_templates.messages import Conversation, Message, ToolCall
from swift_templates.template import Template
from swift_templates.truncation import truncate

TemplateOf = Callable[..., Template]
Talk = Callable[..., Conversation]

TWO_ROUNDS = ("Hello", "Hi.", "2+2?", "4")


def sample_of(*labels: int) -> Encoded:
    """Make a sample whose labels are given; 0 stands for untrained."""
    array = np.array(labels)
    return Encoded(
        np.arange(10, 10 + len(labels)),
        np.where(array > 0, np.arange(10, 10 + len(labels)), -100),
        array.astype(np.float32),
    )


def weights_of(template: Template, conversation: Conversation) -> list[float]:
    """Return the weight of each answer in turn, 0 for an untrained one, read off the arrays."""
    [sample] = template.encode(conversation)
    end = template.tokenizer.special_ids["<|im_end|>"]
    at_ends = [float(sample.loss_scale[at]) for at in np.flatnonzero(sample.input_ids == end)]
    return at_ends[1::2]  # questions and answers take turns


def test_a_sample_is_prompt_and_answer_token_by_token(template_of: TemplateOf, talk: Talk) -> None:
    template = template_of("chatml")
    encode = template.tokenizer.encode
    prompt = encode("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n")
    answer = encode("Hi.<|im_end|>")
    [sample] = template.encode(talk("Hello", "Hi."))
    assert sample.input_ids.tolist() == prompt + answer
    assert sample.labels.tolist() == [-100] * len(prompt) + answer
    assert sample.loss_scale.tolist() == [0.0] * len(prompt) + [1.0] * len(answer)
    dtypes = [str(array.dtype) for array in (sample.input_ids, sample.labels, sample.loss_scale)]
    assert dtypes == ["int64", "int64", "float32"]
    assert (len(sample), sample.num_trained) == (len(prompt) + len(answer), len(answer))
    assert template.encode_prompt(talk("Hello")).input_ids == prompt


@pytest.mark.parametrize(
    ("loss_scale", "first", "second", "expected"),
    [
        ("default", {}, {}, [1.0, 1.0]),
        ("last_round", {}, {}, [0.0, 1.0]),
        ("last_round", {"loss": True}, {}, [1.0, 1.0]),
        ("default", {"loss": False}, {}, [0.0, 1.0]),
        ("default", {"loss_scale": 3.0}, {"loss_scale": 0.5}, [3.0, 0.5]),
        ("last_round", {"loss_scale": 3.0}, {"loss_scale": 2.0}, [0.0, 2.0]),
        ("default", {"loss_scale": 0.0}, {}, [0.0, 1.0]),
        ("default", {"loss": True, "loss_scale": 0.0}, {}, [0.0, 1.0]),
    ],
)
def test_which_answers_are_trained_and_what_they_weigh(
    loss_scale: str,
    first: dict[str, float],
    second: dict[str, float],
    expected: list[float],
    template_of: TemplateOf,
    talk: Talk,
) -> None:
    a, b, c, d = talk(*TWO_ROUNDS).messages
    messages = (a, dataclasses.replace(b, **first), c, dataclasses.replace(d, **second))  # type: ignore[arg-type]  # a table of fields
    assert weights_of(template_of("chatml", loss_scale=loss_scale), Conversation(messages=messages)) == expected


def test_the_last_round_costs_no_branches(template_of: TemplateOf, talk: Talk) -> None:
    template = template_of("strips_thinking", loss_scale="last_round")
    assert len(template.encode(talk(*TWO_ROUNDS, reasoning="Well."))) == 1
    assert not template.extends(talk(*TWO_ROUNDS, reasoning="Well."))


def test_a_conversation_without_trained_answers_gives_no_sample(template_of: TemplateOf) -> None:
    messages = (Message(role="user", content="Hello"), Message(role="assistant", content="Hi.", loss=False))
    template = template_of("chatml")
    assert template.encode(Conversation(messages=messages)) == []
    assert template.trained_turns(Conversation(messages=messages)) == {}


def test_the_system_prompt_is_for_rows_without_one(template_of: TemplateOf, talk: Talk) -> None:
    template = template_of("default_system", system="Be kind.")
    assert template.render(talk("Hello", "Hi.")).startswith("<|im_start|>system\nBe kind.<|im_end|>\n")
    assert template.render(talk("Hello", "Hi.", system="Be brief.")).startswith(
        "<|im_start|>system\nBe brief.<|im_end|>"
    )
    [sample] = template.encode(talk("Hello", "Hi."))
    start = int(np.flatnonzero(sample.labels != -100)[0])
    assert template.encode_prompt(talk("Hello")).input_ids == sample.input_ids[:start].tolist()


def test_the_models_own_default_system_prompt_stays(template_of: TemplateOf, talk: Talk) -> None:
    assert "You are a helpful assistant" in template_of("default_system").render(talk("Hello", "Hi."))


def test_an_option_that_the_template_does_not_know_says_so(
    template_of: TemplateOf, caplog: pytest.LogCaptureFixture
) -> None:
    template_of("strips_thinking", enable_thinking=False)
    assert caplog.text == ""
    template_of("chatml", enable_thinking=False)
    assert "enable_thinking=False has no effect" in caplog.text


def test_training_wants_an_answer_and_serving_a_question(template_of: TemplateOf, talk: Talk) -> None:
    template = template_of("chatml")
    with pytest.raises(InvalidConversation, match="to be trained on"):
        template.encode(talk("Hello"))
    with pytest.raises(InvalidConversation, match="to be answered"):
        template.encode_prompt(talk("Hello", "Hi."))


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("chatml", "Hi.", ("Hi.", None)),
        ("chatml", "Hi.<|im_end|>", ("Hi.", None)),
        ("chatml", "Hi.<|im_end|>\n<|im_start|>user", ("Hi.", None)),
        ("chatml", "<think>\nWell.\n</think>\n\nHi.<|im_end|>", ("Hi.", "Well.")),
        ("chatml", "<think>\n\n</think>\n\nHi.<|im_end|>", ("Hi.", None)),
        ("chatml", "<think>\nWell, let me", ("", "Well, let me")),
        ("chatml", "Say </think>.", ("Say </think>.", None)),
        ("chatml", "Use <think>.", ("Use <think>.", None)),
        ("chatml", "A <|im_start|>B", ("A B", None)),
        ("opens_thinking", "Well.\n</think>\n\nHi.<|im_end|>", ("Hi.", "Well.")),
        ("opens_thinking", "Well, let me", ("", "Well, let me")),
        ("inst", " Hi. </s>", ("Hi.", None)),
        ("inst_sentencepiece", " Hi. </s>", ("Hi.", None)),
        ("headers", "Hi.<|eot_id|>", ("Hi.", None)),
        ("headers", "Hi.<|end_of_text|>", ("Hi.", None)),
    ],
)
def test_tokens_become_a_message(
    kind: str, text: str, expected: tuple[str, str | None], template_of: TemplateOf
) -> None:
    template = template_of(kind)
    message = template.parse(template.tokenizer.encode_after("]", text))
    assert (message.content, message.reasoning_content) == expected
    assert message.role == "assistant"


def test_a_response_prefix_is_part_of_the_parsed_answer(template_of: TemplateOf, talk: Talk) -> None:
    template = template_of("chatml", response_prefix="<think>\n\n</think>\n\n")
    prompt = template.encode_prompt(talk("Hello")).input_ids
    assert template.decode(prompt).endswith("assistant\n<think>\n\n</think>\n\n")
    message = template.parse(template.tokenizer.encode("Hi.<|im_end|>"))
    assert (message.content, message.reasoning_content) == ("Hi.", None)


def test_decoding_leaves_control_tokens_out_unless_asked(template_of: TemplateOf) -> None:
    template = template_of("chatml")
    ids = np.array(template.tokenizer.encode("<|im_start|>user\nHello<|im_end|>"))
    assert template.decode(ids) == "user\nHello"
    assert template.decode(ids, skip_special=False) == "<|im_start|>user\nHello<|im_end|>"


def test_stop_tokens_are_the_models_and_the_templates(template_of: TemplateOf) -> None:
    # The tokenizer names <|end_of_text|>; the chat template ends an answer with <|eot_id|>.
    template = template_of("headers")
    ids = template.tokenizer.special_ids
    assert template.stop_token_ids == {ids["<|end_of_text|>"], ids["<|eot_id|>"]}
    assert template.pad_token_id == ids["<|end_of_text|>"]


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("left", [[12, 13, 14]]),
        ("right", [[10, 11, 12]]),
        ("split", [[10, 11, 12], [13, 14]]),
        ("delete", []),
    ],
)
def test_a_long_sample_is_cut_split_or_left_out(strategy: str, expected: list[list[int]]) -> None:
    pieces = truncate(sample_of(0, 0, 1, 1, 1), 3, strategy)  # type: ignore[arg-type]  # one of the literals
    assert [each.input_ids.tolist() for each in pieces] == expected
    for piece in pieces:
        assert np.array_equal(piece.labels[piece.labels >= 0], piece.input_ids[piece.loss_scale > 0])


def test_a_sample_cut_down_to_its_prompt_is_left_out() -> None:
    assert truncate(sample_of(0, 0, 0, 1, 1), 3, "right") == []
    assert truncate(sample_of(1, 1, 0, 0, 0), 3, "left") == []
    assert len(truncate(sample_of(0, 0, 0, 1, 1), 3, "split")) == 1


@pytest.mark.parametrize(
    ("strategy", "length", "expected"),
    [
        ("left", 4, [[15, 16]]),
        ("left", 6, [[11, 12, 13, 14, 15, 16]]),
        ("right", 3, [[10]]),
        ("split", 4, [[10], [11, 12, 13, 14], [15, 16]]),
        ("split", 3, [[10], [15, 16]]),
    ],
)
def test_no_cut_goes_through_what_belongs_together(strategy: str, length: int, expected: list[list[int]]) -> None:
    sample = sample_of(1, 1, 1, 1, 1, 1, 1)
    sample.unbroken = ((1, 5),)
    pieces = truncate(sample, length, strategy)  # type: ignore[arg-type]  # one of the literals
    assert [each.input_ids.tolist() for each in pieces] == expected


def test_a_sample_that_would_lose_a_picture_is_left_out() -> None:
    sample = sample_of(1, 1, 1, 1, 1, 1, 1)
    sample.unbroken, sample.media = ((1, 3),), {"pixel_values": np.zeros((1, 3, 2, 2))}
    assert truncate(sample, 4, "left") == []
    [kept] = truncate(sample, 4, "right")
    assert kept.unbroken == ((1, 3),) and kept.media == sample.media


def test_a_call_and_its_result_stay_together(template_of: TemplateOf) -> None:
    conversation = Conversation(
        messages=(
            Message(role="user", content="Weather?"),
            Message(role="assistant", content="", tool_calls=(ToolCall("weather", {"city": "Paris"}),)),
            Message(role="tool", content="21 degrees"),
            Message(role="assistant", content="Warm."),
        )
    )
    template = template_of("keeps_calls")
    [sample] = template.encode(conversation)
    [(start, end)] = sample.unbroken
    together = template.decode(sample.input_ids[start:end])
    assert "Paris" in together and "21 degrees" in together and "Warm" not in together


def test_the_template_truncates_by_its_arguments(template_of: TemplateOf, talk: Talk) -> None:
    conversation = talk("Hello", "Hi.")
    [sample] = template_of("chatml").encode(conversation)
    whole = len(sample)
    assert template_of("chatml", max_length=whole).truncate(sample) == [sample]
    assert template_of("chatml", max_length=whole - 1).truncate(sample) == []
    [left] = template_of("chatml", max_length=whole - 1, truncation_strategy="left").truncate(sample)
    assert left.input_ids.tolist() == sample.input_ids.tolist()[1:]
    with pytest.raises(SampleTooLong, match=rf"a sample has {whole} tokens; expected at most max_length={whole - 1}"):
        template_of("chatml", max_length=whole - 1, truncation_strategy="raise").truncate(sample)


def test_the_longest_sample_is_by_default_what_the_model_was_built_for(template_of: TemplateOf) -> None:
    assert template_of("chatml").max_length == 2048
    assert template_of("chatml", max_length=100).max_length == 100


def test_a_lone_answer_is_a_plain_text(template_of: TemplateOf) -> None:
    template = template_of("chatml")
    text = "Once <|im_start|> upon"
    [sample] = template.encode(Conversation(messages=(Message(role="assistant", content=text),)))
    assert template.decode(sample.input_ids.tolist(), skip_special=False) == f"{text}<|im_end|>"
    # What looks like a control token in it is text.
    assert sample.input_ids.tolist().count(template.tokenizer.special_ids["<|im_start|>"]) == 0
    assert np.array_equal(sample.labels, sample.input_ids)
    with pytest.raises(InvalidConversation, match="expected a question before it"):
        template.encode_prompt(Conversation(messages=(Message(role="assistant", content=text),)))


def test_a_row_that_json_cannot_say_does_not_end_a_batch(template_of: TemplateOf, talk: Talk) -> None:
    bad = Message(role="assistant", content="", tool_calls=(ToolCall("f", {"a": "\ud800"}),))
    rows = [Conversation(messages=(Message(role="user", content="q"), bad)), talk("Hello", "Hi.")]
    refused, kept = template_of("chatml").encode_many(rows)
    assert isinstance(refused, InvalidConversation) and not isinstance(kept, Exception) and len(kept) == 1
