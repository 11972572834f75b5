"""What libraries say at import about missing GPU kernels is left out, and nothing else is."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
import torch
from swift_tuners.models.quiet import hide_import_notes

PROGRAM = """
import sys
from swift_tuners.models.quiet import hide_import_notes
assert not {"torch", "transformers", "peft"} & sys.modules.keys()
hide_import_notes()
import torchao, bitsandbytes
import swift_tuners.models.load, swift_tuners.peft_tuner
"""


@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU a missing kernel is worth a line")
def test_imports_say_nothing_where_there_is_no_gpu() -> None:
    pytest.importorskip("torchao")
    pytest.importorskip("bitsandbytes")
    finished = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, check=True)
    assert finished.stderr == ""


@pytest.mark.parametrize(
    ("logger", "message", "hidden"),
    [
        ("torchao", "Failed to load /lib/_C_mxfp8.so: Could not load this library", True),
        ("torchao", "Failed to load the checkpoint", False),
        ("torchao", "int4 needs another layout", False),
        ("bitsandbytes.backends.cpu.ops", "Failed to load CPU gemm_4bit_forward from kernels-community: none", True),
        ("bitsandbytes.backends.cpu.ops", "inputs are cast to float16", False),
    ],
)
def test_only_these_messages_are_hidden(
    logger: str, message: str, hidden: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    speaker = logging.getLogger(logger)
    monkeypatch.setattr(speaker, "filters", [])
    hide_import_notes()
    hide_import_notes()
    assert len(speaker.filters) == 1
    speaker.warning(message)
    # With a GPU a kernel that cannot be loaded is missed.
    assert (message not in caplog.text) == (hidden and not torch.cuda.is_available())
    speaker.error(message)
    assert message in caplog.text
