"""The page's controls: what is shown, when, and what the face does. What a stage has not made yet is greyed out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import viser

from pipeline.capture.curves import ARKIT
from pipeline.head.model.arkit import ArkitMap
from pipeline.motion.eyes import looked, weights_of
from pipeline.viewer.results import Results
from pipeline.viewer.surface import WAYS

DIRECTIONS = 6  # of the subject's own faces that get a slider
WIDEST = 3.0  # standard deviations
EYES = {  # degrees of both eyes; shares of each one
    "gaze to the left": (-35.0, 35.0),
    "gaze up": (-25.0, 25.0),
    "left lid shut": (0.0, 1.0),
    "right lid shut": (0.0, 1.0),
}
SHUT = [ARKIT.index(name) for name in ("eyeBlinkLeft", "eyeBlinkRight")]


@dataclass(frozen=True)
class Basis:
    """What sliders add to a code: ARKit's weights, None where the prior knows none, and the subject's own directions.

    `directions` (D, E) are one standard deviation of the subject's codes long, the largest first.
    """

    arkit: ArkitMap | None
    directions: np.ndarray

    @staticmethod
    def of(results: Results, arkit: ArkitMap | None, size: int) -> "Basis":
        """From all of the subject's own tracks."""
        tracks = [results.track(name) for name in results.sequences if "~" not in name]
        codes = [track["z_exp"] for track in tracks if track]
        if not codes or sum(map(len, codes)) < 2:
            return Basis(arkit, np.zeros((0, size)))
        every = np.concatenate(codes)
        _, strength, direction = np.linalg.svd(every - every.mean(0), full_matrices=False)
        deviation = strength / np.sqrt(len(every) - 1)
        kept = [i for i in range(min(DIRECTIONS, len(deviation))) if deviation[i] > 1e-6]
        return Basis(arkit, deviation[kept, None] * direction[kept])


def limited(value: object, low: float, high: float) -> float:
    """A number that came from a browser, within its bounds; what is no number is the lower bound."""
    if not isinstance(value, int | float) or not np.isfinite(value):
        return low
    return float(min(max(value, low), high))


class Controls:
    """The handles of everything that can be set; all clients share them."""

    def __init__(
        self,
        server: viser.ViserServer,
        results: Results,
        basis: Basis,
        has_head: bool,
        has_avatar: Callable[[], bool],
    ):
        gui, sequences = server.gui, results.sequences
        self._results, self._basis, self._gui = results, basis, gui
        self._needs: list[tuple[viser.GuiInputHandle, Callable[[], bool], str]] = []

        def have(kind: str) -> bool:
            return any(results.reel(kind, name) for name in results.sequences)

        def a_mesh() -> bool:
            return has_head or have("meshes")

        def check(label: str, there: Callable[[], bool], needs: str, initial: bool = True) -> viser.GuiCheckboxHandle:
            handle = gui.add_checkbox(label, initial and there())
            self._needs.append((handle, there, needs))
            return handle

        self.sequence = gui.add_dropdown("sequence", sequences or ["none"], disabled=not sequences)
        self.step = gui.add_slider("time step", 0, 1, 1, 0, disabled=not sequences)
        self.play = gui.add_checkbox("play", False, disabled=not sequences)
        with gui.add_folder("Show"):
            self.cameras = gui.add_checkbox("cameras", True)
            self.cloud = check("cloud", lambda: have("clouds"), "clouds/", initial=False)
            needs = "meshes/, or identity.safetensors and a head prior"
            self.mesh = check("mesh", a_mesh, needs)
            self.colour = gui.add_dropdown("mesh colour", WAYS)
            self._needs.append((self.colour, a_mesh, needs))
            needs = "avatar.safetensors, or a state that a training has saved, and a fitted head"
            self.avatar = check("avatar", lambda: has_head and has_avatar(), needs, initial=False)
        self.status = gui.add_markdown("")
        known = has_head and basis.arkit is not None
        self.eyes = self._sliders("Eyes", EYES, known)
        self.arkit = self._sliders("Face", dict.fromkeys(ARKIT, (0.0, 1.0)), known)
        names = [f"direction {number + 1}" for number in range(len(basis.directions))]
        self.directions = self._sliders(
            "The subject's own directions", dict.fromkeys(names, (-WIDEST, WIDEST)), has_head
        )
        self.reset = gui.add_button("face of the time step", disabled=not has_head)
        self.change_sequence()
        self.refresh()

    def refresh(self) -> None:
        """Grey out what is not there, and no more what has come since."""
        for handle, there, needs in self._needs:
            missing = not there()
            hint = f"nothing to show yet: needs {needs}" if missing else None
            if (handle.disabled, handle.hint) != (missing, hint):
                handle.disabled, handle.hint = missing, hint
        sequences = self._results.sequences
        if sequences and list(self.sequence.options) != sequences:
            self.sequence.options = sequences
            self.sequence.disabled = self.step.disabled = self.play.disabled = False
        if self.step.max != self._last_step():
            self.change_sequence()

    def _sliders(
        self, title: str, bounds: Mapping[str, tuple[float, float]], there: bool
    ) -> list[viser.GuiSliderHandle]:
        if not bounds:
            return []
        with self._gui.add_folder(title, expand_by_default=False):
            return [self._gui.add_slider(name, *ends, 0.01, 0.0, disabled=not there) for name, ends in bounds.items()]

    @property
    def sliders(self) -> list[viser.GuiSliderHandle]:
        """All sliders of the face."""
        return [*self.eyes, *self.arkit, *self.directions]

    def change_sequence(self) -> None:
        """Make the time line as long as the sequence."""
        last = self._results.steps(self.place()[0]) - 1
        self.step.max, self.step.value = self._last_step(), min(self.step.value, max(last, 0))

    def _last_step(self) -> int:
        """Of the sequence that is shown; a slider needs two places."""
        return max(self._results.steps(self.place()[0]) - 1, 1)

    def place(self) -> tuple[str, int]:
        """The sequence and the time step that are shown."""
        known = self._results.sequences
        name = self.sequence.value if self.sequence.value in known else (known[0] if known else "none")
        steps = self._results.steps(name)
        return name, int(limited(self.step.value, 0, max(steps - 1, 0)))

    def _weights(self) -> np.ndarray:
        """ARKit's weights (52,) of the sliders: what eyes do by their own ones comes on top."""
        weights = np.array([limited(slider.value, 0, 1) for slider in self.arkit])
        left, up, *shut = (limited(slider.value, *ends) for slider, ends in zip(self.eyes, EYES.values(), strict=True))
        weights += weights_of(np.radians([[left, up]] * 2))
        weights[SHUT] += shut
        return weights.clip(0, 1.5)

    def gaze(self) -> np.ndarray:
        """How far the sliders turn the eyes: (2, 2) radians to the left and up, the left eye first."""
        return looked(self._weights()).astype(np.float32)

    def added(self) -> np.ndarray | None:
        """What the sliders add to z_exp (E,); None while all of them are at rest."""
        weights = self._weights()
        along = np.array([limited(slider.value, -WIDEST, WIDEST) for slider in self.directions])
        if not weights.any() and not along.any():
            return None
        moved = along @ self._basis.directions if len(along) else np.zeros(self._basis.directions.shape[1])
        return moved + (self._basis.arkit.z_exp(weights) if self._basis.arkit else 0)
