"""How well a view's windows match its neighbours along the rays: zero-mean normalised cross-correlation, compiled.

Most of a cloud's time goes into this. Row by row in one pass it takes a fifth of what filters of whole pictures took,
and pixels beside the person cost nothing.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from pipeline.stereo.compiled import compiled

NOISE_VARIANCE = (2 / 255) ** 2  # of the pictures' grey values: windows without texture score near 0
BEND = 0.6  # of the curve that stands for a logarithm, see `evidence`

Way = tuple[np.ndarray, np.ndarray]


class Windows:
    """The square windows round every pixel of a reference picture, restricted to its person."""

    def __init__(self, grey: np.ndarray, person: np.ndarray, size: int):
        """`grey` (h, w) float32 in [0, 1], `person` (h, w) bool, `size` the windows' edge in pixels (odd)."""
        self.size = size
        self.middle = np.float32(grey[person].mean()) if person.any() else np.float32(0)
        self.spans = spans(person)
        self.weight = person.astype(np.float32)
        self.grey = (grey - self.middle) * self.weight
        share = 1 / np.maximum(self._sum(self.weight), 1)
        mean = self._sum(self.grey) * share
        variance = np.maximum(self._sum(self.grey * self.grey) * share - mean**2, 0)
        self.statistics = np.stack([share, mean, 1 / np.sqrt(variance + NOISE_VARIANCE)]).astype(np.float32)

    def _sum(self, picture: np.ndarray) -> np.ndarray:
        return cv2.boxFilter(picture, -1, (self.size, self.size), normalize=False, borderType=cv2.BORDER_CONSTANT)

    def scores(
        self, others: Sequence[np.ndarray], ways: Sequence[Way], depth: np.ndarray, offsets: np.ndarray
    ) -> np.ndarray:
        """ZNCC (n, k, h, w) float32 in [-1, 1] with the pictures (H, W) float32 of n neighbours.

        They are warped by the surface `depth` (h, w) moved by each of `offsets` (k,), float32 metres along z; `ways`
        are those of `neighbour_from_reference`. -1 left and right of the person.
        """
        result = np.full((len(others), len(offsets), *self.grey.shape), -1, np.float32)
        for other, way, scores in zip(others, ways, result, strict=True):
            self._score(other, way, depth, offsets, scores)
        return result

    def nats(
        self, others: Sequence[np.ndarray], ways: Sequence[Way], depth: np.ndarray, offsets: np.ndarray
    ) -> np.ndarray:
        """The `evidence` (k, h, w) float32 of `scores`, with room for one neighbour's scores at a time."""
        result, scores = np.zeros((2, len(offsets), *self.grey.shape), np.float32)
        for other, way in zip(others, ways, strict=True):
            self._score(other, way, depth, offsets, scores)
            evidence(scores, self.spans, result)
        return result

    def _score(self, other: np.ndarray, way: Way, depth: np.ndarray, offsets: np.ndarray, scores: np.ndarray) -> None:
        matrix, vector = (part.astype(np.float32) for part in way)
        _correlate(
            self.grey, self.weight, self.spans, self.statistics, self.size, self.middle,
            other, matrix, vector, depth, offsets.astype(np.float32), scores,
        )  # fmt: skip


def spans(person: np.ndarray) -> np.ndarray:
    """First column of the person in every row and the one after the last, (h, 2) int64; equal where there is none."""
    first = person.argmax(1)
    end = person.shape[1] - person[:, ::-1].argmax(1)
    return np.stack([first, np.where(person.any(1), end, first)], -1)


@compiled
def _warp(y, first, end, matrix, vector, depth, offset, picture, place, right, down):
    """Where the pixels of row y from column `first` to `end` lie in a neighbour's `picture`, edges repeated.

    Sets `place` of the sample above to the left in the flat picture, how far `right` and `down` of it, (w,) each.
    """
    height, width = picture.shape
    a, b, c = matrix[0, 0], matrix[1, 0], matrix[2, 0]
    row = np.float32(y + 0.5)
    along_u = matrix[0, 1] * row + matrix[0, 2]
    along_v = matrix[1, 1] * row + matrix[1, 2]
    along_w = matrix[2, 1] * row + matrix[2, 2]
    p, q, r = vector[0], vector[1], vector[2]
    half, none = np.float32(0.5), np.float32(0)
    last_u, last_v = np.float32(width - 1), np.float32(height - 1)
    last_left, last_top = np.float32(width - 2), np.float32(height - 2)
    for x in range(first, end):
        column, z = np.float32(np.int32(x)) + half, depth[y, x] + offset
        w = np.float32(1) / (z * (c * column + along_w) + r)
        u = (z * (a * column + along_u) + p) * w - half
        v = (z * (b * column + along_v) + q) * w - half
        u = u if u > none else none  # also where it is no number
        v = v if v > none else none
        u = u if u < last_u else last_u
        v = v if v < last_v else last_v
        left, top = np.floor(u), np.floor(v)
        left = left if left < last_left else last_left
        top = top if top < last_top else last_top
        right[x], down[x] = u - left, v - top
        place[x] = np.int32(top) * np.int32(width) + np.int32(left)


@compiled
def _correlate(grey, weight, spans, statistics, size, middle, other, matrix, vector, depth, offsets, result):
    """Scores (k, h, w): sums of the last `size` rows are kept in every column, and of those the windows' are taken."""
    height, width = grey.shape
    half = size // 2
    # the last rows of the neighbour within the person, their squares, their products with the reference
    rows = np.zeros((3, size, width), np.float32)
    columns = np.zeros((3, width + 2 * half), np.float32)
    sums = np.zeros((3, width), np.float32)
    place = np.zeros(width, np.int32)
    right, down = np.zeros(width, np.float32), np.zeros(width, np.float32)
    flat = other.reshape(-1)
    one, below, none = np.uint64(1), np.uint64(other.shape[1]), np.float32(0)
    reach, whole, edge = np.uint64(half), np.uint64(width), np.uint64(size)
    noise = np.float32(NOISE_VARIANCE)
    for k in range(len(offsets)):
        rows[:] = 0
        columns[:] = 0
        for y in range(height + half):
            slot = y % size
            for q in range(3):
                for x in range(whole):
                    columns[q, x + reach] -= rows[q, slot, x]
                    rows[q, slot, x] = none
            if y < height and spans[y, 0] < spans[y, 1]:
                first, end = np.uint64(spans[y, 0]), np.uint64(spans[y, 1])
                _warp(y, first, end, matrix, vector, depth, offsets[k], other, place, right, down)
                for x in range(first, end):
                    at = np.uint64(np.uint32(place[x]))
                    top = flat[at] + right[x] * (flat[at + one] - flat[at])
                    bottom = flat[at + below] + right[x] * (flat[at + below + one] - flat[at + below])
                    found = (top + down[x] * (bottom - top) - middle) * weight[y, x]
                    rows[0, slot, x] = found
                    rows[1, slot, x] = found * found
                    rows[2, slot, x] = found * grey[y, x]
                for q in range(3):
                    for x in range(first, end):
                        columns[q, x + reach] += rows[q, slot, x]
            centre = y - half
            if centre >= 0 and spans[centre, 0] < spans[centre, 1]:
                first, end = np.uint64(spans[centre, 0]), np.uint64(spans[centre, 1])
                for q in range(3):
                    for x in range(first, end):
                        sums[q, x] = columns[q, x]
                    for shift in range(one, edge):
                        for x in range(first, end):
                            sums[q, x] += columns[q, x + shift]
                for x in range(first, end):
                    share = statistics[0, centre, x]
                    mean = sums[0, x] * share
                    variance = max(sums[1, x] * share - mean * mean, none) + noise
                    covariance = sums[2, x] * share - mean * statistics[1, centre, x]
                    result[k, centre, x] = covariance * statistics[2, centre, x] / np.sqrt(variance)


@compiled
def evidence(scores, spans, result):
    """Add what a neighbour's scores r (k, h, w) say for each offset, in nats per pixel, to `result` (k, h, w).

    That is -log(1 - r^2) / 2 within the person's spans, nothing where r is negative.

    The logarithm of how much likelier two windows are as pictures of one thing than of two. A neighbour that does not
    see the place has little to say, wherever it is asked. In place of -log(1 - r^2) stands r^2 / (1 - 0.6 r^2), within
    a sixth of it up to r = 0.95 and bounded beyond.
    """
    offsets, height, _ = scores.shape
    none, half, bend, one = np.float32(0), np.float32(0.5), np.float32(BEND), np.float32(1)
    for k in range(offsets):
        for y in range(height):
            for x in range(np.uint64(spans[y, 0]), np.uint64(spans[y, 1])):
                r = max(scores[k, y, x], none)
                square = r * r
                result[k, y, x] += half * square / (one - bend * square)


@compiled
def peak(likelihoods, prior, precision, spans, bound):
    """Place of the maximum along axis 0 of `likelihoods` (k, h, w) in nats, an index with a fraction, and its inverse
    variance, (h, w) float32 each, 0 beside the person.

    The place `prior` (h, w) is preferred, as by a normal distribution of inverse variance `precision` (h, w), but by no
    more than `bound` nats. A parabola through the maximum and its two neighbours gives fraction and variance; at either
    end there is no fraction.
    """
    offsets, height, width = likelihoods.shape
    places, precisions = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
    around = np.empty(offsets, np.float32)
    one, half, limit = np.float32(1), np.float32(0.5), np.float32(bound)
    for y in range(height):
        for x in range(np.uint64(spans[y, 0]), np.uint64(spans[y, 1])):
            at = 0
            for k in range(offsets):
                off = np.float32(k) - prior[y, x]
                cost = half * precision[y, x] * off * off
                around[k] = likelihoods[k, y, x] - cost * limit / (cost + limit)
                if around[k] > around[at]:
                    at = k
            middle = min(max(at, 1), offsets - 2)
            left, centre, right = around[middle - 1], around[middle], around[middle + 1]
            curvature = max(2 * centre - left - right, np.float32(1e-6))
            places[y, x] = at
            if at == middle:
                places[y, x] += min(max((right - left) / (2 * curvature), -one), one)
            precisions[y, x] = curvature
    return places, precisions
