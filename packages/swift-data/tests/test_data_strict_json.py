"""JSON is read as the standard has it, in every source alike."""

from __future__ import annotations

import json

import pytest
from swift_data.sources import json as array
from swift_data.sources import jsonl
from swift_data.strict_json import DECODER


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", '{"a": -Infinity}'])
def test_numbers_that_json_does_not_have_are_refused(text: str) -> None:
    json.loads(text)  # Python's own decoder takes them.
    with pytest.raises(ValueError, match="is no JSON value"):
        DECODER.decode(text)


def test_all_sources_read_with_one_decoder() -> None:
    assert vars(array)["DECODER"] is vars(jsonl)["DECODER"] is DECODER
