"""From a model folder to its template, whatever the folder holds; transformers is imported only where it is needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .args import PromptArgs
from .media.folder_processor import load_folder_processor
from .media.policy import MediaPolicy
from .model_folder import has_processor
from .template import Template


def load_template(
    folder: str | Path,
    args: PromptArgs | None = None,
    *,
    new_special_tokens: Sequence[str] = (),
    model_length: int | None = None,
    media_policy: MediaPolicy | None = None,
) -> Template:
    """Read a model folder: by `swift_templates.hf.load_template` if its processor of media is one of transformers.

    Args:
        folder: the model's.
        args: what the user said.
        new_special_tokens: control tokens that the tokenizer gets besides its own.
        model_length: tokens that the model takes, where that is not what the folder says.
        media_policy: where media may come from, and how large they may be.

    Raises:
        MissingDependency: the folder holds a processor, and transformers is not installed.
        SwiftTemplatesError: see `Template.from_folder`.
    """
    path = Path(folder).expanduser()
    media = load_folder_processor(path, None if args is None else args.template)
    if media is None and has_processor(path):
        from .hf import load_template as load_with_processor

        return load_with_processor(
            folder,
            args,
            new_special_tokens=new_special_tokens,
            model_length=model_length,
            media_policy=media_policy,
        )
    return Template.from_folder(
        path,
        args,
        new_special_tokens=new_special_tokens,
        model_length=model_length,
        media=media,
        media_policy=media_policy,
    )
