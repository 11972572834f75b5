"""Hermes: calls weigh twice.

<tool_call>
{"name": "search", "arguments": {"q": "rain"}}
</tool_call>                <- all of it 2
"""

from __future__ import annotations

from ..loss_scale import LABEL, Keywords

HERMES = Keywords(patterns={r"<tool_call>.+?</tool_call>": LABEL})
