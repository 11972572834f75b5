"""The process that compares formulas; a script of its own, which needs math-verify and nothing of this package.

A formula may take sympy for ever, or more memory than there is, and code in C hears no signal: only a process can be
ended for sure. It reads a JSON object a line, {"gold": ..., "answer": ..., "timeout_s": ...}, and answers each with
true or false; where a comparison takes longer, it exits. Formulas are parsed as LaTeX, by a grammar, and the numbers in
them without sympy's own way, which hands every text to Python's `eval`.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import logging
import os
import re
import signal
import sys
from typing import IO

_MEMORY_BYTES = 4 * 2**30
# What sympy writes for a number or a name before it would evaluate it.
_LITERAL = re.compile(r"(-?) ?(Integer|Float|Symbol) \('?([\w.+-]+)'? ?\)\s*")


def main() -> None:
    """Answer until the input ends."""
    # Ctrl-C reaches the whole group; the end of the input is what ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Whatever a library prints must not stand between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    logging.disable()
    _limit_memory()
    _replace_eval()
    _warm_up()
    _say(answers, True)
    with open(os.devnull, "w") as nowhere:
        for line in sys.stdin:
            task = json.loads(line)
            faulthandler.dump_traceback_later(task["timeout_s"], exit=True, file=nowhere)
            try:
                equal = are_equal(task["gold"], task["answer"])
            except Exception:  # noqa: BLE001  # text that no parser foresaw is no right answer
                equal = False
            faulthandler.cancel_dump_traceback_later()
            _say(answers, equal)


def are_equal(gold: str, answer: str) -> bool:
    """Compare two formulas in LaTeX by their value."""
    from math_verify import LatexExtractionConfig, parse, verify

    golds, targets = (
        parse(
            text if any(mark in text for mark in ("$", r"\(", r"\[")) else f"${text}$",
            [LatexExtractionConfig(boxed_match_priority=0)],
            fallback_mode="no_fallback",
            parsing_timeout=None,
        )
        for text in (gold, answer)
    )
    return bool(golds and targets and verify(golds, targets, timeout_seconds=None))


def read_literal(code: str, *_: object) -> object:
    """Return what sympy's code for one number, symbol or constant stands for, in place of evaluating it.

    Raises:
        ValueError: it is anything else.
    """
    import sympy

    if code.strip() in ("E", "I", "pi"):
        return getattr(sympy, code.strip())
    literal = _LITERAL.fullmatch(code)
    if literal is None:
        raise ValueError(f"{code!r} is neither a number nor a name")
    sign, kind, text = literal.groups()
    value = getattr(sympy, kind)(int(text) if kind == "Integer" else text)
    return -value if sign else value


def _replace_eval() -> None:
    from sympy.parsing import sympy_parser

    # Even the digits of a number come here. Another sympy may call it otherwise: rather not start than evaluate.
    if not hasattr(sympy_parser, "eval_expr"):
        raise AttributeError("sympy has no eval_expr to replace")
    sympy_parser.eval_expr = read_literal


def _warm_up() -> None:
    # The first formula builds the parser's tables, which counts for no one's time.
    are_equal(r"\frac{1}{2}", "0.5")


def _limit_memory() -> None:
    if sys.platform == "win32":
        return
    import resource

    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))


def _say(answers: IO[str], equal: bool) -> None:
    answers.write(json.dumps(equal) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
