"""The charts: well-formed SVG with axes, labels, and every point within the frame."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from scripts.benchmark.rows import Curve
from scripts.benchmark.svg import Scale, nice_step, svg

from ..each_case import each_case

SVG = "{http://www.w3.org/2000/svg}"
CURVES = [
    Curve("Runs a second", "warm & fresh", ((1, 20.0), (2, 40.0), (8, 54.0), (32, 53.0))),
    Curve("Runs a second", "bubblewrap", ((1, 150.0), (8, 333.0))),
    Curve("Creations", "create", ((1, 12.0), (1000, 13.0))),
]


@pytest.fixture
def chart() -> ElementTree.Element:
    return ElementTree.fromstring(svg(CURVES, {"Runs a second": "clients"}))


def test_picture_is_svg_with_a_part_for_each_chart(chart: ElementTree.Element) -> None:
    assert chart.tag == f"{SVG}svg"
    assert len(chart.findall(f"{SVG}g")) == 2


def test_each_chart_has_title_axes_ticks_and_a_legend(chart: ElementTree.Element) -> None:
    part = chart.findall(f"{SVG}g")[0]
    texts = [text.text for text in part.iter(f"{SVG}text")]
    assert texts[0] == "Runs a second" and "clients" in texts
    assert {"1", "2", "8", "32"} <= set(texts) and {"0", "100", "400"} <= set(texts)
    assert {"warm & fresh", "bubblewrap"} <= set(texts)
    axes = [line for line in part.iter(f"{SVG}line") if line.get("stroke") == "#333333"]
    assert len(axes) == 2 + 4  # the axes, and a tick for each number of clients


def test_every_point_of_every_curve_is_in_the_frame(chart: ElementTree.Element) -> None:
    circles = list(chart.iter(f"{SVG}circle"))
    assert len(circles) == sum(len(curve.points) for curve in CURVES)
    width, height = float(chart.get("width", 0)), float(chart.get("height", 0))
    for circle in circles:
        assert 0 < float(circle.get("cx", 0)) < width
        assert 0 < float(circle.get("cy", 0)) < height


def test_greater_values_are_further_up_and_further_right() -> None:
    scale = Scale([1, 8, 32], [10.0, 54.0])
    assert scale.y(10.0) > scale.y(54.0)
    assert scale.x(1) < scale.x(8) < scale.x(32)
    assert scale.x(8) - scale.x(1) > scale.x(32) - scale.x(8)  # logarithmic


@pytest.mark.parametrize("values", [([1], [0.0]), ([5], [3.0]), ([1, 1], [7.0, 7.0])])
def test_chart_of_one_place_or_of_zeros_can_be_drawn(
    values: tuple[list[float], list[float]],
) -> None:
    points = tuple(zip(*values, strict=True))
    ElementTree.fromstring(svg([Curve("A", "b", points)], {}))


@each_case(
    ("least", "step"), [(0.9, 1.0), (1.0, 1.0), (11, 20), (66.6, 100), (0.021, 0.025), (0, 1.0)]
)
def test_step_of_an_axis_is_a_round_number(least: float, step: float) -> None:
    assert nice_step(least) == pytest.approx(step)
