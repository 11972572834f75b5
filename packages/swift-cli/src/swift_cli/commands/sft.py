"""`swift sft`: supervised fine-tuning."""

from __future__ import annotations

from swift_train.args import SftArgs

from ..command import Command, Invocation


def run(invocation: Invocation[SftArgs]) -> int:
    """Train in this process, or in the several that the environment asks for."""
    from swift_train.launch import launch, wants_launch

    if wants_launch():
        return launch("swift_cli", invocation.argv)
    from swift_train.run import run_sft

    run_sft(invocation.args, on_output_dir=invocation.write_args)
    return 0


SFT = Command(args=SftArgs, run=run)
