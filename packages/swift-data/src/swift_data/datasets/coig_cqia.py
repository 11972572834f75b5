"""COIG-CQIA: instructions in Chinese from forums, examinations and books, checked by people."""

from __future__ import annotations

from ..dataset_card import UNKNOWN, DatasetCard

COIG_CQIA = DatasetCard(
    name="coig_cqia",
    description="Checked instructions in Chinese.",
    kind="chat",
    language=("zh",),
    licence=UNKNOWN,
    hf_id="m-a-p/COIG-CQIA",
    ms_id="AI-ModelScope/COIG-CQIA",
    hub_subsets=(
        "chinese_traditional",
        "coig_pc",
        "exam",
        "finance",
        "douban",
        "human_value",
        "logi_qa",
        "ruozhiba",
        "segmentfault",
        "wiki",
        "wikihow",
        "xhs",
        "zhihu",
    ),
    examples=(
        {
            "instruction": "灯塔为什么刷成白色？",
            "input": "",
            "output": "白天更容易看见。",
            "domain": ["常识"],
            "human_verified": True,
        },
        {
            "instruction": "续写这句诗。",
            "input": "海上有灯塔，",
            "output": "夜里照归船。",
            "domain": ["诗"],
            "human_verified": False,
        },
    ),
)
