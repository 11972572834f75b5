"""An export from arguments to a folder and its parity report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from swift_templates import Template
from swift_tuners import resolve_model
from swift_tuners.checkpoint_folder import choose_base, find_checkpoint, read_record

from .args import ExportArgs
from .errors import InvalidExportArgs, OutputFolderTaken
from .exporter import EXPORTERS, ExportSource, ParityReport


def run_export(args: ExportArgs, *, on_output_dir: Callable[[Path], None] | None = None) -> ParityReport:
    """Export what `args` names.

    Args:
        args: everything a user said.
        on_output_dir: called with the result's folder once it is written.

    Raises:
        InvalidExportArgs: nothing to do is named, or no adapter.
        OutputFolderTaken: the output folder is not empty.
        ParityLost: the exported model answers otherwise than its source.
    """
    if not args.export.merge_lora:
        raise InvalidExportArgs("no export is named; expected --merge_lora true")
    paths = [*([args.export.ckpt_dir] if args.export.ckpt_dir else []), *args.export.adapters]
    if not paths:
        raise InvalidExportArgs("--merge_lora needs an adapter; name one with --ckpt_dir or --adapters")
    adapters = [find_checkpoint(Path(each)) for each in paths]
    folder = _choose_folder(args, adapters[0])
    model, template_args = args.model, args.template
    for adapter in adapters:
        record = read_record(adapter)
        if not record.tuners:
            raise InvalidExportArgs(f"{str(adapter)!r} holds a whole model and no adapter; there is nothing to merge")
        model = choose_base(model, record)
        template_args = replace(
            template_args,
            template=template_args.template or record.template,
            system=template_args.system or record.system,
        )
    template = Template.from_folder(resolve_model(model).folder, template_args)
    exporter = EXPORTERS.load_class("merge")()
    report = exporter.export(ExportSource(model=model, adapters=adapters, template=template), folder)
    if on_output_dir is not None:
        on_output_dir(folder)
    print(f"merged:  {folder}\nparity:  {report}\nask it:  swift infer --ckpt_dir {folder}")
    return report


def _choose_folder(args: ExportArgs, adapter: Path) -> Path:
    folder = Path(args.export.output_dir) if args.export.output_dir else adapter.with_name(f"{adapter.name}-merged")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputFolderTaken(f"output_dir {str(folder)!r} holds something already; name another --output_dir")
    return folder
