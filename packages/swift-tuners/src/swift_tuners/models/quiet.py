"""Loading without the chatter of libraries: progress bars of a second, warnings about what is done on purpose."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import sys
from collections.abc import Iterator

# What libraries log when they are imported where there is no GPU, by logger: their kernels for GPUs are left out then,
# as they must be.
_IMPORT_NOTES = {
    # torchao 0.18.
    "torchao": re.compile(r"Failed to load \S+\.so: "),
    "torchao.kernel.intmm": re.compile("Warning: Detected no triton"),
    # Of enumerations in torchao, by torch 2.13.
    "torch.utils._pytree": re.compile(r"<enum '\w+'> is an Enum subclass and is now natively supported"),
    # bitsandbytes 0.50, whose kernel for processors with AVX512-BF16 comes from a hub.
    "bitsandbytes.backends.cpu.ops": re.compile("Failed to load CPU gemm_4bit_forward from kernels-community"),
}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' bars and its log below errors, and what it prints; errors are raised, so none is lost."""
    from transformers.utils import logging as verbose

    verbosity, bars = verbose.get_verbosity(), verbose.is_progress_bar_enabled()
    verbose.set_verbosity_error()
    verbose.disable_progress_bar()
    try:
        # The GGUF reader's bar is a plain tqdm, which writes to stderr whatever transformers is told.
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        verbose.set_verbosity(verbosity)
        if bars:
            verbose.enable_progress_bar()


def hide_import_notes() -> None:
    """Leave out of the log what torchao and bitsandbytes say about missing GPU kernels, on machines without a GPU.

    For programs, before the first import of transformers or PEFT, which import those two; it imports neither.
    """
    for name in _IMPORT_NOTES:
        logger = logging.getLogger(name)
        if _is_wanted not in logger.filters:
            logger.addFilter(_is_wanted)


def _is_wanted(record: logging.LogRecord) -> bool:
    noted = record.levelno == logging.WARNING and _IMPORT_NOTES[record.name].match(record.getMessage())
    torch = sys.modules.get("torch")
    return not noted or torch is None or bool(torch.cuda.is_available())
