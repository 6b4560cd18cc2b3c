"""Temporal flicker: how far a film's changes from frame to frame are from the true film's changes."""

import numpy as np


def flicker(
    previous_prediction: np.ndarray,
    prediction: np.ndarray,
    previous_truth: np.ndarray,
    truth: np.ndarray,
    mask: np.ndarray,
) -> float:
    """Mean of |(p_t - p_t-1) - (y_t - y_t-1)| in 8-bit levels over the pixels of `mask` and the channels.

    Pictures (h, w, 3) uint8 sRGB of two successive time steps of one camera; `mask` (h, w) bool, the head in both. The
    truth itself and the truth plus any error that stands still score 0; a frozen film scores the true motion.
    """
    predicted_change = prediction.astype(np.int16) - previous_prediction
    true_change = truth.astype(np.int16) - previous_truth
    return float(np.abs(predicted_change - true_change)[mask].mean())
