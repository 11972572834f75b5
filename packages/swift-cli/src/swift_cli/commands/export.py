"""`swift export`: merge a tuned model, or bring it into another form."""

from __future__ import annotations

from swift_export.args import ExportArgs

from ..command import Command, Invocation


def run(invocation: Invocation[ExportArgs]) -> int:
    """Write the exported model and its report."""
    from swift_export.run import run_export

    run_export(invocation.args, on_output_dir=invocation.write_args)
    return 0


EXPORT = Command(args=ExportArgs, run=run)
