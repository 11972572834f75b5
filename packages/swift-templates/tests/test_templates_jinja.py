"""Chat templates render as transformers renders them, and cannot run wild."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from swift_templates.errors import ChatTemplateError, RenderLimitExceeded
from swift_templates.jinja import ChatTemplate, RenderLimits, compile_chat_template

MESSAGES = [{"role": "user", "content": "<a> & 'b'"}, {"role": "assistant", "content": "é"}]

SMALL = RenderLimits(source_chars=2000, output_chars=1000, value_items=1000, range_items=100, time_s=0.2)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{% for m in messages %}\n    {{ m.content }}\n{% endfor %}", "    <a> & 'b'\n    é\n"),
        (
            "{{ messages | tojson }}",
            '[{"role": "user", "content": "<a> & \'b\'"}, {"role": "assistant", "content": "é"}]',
        ),
        ("{{ messages[1] | tojson(indent=1) }}", '{\n "role": "assistant",\n "content": "é"\n}'),
        ("{{ {'b': 1, 'a': 2} | tojson(sort_keys=true, separators=(',', ':')) }}", '{"a":2,"b":1}'),
        ("{% for n in range(9) %}{% if n == 3 %}{% break %}{% endif %}{{ n }}{% endfor %}", "012"),
        ("{% for n in range(5) %}{% if n % 2 %}{% continue %}{% endif %}{{ n }}{% endfor %}", "024"),
        ("{% set ns = namespace(n=1) %}{% for m in messages %}{% set ns.n = ns.n * 3 %}{% endfor %}{{ ns.n }}", "9"),
        ("{% set x %}a{{ messages|length }}{% endset %}{{ x }}", "a2"),
        ("{% macro f(m) %}[{{ m.role }}]{% endmacro %}{{ f(messages[0]) }}", "[user]"),
        ("{% generation %}x{% endgeneration %}y", "xy"),
        ("{{ missing }}{{ missing is defined }}", "False"),
        ("{% for m in messages %}{{ loop.last }}{{ loop.index0 }}{{ loop.length }}{% endfor %}", "False02True12"),
        ("{{ '-' * 3 }}{{ 2 ** 5 }}", "---32"),
    ],
)
def test_rendering_is_that_of_transformers(source: str, expected: str) -> None:
    # Worked out by hand; `test_templates_transformers` holds whole templates against transformers itself.
    assert ChatTemplate(source).render({"messages": MESSAGES}) == expected


def test_the_shipped_kinds_render_the_same_with_and_without_limits_in_the_tree() -> None:
    folder = Path(__file__).parent / "chat_templates"
    transformers = pytest.importorskip("transformers.utils.chat_template_utils")
    for path in sorted(folder.glob("*.jinja")):
        source = path.read_text(encoding="utf-8")
        variables = {"bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": True}
        [expected], _ = transformers.render_jinja_template([MESSAGES], chat_template=source, **variables)
        ours = ChatTemplate(source).render({"messages": MESSAGES, "tools": None, "documents": None, **variables})
        assert ours == expected, path.name


def test_strftime_now_gives_todays_date() -> None:
    assert ChatTemplate("{{ strftime_now('%Y') }}").render({}) == time.strftime("%Y")


def test_a_template_refuses_in_its_own_words() -> None:
    template = ChatTemplate("{{ raise_exception('only users, please') }}")
    with pytest.raises(ChatTemplateError, match="refuses this conversation: only users, please"):
        template.render({})


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{{ messages.nothing.there }}", "refuses this conversation: .*nothing"),
        ("{{ 1 + 'a' }}", "fails on this conversation: TypeError"),
        ("{{ 1 / 0 }}", "fails on this conversation: ZeroDivisionError"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "fails on this conversation: RecursionError"),
    ],
)
def test_a_failing_template_is_a_clear_error(source: str, said: str) -> None:
    with pytest.raises(ChatTemplateError, match=said):
        ChatTemplate(source).render({"messages": MESSAGES})


def test_a_template_that_is_not_jinja_names_the_line() -> None:
    with pytest.raises(ChatTemplateError, match=r"not valid Jinja: .* \(line 2\)"):
        ChatTemplate("a\n{% for %}")


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.__class__ }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update(role='system') }}",
        "{{ raise_exception.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{{ '{0.__class__}'.format(1) }}",
    ],
)
def test_the_sandbox_gives_no_way_out_and_changes_nothing(source: str) -> None:
    messages = [dict(message) for message in MESSAGES]
    try:
        text = ChatTemplate(source).render({"messages": messages})
    except ChatTemplateError:
        text = ""
    assert "class" not in text and "os" not in text
    assert messages == MESSAGES


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{% for a in range(100) %}{{ 'x' * 20 }}{% endfor %}", "more than 1000 characters"),
        ("{{ range(101) | list }}", "range of 101 numbers; expected at most 100"),
        ("{{ 'x' * 1001 }}", r"computes a '\*' that is too large"),
        ("{{ 1001 * ['x'] }}", r"computes a '\*' that is too large"),
        ("{{ 10 ** 100000 }}", r"computes a '\*\*' that is too large"),
        (
            "{% set ns = namespace(x='x') %}{% for a in range(90) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
            "holds a value of more than 1000",
        ),
        (
            "{% set ns = namespace(x='x') %}{% for a in range(90) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
            "holds a value of more than 1000",
        ),
        (
            "{% set ns = namespace(x=['x']) %}{% for a in range(90) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
            "holds a value of more than 1000",
        ),
        (
            "{% set x %}{% for a in range(100) %}{{ 'x' * 20 }}{% endfor %}{% endset %}",
            "holds a value of more than 1000",
        ),
        ("x" * 2001, "2001 characters; expected at most 2000"),
    ],
)
def test_sizes_are_limited(source: str, said: str) -> None:
    with pytest.raises(RenderLimitExceeded, match=said):
        ChatTemplate(source, limits=SMALL).render({})


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(100) %}" * 9 + "{% endfor %}" * 9,
        "{% macro f(n) %}{% for a in range(2) %}{{ f(n - 1) if n }}{% endfor %}{% endmacro %}{{ f(60) }}",
    ],
    ids=["loops that make no output", "a macro that calls itself twice"],
)
def test_time_is_limited_also_where_nothing_is_output(source: str) -> None:
    began = time.monotonic()
    with pytest.raises(RenderLimitExceeded, match=r"ran for more than 0.2 s"):
        ChatTemplate(source, limits=SMALL).render({})
    assert time.monotonic() - began < 5  # 0.2 s and room for a busy machine; without the limit it is years.


def test_an_ordinary_long_conversation_is_within_the_limits() -> None:
    source = (Path(__file__).parent / "chat_templates" / "strips_thinking.jinja").read_text(encoding="utf-8")
    messages = [{"role": "user", "content": "x" * 100_000}, {"role": "assistant", "content": "y"}] * 50
    assert len(ChatTemplate(source).render({"messages": messages})) > 5_000_000


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a{% generation %}bc{% endgeneration %}d", "a(bc)d"),
        (
            "{% macro f(x) %}<{% generation %}{{ x }}{% endgeneration %}>{% endmacro %}{{ f(1) }}{{ f(2) }}",
            "<(1)><(2)>",
        ),
    ],
    ids=["plain", "in a macro"],
)
def test_generation_marks_stand_around_what_is_generated(source: str, expected: str) -> None:
    template = ChatTemplate(source)
    assert template.marks_generation
    assert template.render_marked({}, marks=("(", ")")) == expected


def test_the_same_source_is_compiled_once() -> None:
    assert compile_chat_template("{{ 1 }}") is compile_chat_template("{{ 1 }}")
