"""A ball with a mouth, eyes and an open neck in the layout of ict_facekit.npz, small enough for tests."""

from pathlib import Path

import numpy as np

ROWS, COLUMNS = 14, 32  # quads from the crown to the neck, and round the head; column 0 looks to the front
MOUTH = (8, range(-3, 3))  # row and columns of the quads that are missing
EYES = (5, (range(2, 5), range(-5, -2)))


def _ball() -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) cm and their rows; index is 1 + row * COLUMNS + column, 0 is the crown."""
    polar = np.linspace(0, 0.8 * np.pi, ROWS + 1)[1:, None]
    around = np.arange(COLUMNS) * 2 * np.pi / COLUMNS
    x, z = np.sin(polar) * np.sin(around), np.sin(polar) * np.cos(around)
    grid = np.stack([7 * x, 10 * np.cos(polar) * np.ones_like(around), 9 * z], -1).reshape(-1, 3)
    return np.concatenate([[[0, 10, 0]], grid]), np.repeat(np.arange(ROWS), COLUMNS)


def _at(row: int, column: int) -> int:
    return 1 + row * COLUMNS + column % COLUMNS


def _quad(row: int, column: int) -> tuple[int, int, int, int]:
    """Outward quad between rows `row` and `row + 1`."""
    return _at(row, column), _at(row + 1, column), _at(row + 1, column + 1), _at(row, column + 1)


def _pocket(vertices: list, row: int, columns: range, depth: float) -> list[tuple[int, int, int, int]]:
    """Walls and back of a pocket behind the missing quads; appends its vertices."""
    top = [_at(row, c) for c in range(columns.start, columns.stop + 1)]
    low = [_at(row + 1, c) for c in range(columns.start, columns.stop + 1)]
    inner = {i: len(vertices) + n for n, i in enumerate(top + low)}
    vertices += [np.array(vertices[i]) - [0, 0, depth] for i in top + low]
    rim = [*low, *reversed(top)]
    walls = [(b, a, inner[a], inner[b]) for a, b in zip(rim, [*rim[1:], rim[0]], strict=True)]
    walls = [(d, c, b, a) for a, b, c, d in walls]
    back = [(inner[top[i]], inner[low[i]], inner[low[i + 1]], inner[top[i + 1]]) for i in range(len(top) - 1)]
    return walls + back


def write_tiny_face(path: Path) -> None:
    """Write the model: 4 identity modes and jawOpen, mouthClose, mouthSmile_L/_R and eyeBlink_L/_R."""
    start, _ = _ball()
    vertices = list(start)
    holes = {(MOUTH[0], c % COLUMNS) for c in MOUTH[1]}
    holes |= {(EYES[0], c % COLUMNS) for columns in EYES[1] for c in columns}
    face, back = [], []
    for column in range(COLUMNS):
        front = min(column, COLUMNS - 1 - column) < COLUMNS // 4
        part = face if front else back
        part.append((0, _at(0, column), _at(0, column + 1), 0))
        part += [_quad(r, column) for r in range(ROWS - 1) if (r, column) not in holes]
    back += _pocket(vertices, MOUTH[0], MOUTH[1], 3.0)
    for columns in EYES[1]:
        back += _pocket(vertices, EYES[0], columns, 2.0)
    scleras = []
    for columns in EYES[1]:
        rim = [_at(EYES[0] + r, c) for r in (0, 1) for c in (columns.start, columns.stop)]
        centre = np.mean([vertices[i] for i in rim], 0) - [0, 0, 1.0]
        first, (ball, _) = len(vertices), _ball()
        vertices += list(centre + ball * 0.17)
        quads = [_quad(r, c) for r in range(ROWS - 1) for c in range(COLUMNS)]
        scleras.append([tuple(first + i for i in quad) for quad in quads])

    neutral = np.array(vertices)
    x, y, z = neutral.T / 10
    front = np.clip(z, 0, None)
    below = np.zeros(len(neutral))
    below[1 + (MOUTH[0] + 1) * COLUMNS : 1 + ROWS * COLUMNS] = 1  # the lower lip and what is under it
    zero = np.zeros_like(x)
    identity = np.stack(
        [np.stack(mode, 1) for mode in ([x, zero, zero], [zero, y, zero], [zero, zero, z], [x * y, zero, zero])]
    )
    jaw = np.stack([zero, -2.5 * front * below, zero], 1)
    smile = np.exp(-20 * ((y + 0.3) ** 2)) * front
    left, right = np.clip(x, 0, None) * smile, np.clip(-x, 0, None) * smile
    lid = np.exp(-20 * (y - 0.3) ** 2) * front * 0.3
    expressions = {
        "jawOpen": jaw,
        "mouthClose": -jaw,
        "mouthSmile_L": np.stack([left, left, zero], 1),
        "mouthSmile_R": np.stack([-right, right, zero], 1),
        "eyeBlink_L": np.stack([zero, -lid * (x > 0), zero], 1),
        "eyeBlink_R": np.stack([zero, -lid * (x < 0), zero], 1),
    }
    parts = {"M_Face": face, "M_BackHead": back, "M_ScleraLeft": scleras[0], "M_ScleraRight": scleras[1]}
    np.savez(
        path,
        neutral=neutral.astype(np.float32),
        faces=np.array([quad for part in parts.values() for quad in part], np.int32),
        face_material=np.repeat(np.arange(len(parts)), [len(part) for part in parts.values()]).astype(np.uint8),
        materials=np.array(list(parts)),
        identity_modes=identity.astype(np.float16),
        expression_modes=np.stack(list(expressions.values())).astype(np.float16),
        expression_names=np.array(list(expressions)),
        landmarks=np.array([_at(row, column) for row in range(4, 7) for column in range(-8, 9)]),
    )
