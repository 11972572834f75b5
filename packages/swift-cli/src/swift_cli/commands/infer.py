"""`swift infer`: ask a model."""

from __future__ import annotations

from swift_infer.args import InferArgs

from ..command import Command, Invocation


def run(invocation: Invocation[InferArgs]) -> int:
    """Answer one question, a data set, or a chat in the terminal."""
    from swift_infer.run import run_infer

    run_infer(invocation.args, on_output_dir=invocation.write_args)
    return 0


INFER = Command(args=InferArgs, run=run)
