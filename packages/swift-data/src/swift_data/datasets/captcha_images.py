"""Captcha images: pictures of distorted letters and what they say."""

from __future__ import annotations

from ..dataset_card import DatasetCard

CAPTCHA_IMAGES = DatasetCard(
    name="captcha_images",
    description="Pictures of distorted letters.",
    kind="vision",
    language=("en",),
    licence="WTFPL",
    hf_id="project-sloth/captcha-images",
    ms_id="AI-ModelScope/captcha-images",
    columns={"solution": "response"},
    constants={"query": "recognize the content."},
    examples=(
        {"image": {"bytes": None, "path": "1.png"}, "solution": "41QRT"},
        {"image": {"bytes": None, "path": "2.png"}, "solution": "7LAMP"},
    ),
)
