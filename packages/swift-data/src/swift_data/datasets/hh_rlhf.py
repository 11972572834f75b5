"""HH-RLHF: pairs of dialogues, of which people liked one better.

Each is one text, with the speakers' names in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..dataset_card import DatasetCard
from ..errors import BadRow
from ..fields import get, shorten, to_text

_SPEAKER = re.compile(r"\n\n(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}


def _split_turns(raw: Mapping[str, object]) -> dict[str, object]:
    return {name: _to_messages(raw, name) for name in ("chosen", "rejected")}


def _to_messages(raw: Mapping[str, object], name: str) -> list[dict[str, str]]:
    text = to_text(get(raw, name, field="the row"), field=name)
    before, *turns = _SPEAKER.split("\n\n" + text.lstrip())
    if before.strip() or not turns:
        raise BadRow("invalid value", f"{name!r} is {shorten(text)}; expected turns of 'Human:' and 'Assistant:'")
    return [{"role": _ROLES[who], "content": said.strip()} for who, said in zip(turns[::2], turns[1::2], strict=True)]


HH_RLHF = DatasetCard(
    name="hh_rlhf",
    description="Pairs of dialogues about helpfulness and harmlessness.",
    kind="preference",
    language=("en",),
    licence="MIT",
    hf_id="Anthropic/hh-rlhf",
    ms_id="AI-ModelScope/hh-rlhf",
    hub_subsets=("harmless-base", "helpful-base", "helpful-online", "helpful-rejection-sampled"),
    prepare=_split_turns,
    examples=(
        {
            "chosen": "\n\nHuman: How high is it?\n\nAssistant: Forty-one metres.",
            "rejected": "\n\nHuman: How high is it?\n\nAssistant: Look it up.",
        },
        {
            "chosen": "\n\nHuman: Hello\n\nAssistant: Hello.\n\nHuman: Thanks\n\nAssistant: You are welcome.",
            "rejected": "\n\nHuman: Hello\n\nAssistant: Hello.\n\nHuman: Thanks\n\nAssistant: So?",
        },
    ),
)
