"""Chat templates rendered in Jinja's immutable sandbox, within limits of time and size.

A chat template comes with a model, from anyone, so it is run as foreign code. Jinja's sandbox keeps it from Python's
insides. The limits here keep it from running for ever or filling the memory:

- the source's size, before it is compiled;
- the time and the output's size, looked at with every chunk that `generate` yields, and the time with every turn of a
  loop and every call, filter and test as well, since a loop can run without making output;
- the size of every value that an operator, call, filter, slice or block makes, before it is made where it could be much
  larger than what it is made of, and the bytes of all these values together;
- the length of a `range`.

Some looks are put into the template's syntax tree after parsing, the others are where the sandbox calls what the
template names; what it renders is what transformers renders.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sized
from datetime import datetime
from types import BuiltinMethodType
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from .errors import ChatTemplateError, RenderLimitExceeded
from .render_limits import Meter, RenderLimits
from .text_bounds import bound_concat, bound_filters, bound_format, bound_tests, check_method, check_printf

_TICK = "count a step"  # Filter names with spaces in them cannot be written in a template, so none can reach these.
_BOUND = "bound a value"
_CONCAT = "join the operands"
_ADD = "add the operands"
# What Jinja's sandbox finds to be safe, each time anew, which takes 4 us (one core of a Xeon): it is asked most of all.
_SAFE: Mapping[type, frozenset[str]] = {
    LoopContext: frozenset(("first", "last", "index", "index0", "length")),
    str: frozenset(("startswith", "endswith", "split", "strip", "lstrip", "rstrip")),
}
_OF_DICTS = frozenset(dir(dict))
_PLAIN = frozenset((str, bool, int))
_MAX_POWER_BITS = 4096
_MAX_DATE_FORM = 1000


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
        self._mentioned: dict[str, bool] = {}
        self._limits = limits or RenderLimits()
        self._meter = Meter(self._limits)
        if len(source) > self._limits.source_chars:
            raise RenderLimitExceeded(
                f"the chat template has {len(source)} characters; expected at most {self._limits.source_chars}"
            )
        environment = _build_environment(self._meter)
        try:
            tree = environment.parse(source)
            self.marks_generation: bool = environment.generation_found
            _Instruments().visit(tree)
            tree.set_environment(environment)
            code = environment.compile(tree)
        except jinja2.TemplateSyntaxError as error:
            raise ChatTemplateError(
                f"the chat template is not valid Jinja: {error.message} (line {error.lineno})"
            ) from error
        except RecursionError as error:
            raise ChatTemplateError("the chat template is nested too deeply") from error
        self._template = jinja2.Template.from_code(environment, code, dict(environment.globals))

    def mentions(self, name: str) -> bool:
        """Whether a word, such as a variable's name, stands in the source."""
        if name not in self._mentioned:
            self._mentioned[name] = re.search(rf"\b{re.escape(name)}\b", self.source) is not None
        return self._mentioned[name]

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
        meter, limits = self._meter, self._limits
        meter.marks = marks
        meter.start()
        chunks: list[str] = []
        size = 0
        try:
            # What `generate` does besides is to polish tracebacks.
            for chunk in self._template.root_render_func(self._template.new_context(dict(variables))):
                size += len(chunk)
                if size > limits.output_chars:
                    raise RenderLimitExceeded(
                        f"the chat template made more than {limits.output_chars} characters; it was stopped"
                    )
                meter.tick()
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
        marks = self.environment.meter.marks
        text = str(caller())
        return f"{marks[0]}{text}{marks[1]}" if marks else text


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, in which the meter sees what operators and calls make."""

    intercepted_binops = frozenset(("+", "*", "/", "//", "%", "**"))
    meter: Meter
    generation_found = False

    def getattr(self, obj: Any, attribute: str) -> Any:  # noqa: ANN401  (Jinja's signature)
        kind = type(obj)
        if kind is dict:
            if attribute not in _OF_DICTS and attribute in obj:
                return obj[attribute]
        elif kind is _Namespace:
            value = None if attribute.startswith("_") else getattr(obj, attribute, None)
            if type(value) in _PLAIN:
                return value
        elif attribute in _SAFE.get(kind, ()):
            return getattr(obj, attribute)
        return super().getattr(obj, attribute)

    @jinja2.pass_context
    def add_up(self, context: Context, operands: list[Any]) -> Any:  # noqa: ANN401  (what a template adds up)
        """Return the sum of operands of '+' in a row; what chat templates do most is to add up texts."""
        if set(map(type, operands)) == {str}:
            self.meter.expect(sum(map(len, operands)))
            text = "".join(operands)
            self.meter.made_text(text)
            return text
        return functools.reduce(functools.partial(self.call_binop, context, "+"), operands)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:  # noqa: ANN401  (Jinja's signature)
        self._check_binop(operator, left, right)
        return self.meter.made(super().call_binop(context, operator, left, right))

    def call(self, context: Context, called: Any, /, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  (Jinja's signature)
        self.meter.tick()
        if type(called) is BuiltinMethodType and type(called.__self__) is str and called.__name__ in _SAFE[str]:
            # What these make is no larger than the text.
            value = context.call(called, *args, **kwargs)
            return value if type(value) is bool else self.meter.made(value)
        if args and getattr(called, "__name__", "") == "join" and not isinstance(args[0], Sized):
            args = (self.meter.listed(args[0]), *args[1:])
        check_method(self.meter, called, [*args, *kwargs.values()])
        return self.meter.made(super().call(context, called, *args, **kwargs))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:  # noqa: ANN401  (Jinja's signature)
        if super().wrap_str_format(value) is None:
            return None
        return bound_format(self.meter, self, value)

    def concat(self, pieces: Iterable[str]) -> str:
        """Join what a macro or block has written."""
        written = list(pieces)
        self.meter.expect(sum(map(len, written)))
        text = "".join(written)
        self.meter.made(text)
        return text

    def _check_binop(self, operator: str, left: object, right: object) -> None:
        if isinstance(left, int) and isinstance(right, int):
            self._check_int_binop(operator, left, right)
        elif operator == "%" and isinstance(left, str):
            check_printf(self.meter, left, right)
        elif operator == "*":
            value, times = (left, right) if isinstance(right, int) else (right, left)
            if isinstance(times, int) and self.meter.weigh(value) * times > self.meter.limits.value_items:
                raise _too_large(operator)
        elif operator == "+" and isinstance(left, Sized) and isinstance(right, Sized):
            self.meter.expect(len(left) + len(right))

    def _check_int_binop(self, operator: str, left: int, right: int) -> None:
        bits = (left.bit_length(), right.bit_length())
        if operator == "**" and bits[0] * right > _MAX_POWER_BITS:
            raise _too_large(operator)
        self.meter.expect_int(sum(bits) if operator == "*" else max(bits))


class _Namespace(Namespace):
    """Jinja's, without a look inside: what it holds can be put there after it was weighed."""

    def __repr__(self) -> str:
        return "<Namespace>"


def _build_environment(meter: Meter) -> _Sandbox:
    environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
    environment.meter = meter

    # A filter that takes the context is not computed when the template is compiled.
    @jinja2.pass_context
    def tick(context: Context, value: object) -> object:
        meter.tick()
        return value

    def bounded_range(*args: int) -> range:
        numbers = range(*args)
        if len(numbers) > meter.limits.range_items:
            raise RenderLimitExceeded(
                f"the chat template asks for a range of {len(numbers)} numbers; "
                f"expected at most {meter.limits.range_items}"
            )
        return numbers

    filters = {
        **bound_filters(meter),
        _TICK: tick,
        _BOUND: meter.made,
        _CONCAT: bound_concat(meter),
        _ADD: environment.add_up,
    }
    # In place, since Jinja's own annotation takes no other table of functions.
    environment.filters.clear()
    environment.filters.update(filters)
    environment.tests.clear()
    environment.tests.update(bound_tests(meter))
    # Of Jinja's own, these are not there: lipsum, which makes text of any length, cycler and joiner.
    environment.globals = {
        "dict": dict,
        "namespace": _Namespace,
        "raise_exception": _raise_exception,
        "range": bounded_range,
        "strftime_now": _strftime_now,
    }
    return environment


class _Instruments(NodeTransformer):
    """Puts the looks at time and size into the tree."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        if node.test is not None:
            node.test = _filtered(node.test, _TICK)
        return _with_step(node)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:
        self.generic_visit(node)
        return _with_step(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes), _CONCAT, line=node.lineno)

    def visit_Add(self, node: nodes.Add) -> nodes.Node:
        operands: list[nodes.Expr] = [node.right]
        left = node.left
        while isinstance(left, nodes.Add):
            operands.append(left.right)
            left = left.left
        operands.append(left)
        return _filtered(nodes.List([self.visit(each) for each in reversed(operands)]), _ADD, line=node.lineno)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        # A slice goes past the sandbox.
        return _filtered(node, _BOUND) if isinstance(node.arg, nodes.Slice) else node

    def visit_List(self, node: nodes.List) -> nodes.Node:
        return _bounded(self.generic_visit(node), node.items)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return _bounded(node, node.items) if node.ctx == "load" else node

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        return _bounded(self.generic_visit(node), [part for pair in node.items for part in (pair.key, pair.value)])


def _with_step(block: nodes.For | nodes.Macro) -> nodes.Node:
    step = _filtered(nodes.Const(None), _TICK, line=block.lineno)
    block.body.insert(0, nodes.ExprStmt(step).set_lineno(block.lineno))
    return block


def _bounded(literal: nodes.Node, parts: list[nodes.Expr]) -> nodes.Node:
    # One that holds no other is as large as it is written.
    if all(isinstance(part, nodes.Const) for part in parts):
        return literal
    return _filtered(literal, _BOUND)


def _filtered(node: nodes.Node, name: str, *, line: int | None = None) -> nodes.Filter:
    found = nodes.Filter(node, name, [], [], None, None)
    found.set_lineno(node.lineno if line is None else line)
    return found


def _too_large(operator: str) -> RenderLimitExceeded:
    return RenderLimitExceeded(f"the chat template computes a {operator!r} that is too large; it was stopped")


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(form: str) -> str:
    if len(form) > _MAX_DATE_FORM:
        raise RenderLimitExceeded(f"strftime_now is given {len(form)} characters; expected at most {_MAX_DATE_FORM}")
    return datetime.now().strftime(form)
