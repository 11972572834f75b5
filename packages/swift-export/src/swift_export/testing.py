"""What every export must hold, whatever it writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from swift_templates import Template
from swift_tuners import ModelArgs
from swift_tuners.checkpoint_folder import read_record

from .exporter import EXPORTERS, ExportSource


def check_exporter(name: str, model: Path, adapter: Path, output: Path) -> None:
    """Hold an exporter to the laws of the contract.

    Args:
        name: of the exporter.
        model: folder of a small model.
        adapter: folder of an adapter for it.
        output: a folder that does not exist yet.

    Raises:
        AssertionError: a law is broken; the message names it.
    """
    source = ExportSource(
        model=ModelArgs(model=str(model), torch_dtype="float32"),
        adapters=[adapter],
        template=Template.from_folder(model),
        record=read_record(adapter),
    )
    before = {file: file.stat().st_mtime_ns for folder in (model, adapter) for file in folder.rglob("*")}
    exporter = EXPORTERS.load_class(name)()
    report = exporter.export(source, output)
    assert any(output.iterdir()), "an export writes something"
    assert report.num_tokens > 0, "a report compares something"
    assert report.mean_divergence < 1e-3, f"the exported model answers as the trained one: {report}"
    after = {file: file.stat().st_mtime_ns for folder in (model, adapter) for file in folder.rglob("*")}
    assert before == after, "the model and the adapter are left as they were"
    again = exporter.export(replace(source, adapters=[adapter]), output.with_name(f"{output.name}-again"))
    assert again == report, "the same source gives the same report"
