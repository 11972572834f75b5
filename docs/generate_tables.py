"""Write the tables of methods and quantizers in swift-tuners' README, from what is registered.

    python docs/generate_tables.py

A test holds the README to it.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from swift_tuners import TUNERS
from swift_tuners.quantizer import all_quantizers

README = Path(__file__).parents[1] / "packages" / "swift-tuners" / "README.md"


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


def fill_in(text: str) -> str:
    """Return a README with its tables replaced by those of today."""
    for name, table in (("methods", methods_table()), ("quantizers", quantizers_table())):
        pattern = rf"(<!-- {name}: [^\n]*-->\n).*?(\n<!-- end of {name} -->)"
        text = re.sub(pattern, lambda found, table=table: f"{found[1]}{table}{found[2]}", text, flags=re.DOTALL)
    return text


if __name__ == "__main__":
    README.write_text(fill_in(README.read_text(encoding="utf-8")), encoding="utf-8")
