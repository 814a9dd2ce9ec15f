"""Colors of the report: ten systems that all eyes tell apart, in the light and in the dark scheme."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from msdet.plots.theme import DARK, HUES, LIGHT, styles

# what is left of linear sRGB without a kind of cones (Machado et al., IEEE TVCG 15(6), 2009)
EYES = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def linear(color: str) -> Any:
    """A color ``#rrggbb`` as linear sRGB ``(3,)``."""
    value = np.array([int(color[n : n + 2], 16) for n in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def contrast(first: str, second: str) -> float:
    """Contrast of two colors as WCAG 2 has it."""
    darker, lighter = sorted(float(TO_XYZ[1] @ linear(color)) for color in (first, second))
    return (lighter + 0.05) / (darker + 0.05)


def lab(rgb: Any) -> Any:
    """CIELAB of linear sRGB ``(3,)``, white D65."""
    xyz = TO_XYZ @ np.clip(rgb, 0, 1) / [0.95047, 1.0, 1.08883]
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def ciede2000(first: Any, second: Any) -> float:
    """Difference of two colors in CIELAB (Sharma et al., Color Research and Application 30(1), 2005)."""
    mean_chroma = (np.hypot(*first[1:]) + np.hypot(*second[1:])) / 2
    g = 0.5 * (1 - np.sqrt(mean_chroma**7 / (mean_chroma**7 + 25**7)))
    a1, a2 = (1 + g) * first[1], (1 + g) * second[1]
    c1, c2 = np.hypot(a1, first[2]), np.hypot(a2, second[2])
    h1, h2 = (np.degrees(np.arctan2(b, a)) % 360 for a, b in ((a1, first[2]), (a2, second[2])))
    turn = (h2 - h1 + 180) % 360 - 180
    mean_l, mean_c, mean_h = (first[0] + second[0]) / 2, (c1 + c2) / 2, (h1 + turn / 2) % 360
    waves = ((-0.17, 1, -30), (0.24, 2, 0), (0.32, 3, 6), (-0.20, 4, -63))
    t = 1 + sum(weight * np.cos(np.radians(n * mean_h + shift)) for weight, n, shift in waves)
    lightness = (second[0] - first[0]) / (1 + 0.015 * (mean_l - 50) ** 2 / np.sqrt(20 + (mean_l - 50) ** 2))
    chroma = (c2 - c1) / (1 + 0.045 * mean_c)
    hue = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2)) / (1 + 0.015 * mean_c * t)
    blue = np.sin(2 * np.radians(30 * np.exp(-(((mean_h - 275) / 25) ** 2))))
    rotation = -2 * np.sqrt(mean_c**7 / (mean_c**7 + 25**7)) * blue
    return float(np.sqrt(lightness**2 + chroma**2 + hue**2 + rotation * chroma * hue))


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((50, 2.5, 0), (50, 3.1736, 0.5854), 1.0),
        ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
    ],
)
def test_the_color_difference_is_that_of_published_examples(
    first: tuple[float, ...], second: tuple[float, ...], expected: float
) -> None:
    assert ciede2000(np.array(first), np.array(second)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("eyes", EYES)
def test_ten_systems_have_colors_that_all_eyes_tell_apart(scheme: dict[str, str], eyes: str) -> None:
    assert len(HUES) == 10
    seen = {role: lab(EYES[eyes] @ linear(scheme[role])) for role in (*HUES, "slate", "ink")}
    apart = {pair: ciede2000(seen[pair[0]], seen[pair[1]]) for pair in itertools.combinations(seen, 2)}
    assert min(apart.values()) >= 11.0, min(apart, key=lambda pair: apart[pair])


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_colors_stand_out_from_the_page(scheme: dict[str, str]) -> None:
    for role in (*HUES, "slate", "ink", "muted"):
        assert contrast(scheme[role], scheme["surface"]) >= (4.5 if role in ("ink", "muted") else 3.0), role


def test_ten_systems_differ_in_color_marker_and_dashes() -> None:
    found = styles([f"system{n}" for n in range(10)])
    for looks in zip(*found.values(), strict=True):
        assert len(set(looks)) == 11  # and the unprocessed mixture
    many = styles([f"system{n}" for n in range(40)])
    assert len(set(many.values())) == 41
