"""Write the tables in the READMEs of swift-tuners, swift-templates and swift-data, from what is registered.

    python docs/generate_tables.py

A test holds the READMEs to it.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from swift_data import COLUMN_FORMATS, DATASETS, REWARDS, load_card
from swift_data.compression import COMPRESSIONS
from swift_data.source import SOURCES
from swift_templates.dialect import DIALECTS, load_dialect
from swift_templates.family import families
from swift_templates.grounding import notations
from swift_templates.loss_scale import LOSS_SCALES
from swift_templates.registry import Registry
from swift_tuners import TUNERS
from swift_tuners.quantizer import all_quantizers

PACKAGES = Path(__file__).parents[1] / "packages"
README = PACKAGES / "swift-tuners" / "README.md"
READMES = (README, PACKAGES / "swift-templates" / "README.md", PACKAGES / "swift-data" / "README.md")


def methods_table() -> str:
    """Return a line for each registered tuner: what it is, what it promises, and what proves that."""
    lines = ["| `--tuner` | what it does | source | merges | evidence |", "|---|---|---|---|---|"]
    for name in TUNERS.names():
        args_class = TUNERS.load_class(name)
        docstring = sys.modules[args_class.__module__].__doc__ or ""
        what = " ".join(docstring.partition("\n\n")[0].split()).rstrip(".")
        source = re.search(r"arXiv \d{4}\.\d{5}", docstring)
        laws = args_class.laws
        merges = "yes" if laws.mergeable else "no"
        evidence = f"tested in CI: its laws on {', '.join(laws.models)}"
        lines.append(f"| `{name}` | {what} | {source[0] if source else ''} | {merges} | {evidence} |")
    return "\n".join(lines)


def quantizers_table() -> str:
    """Return a line for each registered quantizer."""
    lines = ["| `quant_method` | bits while loading | needs | evidence |", "|---|---|---|---|"]
    for each in all_quantizers():
        bits = ", ".join(map(str, each.bits)) or "reads quantized folders"
        lines.append(f"| `{each.name}` | {bits} | {', '.join(each.requires)} | {each.evidence} |")
    return "\n".join(lines)


def families_table() -> str:
    """Return a line for each template family."""
    lines = ["| `--template` | format | ends an answer |", "|---|---|---|"]
    for name in families.names():
        family = families.load(name)
        assert not isinstance(family, type)
        stops = ", ".join(f"`{each}`".replace("|", "\\|") for each in family.stop_tokens)
        lines.append(f"| `{name}` | {_describe(families, name)} | {stops or 'what ends a text'} |")
    return "\n".join(lines)


def dialects_table() -> str:
    """Return a line for each agent dialect."""
    lines = ["| `--agent_template` | what it writes | several calls an answer | stop words |", "|---|---|---|---|"]
    for name in DIALECTS.names():
        dialect = load_dialect(name)
        several = "yes" if dialect.several_calls else "no"
        stops = ", ".join(f"`{each}`" for each in dialect.stop_words)
        lines.append(f"| `{name}` | {_describe(DIALECTS, name)} | {several} | {stops} |")
    return "\n".join(lines)


def notations_table() -> str:
    """Return a line for each notation of boxes."""
    lines = ["| `--box_notation` | what it writes |", "|---|---|"]
    lines += [f"| `{name}` | {_describe(notations, name)} |" for name in notations.names()]
    return "\n".join(lines)


def loss_scales_table() -> str:
    """Return a line for each loss scale."""
    lines = ["| `--loss_scale` | what it weighs |", "|---|---|"]
    lines += [f"| `{name}` | {_describe(LOSS_SCALES, name)} |" for name in LOSS_SCALES.names()]
    return "\n".join(lines)


def sources_table() -> str:
    """Return a line for each kind of file that rows are read from."""
    lines = ["| files | what they hold |", "|---|---|"]
    for name in SOURCES.names():
        suffixes = ", ".join(f"`{suffix}`" for suffix in SOURCES.load_class(name).suffixes)
        lines.append(f"| {suffixes} | {_describe(SOURCES, name)} |")
    compressions = ", ".join(f"`{suffix}`" for suffix in COMPRESSIONS)
    lines.append(f"| {compressions} behind one of these | the same, compressed |")
    return "\n".join(lines)


def formats_table() -> str:
    """Return a line for each column format: the columns that it stands for, and what they hold."""
    lines = ["| columns | what they hold |", "|---|---|"]
    for name in COLUMN_FORMATS.names():
        layouts = ", ".join(f"`{layout}`" for layout in COLUMN_FORMATS.load_class(name).layouts)
        lines.append(f"| {layouts} | {_describe(COLUMN_FORMATS, name)} |")
    return "\n".join(lines)


def rewards_table() -> str:
    """Return a line for each reward: what it gives, the columns that it needs, and its options."""
    lines = ["| reward | what it gives | needs | options |", "|---|---|---|---|"]
    for name in REWARDS.names():
        reward = REWARDS.load_class(name)
        # Of the class, since that of the module says what is asked, and this one what is answered.
        what = _first_sentences(reward.__doc__ or "")
        fields: tuple[dataclasses.Field[Any], ...] = (
            dataclasses.fields(reward) if dataclasses.is_dataclass(reward) else ()
        )
        options = ", ".join(f"`{field.name}={field.default!r}`" for field in fields)
        needs = ", ".join(f"`{column}`" for column in reward.needs)
        lines.append(f"| `{name}` | {what} | {needs} | {options} |")
    return "\n".join(lines)


def datasets_table() -> str:
    """Return a line for each known dataset."""
    lines = ["| name | what it holds | rows | language | licence | `hf::` | `ms::` |", "|---|---|---|---|---|---|---|"]
    for name in DATASETS.names():
        card = load_card(name)
        what = card.description.rstrip(".").replace("|", "\\|").replace("<", "\\<")
        if card.files:
            what += "; comes with the package"
        ids = f"{card.hf_id or ''} | {card.ms_id or ''}"
        lines.append(f"| `{name}` | {what} | {card.kind} | {', '.join(card.language)} | {card.licence} | {ids} |")
    return "\n".join(lines)


TABLES: Mapping[str, Callable[[], str]] = {
    "methods": methods_table,
    "quantizers": quantizers_table,
    "families": families_table,
    "dialects": dialects_table,
    "notations": notations_table,
    "loss scales": loss_scales_table,
    "sources": sources_table,
    "formats": formats_table,
    "rewards": rewards_table,
    "datasets": datasets_table,
}


def fill_in(text: str) -> str:
    """Return a README with its tables replaced by those of today."""
    for name, build in TABLES.items():
        found = re.search(rf"<!-- {name}: [^\n]*-->\n(.*?)<!-- end of {name} -->", text, flags=re.DOTALL)
        if found is not None:
            text = f"{text[: found.start(1)]}{build()}\n{text[found.end(1) :]}"
    return text


def _describe(registry: Registry[Any], name: str) -> str:
    """Return the first line of a component's docstring, fit for a table."""
    registry.load(name)
    return _first_sentences(sys.modules[f"{registry.package}.{name}"].__doc__ or "")


def _first_sentences(docstring: str) -> str:
    line = " ".join(docstring.partition("\n\n")[0].split()).rstrip(".")
    # Inside of backquotes, all signs but the table's own stand for themselves.
    parts = re.split(r"(`[^`]*`)", line.replace("|", "\\|"))
    return "".join(part if part.startswith("`") else part.replace("<", "\\<") for part in parts)


if __name__ == "__main__":
    for readme in READMES:
        readme.write_text(fill_in(readme.read_text(encoding="utf-8")), encoding="utf-8")
