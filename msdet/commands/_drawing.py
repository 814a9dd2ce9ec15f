"""A microphone array drawn in plain text."""

from __future__ import annotations

import numpy as np

from msdet.conventions import Array

ROWS = (13, 17, 21, 27, 35)
"""Heights to try, from small to large, until no two labels touch."""

COLUMNS = 61

FINEST_ROW_M = 1e-4
"""Also where all points are at one place, as a vertical line is from above."""


def draw_points(points_m: Array) -> tuple[list[str], float]:
    """Points numbered from 0 on a grid of characters, with a ``+`` at the origin if it is near and free.

    Points at one place share a label, such as ``1,2``. A row is as high as two columns are wide, as in
    most terminals, so that a circle looks round.

    Args:
        points_m: ``(point, 2)``, rightwards and upwards.

    Returns:
        The lines, top first; and the height of a row in metres.

    >>> for line in draw_points(np.array([[-0.1, 0.0], [0.1, 0.0], [0.1, 0.0]]))[0]:
    ...     print(line)
       0                             +                            1,2
    """
    near = bool(np.abs(points_m.mean(axis=0)).max() <= np.ptp(points_m, axis=0).max())
    shown = np.vstack([points_m, np.zeros((int(near), 2))])
    low, high = shown.min(axis=0), shown.max(axis=0)
    for rows in ROWS:
        row_m = max((high[1] - low[1]) / (rows - 1), (high[0] - low[0]) / ((COLUMNS - 1) / 2), FINEST_ROW_M)
        row = np.rint((high[1] - shown[:, 1]) / row_m).astype(int).tolist()
        column = np.rint((shown[:, 0] - low[0]) / (row_m / 2)).astype(int).tolist()
        cells = list(zip(row, column, strict=True))
        lines, touching = _write(cells[: len(points_m)], cells[len(points_m) :])
        if not touching:
            break
    return lines, float(row_m)


def _write(cells: list[tuple[int, int]], marks: list[tuple[int, int]]) -> tuple[list[str], bool]:
    """Numbers written at their ``(row, column)``, and whether some had to move right for want of room."""
    labels: dict[tuple[int, int], str] = {}
    for number, cell in enumerate(cells):
        labels[cell] = f"{labels[cell]},{number}" if cell in labels else str(number)
    margin = max(map(len, labels.values()))
    lines = [""] * (1 + max(row for row, _ in [*cells, *marks]))
    touching = False
    for (row, column), label in sorted(labels.items()):
        start = margin + column - (len(label) - 1) // 2
        if lines[row] and start <= len(lines[row]):
            touching = True
            start = len(lines[row]) + 1
        lines[row] = lines[row].ljust(start) + label
    for row, column in marks:
        at = margin + column
        line = lines[row].ljust(at + 1)
        if line[at] == " ":
            lines[row] = f"{line[:at]}+{line[at + 1 :]}"
    return lines, touching
