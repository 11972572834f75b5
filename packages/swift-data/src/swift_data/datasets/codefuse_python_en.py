"""CodeFuse: 27,000 exercises in Python, as dialogues between a human and a bot."""

from __future__ import annotations

from collections.abc import Mapping

from ..dataset_card import DatasetCard
from ..fields import get, to_list, to_object

_ROLES = {"human": "user", "bot": "assistant"}


def _name_roles(raw: Mapping[str, object]) -> dict[str, object]:
    rounds = to_list(get(raw, "chat_rounds", field="the row"), field="chat_rounds", of="messages")
    turns = [to_object(turn, field=f"chat_rounds[{index}]") for index, turn in enumerate(rounds)]
    return {"messages": [{**turn, "role": _ROLES.get(str(turn.get("role")), turn.get("role"))} for turn in turns]}


CODEFUSE_PYTHON_EN = DatasetCard(
    name="codefuse_python_en",
    description="Exercises in Python with their solutions.",
    kind="chat",
    language=("en",),
    licence="CC-BY-NC-SA-4.0",
    hf_id="codefuse-ai/CodeExercise-Python-27k",
    ms_id="codefuse-ai/CodeExercise-Python-27k",
    prepare=_name_roles,
    examples=(
        {
            "id": 0,
            "chat_rounds": [
                {"role": "human", "content": "Write a function that doubles a number."},
                {"role": "bot", "content": "def double(x):\n    return 2 * x"},
            ],
        },
        {
            "id": 1,
            "chat_rounds": [
                {"role": "human", "content": "Write a function that returns the last item of a list."},
                {"role": "bot", "content": "def last(items):\n    return items[-1]"},
            ],
        },
    ),
)
