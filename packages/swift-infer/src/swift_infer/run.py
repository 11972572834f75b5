"""Ask a model: one question, a data set to a file, or a chat in the terminal."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from swift_data import ChatRow, load_rows
from swift_data.args import DataArgs
from swift_templates import Conversation, Message, Template
from swift_templates.load import load_template
from swift_templates.media.policy import MediaPolicy
from swift_tuners import resolve_model

from .args import InferArgs
from .chat import chat
from .checkpoint import ServedModel, resolve_served
from .engine import check_sampling, create_engine
from .errors import InvalidInferArgs
from .responder import Responder
from .terminal import to_shown

CHUNK_BATCHES = 4
"""Batches between two writes to the result file: an engine may order the prompts of a chunk by length."""


logger = logging.getLogger(__name__)


def run_infer(args: InferArgs, *, on_output_dir: Callable[[Path], None] | None = None) -> list[str]:
    """Answer what `args.ask` names, and return the answers (none for a chat).

    Args:
        args: everything a user said.
        on_output_dir: called with the folder of the result file, where there is one.

    Raises:
        InvalidInferArgs: options contradict each other.
        SwiftDataError, SwiftTemplatesError, SwiftTunersError: what was said cannot be done.
    """
    check_sampling(args.sampling)
    if args.ask.prompt is not None and args.ask.val_dataset:
        raise InvalidInferArgs("both --prompt and --val_dataset are given; expected one of them")
    if args.engine.max_batch_size < 1:
        raise InvalidInferArgs(f"max_batch_size is {args.engine.max_batch_size}; expected 1 or more")
    for sentence in find_options_without_effect(args):
        logger.warning(sentence)
    served = resolve_served(args.engine, args.model, args.template, args.quantization)
    target = _result_file(args, served) if args.ask.val_dataset else None
    if target is not None:
        _make_room(target)
    rows = (
        load_rows(
            args.ask.val_dataset, DataArgs(dataset_shuffle=False), answers="optional", use_hf=args.model.use_hf
        ).rows
        if args.ask.val_dataset
        else []
    )
    resolved = resolve_model(served.model)
    served = replace(served, resolved=resolved)
    template = _load_template(served, resolved.folder)
    engine = create_engine(args.engine.infer_backend, served, template, max_batch_size=args.engine.max_batch_size)
    responder = Responder(engine, template, args.sampling, adapter=served.adapter)
    if target is not None:
        if on_output_dir is not None:
            on_output_dir(target.parent)
        return answer_rows(responder, rows, target, chunk_size=CHUNK_BATCHES * args.engine.max_batch_size)
    if args.ask.prompt is not None:
        return [answer_one(responder, args.ask.prompt, stream=args.ask.stream)]
    if sys.stdin is None:
        raise InvalidInferArgs(
            "standard input is closed, so there is nobody to chat with; give --prompt or --val_dataset"
        )
    chat(responder)
    return []


def _load_template(served: ServedModel, folder: Path) -> Template:
    """Return the template of what is served, with the processor of media that the model has."""
    return load_template(
        folder,
        served.template,
        new_special_tokens=served.model.new_special_tokens,
        model_length=served.model.max_model_len,
        # Who asks here is at this machine, and the files are their own.
        media_policy=MediaPolicy.trusted(["/"], allow_remote=True),
    )


def find_options_without_effect(args: InferArgs) -> list[str]:
    """Return a sentence for each option that was given and changes nothing in this call."""
    found = []
    if args.ask.result_path is not None and not args.ask.val_dataset:
        found.append("result_path without --val_dataset")
    if args.sampling.num_return_sequences > 1 and args.ask.prompt is None and not args.ask.val_dataset:
        found.append("num_return_sequences in a chat")
    if args.sampling.temperature == 0 and (args.sampling.top_k or args.sampling.top_p < 1):
        found.append("top_k and top_p at temperature 0")
    return [f"Without effect: {each}." for each in found]


def answer_one(responder: Responder, question: str, *, stream: bool) -> str:
    """Print the answer to one question, and return it."""
    conversation = Conversation(messages=(Message(role="user", content=question),))
    if not stream or responder.sampling.num_return_sequences > 1:
        answers = [message.content for message in responder.answer([conversation])[0]]
        print(*(to_shown(answer, sys.stdout) for answer in answers), sep="\n", flush=True)
        return answers[0]
    streamed = responder.stream(conversation)
    for piece in streamed:
        print(to_shown(piece, sys.stdout), end="", flush=True)
    print(flush=True)
    return streamed.message.content


def answer_rows(responder: Responder, rows: Sequence[ChatRow], target: Path, *, chunk_size: int) -> list[str]:
    """Answer each row's last question and write one line of JSON per answer.

    A line holds `messages` up to the question, `response`, and `label`, the row's own answer.
    """
    from tqdm import tqdm

    answers: list[str] = []
    with target.open("w", encoding="utf-8") as file, tqdm(total=len(rows), desc="answer", unit="row") as bar:
        for start in range(0, len(rows), chunk_size):
            chunk = rows[start : start + chunk_size]
            questions = [_without_answer(row.conversation) for row in chunk]
            for row, question, messages in zip(chunk, questions, responder.answer(questions), strict=True):
                for message in messages:
                    file.write(json.dumps(_result(row, question, message), ensure_ascii=False) + "\n")
                answers.append(messages[0].content)
                bar.update()
            file.flush()
    print(f"{len(answers)} answers: {target}", file=sys.stderr)
    return answers


def _without_answer(conversation: Conversation) -> Conversation:
    messages = conversation.messages
    while messages and messages[-1].role == "assistant":
        messages = messages[:-1]
    return replace(conversation, messages=messages)


def _result(row: ChatRow, question: Conversation, answer: Message) -> dict[str, object]:
    label = row.conversation.messages[-1]
    return {
        "messages": [{"role": each.role, "content": each.content} for each in question.messages],
        "response": answer.content,
        "label": label.content if label.role == "assistant" else None,
        "solution": row.solution,
    }


def _make_room(target: Path) -> None:
    """Make the result file's folder, before a model is loaded in vain."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInferArgs(f"result_path {str(target)!r} cannot be written: {error.strerror}") from error
    if not os.access(target.parent, os.W_OK):
        raise InvalidInferArgs(f"result_path {str(target)!r} cannot be written: its folder is read-only")


def _result_file(args: InferArgs, served: ServedModel) -> Path:
    if args.ask.result_path is not None:
        target = Path(args.ask.result_path)
        if target.exists():
            raise InvalidInferArgs(f"result_path {str(target)!r} exists already; name a new file")
        return target
    trained = served.adapters[served.adapter] if served.adapter is not None else None
    folder = trained or Path(args.engine.ckpt_dir or "output")
    return folder / "infer_result" / f"{time.strftime('%Y%m%d-%H%M%S')}.jsonl"
