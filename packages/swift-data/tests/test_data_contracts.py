"""The laws of every registered component, and what importing the package costs."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import swift_data
import swift_data.errors
from swift_data.column_format import COLUMN_FORMATS
from swift_data.dataset_card import DATASETS, load_card
from swift_data.errors import BadRow, SwiftDataError
from swift_data.reward import REWARDS, load_reward
from swift_data.source import SOURCES
from swift_data.testing import check_column_format, check_dataset_card, check_reward, check_source


@pytest.mark.parametrize("name", SOURCES.names())
def test_a_source_obeys_its_laws(name: str, tmp_path: Path) -> None:
    check_source(SOURCES.load_class(name)(), folder=tmp_path)


@pytest.mark.parametrize("name", COLUMN_FORMATS.names())
def test_a_column_format_obeys_its_laws(name: str) -> None:
    check_column_format(COLUMN_FORMATS.load_class(name)())


@pytest.mark.parametrize("name", DATASETS.names())
def test_a_dataset_card_obeys_its_laws(name: str) -> None:
    card = load_card(name)
    assert card.name == name
    check_dataset_card(card)


@pytest.mark.parametrize("name", REWARDS.names())
def test_a_reward_obeys_its_laws(name: str) -> None:
    check_reward(load_reward(name))


def test_components_are_found_by_the_name_of_their_file() -> None:
    # Files beside them, and other distributions, may add more.
    assert {"json", "jsonl"} <= set(SOURCES.names())
    assert {"alpaca", "messages", "query_response", "sharegpt"} <= set(COLUMN_FORMATS.names())
    assert "harrowgate" in DATASETS.names()
    assert "contains" in REWARDS.names()


def test_every_public_name_exists() -> None:
    for name in swift_data.__all__:
        assert not isinstance(getattr(swift_data, name), ModuleType), name


def test_every_error_is_also_a_standard_error() -> None:
    errors = [
        each
        for each in vars(swift_data.errors).values()
        if inspect.isclass(each) and issubclass(each, SwiftDataError) and each is not SwiftDataError
    ]
    assert BadRow in errors
    for error in errors:
        assert issubclass(error, (ValueError, OSError, KeyError)), error


def test_arguments_errors_and_the_package_load_nothing_heavy() -> None:
    # In a process of its own, since this one has numpy already.
    code = (
        "import sys, swift_data, swift_data.args, swift_data.errors\n"
        "print([name for name in ('numpy', 'torch', 'transformers', 'tokenizers', 'jinja2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_loading_rows_needs_neither_torch_nor_transformers() -> None:
    code = (
        "import sys; from swift_data import DataArgs, load_rows, pack\n"
        "load_rows(['harrowgate#3'], DataArgs())\n"
        "print([name for name in ('torch', 'transformers', 'tokenizers', 'jinja2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
