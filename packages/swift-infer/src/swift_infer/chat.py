"""A chat in the terminal: answers appear while they are made, and the conversation goes on."""

from __future__ import annotations

import sys
from typing import TextIO

from swift_templates import Conversation, Message

from .errors import PromptTooLong
from .responder import Responder
from .terminal import to_shown

HELP = "Ask; /clear begins anew, /exit or Ctrl-D leaves. End a line with \\ to go on in the next."


def chat(responder: Responder, *, reading: TextIO | None = None, writing: TextIO | None = None) -> None:
    """Talk until the user leaves.

    Args:
        responder: who answers.
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
        asked = (*messages, Message(role="user", content=question))
        try:
            answer = _answer(responder, asked, writing)
        except PromptTooLong as error:
            print(f"({error}; /clear begins anew)", file=writing)
            continue
        # An answer that was cut off before its first word is no turn of the conversation.
        messages = (*asked, answer) if answer.content.strip() else messages


def _answer(responder: Responder, messages: tuple[Message, ...], writing: TextIO) -> Message:
    streamed = responder.stream(Conversation(messages=messages))
    try:
        for piece in streamed:
            print(to_shown(piece, writing), end="", file=writing, flush=True)
    except KeyboardInterrupt:
        print(" (stopped)", end="", file=writing)
    finally:
        streamed.close()
    print(file=writing, flush=True)
    return streamed.message


def _read_question(reading: TextIO, writing: TextIO) -> str | None:
    lines: list[str] = []
    while True:
        try:
            line = _read_line(reading, writing, prompt="... " if lines else ">>> ")
        except (KeyboardInterrupt, EOFError):
            return "\n".join(lines) if lines else None
        lines.append(line.removesuffix("\\"))
        if not line.endswith("\\"):
            return "\n".join(lines)


def _read_line(reading: TextIO, writing: TextIO, *, prompt: str) -> str:
    if reading is sys.stdin and reading.isatty():
        # Importing it gives `input` line editing and a history.
        import readline  # noqa: F401

        return input(prompt)
    print(prompt, end="", file=writing, flush=True)
    line = reading.readline()
    if not line:
        raise EOFError
    return line.rstrip("\n")
