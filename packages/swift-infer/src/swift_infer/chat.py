"""A chat in the terminal: answers appear while they are made, and the conversation goes on."""

from __future__ import annotations

import sys
from typing import TextIO

from swift_templates import Conversation, Message

from .asking import Asked

HELP = "Ask; /clear begins anew, /exit or Ctrl-D leaves. End a line with \\ to go on in the next."


def chat(asked: Asked, *, reading: TextIO | None = None, writing: TextIO | None = None) -> None:
    """Talk until the user leaves.

    Args:
        asked: who answers.
        reading: where questions come from; standard input by default.
        writing: where answers go; standard output by default.
    """
    reading, writing = reading or sys.stdin, writing or sys.stdout
    messages: tuple[Message, ...] = ()
    print(HELP, file=writing)
    while (question := _read_question(reading, writing)) is not None:
        if question == "/exit":
            break
        if question == "/clear":
            messages = ()
            print("(a new conversation)", file=writing)
            continue
        if not question.strip():
            continue
        messages = (*messages, Message(role="user", content=question))
        answer = _answer(asked, messages, writing)
        # An answer that was cut off before its first word is no turn of the conversation.
        messages = (*messages, Message(role="assistant", content=answer)) if answer.strip() else messages[:-1]


def _answer(asked: Asked, messages: tuple[Message, ...], writing: TextIO) -> str:
    pieces: list[str] = []
    stream = asked.stream(Conversation(messages=messages))
    try:
        for piece in stream:
            pieces.append(piece)
            print(piece, end="", file=writing, flush=True)
    except KeyboardInterrupt:
        print(" (stopped)", end="", file=writing)
    finally:
        stream.close()
    print(file=writing, flush=True)
    return "".join(pieces)


def _read_question(reading: TextIO, writing: TextIO) -> str | None:
    lines: list[str] = []
    while True:
        print("... " if lines else ">>> ", end="", file=writing, flush=True)
        try:
            line = reading.readline()
        except KeyboardInterrupt:
            return None
        if not line:
            return "\n".join(lines) if lines else None
        line = line.rstrip("\n")
        lines.append(line.removesuffix("\\"))
        if not line.endswith("\\"):
            return "\n".join(lines)
