"""Write architectures.md: which architectures of transformers a LoRA works on, found by doing it.

    python docs/generate_architectures.py --results results.json      all of them, some three minutes on one core
    python docs/generate_architectures.py --results results.json gpt2 llama      only these anew

The results file keeps the rows of the others.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from types import FrameType

import torch
import transformers
from swift_tuners.models.architecture_check import MERGE_TOLERANCE, ArchitectureReport, check_architecture
from swift_tuners.models.tiny_architectures import Task, list_architectures

PAGE = Path(__file__).with_name("architectures.md")
TITLES: dict[Task, str] = {"causal-lm": "Text", "image-text": "Pictures and text"}
TIME_LIMIT_S = 120


@dataclass(kw_only=True)
class Row:
    """One line of the page."""

    model_type: str
    task: Task
    works: bool
    found: str
    head: str
    language: str
    towers: str
    projector: str
    notes: str


class TookTooLong(BaseException):
    """An architecture went over the time limit. No Exception, so that nothing on the way takes it for its own."""


def main(arguments: Sequence[str]) -> None:
    """Check the architectures and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, help="JSON file that keeps the rows")
    parser.add_argument("model_types", nargs="*", help="architectures to check; by default all")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    transformers.logging.set_verbosity_error()
    signal.signal(signal.SIGALRM, _stop)
    rows = _read(options.results)
    for task in TITLES:
        for model_type in list_architectures(task):
            if options.model_types and model_type not in options.model_types:
                continue
            begin = time.monotonic()
            row = check(model_type, task)
            rows[f"{task}/{model_type}"] = row
            print(
                f"{task}/{model_type}: {'works' if row.works else row.notes} ({time.monotonic() - begin:.1f} s)",
                flush=True,
            )
    options.results.write_text(json.dumps({key: asdict(row) for key, row in rows.items()}, indent=1), encoding="utf-8")
    PAGE.write_text(render(rows.values()), encoding="utf-8")


def check(model_type: str, task: Task) -> Row:
    """Return the row of one architecture."""
    signal.alarm(TIME_LIMIT_S)
    try:
        return to_row(check_architecture(model_type, task))
    except TookTooLong:
        report = ArchitectureReport(model_type=model_type, task=task, failed_at="check")
        report.reason = f"took longer than {TIME_LIMIT_S} s"
        return to_row(report)
    finally:
        signal.alarm(0)


def to_row(report: ArchitectureReport) -> Row:
    """Return what the page says of a report."""
    modules = report.modules
    if modules is None:
        return _row(report, *("", "", "", "", ""))
    return _row(
        report,
        f"{len(modules.layers)}, {len(modules.attention)}, {len(modules.mlp)}",
        modules.head or "none",
        modules.language or "whole model",
        _names(modules.vision),
        _names(modules.projector),
    )


def _row(report: ArchitectureReport, found: str, head: str, language: str, towers: str, projector: str) -> Row:
    return Row(
        model_type=report.model_type,
        task=report.task,
        works=report.works,
        found=found,
        head=head,
        language=language,
        towers=towers,
        projector=projector,
        notes="; ".join(_notes(report)),
    )


def _notes(report: ArchitectureReport) -> Iterable[str]:
    if not report.works:
        reason = re.sub(r"\s+", " ", report.reason).strip().replace("|", "\\|")
        yield f"fails at {report.failed_at!r}: {reason[:200]}"
        return
    if report.task == "image-text" and not report.picture:
        yield "text only was tried"
    if report.experts:
        kinds = sorted({".".join(name.split(".")[-2:]) for name in report.experts})
        yield f"experts only by target_parameters ({', '.join(kinds)}), tried too"
    if report.bypassed:
        yield f"without {_places(report.bypassed)}, whose weight the model reads itself"
    if report.idle:
        places = _places(name.partition(".lora_")[0] for name in report.idle)
        yield f"no gradient from this input: {len(report.idle)} of {report.trained} tensors, in {places}"
    if report.patches:
        yield f"patched: {', '.join(report.patches)}"


def _places(names: Iterable[str]) -> str:
    """Return the last two parts of names, without the layers' numbers, each once."""
    found = Counter(".".join([part for part in name.split(".") if not part.isdigit()][-2:]) for name in names)
    shown = ", ".join(list(found)[:4])
    return shown + (f" and {len(found) - 4} more" if len(found) > 4 else "")


def _names(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def render(rows: Iterable[Row]) -> str:
    """Return the page."""
    rows = list(rows)
    lines = [
        "# Architectures",
        "",
        "Generated by `docs/generate_architectures.py`; do not edit. Every architecture that transformers "
        f"{version('transformers')} has for these two tasks was built tiny with random weights, on a CPU, with torch "
        f"{version('torch')} and PEFT {version('peft')}. *Works* means that all of this was so:",
        "",
        "1. `map_modules` found its parts by looking (XLM alone has a file in `models/families/`).",
        '2. `Swift.prepare_model` with `LoraConfig(target_modules="all-linear")` attached adapters to the language '
        "side only, and the output stayed the same bit for bit.",
        "3. One training step gave a finite loss, finite gradients, and none for a frozen weight.",
        "4. The adapter, saved and loaded into a fresh model, gave the same logits bit for bit.",
        f"5. Merged, the logits differed by at most {MERGE_TOLERANCE:.0e} of their largest.",
        "6. Where experts are held in tensors of three dimensions, all of it once more with `target_parameters`.",
        "",
    ]
    for task, title in TITLES.items():
        mine = sorted((row for row in rows if row.task == task), key=lambda row: row.model_type)
        lines += [
            f"## {title}: {sum(row.works for row in mine)} of {len(mine)} work",
            "",
            "*Found* counts blocks, attention modules and MLP modules of the tiny model.",
            "",
            "| Architecture | Result | Found | Head | Language model | Towers | Projector | Notes |",
            "|---|---|---|---|---|---|---|---|",
            *(_line(row) for row in mine),
            "",
        ]
    return "\n".join(lines)


def _line(row: Row) -> str:
    cells = [row.model_type, "works" if row.works else "**does not**", row.found]
    names = [row.head, row.language, row.towers, row.projector]
    code = [
        ", ".join(f"`{each}`" if "." in each or "_" in each else each for each in name.split(", ")) for name in names
    ]
    return f"| {' | '.join([*cells, *code, row.notes])} |"


def _read(results: Path) -> dict[str, Row]:
    if not results.exists():
        return {}
    return {key: Row(**row) for key, row in json.loads(results.read_text(encoding="utf-8")).items()}


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise TookTooLong


if __name__ == "__main__":
    main(sys.argv[1:])
