"""What each process of a run has for itself: its random generators, the loss it has summed, its place in the data.

It is all JSON: a generator's state is numbers, or bytes as hexadecimal digits. When a run goes on with another number
of processes, this rule holds: a process that the checkpoint knows takes its own generators; a further one seeds its
own from a digest of the first one's and its number. The loss summed since the last log line is shared out alike.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Final, cast

import numpy as np
import torch
from swift_tuners.tuner import JSON

from .errors import BrokenCheckpoint

PROCESSES_FILE: Final = "processes.json"


@dataclass(frozen=True, kw_only=True)
class Generators:
    """The states of a process's random generators.

    Attributes:
        python: of `random`: a version, its numbers, and the normal number that it keeps.
        numpy: the name of the generator, its numbers, its position, and the normal number that it keeps.
        torch_cpu: bytes as hexadecimal digits.
        torch_cuda: the same for each GPU that the process sees.
    """

    python: list[JSON]
    numpy: list[JSON]
    torch_cpu: str
    torch_cuda: list[str]


@dataclass(frozen=True, kw_only=True)
class ProcessState:
    """What one process has for itself.

    Attributes:
        generators: its random numbers.
        summed_loss: the loss since the last log line, as transformers' loop sums it.
        last_logged_step: the step of that line.
        data: its place in the data, as far as the number of the step does not say it; whatever the trainer gives.
    """

    generators: Generators
    summed_loss: float
    last_logged_step: int
    data: JSON


def read_generators() -> Generators:
    """Return the states of this process's generators."""
    version, numbers, normal = random.getstate()
    name, state, position, has_normal, numpy_normal = np.random.get_state(legacy=True)
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return Generators(
        python=[version, list(numbers), normal],
        numpy=[str(name), np.asarray(state).tolist(), int(position), int(has_normal), float(numpy_normal)],
        torch_cpu=_to_hex(torch.get_rng_state()),
        torch_cuda=[_to_hex(each) for each in cuda],
    )


def set_generators(generators: Generators) -> None:
    """Put this process's generators into the states that were read. Raises ValueError where they are none."""
    version, numbers, normal = generators.python
    assert isinstance(numbers, list), "checked on reading"
    random.setstate((version, tuple(numbers), normal))
    name, state, position, has_normal, numpy_normal = generators.numpy
    np.random.set_state((name, np.array(state, dtype=np.uint32), position, has_normal, numpy_normal))  # type: ignore[arg-type]  # numpy checks them
    torch.set_rng_state(_from_hex(generators.torch_cpu))
    if torch.cuda.is_available():
        # A machine with more GPUs than the last one leaves the further ones as they are seeded.
        for index, each in enumerate(generators.torch_cuda[: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(_from_hex(each), index)


def seed_further_process(first: Generators, index: int) -> None:
    """Seed the generators of a process that the checkpoint does not know, by the first one's and its number."""
    digest = hashlib.sha256(f"{index}:{first.torch_cpu}".encode()).digest()
    random.seed(digest)
    np.random.seed(np.frombuffer(digest, dtype=np.uint32).tolist())
    torch.manual_seed(int.from_bytes(digest[:8], "little"))


def to_text(state: ProcessState) -> str:
    """Return a process's state as one line of JSON, by which processes hand it to the one that writes."""
    return json.dumps(asdict(state))


def write_processes(texts: Sequence[str], folder: Path) -> None:
    """Write the states of all processes, in the order of their numbers."""
    (folder / PROCESSES_FILE).write_text("[\n" + ",\n".join(texts) + "\n]\n", encoding="utf-8")


def read_processes(folder: Path) -> list[ProcessState]:
    """Return the states of all processes that a checkpoint was saved by.

    Raises:
        BrokenCheckpoint: the file is missing or is none.
    """
    path = folder / PROCESSES_FILE
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        states = [_read_state(each) for each in listed]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BrokenCheckpoint(
            f"{str(path)!r} does not say where the run's processes were ({error}); expected a checkpoint of a run, and "
            "not of a model only (--save_only_model)"
        ) from error
    if not states:
        raise BrokenCheckpoint(f"{str(path)!r} lists no process; take another checkpoint")
    return states


def restore_process(states: Sequence[ProcessState], *, index: int, num_processes: int) -> float:
    """Set the generators of one process by the rule above, and return its share of the summed loss.

    Args:
        states: of the processes that saved.
        index: of this process.
        num_processes: of this run.
    """
    if index < len(states):
        set_generators(states[index].generators)
    else:
        seed_further_process(states[0].generators, index)
    if num_processes == len(states):
        return states[index].summed_loss
    # The loop takes the mean over the processes, which so is what it was.
    return sum(each.summed_loss for each in states) / len(states)


def _read_state(content: dict[str, JSON]) -> ProcessState:
    generators = cast("dict[str, JSON]", content["generators"])
    unknown = set(generators) ^ {each.name for each in fields(Generators)}
    if (
        unknown
        or len(cast("list[JSON]", generators["python"])) != 3
        or len(cast("list[JSON]", generators["numpy"])) != 5
    ):
        raise ValueError(f"its generators are {sorted(generators)}")
    return ProcessState(
        generators=Generators(**generators),  # type: ignore[arg-type]  # their setters check them
        summed_loss=float(cast("float", content["summed_loss"])),
        last_logged_step=int(cast("int", content["last_logged_step"])),
        data=content["data"],
    )


def _to_hex(state: torch.Tensor) -> str:
    return state.cpu().numpy().tobytes().hex()


def _from_hex(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)
