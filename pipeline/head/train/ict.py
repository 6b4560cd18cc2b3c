"""ICT-FaceKit as a source of heads: its linear model, the surface that a scan would see, and hair over it.

ICT space is centimetres, y up, z to the front, x to the subject's left. Head space is MonoNPHM's.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu
from scipy.spatial import KDTree

from pipeline.errors import DataError

HEAD_PER_CM = 0.04  # a head unit is 25 cm
ORIGIN_CM = np.array([0.0, -0.5, 3.5])  # puts the tip of the nose at z 0.38 and the top of a bald head at y 0.6
EAR_CM, ROUND_EAR_CM = 3.0, 4.6  # an ear, and the skin round it, lie within these of its middle
NECK_BOTTOM_CM = -30.0  # the open neck is drawn down to here and closed, well below every box
# Published with the model: the vertices of Multi-PIE's 68 points, here from the brows on, whose order is iBUG's.
LANDMARKS = (
    *(268, 493, 1914, 2044, 1401, 3615, 4240, 4114, 2734, 2509),  # brows, from the subject's right to the left
    *(978, 4527, 4942, 4857, 1140, 2075, 1147, 4269, 3360),  # bridge and tip of the nose, below the nostrils
    *(1507, 1542, 1537, 1528, 1518, 1511, 3742, 3751, 3756, 3721, 3725, 3732),  # right eye, left eye
    *(5708, 5695, 2081, 0, 4275, 6200, 6213, 6346, 6461, 5518, 5957, 5841),  # outer rim of the lips
    *(5702, 5711, 5533, 6216, 6207, 6470, 5517, 5966),  # inner rim
)
KEYS = ("neutral", "faces", "face_material", "materials", "identity_modes", "expression_modes", "expression_names")


def triangles_of(quads: np.ndarray) -> np.ndarray:
    """Triangles (F, 3) of quads (Q, 4); a quad that repeats its first index is one triangle."""
    full = quads[:, 3] != quads[:, 0]
    return np.concatenate([quads[:, :3], quads[full][:, [0, 2, 3]]])


def rim_edges(triangles: np.ndarray) -> np.ndarray:
    """Directed edges (E, 2) of the triangles (F, 3) that no triangle runs the other way."""
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]).astype(np.int64)
    code = edges[:, 0] << 32 | edges[:, 1]
    back = edges[:, 1] << 32 | edges[:, 0]
    return edges[~np.isin(back, code)]


def rim_loops(triangles: np.ndarray) -> list[np.ndarray]:
    """Closed loops (n,) int64 of vertex indices round the holes of a manifold of triangles (F, 3), along its edges.

    A loop runs the way the triangles' own edges do.
    """
    following = dict(rim_edges(triangles).tolist())
    loops = []
    while following:
        loop = [next(iter(following))]
        while following[loop[-1]] != loop[0]:
            loop.append(following.pop(loop[-1]))
        following.pop(loop[-1])
        loops.append(np.array(loop))
    return loops


@dataclass(frozen=True)
class FaceModel:
    """The linear model and the parts of its surface that a scan sees. Vertex indices are the source's.

    skin: triangles of face, back of the head and neck, open at mouth, eyes and below the neck, where `collar` closes
    it with extra vertices; pocket: the inside of the mouth; lips and lids: triangles that close mouth and eyes over
    their openings; eyeballs: whole and closed. A file of another topology names its own `landmarks`.
    """

    neutral: np.ndarray  # (V, 3) cm
    identity_modes: np.ndarray  # (I, V, 3) cm, weights ~ N(0, 1)
    expression_modes: np.ndarray  # (X, V, 3) cm, weights 0..1
    expression_names: list[str]
    skin: np.ndarray
    face: np.ndarray  # subset of skin: the front of the head
    pocket: np.ndarray
    lips: np.ndarray
    lip_pairs: np.ndarray  # (n, 2) upper and lower vertices across the opening
    lids: np.ndarray
    eyeballs: np.ndarray
    neck_loop: np.ndarray  # rim of the skin below the neck
    mirror: np.ndarray  # (V,) the vertex at the mirrored place, over skin vertices; others are 0
    landmarks: np.ndarray  # (L,) the vertices of the landmarks that detectors find

    @property
    def collar(self) -> np.ndarray:
        """Triangles (F, 3) that draw the neck down and close it; the extra vertices follow the model's own."""
        first, n = len(self.neutral), len(self.neck_loop)
        top, low = self.neck_loop, first + np.arange(n)
        wall = np.concatenate(
            [np.stack([np.roll(top, -1), top, low], 1), np.stack([np.roll(top, -1), low, np.roll(low, -1)], 1)]
        )
        cap = np.stack([np.roll(low, -1), low, np.full(n, first + n)], 1)
        return np.concatenate([wall, cap])

    def shape(self, identity: np.ndarray, expression: np.ndarray) -> np.ndarray:
        """Vertices (V, 3) cm for identity (I,) and expression (X,) weights."""
        used = np.flatnonzero(expression)
        moves = np.tensordot(identity.astype(np.float32), self.identity_modes, 1)
        moves += np.tensordot(expression[used].astype(np.float32), self.expression_modes[used], 1)
        return self.neutral + moves

    @property
    def eyes(self) -> np.ndarray:
        """The triangles (F, 3) of the eyeballs' front halves, with what lies under the lids."""
        deep = self.neutral[np.unique(self.eyeballs), 2].mean()
        return self.eyeballs[self.neutral[self.eyeballs, 2].mean(1) > deep]

    @property
    def eye_middle(self) -> np.ndarray:
        """Middle (3,) cm of the front of the left eyeball of the neutral head."""
        eyes = self.neutral[np.unique(self.eyes)]
        return eyes[eyes[:, 0] > 0].mean(0)

    @property
    def ear_middle(self) -> np.ndarray:
        """Middle (3,) cm of what stands off the left side of the neutral face: the ear's rim."""
        x = self.neutral[np.unique(self.face)]
        above_neck = x[:, 1] > np.quantile(self.neutral[np.unique(self.skin), 1], 0.25)
        return x[above_neck & (x[:, 0] > 0.93 * x[:, 0].max())].mean(0)

    def from_ear(self, points: np.ndarray) -> np.ndarray:
        """Distances (P,) cm of points (P, 3) cm to the middle of the nearer ear of the neutral head."""
        return np.linalg.norm(np.where(points[:, :1] < 0, [-1, 1, 1], 1) * points - self.ear_middle, axis=1)

    def with_collar(self, vertices: np.ndarray) -> np.ndarray:
        """vertices (V, 3) cm followed by the collar's lower ring and its middle."""
        low = vertices[self.neck_loop].copy()
        low[:, 1] = NECK_BOTTOM_CM
        return np.concatenate([vertices, low, low.mean(0, keepdims=True)])


def load_face_model(path: Path) -> FaceModel:
    """Read ict_facekit.npz; DataError names what is missing."""
    if not path.is_file():
        raise DataError(f"{path}: no ICT-FaceKit model there (expected ict_facekit.npz, made from ICT-VGL/ICT-FaceKit)")
    data = np.load(path)
    missing = [key for key in KEYS if key not in data]
    if missing:
        raise DataError(f"{path}: not an ICT-FaceKit model: no {', '.join(missing)}")
    neutral = data["neutral"].astype(np.float64)
    names, material = data["materials"].tolist(), data["face_material"]

    def part(*wanted: str) -> np.ndarray:
        return triangles_of(data["faces"][np.isin(material, [names.index(name) for name in wanted])])

    face, rest = part("M_Face"), _patches(part("M_BackHead"), len(neutral))
    neck = rim_edges(np.concatenate([face, *rest]))
    back = next((patch for patch in rest if np.isin(neck, patch).any()), None)
    pockets = [patch for patch in rest if patch is not back]
    if back is None or not pockets:
        raise DataError(f"{path}: expected M_BackHead to hold the open back of the head and the mouth's inside")
    pocket = min(pockets, key=lambda patch: abs(neutral[np.unique(patch), 0].mean()))
    face, pocket = _cut_where_lips_touch(face, pocket, neutral)
    skin = np.concatenate([face, back])
    loops = rim_loops(skin)
    lips, pairs = _zip_loop(_shared_loop(loops, pocket), neutral)
    eyeballs = [part(name) for name in ("M_ScleraLeft", "M_ScleraRight")]
    lids = [_zip_loop(_nearest_loop(loops, ball, neutral), neutral)[0] for ball in eyeballs]
    return FaceModel(
        neutral=neutral,
        identity_modes=data["identity_modes"].astype(np.float32),
        expression_modes=data["expression_modes"].astype(np.float32),
        expression_names=data["expression_names"].tolist(),
        skin=skin,
        face=face,
        pocket=pocket,
        lips=lips,
        lip_pairs=pairs,
        lids=np.concatenate(lids),
        eyeballs=np.concatenate(eyeballs),
        neck_loop=min(loops, key=lambda loop: neutral[loop, 1].mean()),
        mirror=_mirrored(neutral, np.unique(skin)),
        landmarks=data["landmarks"] if "landmarks" in data else np.array(LANDMARKS),
    )


def _patches(triangles: np.ndarray, count: int) -> list[np.ndarray]:
    """The connected parts of triangles (F, 3) over `count` vertices."""
    ends = triangles[:, [0, 1, 1, 2]].reshape(-1, 2)
    graph = sparse.coo_matrix((np.ones(len(ends)), ends.T), shape=(count, count))
    label = connected_components(graph, directed=False)[1][triangles[:, 0]]
    return [triangles[label == value] for value in np.unique(label)]


def _shared_loop(loops: list[np.ndarray], patch: np.ndarray) -> np.ndarray:
    """The loop that lies on the patch."""
    return next(loop for loop in loops if np.isin(loop, patch).all())


def _nearest_loop(loops: list[np.ndarray], patch: np.ndarray, neutral: np.ndarray) -> np.ndarray:
    """The loop whose middle is the nearest to the patch's middle."""
    middle = neutral[np.unique(patch)].mean(0)
    return min(loops, key=lambda loop: np.linalg.norm(neutral[loop].mean(0) - middle))


def _cut_where_lips_touch(face: np.ndarray, pocket: np.ndarray, neutral: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Move rings of triangles from the face to the mouth's inside until the rim is where the lips are closest.

    The source's rim is a centimetre behind that line, so closed lips would have a hollow between them.
    """
    while True:
        loop = _shared_loop(rim_loops(face), pocket)
        ring = np.isin(face, loop).any(1)
        inner, outer = _lip_gap(loop, neutral), _lip_gap(_shared_loop(rim_loops(face[~ring]), face[ring]), neutral)
        if outer >= inner:
            return face, pocket
        face, pocket = face[~ring], np.concatenate([pocket, face[ring]])


def _lip_gap(loop: np.ndarray, neutral: np.ndarray) -> float:
    one, other = neutral[_zip_loop(loop, neutral)[1]].transpose(1, 0, 2)
    return float(np.linalg.norm(one - other, axis=1).mean())


def _zip_loop(loop: np.ndarray, neutral: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Triangles that close a loop from corner to corner, and the pairs of vertices (n, 2) across it."""
    loop = np.roll(loop, -int(neutral[loop, 0].argmin()))
    corner = int(neutral[loop, 0].argmax())
    one, other = loop[: corner + 1], np.append(loop[corner:], loop[0])[::-1]
    triangles, pairs, i, j = [], [], 0, 0
    while i < len(one) - 1 or j < len(other) - 1:
        pairs.append((one[i], other[j]))
        along_one = j == len(other) - 1 or (i < len(one) - 1 and neutral[one[i + 1], 0] <= neutral[other[j + 1], 0])
        triangles.append((one[i + 1], one[i], other[j]) if along_one else (other[j], other[j + 1], one[i]))
        i, j = (i + 1, j) if along_one else (i, j + 1)
    triangles = np.array(triangles)
    return triangles[[len(set(t)) == 3 for t in triangles.tolist()]], np.array(pairs)


def _mirrored(neutral: np.ndarray, used: np.ndarray) -> np.ndarray:
    mirror = np.zeros(len(neutral), np.int64)
    mirror[used] = used[KDTree(neutral[used]).query(neutral[used] * [-1, 1, 1])[1]]
    return mirror


def head_from_ict(points: np.ndarray) -> np.ndarray:
    """Head space (..., 3) of ICT points (..., 3) in cm."""
    return (points - ORIGIN_CM) * HEAD_PER_CM


class Hair:
    """Random outward offsets of the scalp: a closed hair volume up to 6 cm thick with a hairline.

    Twelve coefficients ~ N(0, 1): 0-5 thickness (all over, top, front-back, left-right, sides, fringe), 6-11 the
    hairline's height (forehead, temples, over the ears, behind them, nape, lean to one side). Zero is a short cut.
    """

    coefficients = 12
    _edge_cm = 0.5  # the hairline's softness
    _middle_cm = np.array([0.0, 5.0, 0.0])  # middle of the skull; hair grows away from it

    def __init__(self, model: FaceModel) -> None:
        used = np.unique(model.skin)
        smooth = model.neutral.copy()
        smooth[used] = _without_ears(model, used)
        self.flatten = smooth - model.neutral  # takes the ears into the head under hair
        away = smooth - self._middle_cm
        away[:, 1] = np.maximum(away[:, 1], -2.0)  # sideways, not down, from the middle on
        length = np.linalg.norm(away, axis=1, keepdims=True)
        self.away = away / np.maximum(length, 1e-9)
        self.around = np.abs(np.arctan2(away[:, 0], away[:, 2]))  # 0 at the front, pi at the back
        self.side, self.front = self.away[:, 0], self.away[:, 2]
        self.up = np.maximum(self.away[:, 1], 0)
        self.height = smooth[:, 1]
        self.active = np.zeros(len(smooth), bool)
        self.active[used] = True

    def offsets(self, c: np.ndarray) -> np.ndarray:
        """Offsets (V, 3) cm of the neutral model's vertices for coefficients c (12,)."""
        thick = 1.8 + 1.1 * c[0] + 0.5 * c[1] * self.up - 0.6 * c[2] * self.front + 0.4 * c[3] * self.side
        thick = thick + 0.4 * c[4] * (self.side**2 - 0.4) + 0.5 * c[5] * np.maximum(self.front, 0) ** 2 * (1 - self.up)
        thick = np.clip(thick, 0, 6)
        knots = np.deg2rad([0, 40, 65, 90, 110, 140, 180])
        line = np.array([9.0, 8.6, 6.2, 3.2, 0.0, -3.5, -5.0])
        line = line + np.array([1.6, 1.6, 0.8, 0, 0, 0, 0]) * c[6] + np.array([0, 0.8, 2.0, 1.0, 0, 0, 0]) * c[7]
        line = line + np.array([0, 0, 0.8, 2.5, 1.5, 0, 0]) * c[8] + np.array([0, 0, 0, 1.0, 2.5, 2.0, 0]) * c[9]
        line = line + np.array([0, 0, 0, 0, 0.5, 2.2, 3.0]) * c[10]
        low = np.interp(self.around, knots, line) + 0.6 * c[11] * self.side
        inside = self.active / (1 + np.exp(-np.clip((self.height - low) / self._edge_cm, -30, 30)))
        cover = (inside * np.clip(thick / 0.8, 0, 1))[:, None]
        return cover * self.flatten + (inside * thick)[:, None] * self.away


def _without_ears(model: FaceModel, used: np.ndarray) -> np.ndarray:
    """Skin vertices (len(used), 3) cm of the neutral head with a smooth patch (thin plate) in place of the ears."""
    x = model.neutral[used]
    free = model.from_ear(x) < ROUND_EAR_CM
    local = np.zeros(len(model.neutral), np.int64)
    local[used] = np.arange(len(used))
    ends = local[model.skin[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)]
    graph = sparse.coo_matrix((np.ones(len(ends)), ends.T), shape=(len(used),) * 2).tocsr()
    graph = ((graph + graph.T) > 0).astype(float)
    laplacian = sparse.diags(np.asarray(graph.sum(1)).ravel()) - graph
    plate = (laplacian @ laplacian).tocsr()[free]
    out = x.copy()
    out[free] = splu(plate[:, free].tocsc()).solve(-plate[:, ~free] @ x[~free])
    return out
