"""Chat templates rendered in Jinja's immutable sandbox, within limits of time and size.

A chat template comes with a model, from anyone, so it is run as foreign code. Jinja's sandbox keeps it from Python's
insides. The limits here keep it from running for ever or filling the memory:

- the source's size, before it is compiled;
- the time and the output's size, looked at with every chunk that `generate` yields, and the time with every turn of a
  loop and every call of a macro as well, since a loop can run without making output;
- the size of each value that a variable is set to, and of each product (`*`, `**`), since a text that is doubled in a
  loop grows without making output;
- the length of a `range`.

The looks are put into the template's syntax tree after parsing; what it renders is what transformers renders.
"""

from __future__ import annotations

import functools
import json
import re
import threading
import time
from collections.abc import Mapping, Sized
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment

from .errors import ChatTemplateError, RenderLimitExceeded

_TICK = "count a step"  # Filter names with spaces in them cannot be written in a template, so none can reach these.
_BOUND = "bound a value"
_MAX_POWER_BITS = 4096


@dataclass(frozen=True, kw_only=True)
class RenderLimits:
    """How much a chat template may use."""

    source_chars: int = 1_000_000
    output_chars: int = 32_000_000
    value_items: int = 32_000_000
    """Characters of a text, or items of a list, that a variable may hold."""
    range_items: int = 100_000
    time_s: float = 10.0


class ChatTemplate:
    """A compiled chat template.

    Args:
        source: the Jinja text.
        limits: what it may use.

    Raises:
        ChatTemplateError: the source is not a template, or is too long.
    """

    def __init__(self, source: str, *, limits: RenderLimits | None = None) -> None:
        self.source = source
        self._limits = limits or RenderLimits()
        self._run = _Run()
        if len(source) > self._limits.source_chars:
            raise RenderLimitExceeded(
                f"the chat template has {len(source)} characters; expected at most {self._limits.source_chars}"
            )
        environment = _build_environment(self._run, self._limits)
        try:
            tree = environment.parse(source)
            self.marks_generation: bool = environment.generation_found
            _instrument(tree)
            tree.set_environment(environment)
            code = environment.compile(tree)
        except jinja2.TemplateSyntaxError as error:
            raise ChatTemplateError(
                f"the chat template is not valid Jinja: {error.message} (line {error.lineno})"
            ) from error
        except RecursionError as error:
            raise ChatTemplateError("the chat template is nested too deeply") from error
        self._template = jinja2.Template.from_code(environment, code, environment.make_globals(None))

    def mentions(self, name: str) -> bool:
        """Whether a word, such as a variable's name, stands in the source."""
        return re.search(rf"\b{re.escape(name)}\b", self.source) is not None

    def render(self, variables: Mapping[str, object]) -> str:
        """Render the template.

        Raises:
            ChatTemplateError: the template refuses these variables (`raise_exception`) or fails on them.
            RenderLimitExceeded: it used more than it may.
        """
        return self._render(variables, marks=None)

    def render_marked(self, variables: Mapping[str, object], *, marks: tuple[str, str]) -> str:
        """Render with the two `marks` around what stands between `{% generation %}` and `{% endgeneration %}`.

        Args:
            variables: as for `render`.
            marks: two characters that occur neither in the variables nor in the template.
        """
        return self._render(variables, marks=marks)

    def _render(self, variables: Mapping[str, object], *, marks: tuple[str, str] | None) -> str:
        run, limits = self._run, self._limits
        run.marks = marks
        run.deadline = time.monotonic() + limits.time_s
        chunks: list[str] = []
        size = 0
        try:
            for chunk in self._template.generate(variables):
                size += len(chunk)
                if size > limits.output_chars:
                    raise RenderLimitExceeded(
                        f"the chat template made more than {limits.output_chars} characters; it was stopped"
                    )
                _check_time(run, limits)
                chunks.append(chunk)
        except ChatTemplateError:
            raise
        except jinja2.TemplateError as error:
            raise ChatTemplateError(f"the chat template refuses this conversation: {error}") from error
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            MemoryError,
            RecursionError,
            TypeError,
            ValueError,
        ) as error:
            raise ChatTemplateError(
                f"the chat template fails on this conversation: {type(error).__name__}: {error}"
            ) from error
        return "".join(chunks)


@functools.lru_cache(maxsize=64)
def compile_chat_template(source: str) -> ChatTemplate:
    """Compile a chat template under the usual limits; the same source is compiled once. Raises as `ChatTemplate`."""
    return ChatTemplate(source)


class _Run(threading.local):
    """What holds for the rendering that goes on in this thread."""

    deadline: float = 0.0
    marks: tuple[str, str] | None = None


class _Generation(Extension):
    """The `{% generation %}` tag of transformers: what stands in it is the model's own."""

    tags = {"generation"}  # noqa: RUF012  (the name and form that Jinja reads)

    environment: _Sandbox

    def parse(self, parser: Parser) -> nodes.Node:
        self.environment.generation_found = True
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_enclose"), [], [], body).set_lineno(line)

    def _enclose(self, caller: Macro) -> str:
        marks = self.environment.run.marks
        text = str(caller())
        return f"{marks[0]}{text}{marks[1]}" if marks else text


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, with products kept small."""

    intercepted_binops = frozenset(("*", "**"))
    run: _Run
    limits: RenderLimits
    generation_found = False

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:  # noqa: ANN401  (Jinja's signature)
        if operator == "**":
            too_large = isinstance(left, int) and isinstance(right, int) and left.bit_length() * right > _MAX_POWER_BITS
        else:
            too_large = _product_size(left, right) > self.limits.value_items
        if too_large:
            raise RenderLimitExceeded(f"the chat template computes a {operator!r} that is too large; it was stopped")
        return super().call_binop(context, operator, left, right)


def _build_environment(run: _Run, limits: RenderLimits) -> _Sandbox:
    environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
    environment.run, environment.limits = run, limits

    # A filter that takes the context is not computed when the template is compiled.
    @jinja2.pass_context
    def tick(context: Context, value: None) -> None:
        _check_time(run, limits)

    def bounded(value: object) -> object:
        if isinstance(value, Sized) and len(value) > limits.value_items:
            raise RenderLimitExceeded(
                f"the chat template holds a value of more than {limits.value_items} characters or items; it was stopped"
            )
        return value

    def bounded_range(*args: int) -> range:
        numbers = range(*args)
        if len(numbers) > limits.range_items:
            raise RenderLimitExceeded(
                f"the chat template asks for a range of {len(numbers)} numbers; expected at most {limits.range_items}"
            )
        return numbers

    environment.filters.update({_TICK: tick, _BOUND: bounded, "tojson": _to_json})
    environment.globals.update(range=bounded_range, raise_exception=_raise_exception, strftime_now=_strftime_now)
    return environment


def _instrument(tree: nodes.Template) -> None:
    """Put the looks at time and size into the tree."""
    blocks: list[nodes.For | nodes.Macro] = [*tree.find_all(nodes.For), *tree.find_all(nodes.Macro)]
    for block in blocks:
        step = nodes.Filter(nodes.Const(None), _TICK, [], [], None, None)
        block.body.insert(0, nodes.ExprStmt(step).set_lineno(block.lineno, override=True))
    for assignment in list(tree.find_all(nodes.Assign)):
        line = assignment.lineno
        assignment.node = nodes.Filter(assignment.node, _BOUND, [], [], None, None).set_lineno(line)
    for block_assignment in list(tree.find_all(nodes.AssignBlock)):
        bound = nodes.Filter(block_assignment.filter, _BOUND, [], [], None, None)
        bound.set_lineno(block_assignment.lineno)
        block_assignment.filter = bound


def _check_time(run: _Run, limits: RenderLimits) -> None:
    if time.monotonic() > run.deadline:
        raise RenderLimitExceeded(f"the chat template ran for more than {limits.time_s:g} s; it was stopped")


def _product_size(left: object, right: object) -> int:
    if isinstance(left, Sized) and isinstance(right, int):
        return len(left) * right
    if isinstance(left, int) and isinstance(right, Sized):
        return left * len(right)
    if isinstance(left, int) and isinstance(right, int):
        return left.bit_length() + right.bit_length()
    return 0


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes HTML characters, which no model has seen; this one is transformers'.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
