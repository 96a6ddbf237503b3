"""Fronts of score vectors. Higher is better in every column."""

import numpy as np


def nondominated(points: np.ndarray) -> np.ndarray:
    """Which points `[n, K]` no other is at least as good as in every column and better in one: bool `[n]`. Of equal
    points the first."""
    order = np.lexsort((np.arange(len(points)), *-points.T[::-1]))
    kept: list[int] = []
    for place in order:  # whoever dominates a point, or equals it, stands before it
        if not (points[kept] >= points[place]).all(axis=1).any():
            kept.append(int(place))
    mask = np.zeros(len(points), bool)
    mask[kept] = True
    return mask


def normalized(points: np.ndarray, low: np.ndarray | None = None, high: np.ndarray | None = None) -> np.ndarray:
    """Every column from 0 at `low`, by default its least, to 1 at `high`, by default its greatest; 0 where these are
    equal."""
    low = points.min(axis=0) if low is None else low
    width = (points.max(axis=0) if high is None else high) - low
    return (points - low) / np.where(width > 0, width, 1.0)


def spaced(points: np.ndarray, count: int) -> np.ndarray:
    """At most `count` places of a front's points `[n, K]`, ascending. One after another the most crowded leaves (Deb et
    al. 2002's distance, computed again each time); each column's best stays as long as there is place."""
    kept = np.arange(len(points))
    while len(kept) > count:
        kept = np.delete(kept, int(np.argmin(_crowding(normalized(points[kept])))))
    return kept


def _crowding(points: np.ndarray) -> np.ndarray:
    distance = np.zeros(len(points))
    for column in points.T:
        order = np.argsort(column, kind="stable")
        gaps = np.full(len(points), np.inf)
        gaps[order[1:-1]] = column[order[2:]] - column[order[:-2]]
        distance += gaps
    return distance


def knee(points: np.ndarray) -> int:
    """The place, in a front's points `[n, K]`, farthest in front of the hyperplane through each column's best (Das
    1999), columns normalised to [0, 1]; of equals the first."""
    unit = normalized(points)
    extremes = np.stack([unit[np.lexsort((-unit.sum(axis=1), -column))[0]] for column in unit.T])
    normal = np.ones(unit.shape[1])
    if np.linalg.matrix_rank(extremes) == len(extremes):
        found = np.linalg.solve(extremes, normal)
        normal = found if (found > 0).all() else normal
    distance = unit @ normal / np.linalg.norm(normal)
    return int(np.argmax(np.round(distance, 12)))


def hypervolume(points: np.ndarray, reference: np.ndarray) -> float:
    """The volume that points `[n, K]` dominate above a reference `[K]`; by slices along the first column."""
    points = points[(points > reference).all(axis=1)]
    if not len(points):
        return 0.0
    if points.shape[1] == 1:
        return float(points.max() - reference[0])
    points = points[np.argsort(-points[:, 0], kind="stable")]
    depths = points[:, 0] - np.append(points[1:, 0], reference[0])
    return sum(
        float(depth) * hypervolume(points[: end + 1, 1:], reference[1:])
        for end, depth in enumerate(depths)
        if depth > 0
    )
