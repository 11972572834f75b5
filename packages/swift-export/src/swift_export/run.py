"""An export from arguments to a folder and its parity report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from swift_templates import Template
from swift_templates.args import PromptArgs
from swift_tuners import resolve_model
from swift_tuners.checkpoint import SwiftConfig
from swift_tuners.checkpoint_folder import choose_base, find_checkpoint, read_record

from .args import ExportArgs
from .errors import ExportNotWritten, InvalidExportArgs, OutputFolderTaken
from .exporter import EXPORTERS, ExportSource, ParityReport


def run_export(args: ExportArgs, *, on_output_dir: Callable[[Path], None] | None = None) -> ParityReport:
    """Export what `args` names.

    Args:
        args: everything a user said.
        on_output_dir: called with the result's folder once it is written.

    Raises:
        InvalidExportArgs: nothing to do is named, or no adapter.
        OutputFolderTaken: the output folder is not empty, or an earlier export left an unfinished one.
        ParityLost: the exported model answers otherwise than its source.
    """
    if not args.export.merge_lora:
        raise InvalidExportArgs("no export is named; expected --merge_lora true")
    paths = [*([args.export.ckpt_dir] if args.export.ckpt_dir else []), *args.export.adapters]
    if not paths:
        raise InvalidExportArgs("--merge_lora needs an adapter; name one with --ckpt_dir or --adapters")
    adapters = [find_checkpoint(Path(each)) for each in paths]
    folder = _choose_folder(args, adapters[0])
    records = [read_record(each) for each in adapters]
    for adapter, record in zip(adapters, records, strict=True):
        if not record.tuners:
            raise InvalidExportArgs(f"{str(adapter)!r} holds a whole model and no adapter; there is nothing to merge")
        if args.model.model is None and record.base_model != records[0].base_model:
            raise InvalidExportArgs(
                f"the adapters stand on different models: {records[0].base_model} and {record.base_model}; "
                "name a --model"
            )
    model = choose_base(args.model, records[0])
    resolved = resolve_model(model)
    template = Template.from_folder(
        resolved.folder,
        _fill_template(args.template, records[0]),
        new_special_tokens=model.new_special_tokens,
        model_length=model.max_model_len,
    )
    source = ExportSource(model=model, adapters=adapters, template=template, record=records[0], resolved=resolved)
    # What is not finished, or answers otherwise, never stands under the name that was asked for.
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    if unfinished.exists():
        raise OutputFolderTaken(f"{str(unfinished)!r} is what an earlier export left; look at it, then delete it")
    try:
        unfinished.mkdir(parents=True)
        report = EXPORTERS.load_class("merge")().export(source, unfinished)
        unfinished.replace(folder)
    except OSError as error:
        raise ExportNotWritten(f"the export could not be written to {str(folder)!r}: {error}") from error
    if on_output_dir is not None:
        on_output_dir(folder)
    print(f"merged:  {folder}\nparity:  {report}\nask it:  swift infer --ckpt_dir {folder}")
    return report


def _fill_template(given: PromptArgs, record: SwiftConfig) -> PromptArgs:
    return replace(
        given,
        template=given.template if given.template is not None else record.template,
        system=given.system if given.system is not None else record.system,
        response_prefix=given.response_prefix or record.response_prefix,
        enable_thinking=given.enable_thinking if given.enable_thinking is not None else record.enable_thinking,
    )


def _choose_folder(args: ExportArgs, adapter: Path) -> Path:
    adapter = adapter.resolve()
    folder = Path(args.export.output_dir) if args.export.output_dir else adapter.with_name(f"{adapter.name}-merged")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputFolderTaken(f"output_dir {str(folder)!r} holds something already; name another --output_dir")
    return folder
