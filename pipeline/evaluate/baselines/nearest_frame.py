"""The baseline that shows the nearest training picture: closest expression, then closest view of the head."""

import numpy as np

from pipeline.evaluate.footage import Footage


class NearestFrame:
    """Answers with a training picture as it is; held-out cameras and sequences are never opened.

    The step is the training step whose z_exp is nearest (Euclidean). The camera is the training camera that saw the
    head of that step from the direction nearest to the asked one, both directions in head space, so that a turned head
    is matched by a camera to its side.
    """

    def __init__(self, footage: Footage):
        self._footage = footage
        self._steps = [
            (sequence, step)
            for sequence in footage.training_sequences
            for step in range(footage.targets[sequence].steps)
        ]
        self._z_exp = np.stack([footage.tracks[sequence].z_exp[step] for sequence, step in self._steps])

    def choose(self, sequence: str, step: int, camera: str) -> tuple[str, int, str]:
        """(training sequence, step, training camera) that stands in for the asked picture."""
        distance = np.linalg.norm(self._z_exp - self._footage.tracks[sequence].z_exp[step], axis=1)
        nearest = self._steps[int(distance.argmin())]
        asked = self._view(sequence, step, camera)
        cameras = self._footage.training_cameras
        likeness = [self._view(*nearest, candidate) @ asked for candidate in cameras]
        return *nearest, cameras[int(np.argmax(likeness))]

    def picture(self, sequence: str, step: int, camera: str) -> np.ndarray:
        """The nearest training picture (h, w, 3) uint8 sRGB over white."""
        return self._footage.target(*self.choose(sequence, step, camera))

    def _view(self, sequence: str, step: int, camera: str) -> np.ndarray:
        """Unit vector (3,) from the head's origin to the camera, head space."""
        rig = self._footage.rig
        head_from_world = self._footage.tracks[sequence].head_from_world[step]
        position = head_from_world[:3, :3] @ rig.cameras[rig.index(camera)].centre + head_from_world[:3, 3]
        return position / np.linalg.norm(position)
