"""What face networks see of a predicted picture and of the true one: where the landmarks lie, and whose face it is."""

import hashlib
from pathlib import Path

import cv2
import numpy as np

from pipeline.detect.look import Seen, Watcher
from pipeline.detect.network import cut
from pipeline.detect.points import IBUG
from pipeline.errors import DataError

SIDE = 512  # pixels of the longer side of the pictures in which AKD counts pixels, as the paper's are
KEPT = 4096  # pictures whose faces are remembered: each true one is asked for once per method
# Where a face embedding of ArcFace's kind expects both eyes, the nose and both corners of the mouth, from the picture's
# left to its right, in its input of 112 pixels; and which of the 468 points these are, the eyes by their corners.
INPUT = 112
PLACES = np.array([[38.29, 51.70], [73.53, 51.50], [56.03, 71.74], [41.55, 92.37], [70.73, 92.20]])
POINTS = ((33, 133), (362, 263), (4,), (61,), (291,))


COLOURS = {"centred": (2.0, -1.0), "bytes": (255.0, 0.0)}  # what 0..1 is multiplied by, and what is added
BLIND = 10  # a network whose answers differ so many times less than under the other colours cannot tell faces apart


class Embedding:
    """A network that says whose face a picture of 112x112 shows, as a vector: an ONNX file, run by OpenCV.

    `colours` names what it reads. To one that brings bytes into its range itself, colours from -1 to 1 are a grey
    square: all faces would be the same.
    """

    def __init__(self, path: Path, colours: str = "centred"):
        """Raises DataError naming the file when OpenCV cannot read it, or when it reads other colours."""
        self.colours = colours
        try:
            self._net = cv2.dnn.readNetFromONNX(str(path))
            self.of(np.zeros((INPUT, INPUT, 3), np.float32))
        except cv2.error as error:
            what = str(error).strip().splitlines()[0]
            raise DataError(f"{path}: not an ONNX network of one {INPUT}x{INPUT} face ({what})") from None
        (other,) = COLOURS.keys() - {colours}
        found, instead = self._spread(colours), self._spread(other)
        if BLIND * found < instead:
            raise DataError(
                f"{path}: three pictures differ by {found:.2g} to it when colours are {colours}, by {instead:.2g} when "
                f"they are {other}; expected evaluate.face_colours {other}"
            )

    def _spread(self, colours: str) -> float:
        """One minus the cosine between its vectors of three smooth pictures, in the mean."""
        noise = np.random.default_rng(0).random((3, 4, 4, 3), np.float32)
        vectors = np.stack([self._vector(cv2.resize(one, (INPUT, INPUT)), colours) for one in noise])
        return float(1 - (vectors @ vectors.T)[np.triu_indices(3, 1)].mean())

    def of(self, face: np.ndarray) -> np.ndarray:
        """The unit vector (E,) of a picture (112, 112, 3) float32 in [0, 1]."""
        return self._vector(face, self.colours)

    def _vector(self, face: np.ndarray, colours: str) -> np.ndarray:
        scale, shift = COLOURS[colours]
        self._net.setInput((scale * face + shift).transpose(2, 0, 1)[None])
        vector = self._net.forward().reshape(-1).astype(np.float64)
        return vector / max(float(np.linalg.norm(vector)), 1e-12)


class Faces:
    """Figures of faces; a face is found where the networks of `detect` see one."""

    def __init__(self, models: str | None = None, embedding: Embedding | None = None):
        self._models, self._embedding = models, embedding
        self._known: dict[bytes, tuple[Seen, np.ndarray | None]] = {}

    def figures(self, prediction: np.ndarray, truth: np.ndarray, _: np.ndarray) -> dict[str, float]:
        """Of pictures (h, w, 3) uint8 in whose middle the head is; none where the true one shows the networks no face.

        `face_found`: 1 where they see one in the prediction too, else 0. Then also `akd`, the mean distance of 51
        landmarks in pixels of a picture whose longer side has 512, and `csim`, the cosine of both faces' embeddings.
        """
        real, who = self._look(truth)
        if not real.score:
            return {}
        found, other = self._look(prediction)
        if not found.score:
            return {"face_found": 0.0}
        apart = np.linalg.norm((found.points - real.points)[list(IBUG)], axis=-1).mean()
        result = {"face_found": 1.0, "akd": float(apart) * SIDE / max(truth.shape[:2])}
        return result if who is None or other is None else result | {"csim": float(who @ other)}

    def _look(self, picture: np.ndarray) -> tuple[Seen, np.ndarray | None]:
        key = hashlib.blake2b(picture.tobytes(), digest_size=16).digest()
        if key not in self._known:
            if len(self._known) >= KEPT:
                self._known.pop(next(iter(self._known)))
            height, width = picture.shape[:2]
            seen = Watcher(np.array([width, height]) / 2, self._models).look(picture)
            who = None
            if self._embedding is not None and seen.score > 0:
                who = self._embedding.of(upright(picture, seen.points))
            self._known[key] = seen, who
        return self._known[key]


def upright(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The face (112, 112, 3) float32 in [0, 1] that lies where an embedding expects it, by its points (468, 2)."""
    marks = np.stack([points[list(which)].mean(0) for which in POINTS])
    return cut(picture, similarity(PLACES / INPUT, marks), INPUT)


def similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`b_from_a` (2, 3): the turn, scale and move that bring points a (N, 2) nearest to b (N, 2)."""
    # least squares of two complex numbers: the turn with its scale, and the move
    x, y = a @ [1, 1j], b @ [1, 1j]
    turn = np.vdot(x - x.mean(), y - y.mean()) / np.vdot(x - x.mean(), x - x.mean())
    move = y.mean() - turn * x.mean()
    return np.array([[turn.real, -turn.imag, move.real], [turn.imag, turn.real, move.imag]])
