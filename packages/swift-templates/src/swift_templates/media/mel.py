"""Sounds as log-mel spectrograms, as Whisper's encoder and those made of it take them.

N samples, F frames, M mel bands, B frequency bins.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

SAMPLE_RATE = 16_000
HOP = 160
_WINDOW = 400
# The mel scale of Slaney's toolbox: even below 1 kHz, 27 steps of equal ratio for a factor of 6.4 above.
_HZ_PER_MEL = 200 / 3
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _HZ_PER_MEL
_MELS_PER_LOG = 27 / np.log(6.4)


def log_mel(sound_N: npt.NDArray[np.float32], *, num_bands: int = 80) -> npt.NDArray[np.float32]:
    """Return the logarithm of the power in each mel band, 8 decades at most, moved to about -1 to 1.

    max(log10 power, its maximum - 8) / 4 + 1, with Hann windows of 25 ms every 10 ms, the sound mirrored at its ends.

    Args:
        sound_N: at 16 kHz.
        num_bands: M.

    Returns:
        float32 (M, N // 160).

    Source: Robust Speech Recognition via Large-Scale Weak Supervision, arXiv 2212.04356, section 2.2, and its code.
    """
    padded = np.pad(sound_N.astype(np.float64), _WINDOW // 2, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_WINDOW) / _WINDOW)
    frames_FN = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::HOP][:-1]
    power_FB = np.abs(np.fft.rfft(frames_FN * window, axis=1)) ** 2
    log_MF = np.log10(np.maximum(_bands(num_bands) @ power_FB.T, 1e-10))
    made: npt.NDArray[np.float32] = (np.maximum(log_MF, log_MF.max() - 8.0) / 4 + 1).astype(np.float32)
    return made


@functools.cache
def _bands(num_bands: int) -> npt.NDArray[np.float64]:
    """Return what each bin counts for each band, triangles of area 1: (M, B)."""
    bins = np.linspace(0, SAMPLE_RATE / 2, _WINDOW // 2 + 1)
    corners = _to_hz(np.linspace(0, _to_mel(SAMPLE_RATE / 2), num_bands + 2))
    widths = np.diff(corners)
    slopes = (corners[:, None] - bins[None]) / np.append(widths, widths[-1])[:, None]
    rising = -slopes[:-2]
    falling = (corners[2:, None] - bins[None]) / widths[1:, None]
    triangles: npt.NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling))
    return triangles * (2 / (corners[2:] - corners[:-2]))[:, None]


def _to_mel(hz: float) -> float:
    return hz / _HZ_PER_MEL if hz < _BREAK_HZ else float(_BREAK_MEL + np.log(hz / _BREAK_HZ) * _MELS_PER_LOG)


def _to_hz(mels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    high = _BREAK_HZ * np.exp((mels - _BREAK_MEL) / _MELS_PER_LOG)
    made: npt.NDArray[np.float64] = np.where(mels < _BREAK_MEL, mels * _HZ_PER_MEL, high)
    return made
