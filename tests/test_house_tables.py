"""The tables in the READMEs are those of what is registered today."""

from __future__ import annotations

import functools
import importlib.util
import re
from types import ModuleType

from house import ROOT
from swift_data import DATASETS, REWARDS
from swift_data.column_format import layouts_by_format
from swift_data.source import sources_by_suffix


@functools.cache
def load_generator() -> ModuleType:
    """Return the script that writes the tables, as a module."""
    spec = importlib.util.spec_from_file_location("generate_tables", ROOT / "docs" / "generate_tables.py")
    assert spec is not None and spec.loader is not None
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    return tables


def test_the_readme_shows_what_is_registered() -> None:
    tables = load_generator()
    for readme in tables.READMES:
        text = readme.read_text(encoding="utf-8")
        assert tables.fill_in(text) == text, "run python docs/generate_tables.py"
    text = tables.README.read_text(encoding="utf-8")
    # A table that is cut out shows that the comparison would find it.
    assert tables.fill_in(text.replace("| `lora` |", "| `arol` |")) == text


def test_each_table_stands_in_one_readme() -> None:
    tables = load_generator()
    texts = [readme.read_text(encoding="utf-8") for readme in tables.READMES]
    found = [name for text in texts for name in re.findall(r"^<!-- end of (.*) -->$", text, re.MULTILINE)]
    assert sorted(found) == sorted(tables.TABLES)


def test_the_tables_of_swift_data_name_all_that_is_registered() -> None:
    tables = load_generator()
    named = {
        name: re.findall(r"^\| `(\w+)` \|", tables.TABLES[name](), re.MULTILINE) for name in ("rewards", "datasets")
    }
    assert named == {"rewards": REWARDS.names(), "datasets": DATASETS.names()}
    assert all(f"`{suffix}`" in tables.sources_table() for suffix in sources_by_suffix())
    assert all(f"`{layout}`" in tables.formats_table() for _, layout in layouts_by_format())


def test_a_table_has_as_many_cells_in_each_line() -> None:
    for name, build in load_generator().TABLES.items():
        # A pipe with a backslash is a character of its cell.
        cells = {len(re.findall(r"(?<!\\)\|", line)) for line in build().splitlines()}
        assert len(cells) == 1, f"{name}: lines of {sorted(cells)} pipes"
