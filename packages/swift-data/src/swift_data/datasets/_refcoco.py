"""Rows as the three sets of RefCOCO have them."""

from __future__ import annotations

EXAMPLES: tuple[dict[str, object], ...] = (
    {
        "sent_ids": [1, 2],
        "file_name": "COCO_train2014_000000000001_1.jpg",
        "ref_id": 1,
        "image_id": 1,
        "image_path": "coco/train2014/COCO_train2014_000000000001.jpg",
        "bbox": [120.5, 30.0, 210.0, 400.0],
        "captions": ["the white tower", "tower on the left"],
    },
    {
        "sent_ids": [3],
        "file_name": "COCO_train2014_000000000002_2.jpg",
        "ref_id": 2,
        "image_id": 2,
        "image_path": "coco/train2014/COCO_train2014_000000000002.jpg",
        "bbox": [10.0, 220.0, 90.0, 260.0],
        "captions": ["the blue boat"],
    },
)
