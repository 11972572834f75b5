"""Arguments that hold places of tokens move with the tokens where samples are joined."""

from __future__ import annotations

import numpy as np
from swift_data.media_arrays import join_media, stack_media
from swift_templates.encoded import Encoded


def sample(length: int, media: dict[str, np.ndarray] | None = None) -> Encoded:
    ids = np.arange(length, dtype=np.int64)
    return Encoded(ids, ids.copy(), np.ones(length, dtype=np.float32), media or {})


def slices(*bounds: tuple[int, int]) -> dict[str, np.ndarray]:
    """Return what MiniCPM-V is told of slices whose tokens are from the first to the second place."""
    return {
        "image_bound": np.array([bounds], dtype=np.int64),
        "pixel_values": np.zeros((1, len(bounds), 3, 14, 28), dtype=np.float32),
    }


def test_places_count_from_the_beginning_of_the_joined_row() -> None:
    joined = join_media([sample(5), sample(9, slices((2, 4), (6, 8))), sample(3)])
    assert joined["image_bound"].tolist() == [[[7, 9], [11, 13]]]
    assert join_media([sample(9, slices((2, 4)))])["image_bound"].tolist() == [[[2, 4]]]


def test_places_in_rows_of_their_own_stay() -> None:
    stacked = stack_media([sample(9, slices((2, 4))), sample(12, slices((6, 8)))])
    assert stacked["image_bound"].tolist() == [[[2, 4]], [[6, 8]]]
