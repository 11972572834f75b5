"""LaTeX OCR: pictures of formulas with their source."""

from __future__ import annotations

from ..dataset_card import DatasetCard

LATEX_OCR = DatasetCard(
    name="latex_ocr",
    description="Pictures of formulas with their LaTeX.",
    kind="vision",
    language=("en",),
    licence="Apache-2.0",
    hf_id="linxy/LaTeX_OCR",
    ms_id="AI-ModelScope/LaTeX_OCR",
    hub_subset="default",
    hub_subsets=("default", "human_handwrite", "human_handwrite_print", "synthetic_handwrite", "small"),
    columns={"text": "response"},
    constants={"query": "Using LaTeX to perform OCR on the image."},
    examples=(
        {"image": {"bytes": None, "path": "1.png"}, "text": "x ^ { 2 } + 1"},
        {"image": {"bytes": None, "path": "2.png"}, "text": "\\frac { a } { b }"},
    ),
)
