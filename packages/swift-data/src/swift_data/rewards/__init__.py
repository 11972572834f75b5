"""Rewards, one file each; `swift_data.reward` says what a reward is."""
