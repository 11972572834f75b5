"""Alpaca with answers by GPT-4, in Chinese, under its other name."""

from __future__ import annotations

import dataclasses

from . import alpaca_zh as _same

ALPACA_GPT4_ZH = dataclasses.replace(_same.ALPACA_ZH, name="alpaca_gpt4_zh")
