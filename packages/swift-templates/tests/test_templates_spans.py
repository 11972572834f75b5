"""Which text is the model's: by hand for each kind of chat template, and refused where it cannot be known."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from swift_templates.args import TemplateArgs
from swift_templates.errors import ResponsePrefixMissing, TemplateMismatch
from swift_templates.messages import Conversation, Message, ToolCall
from swift_templates.show import describe_sample
from swift_templates.template import Template
from swift_templates.testing import write_tiny_folder

TemplateOf = Callable[..., Template]
Talk = Callable[..., Conversation]


def shown(template: Template, conversation: Conversation) -> list[str]:
    return [describe_sample(template, sample, color=False) for sample in template.encode(conversation)]


def built(folder: Path, chat_template: str) -> Template:
    return Template.from_folder(write_tiny_folder(folder, chat_template=chat_template))


# Each expected text follows from the template's file: prompt, then the answer up to its stop token between « and ».
CASES = {
    "chatml": "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n«Hi.<|im_end|>»",
    "default_system": (
        "<|im_start|>system\nYou are a helpful assistant<|im_end|>\n"
        "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n«Hi.<|im_end|>»"
    ),
    "inst": "<s>[INST] Hello [/INST]« Hi. </s>»",
    # A decoder of this kind drops the first space of a text; what follows a control token begins with one.
    "inst_sentencepiece": "<s> [INST] Hello [/INST]« Hi. </s>»",
    "headers": (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHello<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n«Hi.<|eot_id|>»"
    ),
    "strips_thinking": (
        "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n«<think>\n\n</think>\n\nHi.<|im_end|>»"
    ),
    "opens_thinking": (
        "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n<think>\n«\n</think>\n\nHi.<|im_end|>»"
    ),
    "generation_marks": "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n«Hi.<|im_end|>»",
    # What the template writes after the first stop token, the model never comes to say.
    "final_eos": "<|user|>\nHello<|end|>\n<|assistant|>\n«Hi.<|end|>»",
}


@pytest.mark.parametrize("kind", CASES)
def test_the_answer_and_its_stop_token_are_trained(kind: str, template_of: TemplateOf, talk: Talk) -> None:
    assert shown(template_of(kind), talk("Hello", "Hi.")) == [CASES[kind]]


def test_several_answers_share_a_sample_where_the_prompts_go_on(template_of: TemplateOf, talk: Talk) -> None:
    template, conversation = template_of("chatml"), talk("Hello", "Hi.", "2+2?", "4", system="Be brief.")
    assert shown(template, conversation) == [
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
        "«Hi.<|im_end|>»\n<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n«4<|im_end|>»"
    ]
    assert template.extends(conversation)


def test_thinking_that_leaves_the_history_makes_branches(template_of: TemplateOf, talk: Talk) -> None:
    template, conversation = template_of("strips_thinking"), talk("2+2?", "4", "3?", "3", reasoning="Count.")
    assert shown(template, conversation) == [
        "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n«<think>\nCount.\n</think>\n\n4<|im_end|>»",
        "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n4<|im_end|>\n"
        "<|im_start|>user\n3?<|im_end|>\n<|im_start|>assistant\n«<think>\nCount.\n</think>\n\n3<|im_end|>»",
    ]
    assert not template.extends(conversation)


def test_thinking_that_stays_until_the_next_question_makes_none(template_of: TemplateOf) -> None:
    # This template keeps reasoning after the last question, so a call and what follows it share a sample.
    call = ToolCall("weather", {"city": "Paris"})
    messages = (
        Message(role="user", content="Weather?"),
        Message(role="assistant", content="", reasoning_content="Look.", tool_calls=(call,)),
        Message(role="tool", content="22"),
        Message(role="assistant", content="Warm.", reasoning_content="22 is warm."),
    )
    template = template_of("keeps_calls")
    assert shown(template, Conversation(messages=messages)) == [
        "<|im_start|>user\nWeather?<|im_end|>\n<|im_start|>assistant\n"
        '«<think>\nLook.\n</think>\n\n<tool_call>{"name": "weather", "arguments": {"city": "Paris"}}</tool_call>'
        "<|im_end|>»\n<|im_start|>tool\n22<|im_end|>\n<|im_start|>assistant\n"
        "«<think>\n22 is warm.\n</think>\n\nWarm.<|im_end|>»"
    ]


def test_reasoning_is_written_into_the_answer_where_the_template_knows_none(
    template_of: TemplateOf, talk: Talk
) -> None:
    # The history stays as the chat template writes it, so that prompts are what any server sends.
    assert shown(template_of("chatml"), talk("2+2?", "4", "3?", "3", reasoning="Count.")) == [
        "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n«<think>\nCount.\n</think>\n\n4<|im_end|>»",
        "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n4<|im_end|>\n"
        "<|im_start|>user\n3?<|im_end|>\n<|im_start|>assistant\n«<think>\nCount.\n</think>\n\n3<|im_end|>»",
    ]


def test_an_empty_think_block_after_the_generation_prompt_is_the_prompts(template_of: TemplateOf, talk: Talk) -> None:
    template = template_of("strips_thinking", enable_thinking=False)
    # The template itself writes the block into the last answer, so it fits.
    assert shown(template, talk("2+2?", "4")) == [
        "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n«4<|im_end|>»"
    ]


def test_an_empty_think_block_that_answers_never_show_is_the_prompts(tmp_path: Path, talk: Talk) -> None:
    source = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n\n</think>\n\n' }}{% endif %}"
    )
    template = built(tmp_path, source)
    assert shown(template, talk("2+2?", "4", "3?", "3")) == [
        "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n«4<|im_end|>»",
        "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n4<|im_end|>\n"
        "<|im_start|>user\n3?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n«3<|im_end|>»",
    ]
    with pytest.raises(TemplateMismatch, match="answer 1 has reasoning, but the prompt ends with an empty think block"):
        template.encode(talk("2+2?", "4", reasoning="Count."))


def test_an_answer_that_joins_its_prompt_in_the_tokenizer_gets_a_sample_of_its_own(tmp_path: Path, talk: Talk) -> None:
    # Between this header and an answer stands no control token. "as" and "sistant" are one token when read together,
    # but the server sends the header alone: so the second prompt, read whole, has other tokens than the first one and
    # its answer.
    source = (
        "{% for m in messages %}{{ ('' if m.role == 'user' else ' as') + m.content + '<|im_end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ ' as' }}{% endif %}"
    )
    template = built(tmp_path, source)
    whole = template.tokenizer.encode(" assistant")
    apart = [*template.tokenizer.encode(" as"), *template.tokenizer.encode("sistant")]
    assert whole != apart
    first, second = template.encode(talk("Hello", "sistant", "And", "sistant"))
    assert first.input_ids.tolist() == [
        *template.tokenizer.encode("Hello<|im_end|> as"),
        *template.tokenizer.encode("sistant<|im_end|>"),
    ]
    start = template.tokenizer.encode("Hello<|im_end|> assistant<|im_end|>And<|im_end|> as")
    assert second.input_ids[: len(start)].tolist() == start
    assert not template.extends(talk("Hello", "sistant", "And", "sistant"))


def test_a_response_prefix_is_the_prompts(template_of: TemplateOf, talk: Talk) -> None:
    template = template_of("chatml", response_prefix="Well, ")
    assert shown(template, talk("Hello", "Well, hi.")) == [
        "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\nWell, «hi.<|im_end|>»"
    ]
    with pytest.raises(
        ResponsePrefixMissing, match=r"answer 2: the answer begins with 'Hi.*expected the response_prefix"
    ):
        template.encode(talk("Hello", "Well, hi.", "Hello", "Hi."))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}",
            r"answer 1: the chat template ends the answer with .*'assistant: Hi.\\n', which has no stop token",
        ),
        (
            "{% for m in messages %}{{ m.role + m.content + '<|im_end|>' }}{% endfor %}"
            "{% if add_generation_prompt %}bot{% endif %}",
            r"answer 1: .* after 'userHello<\|im_end\|>' the prompt goes on with 'bot', the conversation with 'assi",
        ),
        (
            "{{ messages | length }}{% for m in messages %}{{ m.content + '<|im_end|>' }}{% endfor %}",
            "answer 1: .* after '' the prompt goes on with '1Hello",
        ),
        (
            "{% for m in messages %}{{ m.content[: (1 if m.role == 'assistant' else 9)] + '<|im_end|>' }}{% endfor %}",
            r"answer 1: the chat template leaves out or changes 'Hi\.'",
        ),
    ],
    ids=["no stop token", "another header", "depends on the length", "cuts the answer"],
)
def test_a_template_whose_answer_cannot_be_told_is_refused(source: str, said: str, tmp_path: Path, talk: Talk) -> None:
    with pytest.raises(TemplateMismatch, match=re.compile(said, re.DOTALL)):
        built(tmp_path, source).encode(talk("Hello", "Hi."))


def test_a_template_that_opens_thinking_and_never_shows_it_is_refused(tmp_path: Path, talk: Talk) -> None:
    # As DeepSeek-R1's does: where the reasoning would end is not in the template, and is not guessed.
    source = (
        "{% for m in messages %}{{ '<|im_start|>' + m.content + '<|im_end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|><think>\n' }}{% endif %}"
    )
    with pytest.raises(TemplateMismatch, match=r"the prompt goes on with '<think>\\n'"):
        built(tmp_path, source).encode(talk("Hello", "Hi."))


def test_a_call_that_the_template_would_not_show_is_refused(template_of: TemplateOf) -> None:
    messages = (
        Message(role="user", content="Weather?"),
        Message(role="assistant", content="Look.", tool_calls=(ToolCall("weather", {}),)),
    )
    with pytest.raises(TemplateMismatch, match="has tool calls, and the chat template leaves out such"):
        template_of("default_system").encode(Conversation(messages=messages))


MARKED = (
    "{%% for m in messages %%}{{ '<|im_start|>' }}{%% if m.role == 'assistant' %%}%s{%% else %%}"
    "{{ 'user\n' + m.content + '<|im_end|>' }}{%% endif %%}{%% endfor %%}"
    "{%% if add_generation_prompt %%}{{ '<|im_start|>assistant\n' }}{%% endif %%}"
)


@pytest.mark.parametrize(
    "answer",
    [
        "{% generation %}{{ 'assistant\n' + m.content + '<|im_end|>' }}{% endgeneration %}",
        "{{ 'assistant\n' }}{% generation %}{{ m.content }}{% endgeneration %}{{ '<|im_end|>' }}",
        "{{ 'assistant\n' }}{% generation %}{{ m.content[:1] }}{% endgeneration %}"
        "{% generation %}{{ m.content[1:] + '<|im_end|>\n' }}{% endgeneration %}",
    ],
    ids=["header included", "stop token left out", "in two pieces"],
)
def test_generation_markers_do_not_change_what_the_prompt_decides(answer: str, tmp_path: Path, talk: Talk) -> None:
    assert shown(built(tmp_path, MARKED % answer), talk("Hello", "Hi.")) == [
        "<|im_start|>user\nHello<|im_end|><|im_start|>assistant\n«Hi.<|im_end|>»"
    ]


@pytest.mark.parametrize(
    "answer",
    [
        "{{ 'assistant\n' + m.content + '<|im_end|>' }}",
        "{{ 'assistant\n' + m.content[:1] }}{% generation %}{{ m.content[1:] + '<|im_end|>' }}{% endgeneration %}",
        "{{ 'assistant\n' }}{% generation %}{{ m.content[:1] }}{% endgeneration %}{{ m.content[1:] + '<|im_end|>' }}",
    ],
    ids=["no mark", "late mark", "early end"],
)
def test_generation_markers_that_leave_text_to_nobody_are_refused(answer: str, tmp_path: Path, talk: Talk) -> None:
    source = MARKED % answer + "{% if false %}{% generation %}{% endgeneration %}{% endif %}"
    with pytest.raises(TemplateMismatch, match=r"answer 1: the template's generation markers leave out 'H?i?"):
        built(tmp_path, source).encode(talk("Hello", "Hi."))


TURN = "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
ASK = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
DEAF = "{% for m in messages %}{% if m.role in ['user', 'assistant'] %}" + TURN + "{% endif %}{% endfor %}" + ASK
CALL = Message(role="assistant", content="I ask the weather.", tool_calls=(ToolCall("weather", {"city": "Paris"}),))


def test_a_call_whose_name_is_in_the_text_anyway_is_not_dropped_in_silence(tmp_path: Path) -> None:
    template = built(tmp_path, "{% for m in messages %}" + TURN + "{% endfor %}" + ASK)
    question = Message(role="user", content="Weather?")
    for ask, messages in (
        (template.encode, (question, CALL)),
        (template.encode_prompt, (question, CALL, Message(role="tool", content="21"))),
    ):
        with pytest.raises(TemplateMismatch, match="has tool calls, and the chat template leaves out such"):
            ask(Conversation(messages=messages))
    # What is written in the text is shown, and so is its result.
    written = Message(role="assistant", content="weather(Paris)")
    assert "21" in template.render(
        Conversation(messages=(question, written, Message(role="tool", content="21"))), generation_prompt=True
    )


def test_a_system_prompt_that_the_template_leaves_out_is_refused(tmp_path: Path, talk: Talk) -> None:
    folder = write_tiny_folder(tmp_path, chat_template=DEAF)
    assert len(Template.from_folder(folder).encode(talk("Hello", "Hi."))) == 1
    with pytest.raises(TemplateMismatch, match="has a system prompt, and the chat template leaves out such"):
        Template.from_folder(folder).encode(talk("Hello", "Hi.", system="Be brief."))
    with pytest.raises(TemplateMismatch, match="has a system prompt"):
        Template.from_folder(folder, TemplateArgs(system="Be brief.")).encode(talk("Hello", "Hi."))


def test_a_result_that_the_template_leaves_out_is_refused(tmp_path: Path) -> None:
    template = built(tmp_path, DEAF)
    messages = (
        Message(role="user", content="Weather?"),
        Message(role="assistant", content="weather(Paris)"),
        Message(role="tool", content="21"),
    )
    with pytest.raises(TemplateMismatch, match="has messages from 'tool', and the chat template leaves out such"):
        template.encode_prompt(Conversation(messages=messages))


@pytest.mark.parametrize(
    ("content", "reasoning"),
    [
        ("ok", "use </think> here"),
        ("<think>never closed", None),
        ("<think>", None),
        ("It is </think> here", "Well.</think>"),
    ],
)
def test_reasoning_that_would_be_read_back_otherwise_is_refused(
    template_of: TemplateOf, content: str, reasoning: str | None
) -> None:
    answer = Message(role="assistant", content=content, reasoning_content=reasoning)
    with pytest.raises(TemplateMismatch, match="answer 1 would be read back with the reasoning"):
        template_of("chatml").encode(Conversation(messages=(Message(role="user", content="q"), answer)))


@pytest.mark.parametrize(
    ("content", "reasoning"),
    [
        ("It ends with </think>.", None),
        ("Say <think>.", None),
        ("<think>inner</think> b", "outer"),
        ("b", "a <think> c"),
    ],
)
def test_thinking_marks_that_are_read_back_are_kept(
    template_of: TemplateOf, content: str, reasoning: str | None
) -> None:
    template = template_of("chatml")
    answer = Message(role="assistant", content=content, reasoning_content=reasoning)
    [sample] = template.encode(Conversation(messages=(Message(role="user", content="q"), answer)))
    assert template.parse(sample.labels[sample.labels >= 0].tolist()) == answer


def test_thinking_in_the_content_is_the_reasoning(template_of: TemplateOf, talk: Talk) -> None:
    template = template_of("chatml")
    [sample] = template.encode(talk("q", "<think>a</think>b"))
    read = template.parse(sample.labels[sample.labels >= 0].tolist())
    assert (read.reasoning_content, read.content) == ("a", "b")
