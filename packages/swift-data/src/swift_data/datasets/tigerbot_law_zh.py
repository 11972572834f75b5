"""TigerBot law: articles of Chinese law, to train on as texts.

An article's kind, title and chapters are put before its words.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..dataset_card import DatasetCard
from ..fields import get, to_text

_CHAPTERS = ("chapter1", "chapter2", "chapter3")


def _join_article(raw: Mapping[str, object]) -> dict[str, object]:
    head = [to_text(get(raw, name, field="the row"), field=name) for name in ("type", "title")]
    chapters = [to_text(raw[name], field=name) for name in _CHAPTERS if raw.get(name) is not None]
    body = "".join((*chapters, to_text(get(raw, "content", field="the row"), field="content")))
    return {"text": "\n".join((*head, body))}


TIGERBOT_LAW_ZH = DatasetCard(
    name="tigerbot_law_zh",
    description="Articles of Chinese law as texts.",
    kind="text",
    language=("zh",),
    licence="Apache-2.0",
    hf_id="TigerResearch/tigerbot-law-plugin",
    ms_id="AI-ModelScope/tigerbot-law-plugin",
    prepare=_join_article,
    examples=(
        {
            "type": "法律",
            "title": "灯塔管理法",
            "chapter1": "第一章 总则",
            "chapter2": None,
            "chapter3": None,
            "content": "第一条 灯塔每晚点灯。",
        },
        {
            "type": "法规",
            "title": "灯塔参观办法",
            "chapter1": "第一章 时间",
            "chapter2": "第一节 夏季",
            "chapter3": None,
            "content": "第二条 每天九点开门。",
        },
    ),
)
