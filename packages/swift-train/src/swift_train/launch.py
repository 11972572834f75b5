"""Several processes on one or many hosts: the same command, started once per process by torchrun."""

from __future__ import annotations

import logging
import os
import sys

from .errors import InvalidTrainArgs


def wants_launch() -> bool:
    """Say whether the environment asks for several processes and this is not one of them already."""
    return "RANK" not in os.environ and (_number("NPROC_PER_NODE", 1) > 1 or _number("NNODES", 1) > 1)


def launch(module: str, argv: list[str]) -> int:
    """Run `python -m MODULE` with these arguments in every process, and return the exit code.

    Reads NPROC_PER_NODE, NNODES, NODE_RANK, MASTER_ADDR and MASTER_PORT.

    Raises:
        InvalidTrainArgs: one of them is not a whole number.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import get_args_parser, run

    nodes = _number("NNODES", 1)
    options = ["--nproc_per_node", str(_number("NPROC_PER_NODE", 1)), "--nnodes", str(nodes)]
    if nodes > 1:
        options += ["--node_rank", str(_number("NODE_RANK", 0))]
        options += ["--master_addr", os.environ.get("MASTER_ADDR", "127.0.0.1")]
        options += ["--master_port", str(_number("MASTER_PORT", 29500))]
    else:
        options += ["--standalone"]
    # torchrun would set one thread per process; share the cores instead.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // _number("NPROC_PER_NODE", 1))))
    # A process that fails says why itself; torchrun's own report of it would bury that.
    logging.getLogger("torch.distributed.elastic.multiprocessing.api").setLevel(logging.CRITICAL)
    try:
        run(get_args_parser().parse_args([*options, "-m", module, *argv]))
    except ChildFailedError as error:
        # The process that failed has said why.
        _, failure = error.get_first_failure()
        return int(failure.exitcode) if failure.exitcode > 0 else 1
    except SignalException as error:
        return 128 + int(error.sigval)
    sys.stdout.flush()
    return 0


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable, str(default))
    try:
        return int(text)
    except ValueError:
        raise InvalidTrainArgs(f"the environment's {variable} is {text!r}; expected a whole number") from None
