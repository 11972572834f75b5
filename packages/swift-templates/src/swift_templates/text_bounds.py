"""What the methods and filters of texts would make, reckoned before they make it.

Python's text methods fill up, repeat and format to any size that they are told. Each function here asks the meter
whether the result may be so large; those that chat templates have no use for are refused.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jinja2
from jinja2 import filters, runtime
from jinja2.exceptions import SecurityError
from jinja2.nodes import EvalContext
from jinja2.sandbox import SandboxedEnvironment, SandboxedEscapeFormatter, SandboxedFormatter
from jinja2.tests import TESTS

from .render_limits import Meter

# Their cost cannot be reckoned, and no chat template is known to use them.
REFUSED_FILTERS = ("pprint", "striptags", "urlize", "wordwrap", "xmlattr")
_REFUSED_METHODS = ("encode", "maketrans", "striptags", "to_bytes", "translate", "unescape")

_DIGITS = re.compile(r"[0-9]+")
_WIDTH_FROM_ARGUMENT = re.compile(r"%[-#0 +]*(?:\*|[0-9]*\.\*)")
_MAX_INDENT = 100
_MAX_PRECISION = 300  # floats end before


def check_method(meter: Meter, method: object, args: Sequence[Any]) -> None:
    """Check a call of a text's or number's own method.

    Args:
        meter: is asked.
        method: what is called; anything else than such a method passes.
        args: the values that it is called with; an iterable that can be read only once must be a list already.
    """
    text, name = getattr(method, "__self__", None), getattr(method, "__name__", "")
    if not isinstance(text, (str, int, float)):
        return
    if name in _REFUSED_METHODS:
        raise SecurityError(f"the method {name!r} is not available to chat templates")
    if not isinstance(text, str):
        return
    if name in ("center", "ljust", "rjust", "zfill"):
        meter.expect(max(map(_whole, args), default=0))
    elif name == "expandtabs":
        meter.expect(len(text) + text.count("\t") * max(map(_whole, args), default=8))
    elif name == "join" and args:
        check_join(meter, text, args[0])
    elif name == "replace" and len(args) >= 2:
        _check_replace(meter, text, args[0], args[1])


def check_join(meter: Meter, separator: object, items: object) -> None:
    """Check that items can be joined."""
    if isinstance(items, (list, tuple)):
        meter.expect(sum(map(_length, items)) + _length(separator) * len(items))
    meter.expect(meter.weigh(items))


def check_printf(meter: Meter, form: str, values: object) -> None:
    """Check `form % values`."""
    size = len(form) + _printed_width(form)
    if _WIDTH_FROM_ARGUMENT.search(form) and isinstance(values, tuple):
        size += sum(map(_whole, values))
    # A name can be used again and again.
    times = form.count("%(") if isinstance(values, Mapping) else 1
    meter.expect(size + times * meter.weigh(values))


class _BoundedFields:
    """Counts what a formatter has made so far."""

    meter: Meter
    size = 0

    def format_field(self, value: Any, format_spec: str) -> Any:  # noqa: ANN401  (string.Formatter's signature)
        self.meter.tick()
        self.meter.expect(_printed_width(format_spec))
        piece = super().format_field(value, format_spec)  # type: ignore[misc]  # string.Formatter's, which stands beside
        self.size += len(piece)
        self.meter.expect(self.size)
        return piece


class _Formatter(_BoundedFields, SandboxedFormatter):
    pass


class _EscapingFormatter(_BoundedFields, SandboxedEscapeFormatter):
    pass


def bound_format(meter: Meter, environment: SandboxedEnvironment, method: object) -> Callable[..., str]:
    """Return what does the work of a text's `format` or `format_map`, within limits."""
    text: str = getattr(method, "__self__")  # noqa: B009  (a method of a text has it, which its type does not tell)
    escape = getattr(text, "escape", None)  # only texts that are marked as safe have it
    is_map = getattr(method, "__name__", "") == "format_map"

    def form(*args: Any, **kwargs: Any) -> str:  # noqa: ANN401  (str.format's signature)
        formatter = _Formatter(environment) if escape is None else _EscapingFormatter(environment, escape=escape)
        formatter.meter = meter
        if is_map:
            [kwargs], args = args, ()
        return type(text)(formatter.vformat(text, args, kwargs))

    return form


def bound_filters(meter: Meter) -> dict[str, Callable[..., Any]]:
    """Return Jinja's filters, each of which looks at the time and at what it makes."""
    plain = {name: each for name, each in filters.FILTERS.items() if name not in REFUSED_FILTERS}
    own = {"join": _join(meter), "list": meter.listed, "sum": _sum(meter), "tojson": _to_json(meter)}
    return {name: _bound(meter, name, own.get(name, each)) for name, each in plain.items()}


def bound_tests(meter: Meter) -> dict[str, Callable[..., Any]]:
    """Return tests that look at the time: `select` runs them without a turn of a loop."""
    return {name: _bound(meter, name, each) for name, each in TESTS.items()}


def _bound(meter: Meter, name: str, function: Any) -> Callable[..., Any]:  # noqa: ANN401  (a function of Jinja's, of any signature)
    check = _FILTER_CHECKS.get(name)
    num_passed = 1 if hasattr(function, "jinja_pass_arg") else 0

    @functools.wraps(function)
    def bounded(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  (any filter's)
        meter.tick()
        if check is not None:
            check(meter, *args[num_passed:], **kwargs)
        return meter.made(function(*args, **kwargs))

    return bounded


def _join(meter: Meter) -> Callable[..., str]:
    @jinja2.pass_eval_context
    def join(eval_ctx: EvalContext, value: Iterable[object], d: object = "", attribute: str | int | None = None) -> str:
        if attribute is not None:
            value = map(filters.make_attrgetter(eval_ctx.environment, attribute), value)
        items = meter.listed(value)
        check_join(meter, d, items)
        return filters.sync_do_join(eval_ctx, items, d)  # type: ignore[arg-type]  # it makes a text of what it is given

    return join


def _sum(meter: Meter) -> Callable[..., Any]:
    @jinja2.pass_environment
    def add_up(
        environment: SandboxedEnvironment,
        iterable: Iterable[Any],
        attribute: str | int | None = None,
        start: Any = 0,  # noqa: ANN401  (a number, or a list where lists are joined)
    ) -> Any:  # noqa: ANN401
        if attribute is not None:
            iterable = map(filters.make_attrgetter(environment, attribute), iterable)
        total = start
        for each in iterable:
            meter.tick()
            meter.expect(_length(total) + _length(each))
            total = meter.made(sum([each], total))
        return total

    return add_up


def bound_concat(meter: Meter) -> Callable[..., str]:
    """Return what does the work of `~`."""

    @jinja2.pass_eval_context
    def concat(eval_ctx: EvalContext, values: list[object]) -> str:
        check_join(meter, "", values)
        text = (runtime.markup_join if eval_ctx.autoescape else runtime.str_join)(values)
        meter.made(text)
        return text

    return concat


def _to_json(meter: Meter) -> Callable[..., str]:
    """Return transformers' filter: Jinja's own escapes HTML characters, which no model has seen."""

    def tojson(
        value: object,
        ensure_ascii: bool = False,
        indent: int | str | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        if max(_whole(indent), _length(indent), *map(_length, separators or [""])) > _MAX_INDENT:
            raise SecurityError(f"tojson takes no indent or separator of more than {_MAX_INDENT} characters")
        # With an indent, which is written anew in each line, the pieces are small; without, all comes at once and is a
        # few times as long as what it is made of.
        encoder = json.JSONEncoder(ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
        size, pieces = 0, []
        for piece in encoder.iterencode(value):
            meter.tick()
            size += len(piece)
            meter.expect(size)
            pieces.append(piece)
        return "".join(pieces)

    return tojson


def _check_replace(meter: Meter, text: object, old: object, new: object, *_: object, **__: object) -> None:
    whole, gone, put = str(text), str(old), str(new)
    meter.expect(len(whole) + whole.count(gone) * max(0, len(put) - len(gone)))


def _check_center(meter: Meter, value: object, width: object = 80) -> None:
    meter.expect(_whole(width))


def _check_indent(meter: Meter, s: object, width: object = 4, first: object = False, blank: object = False) -> None:
    size = len(width) if isinstance(width, str) else _whole(width)
    meter.expect(_length(s) + (len(str(s).splitlines()) + 1) * size)


def _check_format(meter: Meter, value: object, *args: object, **kwargs: object) -> None:
    check_printf(meter, str(value), kwargs or args)


def _check_batch(meter: Meter, value: object, linecount: object, *_: object, **__: object) -> None:
    meter.expect(_whole(linecount))


def _check_slice(meter: Meter, value: object, slices: object, *_: object, **__: object) -> None:
    meter.expect(_whole(slices))


def _check_round(meter: Meter, value: object, precision: object = 0, *_: object, **__: object) -> None:
    if _whole(precision) > _MAX_PRECISION:
        raise SecurityError(f"a number cannot be rounded to {precision!r} places; expected at most {_MAX_PRECISION}")


_FILTER_CHECKS: dict[str, Callable[..., None]] = {
    "batch": _check_batch,
    "center": _check_center,
    "format": _check_format,
    "indent": _check_indent,
    "replace": _check_replace,
    "round": _check_round,
    "slice": _check_slice,
}


def _printed_width(form: str) -> int:
    """Return at least what the widths and precisions in a form add to what is written."""
    # Digits outside of a field count as well: which are inside is for Python's own parser to say.
    return sum(int(digits) if len(digits) < 10 else 10**10 for digits in _DIGITS.findall(form))


def _length(value: object) -> int:
    return len(value) if isinstance(value, (str, list, tuple)) else 0


def _whole(value: object) -> int:
    return abs(value) if isinstance(value, int) else 0
