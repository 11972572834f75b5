"""A sample shown as text."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from swift_templates.messages import Conversation, Message
from swift_templates.show import describe_sample
from swift_templates.template import Template
from swift_templates.terminal import escape_control

TemplateOf = Callable[..., Template]

ROWS = Conversation(
    messages=(
        Message(role="user", content="Hé"),
        Message(role="assistant", content="🎉", loss_scale=2.5),
        Message(role="user", content="\x1b[2J"),
        Message(role="assistant", content="Ok"),
    )
)


def test_trained_text_stands_between_quotation_marks_with_its_weight(template_of: TemplateOf) -> None:
    template = template_of("chatml")
    [sample] = template.encode(ROWS)
    # The escape character of the row is shown, not sent to the terminal.
    assert describe_sample(template, sample, color=False) == (
        "<|im_start|>user\nHé<|im_end|>\n<|im_start|>assistant\n«🎉<|im_end|>»(x2.5)\n"
        "<|im_start|>user\n\\x1b[2J<|im_end|>\n<|im_start|>assistant\n«Ok<|im_end|>»"
    )


def test_trained_text_is_coloured_on_request(template_of: TemplateOf) -> None:
    template = template_of("chatml")
    [sample] = template.encode(ROWS)
    shown = describe_sample(template, sample, color=True)
    assert "assistant\n\x1b[1;32m🎉<|im_end|>\x1b[0m(x2.5)" in shown
    assert shown.count("\x1b") == 4 and "«" not in shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\x1b[2Jb\x07", "a\\x1b[2Jb\\x07"),
        ("a\r\x08b\x9bc\x85", "a\\x0d\\x08b\\x9bc\\x85"),
        ("\u202ea\u2066\u2028", "\\u202ea\\u2066\\u2028"),
        ("\U000e0041", "\\U000e0041"),
        ("a\n\tb é 日本\u3000語 10\u00a0km 👩\u200d🚀", "a\n\tb é 日本\u3000語 10\u00a0km 👩\u200d🚀"),
    ],
    ids=["escape codes", "other control characters", "invisible reordering", "invisible tags", "text as it is"],
)
def test_what_a_terminal_would_obey_is_written_as_an_escape(text: str, expected: str) -> None:
    assert escape_control(text) == expected
