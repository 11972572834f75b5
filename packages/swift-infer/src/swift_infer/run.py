"""Ask a model: one question, a data set to a file, or a chat in the terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from swift_data import ChatRow, load_rows
from swift_data.args import DataArgs
from swift_templates import Conversation, Message, Template
from swift_tuners import resolve_model

from .args import InferArgs
from .asking import Asked
from .chat import chat
from .checkpoint import ServedModel, resolve_served
from .engine import check_sampling, create_engine
from .errors import InvalidInferArgs

CHUNK_BATCHES = 4
"""Batches between two writes to the result file: an engine may order the prompts of a chunk by length."""


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
    served = resolve_served(args.engine, args.model, args.template)
    rows = (
        load_rows(args.ask.val_dataset, DataArgs(dataset_shuffle=False), answers="optional").rows
        if args.ask.val_dataset
        else []
    )
    template = Template.from_folder(resolve_model(served.model).folder, served.template)
    engine = create_engine(args.engine.infer_backend, served, template, max_batch_size=args.engine.max_batch_size)
    asked = Asked(engine, template, args.sampling, adapter=next(reversed(served.adapters), None))
    if rows:
        target = _result_file(args, served)
        target.parent.mkdir(parents=True, exist_ok=True)
        if on_output_dir is not None:
            on_output_dir(target.parent)
        return answer_rows(asked, rows, target, chunk_size=CHUNK_BATCHES * args.engine.max_batch_size)
    if args.ask.prompt is not None:
        return [answer_one(asked, args.ask.prompt, stream=args.ask.stream)]
    chat(asked)
    return []


def answer_one(asked: Asked, question: str, *, stream: bool) -> str:
    """Print the answer to one question, and return it."""
    conversation = Conversation(messages=(Message(role="user", content=question),))
    if not stream or asked.sampling.num_return_sequences > 1:
        answers = [message.content for message in asked.answers([conversation])[0]]
        print("\n".join(answers), flush=True)
        return answers[0]
    pieces = []
    for piece in asked.stream(conversation):
        pieces.append(piece)
        print(piece, end="", flush=True)
    print(flush=True)
    return "".join(pieces)


def answer_rows(asked: Asked, rows: list[ChatRow], target: Path, *, chunk_size: int) -> list[str]:
    """Answer each row's last question and write one line of JSON per answer.

    A line holds `messages` up to the question, `response`, and `label`, the row's own answer.
    """
    from tqdm import tqdm

    answers: list[str] = []
    with target.open("w", encoding="utf-8") as file, tqdm(total=len(rows), desc="answer", unit="row") as bar:
        for start in range(0, len(rows), chunk_size):
            chunk = rows[start : start + chunk_size]
            questions = [_without_answer(row.conversation) for row in chunk]
            for row, question, messages in zip(chunk, questions, asked.answers(questions), strict=True):
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


def _result_file(args: InferArgs, served: ServedModel) -> Path:
    if args.ask.result_path is not None:
        return Path(args.ask.result_path)
    folder = next(reversed(served.adapters.values()), None)
    if folder is None:
        folder = Path(args.engine.ckpt_dir) if args.engine.ckpt_dir else Path("output")
    return folder / "infer_result.jsonl"
