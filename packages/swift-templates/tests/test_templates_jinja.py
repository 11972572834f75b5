"""Chat templates render as transformers renders them, and cannot run wild."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import pytest
from swift_templates.errors import ChatTemplateError, RenderLimitExceeded
from swift_templates.jinja import ChatTemplate, compile_chat_template
from swift_templates.render_limits import RenderLimits

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
            "makes a value of more than 1000",
        ),
        (
            "{% set ns = namespace(x='x') %}{% for a in range(90) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
            "makes a value of more than 1000",
        ),
        (
            "{% set ns = namespace(x=['x']) %}{% for a in range(90) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
            "makes a value of more than 1000",
        ),
        (
            "{% set x %}{% for a in range(100) %}{{ 'x' * 20 }}{% endfor %}{% endset %}",
            "makes a value of more than 1000",
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


# Each would take gigabytes, or hours, if only what it has made were looked at.
GREEDY = [
    "{{ '%800000000d' % 1 }}",
    "{{ '%(n)800000000d' % {'n': 1} }}",
    "{{ '%*d' % (800000000, 1) }}",
    "{{ '%.800000000f' % 1.5 }}",
    "{{ ('%(a)s' * 100000) % {'a': 'x' * 1000000} }}",
    "{{ '%800000000d' | format(1) }}",
    "{{ '%*d' | format(800000000, 1) }}",
    "{{ '{:>800000000}'.format(1) }}",
    "{{ '{:>{}}'.format(1, 800000000) }}",
    "{{ '{:.800000000f}'.format(1.5) }}",
    "{{ '{x:>800000000}'.format_map({'x': 1}) }}",
    "{{ ('{0}' * 10000).format('x' * 1000000) }}",
    "{{ ('a' | safe).format('') }}{{ ('{:>800000000}' | safe).format(1) }}",
    "{{ ('a' | attr('ljust'))(800000000) }}",
    "{{ 'a'.ljust(800000000) }}",
    "{{ 'a'.rjust(800000000) }}",
    "{{ 'a'.center(800000000) }}",
    "{{ 'a'['zfill'](800000000) }}",
    "{% set f = 'a'.zfill %}{{ f(800000000) }}",
    "{{ ('a' | safe).ljust(800000000) }}",
    "{{ '\t'.expandtabs(800000000) }}",
    "{{ '\t'.expandtabs(tabsize=800000000) }}",
    "{{ ('a' * 100000).replace('a', 'b' * 100000) }}",
    "{{ ('a' * 100000).replace('', 'b' * 100000) }}",
    "{{ ('a' * 100000) | replace('a', 'b' * 100000) }}",
    "{{ 'a' | center(800000000) }}",
    "{{ 'a' | indent(800000000, first=true) }}",
    "{{ ('a\n' * 100000) | indent('b' * 100000) }}",
    "{{ [1] | batch(800000000, 0) | list }}",
    "{{ [1] | slice(800000000) | list }}",
    "{{ 1 | round(800000000) }}",
    "{{ [1] | tojson(indent=800000000) }}",
    "{{ range(100000) | tojson(separators=('x' * 1000000, '')) }}",
    "{{ ('x' * 1000000).join(range(9999) | map('string')) }}",
    "{{ range(9999) | map('string') | join('x' * 1000000) }}",
    "{{ range(100000) | map('string') | map('replace', '', 'y' * 1000000) | list }}",
    "{{ (range(100000) | map('string') | map('center', 1000000) | list)[0] }}",
    "{% set x = 'x' * 7000000 %}{{ x ~ x ~ x ~ x ~ x }}",
    "{% set x = 'x' * 7000000 %}{{ (x + x + x + x)[0] }}",
    "{% set x = 'x' * 7000000 %}{% macro f() %}{% for n in range(9999) %}{{ x }}{% endfor %}{% endmacro %}{{ f()[0] }}",
    "{% set x = 'x' * 7000000 %}{% set y %}{% for n in range(9999) %}{{ x }}{% endfor %}{% endset %}",
    "{% set x = 'x' * 7000000 %}{% set ns = namespace(y=[]) %}"
    "{% for n in range(99999) %}{% set ns.y = ns.y + [x[n:]] %}{% endfor %}",
    "{% set x = [[1] * 1000000] * 1000000 %}{{ x }}",
    "{{ ('f' * 7000000) | int(base=16) % 12345678901234567 }}",
    "{{ 7 ** 99999999 }}",
    "{{ strftime_now('%Y' * 100000) }}",
]


@pytest.mark.parametrize("source", GREEDY)
def test_what_would_be_far_too_large_is_never_made(source: str) -> None:
    tracemalloc.start()
    began = time.monotonic()
    try:
        with pytest.raises(ChatTemplateError, match=r"it was stopped|expected at most|takes no indent"):
            ChatTemplate(source).render({})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # What may be made in all, and a little more.
    assert peak < 600e6
    assert time.monotonic() - began < 8


@pytest.mark.parametrize("nested", ["[ns.x, ns.x]", "(ns.x, ns.x)", "{'a': ns.x, 'b': ns.x}", "dict(a=ns.x, b=ns.x)"])
def test_a_value_weighs_all_that_it_holds_however_often(nested: str) -> None:
    # It takes little memory, but to write it out or to compare it would take 2 to the 60th steps.
    source = "{% set ns = namespace(x=[1]) %}{% for n in range(60) %}{% set ns.x = " + nested + " %}{% endfor %}"
    with pytest.raises(RenderLimitExceeded, match="makes a value of more than 10000"):
        ChatTemplate(source, limits=RenderLimits(value_items=10_000)).render({})


def test_namespaces_are_not_written_out() -> None:
    # What they hold may be put there after they were weighed themselves.
    assert ChatTemplate("{{ namespace(a=1) }}").render({}) == "<Namespace>"


def test_values_are_limited_in_all_and_not_only_one_by_one() -> None:
    source = "{% set ns = namespace(y=[]) %}{% for n in range(99) %}{% set ns.y = ns.y + ['x' * 100] %}{% endfor %}"
    limits = RenderLimits(made_bytes=50_000)
    with pytest.raises(RenderLimitExceeded, match="values of more than 50000 bytes in all"):
        ChatTemplate(source, limits=limits).render({})
    flattened = "{{ ([[1]] * 100) | sum(start=[]) }}"
    with pytest.raises(RenderLimitExceeded, match="values of more than 50000 bytes in all"):
        ChatTemplate(flattened, limits=limits).render({})
    # The count begins anew with each rendering.
    small = ChatTemplate("{{ 'x' * 100 ~ n }}", limits=RenderLimits(made_bytes=1000))
    assert all(len(small.render({"n": 1})) == 101 for _ in range(20))


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(100000) if range(100000) | sum < 0 %}{% endfor %}",
        "{{ range(100000) | select('in', range(100000) | map('string') | list) | list }}",
        "{{ ([range(100000)] * 100000) | map('sum') | list }}",
    ],
    ids=["a condition of a loop", "a test", "a filter"],
)
def test_time_is_limited_in_loops_that_have_no_body(source: str) -> None:
    began = time.monotonic()
    with pytest.raises(RenderLimitExceeded, match=r"ran for more than 0.2 s"):
        ChatTemplate(source, limits=RenderLimits(time_s=0.2)).render({})
    assert time.monotonic() - began < 5  # 0.2 s and room for a busy machine; without the limit it is minutes.


@pytest.mark.parametrize("name", ["lipsum()", "cycler('a')", "joiner()"])
def test_jinjas_makers_of_filler_are_not_there(name: str) -> None:
    with pytest.raises(ChatTemplateError, match="is undefined"):
        ChatTemplate("{{ " + name + " }}").render({})


@pytest.mark.parametrize("call", ["'a' | wordwrap(1)", "'a' | pprint", "'a' | urlize"])
def test_filters_of_web_pages_are_not_there(call: str) -> None:
    with pytest.raises(ChatTemplateError, match="No filter named"):
        ChatTemplate("{{ " + call + " }}")


@pytest.mark.parametrize("call", ["'a'.encode()", "'a'.translate({97: 'b'})", "(1).to_bytes(9, 'big')"])
def test_methods_whose_cost_cannot_be_told_are_refused(call: str) -> None:
    with pytest.raises(ChatTemplateError, match="is not available to chat templates"):
        ChatTemplate("{{ " + call + " }}").render({})


@pytest.mark.parametrize(
    "source",
    [
        "{{ '%s has %03d of %.2f%%' % ('a', 7, 1.5) }}{{ '%(a)s%(a)5s' % {'a': 'b'} }}{{ '%*d' % (5, 3) }}",
        "{{ '{0:>5}|{x!r}|{0}'.format(1, x='b') }}{{ '{}{x:^9}'.format(1, x='b') }}{{ '{a}'.format_map({'a': 1}) }}",
        "{{ '%s and %s' | format('a', 'b') }}{{ 'a' | center(9) }}{{ 'a\nb' | indent }}{{ 'a\nb' | indent(2, true) }}",
        "{{ 'a'.ljust(3) ~ 'a'.rjust(3) ~ 'a'.center(3) ~ '7'.zfill(3) ~ 'a\tb'.expandtabs(4) }}",
        "{{ 'aXb'.replace('X', '--') }}{{ 'aXb' | replace('X', '--') }}{{ 'aXXb'.replace('X', '-', 1) }}",
        "{{ [1, 'a', none] | join(', ') }}{{ messages | map(attribute='role') | join('/') }}",
        "{{ messages | join('|', attribute='role') }}{{ '-'.join(messages | map(attribute='role')) }}",
        "{{ [[1], [2]] | sum(start=[]) }}{{ [1, 2.5] | sum }}{{ [{'n': 1}] | sum(attribute='n', start=1) }}",
        "{{ range(7) | batch(3, 0) | list }}{{ range(7) | slice(3) | list }}{{ 2.567 | round(1) }}",
        "{{ messages[1:][0].content ~ messages[::-1][0].role ~ 1 ~ none ~ missing }}",
        "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}{{ messages[0] | items | list }}",
        "{{ messages[0].items() | list }}{{ 'a b'.split(' ') }}{{ ' a '.strip() }}{{ 'ab'.startswith('a') }}",
        "{{ {'a': messages[0].role, 'b': [1, missing is defined]} }}{{ (1, messages[0].role) }}{{ [1] + [2] }}",
        "{% for a, b in {'x': 1}.items() %}{{ a ~ b }}{% endfor %}{% set a, b = 1, 2 %}{{ a + b }}",
        "{% for m in messages if m.role == 'user' %}{{ loop.index }}{{ m.content | upper }}{% endfor %}",
        "{% for m in messages recursive %}{{ m.role }}{% endfor %}{{ 7 // 2 }}{{ 7 / 2 }}{{ 7 % 4 }}{{ 2 ** 9 }}",
        "{% filter upper %}a{{ 1 }}{% endfilter %}{% set x | trim %} b {% endset %}{{ x }}",
        "{{ 'a' + messages[0].role + ('b' + 'c') + 'd' }}{{ 1 + 2 + 3.5 }}{{ [1] + [2] + [messages[0].role + 'a'] }}",
        "{{ 'a' + ('<' | e) + '<' }}{{ 1 + 2 * 3 + 4 }}{{ 'a' + '%s' % 1 + 'b' ~ 2 }}{{ (1, 2) + (3,) + () }}",
        "{% for m in messages %}{{ loop.first }}{{ loop.length }}{{ loop.nextitem.role if not loop.last }}{% endfor %}",
        "{% macro f(a, b=2) %}{{ a }}{{ b }}{{ caller() if caller }}{% endmacro %}{% call f(1) %}c{% endcall %}",
        "{{ dict(a=1) }}{{ messages | tojson(indent=2) }}{{ 'a<b' | safe }}{{ '<' | e }}{{ 'x' in ['x', none] }}",
        "{% autoescape true %}{{ messages[0].content ~ '>' }}{{ messages[0].content | safe ~ '>' }}{% endautoescape %}"
        "{{ '{}'.format('<' | safe) }}",
    ],
)
def test_what_is_counted_renders_as_before(source: str) -> None:
    transformers = pytest.importorskip("transformers.utils.chat_template_utils")
    [expected], _ = transformers.render_jinja_template([MESSAGES], chat_template=source)
    assert ChatTemplate(source).render({"messages": MESSAGES, "tools": None, "documents": None}) == expected


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
