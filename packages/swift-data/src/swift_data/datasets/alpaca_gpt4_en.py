"""Alpaca with answers by GPT-4, in English, under its other name."""

from __future__ import annotations

import dataclasses

from . import alpaca_en as _same

ALPACA_GPT4_EN = dataclasses.replace(_same.ALPACA_EN, name="alpaca_gpt4_en")
