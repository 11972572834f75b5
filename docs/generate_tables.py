"""Write the tables in the READMEs of swift-tuners and swift-templates, from what is registered.

    python docs/generate_tables.py

A test holds the READMEs to it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from swift_templates.dialect import DIALECTS, load_dialect
from swift_templates.family import families
from swift_templates.grounding import notations
from swift_templates.loss_scale import LOSS_SCALES
from swift_templates.registry import Registry
from swift_tuners import TUNERS
from swift_tuners.quantizer import all_quantizers

PACKAGES = Path(__file__).parents[1] / "packages"
README = PACKAGES / "swift-tuners" / "README.md"
READMES = (README, PACKAGES / "swift-templates" / "README.md")


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


TABLES: Mapping[str, Callable[[], str]] = {
    "methods": methods_table,
    "quantizers": quantizers_table,
    "families": families_table,
    "dialects": dialects_table,
    "notations": notations_table,
    "loss scales": loss_scales_table,
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
    docstring = sys.modules[f"{registry.package}.{name}"].__doc__ or ""
    line = " ".join(docstring.partition("\n\n")[0].split()).rstrip(".")
    return line.replace("|", "\\|").replace("<", "\\<")


if __name__ == "__main__":
    for readme in READMES:
        readme.write_text(fill_in(readme.read_text(encoding="utf-8")), encoding="utf-8")
