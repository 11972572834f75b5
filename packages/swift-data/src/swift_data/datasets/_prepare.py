"""Steps that the cards of several datasets share: out of columns that no format knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from ..fields import get, to_list, to_text

POINT = "Where is <ref-object>? Answer with a box."
"""What the cards of referring expressions ask."""


def take_most_common(row: Mapping[str, object], name: str) -> str:
    """Return the answer that most people gave, the first of several such ones.

    Raises:
        BadRow: the column is no list of texts.
    """
    answers = to_list(get(row, name, field="the row"), field=name, of="answers")
    texts = [to_text(answer, field=f"{name}[{index}]") for index, answer in enumerate(answers)]
    return Counter(texts).most_common(1)[0][0]


def take_first(row: Mapping[str, object], name: str) -> str:
    """Return the first text of a column of several, or its only one. Raises as `take_most_common` does."""
    value = get(row, name, field="the row")
    if isinstance(value, str):
        return to_text(value, field=name)
    return to_text(to_list(value, field=name, of="texts")[0], field=f"{name}[0]")


def point_at(row: Mapping[str, object]) -> dict[str, object]:
    """Return a question for the box of a referring expression, and its answer; boxes are in pixels.

    Raises:
        BadRow: the row lacks `captions`, `bbox` or `image_path`.
    """
    return {
        "query": POINT,
        "response": "<bbox>",
        "images": [get(row, "image_path", field="the row")],
        "objects": {
            "ref": [take_first(row, "captions")],
            "bbox": [to_list(get(row, "bbox", field="the row"), field="bbox", of="numbers")],
            "bbox_type": "real",
        },
    }
