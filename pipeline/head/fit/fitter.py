"""Fitting the head prior to clouds: one identity on key frames, then expression and pose through a sequence."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np
from pydantic import BaseModel

from pipeline.cameras.rig import Rig
from pipeline.errors import DataError
from pipeline.evenly import evenly
from pipeline.head.fit.alignment import first_head
from pipeline.head.fit.blink import shut_lids, usual_slopes
from pipeline.head.fit.clouds import Clouds, Frame
from pipeline.head.fit.free_space import free_points
from pipeline.head.fit.lids import USED, seen_gaps
from pipeline.head.fit.residuals import Heads, Linearised, Samples, draw, join, linearise
from pipeline.head.fit.solver import Free, Point, Schedule, levenberg, normal_equations, smooth_step
from pipeline.head.model import pose
from pipeline.head.model.face import BROWS, on_face
from pipeline.head.model.prior import HeadPrior
from pipeline.workers import Map

# A joint step that makes a frame so many times as dear has overshot there, as it does where lids touch: the frame stays
DEARER = 1.1
CANDIDATES = 3  # times as many frames are tracked as become key frames
# A fit is judged by the face where so many of a frame's points lie on it: a prior's scalp is centimetres from long hair
FEWEST_ON_FACE = 0.05


@dataclass(frozen=True)
class Fitter:
    """What does not change from frame to frame: `points` of a cloud, `eye_density` times as densely round the eyes, and
    `free` points outside its silhouettes count; a frame whose median distance on the face exceeds `bad_mm` is lost;
    `seed` is that of the draws. Landmarks say where to begin; with `landmarks` they count in every step too;
    `lid_bias` (4,), metres, is how much wider a detector sees the gaps between lids, None where these do not count."""

    prior: HeadPrior
    rig: Rig
    schedule: Schedule
    points: int
    eye_density: float
    free: int
    bad_mm: float
    seed: int
    landmarks: bool = True
    lid_bias: np.ndarray | None = None

    @classmethod
    def of(
        cls,
        prior: HeadPrior,
        rig: Rig,
        settings: BaseModel,
        landmarks: bool = True,
        lid_bias: np.ndarray | None = None,
    ) -> "Fitter":
        """The fitter that the settings of fit_identity or of fit_sequence ask for."""
        schedule = Schedule(
            settings.widest_mm,
            settings.narrowest_mm,
            settings.steps,
            settings.worth,
            landmark_mm=settings.landmark_mm,
            **({} if lid_bias is None else {"lid_mm": settings.lid_mm}),
        )
        drawn = settings.points, settings.eye_density, settings.free
        return cls(prior, rig, schedule, *drawn, settings.bad_mm, settings.seed, landmarks, lid_bias)

    def samples(self, frame: Frame, heads: Heads) -> Samples:
        """What a frame is fitted to, drawn round a guess of its head."""
        seed = self.seed + frame.step
        cloud = frame.points, frame.normals, heads.head_from_world[0]
        surface = draw(*cloud, self.prior, self.points, seed, self.eye_density)
        free = free_points(self.prior, self.rig, frame.alpha, frame.points, heads, self.free, seed)
        samples = surface.with_free(free[None])
        if self.landmarks:
            samples = replace(samples, landmarks=frame.landmarks[None].copy())
        if self.lid_bias is not None:
            samples.landmarks[:, USED] = np.nan  # lids count by their gaps
            samples = replace(samples, gaps=seen_gaps(frame.landmarks[None]) - self.lid_bias)
        return samples


@dataclass(frozen=True)
class Tracked:
    """A fitted frame: its head, what it was fitted to, and the median distance of the face in millimetres."""

    heads: Heads
    samples: Samples
    median_mm: float


def millimetres(heads: Heads, linear: Linearised) -> np.ndarray:
    """Unsigned distances (F, P) in millimetres."""
    return np.abs(linear.distance) * 1e3 / pose.scale_of(heads.head_from_world)[:, None]


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
        try:
            tracked = None if before is None else _fit(fitter, frame, before, fitter.schedule)
            if tracked is None or tracked.median_mm > fitter.bad_mm:
                anew = _fit_anew(fitter, frame, identity)
                tracked = min(tracked or anew, anew, key=lambda one: one.median_mm)
        except DataError as error:
            raise frame.named(error) from error
        before = tracked.heads
        yield tracked


def seek(fitter: Fitter, frame: Frame, identity: np.ndarray) -> Heads:
    """The head of a frame, with an identity of its own, sought from identity weights (I,)."""
    seed = fitter.seed + frame.step
    return first_head(fitter.prior, fitter.rig, identity, frame, seed)


def _fit_anew(fitter: Fitter, frame: Frame, identity: np.ndarray) -> Tracked:
    schedule = replace(fitter.schedule, widest=4 * fitter.schedule.widest, steps=2 * fitter.schedule.steps)
    found = seek(fitter, frame, identity)
    return _fit(fitter, frame, Heads(identity, np.zeros_like(found.expression), found.head_from_world), schedule)


def _fit(fitter: Fitter, frame: Frame, start: Heads, schedule: Schedule) -> Tracked:
    samples = fitter.samples(frame, start)
    heads, linear = levenberg(fitter.prior, start, samples, schedule, Free())
    return Tracked(heads, samples, float(face_median_mm(heads, samples, linear)[0]))


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
    that differ most in expression, lost ones apart. Raises DataError naming a frame whose cloud holds no head.
    """
    frames = candidates(sequences, CANDIDATES * key_frames)
    first = frames[0][0].frame(frames[0][1])
    mean = np.zeros(fitter.prior.config.identity_modes)
    try:
        guess = seek(fitter, first, mean)
    except DataError as error:
        raise first.named(error) from error
    quick = replace(fitter, schedule=replace(fitter.schedule, steps=-(-fitter.schedule.steps // 2)))
    tracked = list(follow(quick, guess.identity, (clouds.frame(step) for clouds, step in frames), guess))
    limit = max(fitter.bad_mm, float(np.median([one.median_mm for one in tracked])))
    good = [i for i, one in enumerate(tracked) if one.median_mm <= limit]
    chosen = [good[i] for i in spread(np.concatenate([tracked[i].heads.expression for i in good]), key_frames)]
    heads, samples = _together([tracked[i] for i in chosen]), join([tracked[i].samples for i in chosen])
    heads, linear = levenberg(fitter.prior, heads, samples, fitter.schedule, Free(identity=True))
    return heads, face_median_mm(heads, samples, linear), [f"{frames[i][0].sequence}:{frames[i][1]}" for i in chosen]


def _together(tracked: list[Tracked]) -> Heads:
    """The heads of several frames of one identity as one batch."""
    parts = [(one.heads.expression, one.heads.head_from_world) for one in tracked]
    return Heads(tracked[0].heads.identity, *(np.concatenate(part) for part in zip(*parts, strict=True)))


@dataclass(frozen=True)
class Smoothness:
    """Standard deviations of second differences between time steps: expression weights, rotation (degrees),
    translation (millimetres); `sweeps` joint steps over the whole sequence."""

    expression: float
    degrees: float
    millimetres: float
    sweeps: int

    def stiffness(self, modes: int, scale: float) -> np.ndarray:
        """(6 + J,) weights of squared second differences."""
        deviation = np.concatenate(
            [
                np.full(3, np.radians(self.degrees)),
                np.full(3, self.millimetres * scale / 1e3),
                np.full(modes, self.expression),
            ]
        )
        return 1 / deviation**2


def fit_sequence(
    fitter: Fitter, identity: np.ndarray, clouds: Clouds, window: int, smoothness: Smoothness, run: Map
) -> tuple[Heads, np.ndarray]:
    """Heads of every time step of one sequence and the median distance (T,) of their faces in millimetres.

    `identity` (I,) weights. Windows of `window` steps are tracked independently, as `run` maps them; then joint steps
    over all frames make the track smooth across them too. Raises DataError naming a step whose cloud holds no head.
    """
    edges = [*range(0, len(clouds), window), len(clouds)]
    windows = [range(*edge) for edge in pairwise(edges)]
    tracked = list(run(partial(_follow_window, fitter, identity, clouds), windows))
    samples = [join([one.samples for one in part]) for part in tracked]
    heads = _together([one for part in tracked for one in part])
    scale = float(pose.scale_of(heads.head_from_world)[0])
    stiffness = smoothness.stiffness(heads.expression.shape[1], scale)

    def parts(heads: Heads) -> list[tuple[Heads, Samples]]:
        return [(heads.frames(slice(w.start, w.stop)), part) for w, part in zip(windows, samples, strict=True)]

    def energies(heads: Heads) -> np.ndarray:
        return np.concatenate(list(run(partial(_energies, fitter), parts(heads))))

    energy = energies(heads)

    for _ in range(smoothness.sweeps):
        blocks = zip(*run(partial(_equations, fitter), parts(heads)), strict=True)
        moved = heads.moved(smooth_step(*(np.concatenate(block) for block in blocks), heads, stiffness), None)
        after = energies(moved)
        worse = after > DEARER * energy
        heads, energy = heads.instead(moved, ~worse), np.where(worse, energy, after)
    heads = replace(heads, expression=np.concatenate(list(run(partial(_with_lids, fitter), parts(heads)))))
    return heads, np.concatenate(list(run(partial(_medians, fitter.prior), parts(heads))))


def _follow_window(fitter: Fitter, identity: np.ndarray, clouds: Clouds, steps: range) -> list[Tracked]:
    return list(follow(fitter, identity, (clouds.frame(step) for step in steps)))


def _frame_by_frame(heads: Heads, samples: Samples) -> Iterator[tuple[Heads, Samples]]:
    """One frame at a time: its derivatives take megabytes."""
    return ((heads.frames([t]), samples.frames([t])) for t in range(len(samples.points)))


def _point(fitter: Fitter, heads: Heads, samples: Samples) -> tuple[Point, np.ndarray]:
    """A frame's residuals and the narrowest robust width (1,)."""
    width = np.array([fitter.schedule.narrowest * float(pose.scale_of(heads.head_from_world)[0]) / 1e3])
    return Point(heads, linearise(fitter.prior, heads, samples, False)), width


def _energies(fitter: Fitter, part: tuple[Heads, Samples]) -> list[float]:
    """Energies (T,) of a window's frames at the narrowest robust width."""
    found = (_point(fitter, heads, samples) for heads, samples in _frame_by_frame(*part))
    return [float(point.energy(width, fitter.schedule)[0]) for point, width in found]


def _equations(fitter: Fitter, part: tuple[Heads, Samples]) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Newton matrices (T, n, n) and right sides (T, n) of a window's frames at the narrowest robust width."""
    blocks = []
    for heads, samples in _frame_by_frame(*part):
        point, width = _point(fitter, heads, samples)
        blocks.append(normal_equations(point, width, fitter.schedule, Free())[:2])
    matrix, right = zip(*blocks, strict=True)
    return np.concatenate(matrix), np.concatenate(right)


def _with_lids(fitter: Fitter, part: tuple[Heads, Samples]) -> np.ndarray:
    """Expressions (T, J) of a window's frames after the steps that put the lids where they were seen."""
    if not np.isfinite(part[1].gaps).any():
        return part[0].expression
    usual = usual_slopes(fitter.prior, part[0].identity, part[0].head_from_world)
    found = (shut_lids(fitter.prior, *frame, fitter.schedule, usual) for frame in _frame_by_frame(*part))
    return np.concatenate([heads.expression for heads in found])


def _medians(prior: HeadPrior, part: tuple[Heads, Samples]) -> list[float]:
    """Median distances (T,) of the faces of a window's frames in millimetres."""
    return [
        float(face_median_mm(heads, samples, linearise(prior, heads, samples, False))[0])
        for heads, samples in _frame_by_frame(*part)
    ]
