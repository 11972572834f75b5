"""`swift template show`: look at a row as the model sees it."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from swift_data.args import DataArgs
from swift_templates.args import TemplateArgs
from swift_tuners.args import ModelArgs

from ..command import Command, Invocation
from ..errors import InvalidCommandLine

if TYPE_CHECKING:
    from swift_data.chat_row import ChatRow
    from swift_templates.template import Template


@dataclass(kw_only=True)
class LookArgs:
    """What is looked at, and how it is printed."""

    action: Literal["show"] = "show"
    """What to do; it may also stand right after the command, as in `swift template show`."""
    row: int = 1
    """Which row of the dataset, counted from 1."""
    ids: bool = False
    """Print the token ids too."""
    color: Literal["auto", "always", "never"] = "auto"
    """Colour tokens by their weight instead of marking them; auto does where the output is a terminal."""


@dataclass(kw_only=True)
class TemplateCommandArgs:
    """Show a row as the model sees it: `swift template show --model M --dataset D`.

    The model, template and data options of a training run may be repeated as they are; those that load weights change
    nothing here.
    """

    look: LookArgs = field(default_factory=LookArgs)
    model: ModelArgs = field(default_factory=ModelArgs)
    template: TemplateArgs = field(default_factory=TemplateArgs)
    data: DataArgs = field(default_factory=DataArgs)


def run(invocation: Invocation[TemplateCommandArgs]) -> int:
    """Print one row."""
    from swift_templates.show import describe_conversation

    args = invocation.args
    row = _load_row(args)
    template = _load_template(args, row)
    color = _has_color(args.look.color)
    print(f"row {args.look.row}: {row.origin}" + ("" if row.label is None else f"; label: {row.label}"))
    print(describe_conversation(template, row.conversation, color=color, ids=args.look.ids))
    if row.rejected_conversation is not None:
        print("\nwith the rejected answer:")
        print(describe_conversation(template, row.rejected_conversation, color=color, ids=args.look.ids))
    return 0


def _load_row(args: TemplateCommandArgs) -> ChatRow:
    from swift_data.rows import load_rows

    if not args.data.dataset:
        raise InvalidCommandLine("no dataset is named; give --dataset, such as --dataset train.jsonl")
    rows = load_rows(args.data.dataset, args.data, answers="optional", use_hf=args.model.use_hf).rows
    if not 1 <= args.look.row <= len(rows):
        raise InvalidCommandLine(f"--row is {args.look.row}; expected 1 to {len(rows)}")
    return rows[args.look.row - 1]


def _load_template(args: TemplateCommandArgs, row: ChatRow) -> Template:
    from swift_templates.load import load_template
    from swift_templates.media.policy import MediaPolicy
    from swift_tuners.models.resolve import resolve_model

    path = Path(args.model.model or "").expanduser()
    # A folder needs no weights to be looked at.
    folder = path if args.model.model and path.is_dir() else resolve_model(args.model).folder
    root = args.data.media_root or os.path.dirname(row.origin.path)
    # Media beside a relative path are relative too, and the policy takes those from its first root.
    roots = [root] if os.path.isabs(root) else [os.curdir, root or os.curdir]
    policy = MediaPolicy.trusted(filter(os.path.isdir, roots))
    return load_template(
        folder,
        args.template,
        new_special_tokens=args.model.new_special_tokens,
        model_length=args.model.max_model_len,
        media_policy=policy,
    )


def _has_color(chosen: str) -> bool:
    if chosen == "auto":
        return sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return chosen == "always"


TEMPLATE = Command(args=TemplateCommandArgs, run=run)
