"""Fitting the head prior to clouds: frame after frame under one identity, and the identity on key frames."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from pipeline.cameras.rig import Rig
from pipeline.errors import DataError
from pipeline.evenly import evenly
from pipeline.head.fit.alignment import first_head
from pipeline.head.fit.clouds import Clouds, Frame
from pipeline.head.fit.free_space import free_points
from pipeline.head.fit.least_squares.lids import USED, seen_gaps
from pipeline.head.fit.least_squares.residuals import Heads, Linearised, Samples, draw, join
from pipeline.head.fit.least_squares.solver import Free, Schedule, levenberg, millimetres
from pipeline.head.model import pose
from pipeline.head.model.face import BROWS, on_face
from pipeline.head.model.prior import HeadPrior
from pipeline.settings.fit_identity import FitIdentitySettings
from pipeline.settings.fit_sequence import FitSequenceSettings

CANDIDATES = 3  # times as many frames are tracked as become key frames
# A fit is judged by the face where so many of a frame's points lie on it: a prior's scalp is centimetres from long hair
FEWEST_ON_FACE = 0.05


@dataclass(frozen=True)
class Fitter:
    """What does not change from frame to frame: `points` of a cloud, `eye_density` times as densely round the eyes, and
    `free` points outside its silhouettes count; a frame whose median distance on the face exceeds `bad_mm` is lost;
    `seed` is that of the draws. Landmarks say where to begin; with `landmarks` they count in every step too, with
    `lids` those of the lids by the gaps between them."""

    prior: HeadPrior
    rig: Rig
    schedule: Schedule
    points: int
    eye_density: float
    free: int
    bad_mm: float
    seed: int
    landmarks: bool = True
    lids: bool = False

    @classmethod
    def of(
        cls,
        prior: HeadPrior,
        rig: Rig,
        settings: FitIdentitySettings | FitSequenceSettings,
        landmarks: bool = True,
        lids: bool = False,
    ) -> "Fitter":
        """The fitter that the settings of fit_identity or of fit_sequence ask for."""
        schedule = Schedule(
            settings.widest_mm,
            settings.narrowest_mm,
            settings.steps,
            settings.worth,
            landmark_mm=settings.landmark_mm,
            lid_mm=settings.lid_mm,
        )
        drawn = settings.points, settings.eye_density, settings.free
        return cls(prior, rig, schedule, *drawn, settings.bad_mm, settings.seed, landmarks, lids)

    def samples(self, frame: Frame, heads: Heads) -> Samples:
        """What a frame is fitted to, drawn round a guess of its head."""
        seed = self.seed + frame.step
        cloud = frame.points, frame.normals, heads.head_from_world[0]
        surface = draw(*cloud, self.prior, self.points, seed, self.eye_density)
        free = free_points(self.prior, self.rig, frame.alpha, frame.points, heads, self.free, seed)
        samples = surface.with_free(free[None])
        if self.landmarks:
            samples = replace(samples, landmarks=frame.landmarks[None].copy())
        if self.lids:
            samples.landmarks[:, USED] = np.nan
            samples = replace(samples, gaps=seen_gaps(frame.landmarks[None]))
        return samples


@dataclass(frozen=True)
class Tracked:
    """A fitted frame: its head, what it was fitted to, and the median distance of the face in millimetres."""

    heads: Heads
    samples: Samples
    median_mm: float


def face_median_mm(heads: Heads, samples: Samples, linear: Linearised) -> np.ndarray:
    """Median distances (F,) between points and surface in millimetres, on the face under the brows; over the whole head
    in a frame that has hardly a point there."""
    surface = samples.points[:, : linear.surface]
    face = on_face(pose.apply(heads.head_from_world, surface), BROWS)  # (F, P)
    face[face.mean(1) < FEWEST_ON_FACE] = True
    return np.nanmedian(np.where(face, millimetres(heads, linear), np.nan), axis=1)


def follow(
    fitter: Fitter, identity: np.ndarray, frames: Iterable[Frame], before: Heads | None = None
) -> Iterator[Tracked]:
    """Expression and pose of frames in order under an identity (I,), each from the one before.

    The first frame starts from `before`; where there is none, it is sought from where the cameras stand, and so is a
    frame that is lost. Raises DataError naming a frame whose cloud holds no head.
    """
    for frame in frames:
        (tracked,) = fit_beside(fitter, identity, [frame], [before])
        before = tracked.heads
        yield tracked


def fit_beside(
    fitter: Fitter, identity: np.ndarray, frames: Sequence[Frame], before: Sequence[Heads | None]
) -> list[Tracked]:
    """Frames that do not depend on each other, as one batch, each from the head before it, as in `follow`."""
    begun = {i: heads for i, heads in enumerate(before) if heads is not None}
    known, starts = [frames[i] for i in begun], list(begun.values())
    found = dict(zip(begun, _fit(fitter, known, starts, fitter.schedule) if begun else [], strict=True))
    for i, frame in enumerate(frames):
        if i not in found or found[i].median_mm > fitter.bad_mm:
            anew = _fit_anew(fitter, frame, identity)
            found[i] = min(found.get(i, anew), anew, key=lambda one: one.median_mm)
    return [found[i] for i in range(len(frames))]


def seek(fitter: Fitter, frame: Frame, identity: np.ndarray) -> Heads:
    """The head of a frame, with an identity of its own, sought from identity weights (I,)."""
    seed = fitter.seed + frame.step
    return first_head(fitter.prior, fitter.rig, identity, frame, seed)


def _fit_anew(fitter: Fitter, frame: Frame, identity: np.ndarray) -> Tracked:
    schedule = replace(fitter.schedule, widest=4 * fitter.schedule.widest, steps=2 * fitter.schedule.steps)
    with _naming(frame):
        found = seek(fitter, frame, identity)
    start = Heads(identity, np.zeros_like(found.expression), found.head_from_world)
    return _fit(fitter, [frame], [start], schedule)[0]


def _fit(fitter: Fitter, frames: Sequence[Frame], starts: Sequence[Heads], schedule: Schedule) -> list[Tracked]:
    drawn = []
    for frame, start in zip(frames, starts, strict=True):
        with _naming(frame):
            drawn.append(fitter.samples(frame, start))
    samples = join(drawn)
    with _naming(*frames):
        heads, linear = levenberg(fitter.prior, together(starts), samples, schedule, Free())
    medians = face_median_mm(heads, samples, linear)
    parts = zip(drawn, medians, strict=True)
    return [Tracked(heads.frames([i]), own, float(median)) for i, (own, median) in enumerate(parts)]


@contextmanager
def _naming(*frames: Frame) -> Iterator[None]:
    """Errors name the frame, or those of the batch."""
    try:
        yield
    except DataError as error:
        if len(frames) == 1:
            raise frames[0].named(error) from error
        steps = ", ".join(str(frame.step) for frame in frames)
        raise DataError(f"one of the steps {steps} of {frames[0].sequence}: {error}") from error


def candidates(sequences: list[Clouds], count: int) -> list[tuple[Clouds, int]]:
    """`count` steps spread evenly over all sequences laid end to end (fewer when there are fewer steps)."""
    steps = [(clouds, step) for clouds in sequences for step in range(len(clouds))]
    return [steps[i] for i in evenly(len(steps), count)]


def spread(expression: np.ndarray, count: int) -> np.ndarray:
    """Rows of (N, J), sorted: the one nearest to the mean face, then time and again the one farthest from all chosen.

    Gonzalez 1985, Clustering to minimize the maximum intercluster distance.
    """
    chosen = [int(np.argmin((expression**2).sum(-1)))]
    nearest = np.full(len(expression), np.inf)
    while len(chosen) < min(count, len(expression)):
        nearest = np.minimum(nearest, ((expression - expression[chosen[-1]]) ** 2).sum(-1))
        chosen.append(int(np.argmax(nearest)))
    return np.sort(chosen)


def fit_identity(fitter: Fitter, sequences: list[Clouds], key_frames: int) -> tuple[Heads, np.ndarray, list[str]]:
    """The heads (one identity, a pose and an expression per key frame), their median distances on the face (F,) in
    millimetres and the key frames' names.

    Frames spread over time are tracked under the identity that meets the first of them; key frames are those of them
    that differ most in expression, lost ones apart. Their identity is fitted from the average head. Raises DataError
    naming a frame whose cloud holds no head.
    """
    frames = candidates(sequences, CANDIDATES * key_frames)
    for clouds in sequences:
        clouds.require_filled(step for source, step in frames if source is clouds)
    first = frames[0][0].frame(frames[0][1])
    mean = np.zeros(fitter.prior.config.identity_modes)
    with _naming(first):
        guess = seek(fitter, first, mean)
    quick = replace(fitter, schedule=replace(fitter.schedule, steps=-(-fitter.schedule.steps // 2)))
    tracked = list(follow(quick, guess.identity, (clouds.frame(step) for clouds, step in frames), guess))
    limit = max(fitter.bad_mm, float(np.median([one.median_mm for one in tracked])))
    good = [i for i, one in enumerate(tracked) if one.median_mm <= limit]
    chosen = [good[i] for i in spread(np.concatenate([tracked[i].heads.expression for i in good]), key_frames)]
    heads, samples = together([tracked[i].heads for i in chosen]), join([tracked[i].samples for i in chosen])
    # From the average head: what met one frame alone may lie where the fit of all does not find back from (904: 11 of
    # 100 weights' standard deviations off the truth instead of 6, eyes 3 mm too high)
    heads = replace(heads, identity=mean)
    heads, linear = levenberg(fitter.prior, heads, samples, fitter.schedule, Free(identity=True))
    return heads, face_median_mm(heads, samples, linear), [f"{frames[i][0].sequence}:{frames[i][1]}" for i in chosen]


def together(parts: Sequence[Heads]) -> Heads:
    """The heads of several frames of one identity as one batch."""
    expression = np.concatenate([part.expression for part in parts])
    return Heads(parts[0].identity, expression, np.concatenate([part.head_from_world for part in parts]))
