"""How far a predicted picture is from the true one: PSNR, SSIM, MS-SSIM and FLIP, over the frame and in the head."""

from collections.abc import Sequence

import flip_evaluator
import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity

PSNR_CEILING = 100.0  # dB, for equal pictures, whose ratio is infinite and has no mean
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of MS-SSIM, the finest first
SIGMA, REACH = 1.5, 5  # of SSIM's window of 11 pixels
K1, K2 = 0.01, 0.03


def psnr(prediction: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Peak signal-to-noise ratio in dB of one picture, peak 255; at most PSNR_CEILING.

    `prediction`, `truth` (h, w, 3) uint8 sRGB; `mask` (h, w) bool: only these pixels count, all when None. The squared
    error is averaged over pixels and channels of this picture alone (never pooled over pictures).
    """
    difference = prediction.astype(np.float64) - truth
    error = np.mean(np.square(difference if mask is None else difference[mask]))
    return min(float(10 * np.log10(255**2 / error)), PSNR_CEILING) if error > 0 else PSNR_CEILING


def pooled_psnr(values: Sequence[float]) -> float:
    """The PSNR in dB of the squared error averaged over pictures that have these PSNRs."""
    return float(-10 * np.log10(np.mean(10 ** (-np.array(values) / 10))))


def ssim_map(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Structural similarity per pixel (h, w), mean of the three channels.

    Wang et al. 2004: Gaussian window of sigma 1.5, K1 = 0.01, K2 = 0.03, sRGB in [0, 1].
    """
    similarity = structural_similarity(
        prediction / 255.0,
        truth / 255.0,
        channel_axis=-1,
        data_range=1.0,
        gaussian_weights=True,
        sigma=SIGMA,
        use_sample_covariance=False,
        full=True,
    )[1]
    return similarity.mean(-1)


def ms_ssim(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Multi-scale structural similarity (Wang et al. 2003) of pictures (h, w, 3) uint8 sRGB, mean of the channels.

    Contrast and structure of every scale but the coarsest, whose SSIM it is; each half as large as the one before.
    Five scales fit pictures of 176 pixels and more. Smaller ones, as the demo's of 144, have as many as leave a window
    of 11 pixels, with the weights of these made to sum to one again.
    """
    a, b = prediction / 255.0, truth / 255.0
    scales = 1 + sum(min(a.shape[:2]) // 2**level >= 2 * REACH + 1 for level in range(1, len(SCALES)))
    weights = np.array(SCALES[:scales]) / sum(SCALES[:scales])
    result = np.ones(a.shape[-1])
    for level, weight in enumerate(weights):
        last = level == scales - 1
        similarity = np.maximum([_similarity(a[..., c], b[..., c], last) for c in range(a.shape[-1])], 0)
        result *= similarity**weight
        a, b = _halved(a), _halved(b)
    return float(result.mean())


def _similarity(a: np.ndarray, b: np.ndarray, luminance: bool) -> float:
    """Mean SSIM of two channels (h, w) where the window fits, or without its first factor, luminance."""

    def mean(values: np.ndarray) -> np.ndarray:
        smooth = gaussian_filter(values, SIGMA, radius=REACH)
        return smooth[REACH : len(smooth) - REACH, REACH : smooth.shape[1] - REACH]

    one, other = mean(a), mean(b)
    spread = mean(a * a) - one**2 + mean(b * b) - other**2
    result = (2 * (mean(a * b) - one * other) + K2**2) / (spread + K2**2)
    if luminance:
        result = result * (2 * one * other + K1**2) / (one**2 + other**2 + K1**2)
    return float(result.mean())


def _halved(picture: np.ndarray) -> np.ndarray:
    """Means (h // 2, w // 2, C) of squares of four pixels of (h, w, C)."""
    height, width = (side // 2 * 2 for side in picture.shape[:2])
    return picture[:height, :width].reshape(height // 2, 2, width // 2, 2, -1).mean((1, 3))


def flip_map(prediction: np.ndarray, truth: np.ndarray, pixels_per_degree: float) -> np.ndarray:
    """FLIP error per pixel (h, w) in [0, 1] for low dynamic range sRGB pictures (Andersson et al. 2020).

    `pixels_per_degree` of visual angle; 67 is a 0.7 m wide 4K screen seen from 0.7 m.
    """
    reference, test = (np.ascontiguousarray(picture / 255.0, np.float32) for picture in (truth, prediction))
    error, _, _ = flip_evaluator.evaluate(
        reference,
        test,
        "LDR",
        applyMagma=False,
        computeMeanError=False,
        parameters={"ppd": float(pixels_per_degree)},
    )
    return error[..., 0]


def figures(
    prediction: np.ndarray,
    truth: np.ndarray,
    head: np.ndarray,
    pixels_per_degree: float,
    regions: dict[str, np.ndarray] | None = None,
) -> dict[str, float]:
    """All figures of one picture; those ending in `_head` count the pixels of `head` (h, w) bool only.

    `prediction`, `truth` (h, w, 3) uint8 sRGB over white. SSIM and FLIP are computed on the whole frame and averaged
    where they count, so that no artificial edge enters at the mask. `regions` {name: (h, w) bool} get PSNR and FLIP
    each, if they hold a pixel.
    """
    similarity = ssim_map(prediction, truth)
    error = flip_map(prediction, truth, pixels_per_degree)
    result = {
        "psnr_head": psnr(prediction, truth, head),
        "psnr": psnr(prediction, truth),
        "ssim_head": float(similarity[head].mean()),
        "ssim": float(similarity.mean()),
        "ms_ssim": ms_ssim(prediction, truth),
        "flip_head": float(error[head].mean()),
        "flip": float(error.mean()),
    }
    for name, mask in (regions or {}).items():
        if mask.any():
            result |= {f"psnr_{name}": psnr(prediction, truth, mask), f"flip_{name}": float(error[mask].mean())}
    return result
