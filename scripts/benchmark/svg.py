"""Charts as SVG: lines over a logarithmic axis, with axes, labels and a legend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.etree import ElementTree

from .rows import Curve

_WIDTH, _HEIGHT, _LEGEND = 720, 360, 220
_LEFT, _TOP, _RIGHT, _BOTTOM = 70, 40, 20, 50
_COLOURS = ("#1b6ca8", "#c8102e", "#2e8540", "#8a4fbf", "#c77700", "#444444")
_DASHES = ("", "6 3", "2 3", "10 4", "6 3 2 3", "1 2")
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_TICKS = 5

Point = tuple[float, float]


def svg(curves: Sequence[Curve], x_labels: dict[str, str]) -> str:
    """All charts, one below the other. `x_labels`: chart -> label of its horizontal axis."""
    charts = list(dict.fromkeys(curve.chart for curve in curves))
    width, height = _WIDTH + _LEGEND, _HEIGHT * len(charts)
    attributes = {
        "xmlns": "http://www.w3.org/2000/svg", "width": str(width), "height": str(height),
        "viewBox": f"0 0 {width} {height}", "font-family": "sans-serif", "font-size": "13",
    }  # fmt: skip
    root = ElementTree.Element("svg", attributes)
    _add(root, "rect", width=width, height=height, fill="#ffffff")
    for number, chart in enumerate(charts):
        part = _add(root, "g", transform=f"translate(0 {number * _HEIGHT})")
        own = [curve for curve in curves if curve.chart == chart]
        _chart(part, chart, x_labels.get(chart, ""), own)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _chart(part: ElementTree.Element, name: str, x_label: str, curves: list[Curve]) -> None:
    points = [point for curve in curves for point in curve.points]
    scale = Scale([x for x, _ in points], [y for _, y in points])
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    _text(part, name, _LEFT, 24, size=15, weight="bold")
    for y in scale.y_ticks:
        at = scale.y(y)
        _add(part, "line", x1=_LEFT, y1=at, x2=right, y2=at, stroke="#dddddd")
        _text(part, f"{y:g}", _LEFT - 8, at + 4, anchor="end")
    for x in scale.x_ticks:
        at = scale.x(x)
        _add(part, "line", x1=at, y1=bottom, x2=at, y2=bottom + 5, stroke="#333333")
        _text(part, f"{x:g}", at, bottom + 19, anchor="middle")
    _add(part, "line", x1=_LEFT, y1=bottom, x2=right, y2=bottom, stroke="#333333")
    _add(part, "line", x1=_LEFT, y1=_TOP, x2=_LEFT, y2=bottom, stroke="#333333")
    _text(part, x_label, (_LEFT + right) / 2, _HEIGHT - 12, anchor="middle")
    for number, curve in enumerate(curves):
        _curve(part, curve, scale, number)


def _curve(part: ElementTree.Element, curve: Curve, scale: Scale, number: int) -> None:
    """The line, its points, and its entry in the legend."""
    colour, dash = _COLOURS[number % len(_COLOURS)], _DASHES[number % len(_DASHES)]
    style = {"stroke": colour, "fill": "none", "stroke_width": 2}
    if dash:
        style["stroke_dasharray"] = dash
    places = [(scale.x(x), scale.y(y)) for x, y in curve.points]
    _add(part, "polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in places), **style)
    for x, y in places:
        _add(part, "circle", cx=x, cy=y, r=3, fill=colour)
    at = _TOP + 12 + number * 22
    _add(part, "polyline", points=f"{_WIDTH},{at - 4} {_WIDTH + 28},{at - 4}", **style)
    _text(part, curve.name, _WIDTH + 36, at)


class Scale:
    """The place of values: x on a logarithmic axis, y on a linear one from 0."""

    def __init__(self, xs: Sequence[float], ys: Sequence[float]) -> None:
        self._low, self._high = math.log(min(xs)), math.log(max(xs))
        self.x_ticks = sorted(set(xs))
        step = nice_step(max(ys) / _TICKS)
        self.y_ticks = [step * n for n in range(math.ceil(max(ys) / step - 1e-9) + 1)]

    def x(self, value: float) -> float:
        """The horizontal place."""
        span = self._high - self._low
        share = (math.log(value) - self._low) / span if span else 0.5
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        """The vertical place; greater values are further up."""
        share = value / self.y_ticks[-1] if self.y_ticks[-1] else 0.0
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def nice_step(least: float) -> float:
    """The smallest of 1, 2, 2.5, 5, 10 times a power of ten that is not below `least`."""
    if least <= 0:
        return 1.0
    power: float = 10.0 ** math.floor(math.log10(least))
    return next(power * step for step in _STEPS if power * step >= least * (1 - 1e-9))


def _add(parent: ElementTree.Element, tag: str, **attributes: object) -> ElementTree.Element:
    named = {key.replace("_", "-"): _value(value) for key, value in attributes.items()}
    return ElementTree.SubElement(parent, tag, named)


def _value(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def _text(
    parent: ElementTree.Element,
    text: str,
    x: float,
    y: float,
    *,
    anchor: str = "start",
    size: int = 13,
    weight: str = "normal",
) -> None:
    style = {"text_anchor": anchor, "font_size": size, "font_weight": weight}
    _add(parent, "text", x=x, y=y, fill="#222222", **style).text = text
