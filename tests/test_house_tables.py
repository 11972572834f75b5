"""The tables in the READMEs are those of what is registered today."""

from __future__ import annotations

import importlib.util

from house import ROOT


def test_the_readme_shows_what_is_registered() -> None:
    spec = importlib.util.spec_from_file_location("generate_tables", ROOT / "docs" / "generate_tables.py")
    assert spec is not None and spec.loader is not None
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    for readme in tables.READMES:
        text = readme.read_text(encoding="utf-8")
        assert tables.fill_in(text) == text, "run python docs/generate_tables.py"
    text = tables.README.read_text(encoding="utf-8")
    # A table that is cut out shows that the comparison would find it.
    assert tables.fill_in(text.replace("| `lora` |", "| `arol` |")) == text
