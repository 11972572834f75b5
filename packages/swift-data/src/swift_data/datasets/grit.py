"""GRIT: captions of web pictures with the boxes of the things they name, as parts of the picture's size.

A part of a caption that a box is given for becomes `<ref-object><bbox>`.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..dataset_card import DatasetCard
from ..errors import BadRow
from ..fields import get, shorten, to_list, to_text


def _mark_things(raw: Mapping[str, object]) -> dict[str, object]:
    caption = to_text(get(raw, "caption", field="the row"), field="caption")
    given = to_list(get(raw, "ref_exps", field="the row"), field="ref_exps", of="boxes")
    spans = sorted(_to_span(box, len(caption), field=f"ref_exps[{index}]") for index, box in enumerate(given))
    parts, refs, boxes, end = [], [], [], 0
    for start, stop, box in spans:
        if start < end:
            raise BadRow(
                "invalid value", f"'ref_exps' overlap in the caption at character {start}; expected them apart"
            )
        parts += [caption[end:start], "<ref-object><bbox>"]
        refs.append(caption[start:stop])
        boxes.append(box)
        end = stop
    objects = {"ref": refs, "bbox": boxes, "bbox_type": "norm1"}
    return {"images": raw.get("url"), "response": "".join([*parts, caption[end:]]), "objects": objects}


def _to_span(value: object, length: int, *, field: str) -> tuple[int, int, list[float]]:
    # Start and end in the caption, the box's corners, and how sure the maker's model was.
    numbers = [each for each in value if isinstance(each, int | float)] if isinstance(value, list) else []
    if len(numbers) < 6 or not 0 <= numbers[0] < numbers[1] <= length:
        raise BadRow("invalid value", f"{field!r} is {shorten(value)}; expected start, end and a box's four numbers")
    return int(numbers[0]), int(numbers[1]), [float(each) for each in numbers[2:6]]


GRIT = DatasetCard(
    name="grit",
    description="Captions with boxes of the things they name.",
    kind="grounding",
    language=("en",),
    licence="MS-PL",
    hf_id="zzliang/GRIT",
    ms_id="swift/GRIT",
    prepare=_mark_things,
    constants={"query": "Describe the image, with the places of things."},
    examples=(
        {
            "key": "1",
            "url": "https://example.org/1.jpg",
            "caption": "a tower above a boat",
            "ref_exps": [[0.0, 7.0, 0.1, 0.1, 0.3, 0.8, 0.9], [14.0, 20.0, 0.5, 0.7, 0.9, 0.9, 0.8]],
            "width": 640,
            "height": 480,
        },
        {
            "key": "2",
            "url": "https://example.org/2.jpg",
            "caption": "the lamp at night",
            "ref_exps": [[0.0, 8.0, 0.4, 0.1, 0.6, 0.3, 0.9]],
            "width": 640,
            "height": 480,
        },
    ),
)
