"""Weights of parts of answers: which text weighs what, and that it lands on the tokens of that text."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from swift_templates.errors import InvalidLossScale, UnknownName
from swift_templates.loss_scale import LOSS_SCALES, LossScale, Span, read_loss_scale
from swift_templates.messages import Conversation, Message
from swift_templates.template import Template

TemplateOf = Callable[..., Template]

REACT = 'Thought: I look it up.\nAction: search\nAction Input: {"q": "rain"}\nObservation:'


def ask(answer: str, question: str = "Rain?", **options: float) -> Conversation:
    return Conversation(
        messages=(
            Message(role="user", content=question),
            Message(role="assistant", content=answer, **options),  # type: ignore[arg-type]  # options of a test
        )
    )


def trained_text_by_weight(template: Template, conversation: Conversation) -> dict[float, str]:
    [sample] = template.encode(conversation)
    texts: dict[float, str] = {}
    for weight in np.unique(sample.loss_scale):
        ids = sample.input_ids[sample.loss_scale == weight].tolist()
        texts[float(weight)] = template.tokenizer.decode_after(ids)
    return texts


def test_contents_of_a_call_weigh_three_and_the_word_before_its_result_two(template_of: TemplateOf) -> None:
    texts = trained_text_by_weight(template_of("chatml", loss_scale="react"), ask(REACT))
    assert texts[3.0] == ' search\n {"q": "rain"}\n'
    assert texts[2.0] == "Observation:"
    assert texts[1.0] == "Thought: I look it up.\nAction:Action Input:<|im_end|>"


@pytest.mark.parametrize("kind", ["inst_sentencepiece", "final_eos_rstrip", "headers"])
def test_they_do_so_with_tokenizers_of_other_kinds(template_of: TemplateOf, kind: str) -> None:
    texts = trained_text_by_weight(template_of(kind, loss_scale="react"), ask(REACT))
    assert "search" in texts[3.0] and '"rain"' in texts[3.0] and "Thought" not in texts[3.0]
    assert texts[2.0].strip() == "Observation:"


def test_tokens_are_the_same_whatever_they_weigh(template_of: TemplateOf) -> None:
    plain, weighed = (template_of("chatml", loss_scale=each).encode(ask(REACT))[0] for each in ("default", "react"))
    assert np.array_equal(plain.input_ids, weighed.input_ids)


def test_marks_that_keep_lookalikes_apart_do_not_shift_the_weights(template_of: TemplateOf) -> None:
    answer = f"<|im_end|><|im_start|> {REACT}".replace("Thought", "\nThought")
    texts = trained_text_by_weight(template_of("chatml", loss_scale="react"), ask(answer))
    assert texts[3.0] == ' search\n {"q": "rain"}\n'


def test_the_questions_of_agent_flan_decide_about_the_whole_answer(template_of: TemplateOf) -> None:
    template = template_of("chatml", loss_scale="agentflan")
    texts = trained_text_by_weight(template, ask("search", "What is the tool you want to use?"))
    assert texts[3.0] == "search"
    assert 3.0 not in trained_text_by_weight(template, ask("search", "Which one?"))


@pytest.mark.parametrize(
    ("scale", "answer", "weight", "text"),
    [
        ("hermes", 'Sure.\n<tool_call>\n{"name": "f"}\n</tool_call>', 2.0, '<tool_call>\n{"name": "f"}\n</tool_call>'),
        ("qwen", '✿FUNCTION✿: f\n✿ARGS✿: {}', 2.0, '✿FUNCTION✿: f\n✿ARGS✿: {}'),
        ("toolbench", 'Thought: x\nAction: f\nAction Input: {}', 3.0, ' f\n {}'),
        ("agentflan", 'Tool: f\nCommand: g\nArguments: 3', 3.0, ' f\n g\n 3'),
    ],
)  # fmt: skip
def test_each_scale_weighs_what_its_format_is_about(
    template_of: TemplateOf, scale: str, answer: str, weight: float, text: str
) -> None:
    assert trained_text_by_weight(template_of("chatml", loss_scale=scale), ask(answer))[weight] == text


def test_empty_thinking_is_not_trained(template_of: TemplateOf) -> None:
    template = template_of("chatml", loss_scale="last_round+ignore_empty_think")
    [sample] = template.encode(ask("<think>\n\n</think>\n\nYes."))
    assert template.tokenizer.decode_after(sample.input_ids[sample.labels >= 0].tolist()) == "Yes.<|im_end|>"


def test_the_weight_of_a_message_comes_on_top(template_of: TemplateOf) -> None:
    texts = trained_text_by_weight(template_of("chatml", loss_scale="react"), ask(REACT, loss_scale=0.5))
    assert set(texts) == {0.0, 0.5, 1.0, 1.5}


def test_all_trains_prompts_too(template_of: TemplateOf) -> None:
    [sample] = template_of("chatml", loss_scale="all").encode(ask("Yes."))
    assert np.array_equal(sample.labels, sample.input_ids) and set(sample.loss_scale.tolist()) == {1.0}


KINDS = ["chatml", "inst_sentencepiece", "final_eos", "final_eos_rstrip", "headers", "strips_thinking", "keeps_calls"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{"loss": False}, {"loss_scale": 0.0}])
def test_all_leaves_out_answers_that_are_not_to_be_trained(
    template_of: TemplateOf, kind: str, options: dict[str, float]
) -> None:
    messages = (
        Message(role="user", content="Hello"),
        Message(role="assistant", content="Good one."),
        Message(role="user", content="What?"),
        Message(role="assistant", content="WRONG", **options),  # type: ignore[arg-type]  # options of a test
        Message(role="user", content="Sure?"),
        Message(role="assistant", content="Right."),
    )
    template = template_of(kind, loss_scale="all")
    *_, sample = template.encode(Conversation(messages=messages))
    trained = template.tokenizer.decode_after(sample.input_ids[sample.labels >= 0].tolist())
    assert "WRONG" not in trained
    assert all(each in trained for each in ("Hello", "Good one.", "What?", "Sure?", "Right."))
    left_out = template.tokenizer.decode_after(sample.input_ids[sample.labels < 0].tolist())
    assert "WRONG" in left_out and not any(each in left_out for each in ("one.", "What", "Sure"))


def test_all_leaves_out_such_an_answer_where_its_reasoning_is_taken_out_of_the_history(template_of: TemplateOf) -> None:
    def said(text: str, loss: bool) -> Message:
        return Message(role="assistant", content=text, reasoning_content="Hm.", loss=loss)

    asked = Message(role="user", content="Hello")
    template = template_of("strips_thinking", loss_scale="all")
    talk = (asked, said("WRONG", False), asked, said("NO", False), asked, said("Right.", True))
    [sample] = template.encode(Conversation(messages=talk))
    trained = template.tokenizer.decode_after(sample.input_ids[sample.labels >= 0].tolist())
    assert "WRONG" not in trained and "NO" not in trained and trained.count("Hello") == 3 and "Right." in trained


@pytest.mark.parametrize("options", [{"loss": False}, {"loss_scale": 0.0}])
@pytest.mark.parametrize("rule", ["default", "last_round", "all"])
def test_a_plain_text_that_is_not_to_be_trained_gives_no_sample(
    template_of: TemplateOf, rule: str, options: dict[str, float]
) -> None:
    plain = Message(role="assistant", content="Paris.", **options)  # type: ignore[arg-type]  # options of a test
    template = template_of("chatml", loss_scale=rule)
    assert template.encode(Conversation(messages=(plain,))) == []
    assert len(template.encode(Conversation(messages=(Message(role="assistant", content="Paris."),)))) == 1


def test_a_file_weighs_as_it_says(template_of: TemplateOf, tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    content = {"keywords": {"Sum:": [0, 4]}, "patterns": {"(\\d+) kg": 2}, "questions": {"why": 0.5}}
    file.write_text(json.dumps(content), encoding="utf-8")
    template = template_of("chatml", loss_scale=f"last_round+{file}")
    texts = trained_text_by_weight(template, ask("It is 12 kg.\nSum: 3", "why"))
    assert texts[4.0] == " 3" and texts[2.0].strip() == "12" and texts[0.5].startswith("It is")


class Shouting(LossScale):
    """Weighs exclamation marks."""

    def weigh(self, question: str, answer: str) -> Sequence[Span]:
        """Return them."""
        return [Span(at, at + 1, 9.0) for at, each in enumerate(answer) if each == "!"]


def test_a_class_of_the_users_weighs_too(template_of: TemplateOf) -> None:
    template = template_of("chatml", loss_scale=f"{__name__}:Shouting+react")
    assert trained_text_by_weight(template, ask("Oh!"))[9.0] == "!"


class Wrong(LossScale):
    """Gives what a test says, or raises it."""

    result: object = ()

    def weigh(self, question: str, answer: str) -> Sequence[Span]:
        """Return it."""
        if isinstance(self.result, Exception):
            raise self.result
        return self.result  # type: ignore[return-value]  # that is what the test is about


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ([Span(0, 5, float("nan"))], "the weight nan"),
        ([Span(0, 5, float("inf"))], "the weight inf"),
        ([Span(0, 5, -3.0)], "the weight -3.0"),
        ([Span(0, 5, 1e7)], "the weight 10000000.0"),
        ([Span(0, 99, 2.0)], "characters 0 to 99 of an answer of 11"),
        ([Span(-2, -1, 9.0)], "characters -2 to -1"),
        ([Span(5, 4, 9.0)], "characters 5 to 4"),
        ([Span(0, 1, 2.0), Span(10, 12, 2.0)], "characters 10 to 12"),
        ([(0, 1)], "fails: ValueError"),
        ([(0.5, 1, 2.0)], "fails: TypeError"),
        ([7], "fails: TypeError"),
        (7, "fails: TypeError"),
        (KeyError("x"), "fails: KeyError"),
    ],
)
def test_what_a_class_of_the_users_cannot_mean_is_refused(
    template_of: TemplateOf, monkeypatch: pytest.MonkeyPatch, result: object, said: str
) -> None:
    monkeypatch.setattr(Wrong, "result", result)
    template = template_of("chatml", loss_scale=f"{__name__}:Wrong")
    with pytest.raises(InvalidLossScale, match=said):
        template.encode(ask("hello world"))
    good, bad = template.encode_many(
        [Conversation(messages=(Message(role="assistant", content="x"),)), ask("hello world")]
    )
    assert isinstance(good, list) and isinstance(bad, InvalidLossScale)


def test_a_span_may_be_empty_or_all_of_the_answer(template_of: TemplateOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Wrong, "result", [Span(0, 11, 2.0), Span(11, 11, 0.0), Span(0, 0, 5.0)])
    texts = trained_text_by_weight(template_of("chatml", loss_scale=f"{__name__}:Wrong"), ask("hello world"))
    assert texts[2.0] == "hello world" and texts[1.0] == "<|im_end|>"


def test_a_group_of_a_pattern_that_matched_nothing_weighs_nothing(template_of: TemplateOf, tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"patterns": {"(very )?good": 3}}), encoding="utf-8")
    texts = trained_text_by_weight(template_of("chatml", loss_scale=str(file)), ask("a good day, a very good one"))
    assert texts[3.0].strip() == "very"


class Unmakeable(LossScale):
    """Cannot be made."""

    def __init__(self) -> None:
        raise RuntimeError("no file")

    def weigh(self, question: str, answer: str) -> Sequence[Span]:
        """Return nothing."""
        return ()


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("lastround", UnknownName, "did you mean 'last_round'"),
        ("default+all", InvalidLossScale, "expected one"),
        ("missing.json", InvalidLossScale, "cannot be read"),
        ("json:loads", InvalidLossScale, "expected a subclass"),
        ("nowhere:Class", InvalidLossScale, "cannot be imported"),
        (f"{__name__}:Unmakeable", InvalidLossScale, "no file"),
    ],
)
def test_what_is_none_is_refused(text: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        read_loss_scale(text)


@pytest.mark.parametrize(
    "content",
    [
        [], {"other": {}}, {"keywords": []}, {"keywords": {"a": 1}}, {"patterns": {"a": [1, 2]}},
        {"patterns": {"(": 1}}, {"patterns": {"a": -1}}, {"questions": {"a": True}}, {"questions": {"a": float("inf")}},
    ],
)  # fmt: skip
def test_a_file_that_is_none_is_refused(content: object, tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InvalidLossScale, match=r"mine\.json"):
        read_loss_scale(str(file))


def test_every_registered_scale_stays_inside_of_the_answer() -> None:
    answer = f"{REACT}\n<think></think> ✿ARGS✿: 1\nTool:\nName:"
    for name in LOSS_SCALES.names():
        [scale] = read_loss_scale(name).scales
        for span in scale.weigh("What is the value of x?", answer):
            assert 0 <= span.start <= span.end <= len(answer)
