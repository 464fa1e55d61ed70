"""Procedural paintings: a scene in flat colours, drawn over with strokes in one of five styles.

Nothing here knows about classes; `hf_ela.data.synthetic.dataset` makes a labelled set of these
pictures. The pixels depend on the version of Pillow, which rasterises and resizes.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Pixels = NDArray[np.float32]
Rng = np.random.Generator
Size = tuple[int, int]

SIDES = (288, 400)  # of a picture, pixels, both ends included
OVERSAMPLING = 1.5  # pictures are painted larger, since Pillow's strokes have hard edges

PALETTES = (
    ("#f2e3c6", "#d9a35f", "#a8553a", "#5b6c5d", "#33424f"),
    ("#e9eef0", "#9fc3cf", "#4e86a4", "#c98f56", "#27405a"),
    ("#f7e9d7", "#e8b4a0", "#c46a6a", "#7b4f6b", "#3a2e4a"),
    ("#eef0d8", "#b9c27a", "#6f8f4e", "#b5763c", "#37482f"),
    ("#fbf1d3", "#f0c24b", "#d9703a", "#3f7f86", "#253a52"),
    ("#ece6ee", "#b7a9cf", "#7f7fb5", "#d6a77a", "#3d3a5c"),
    ("#efe7da", "#c9b79c", "#8c7a66", "#7d8f8e", "#3b3733"),
    ("#e4f0e8", "#8fc7b0", "#3f8f86", "#e0785a", "#22444a"),
)


def _noise(rng: Rng, size: Size, bumps: float) -> Pixels:
    """Smooth noise, (H, W), deviation near 1, with about `bumps` bumps across the width."""
    width, height = size
    shape = (max(2, round(bumps * height / width)) + 1, max(2, round(bumps)) + 1)
    grid = Image.fromarray(rng.standard_normal(shape).astype(np.float32))
    return np.asarray(grid.resize(size, Image.Resampling.BICUBIC))


def _palette(rng: Rng) -> Pixels:
    """Five colours, light to dark, (5, 3)."""
    names = PALETTES[rng.integers(len(PALETTES))]
    rgb = np.array([[int(name[i : i + 2], 16) for i in (1, 3, 5)] for name in names], np.float32)
    return np.clip(rgb + rng.normal(0, 9, rgb.shape), 0, 255).astype(np.float32)


def _rgba(colour: NDArray[Any], alpha: int = 255) -> tuple[int, int, int, int]:
    red, green, blue = np.clip(colour, 0, 255).astype(int).tolist()
    return red, green, blue, alpha


def _abstract(rng: Rng, size: Size, palette: Pixels) -> Image.Image:
    """Islands of flat colour."""
    heights = _noise(rng, size, rng.uniform(2, 5)) + 0.35 * _noise(rng, size, 12)
    islands = np.digitize(heights, np.quantile(heights, (0.25, 0.5, 0.72, 0.9)))
    return Image.fromarray(palette[rng.permutation(5)][islands].astype(np.uint8))


def _landscape(rng: Rng, size: Size, palette: Pixels) -> Image.Image:
    """A sky with a sun behind ridges that darken towards the viewer."""
    width, height = size
    fade = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    sky = palette[1] * (1 - fade) + palette[0] * fade
    picture = Image.fromarray(np.repeat(sky, width, axis=1).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    x, y = rng.uniform(0.15, 0.85) * width, rng.uniform(0.12, 0.35) * height
    draw.circle((x, y), rng.uniform(0.04, 0.1) * width, _rgba(palette[0] * 0.5 + 127))
    ridges = int(rng.integers(3, 6))
    for k in range(ridges):
        base = height * (0.38 + 0.52 * k / ridges)
        line = base - height * 0.07 * (
            _noise(rng, (width, 2), rng.uniform(2, 6))[0] + 0.2 * _noise(rng, (width, 2), 25)[0]
        )
        outline = [(0, height), *enumerate(line.tolist()), (width, height)]
        near = (k + 1) / ridges
        draw.polygon(outline, _rgba(palette[1 + k % 2] * (1 - near) + palette[2 + k % 3] * near))
    return picture


def _still_life(rng: Rng, size: Size, palette: Pixels) -> Image.Image:
    """Round fruit on a table, lit from the upper left."""
    width, height = size
    picture = Image.new("RGB", size, _rgba(palette[rng.choice((1, 4))])[:3])
    draw = ImageDraw.Draw(picture, "RGBA")
    table = height * rng.uniform(0.5, 0.65)
    draw.rectangle((0, table, width, height), _rgba(palette[0] * 0.85))
    for y in np.sort(rng.uniform(table * 1.02, height * 0.85, rng.integers(3, 8))):
        x, radius = rng.uniform(0.1, 0.9) * width, rng.uniform(0.08, 0.17) * width
        shadow = (x - radius, y + radius * 0.4, x + radius * 1.9, y + radius * 1.05)
        draw.ellipse(shadow, _rgba(palette[4], 110))
        colour = palette[rng.integers(1, 4)]
        for light in np.linspace(0, 1, 12):
            r, shift = radius * (1 - 0.85 * light), radius * 0.38 * light
            shade = _rgba(colour * (0.6 + 0.55 * light) + 40 * light**3)
            draw.circle((x - shift, y - shift), r, shade)
    return picture


def _flowers(rng: Rng, size: Size, palette: Pixels) -> Image.Image:
    """Blossoms before a soft ground."""
    width, height = size
    heights = np.clip(0.5 + 0.3 * _noise(rng, size, 3), 0, 1)[..., None]
    ground = palette[0] * (1 - heights) + palette[1] * heights
    picture = Image.fromarray(ground.astype(np.uint8))
    draw = ImageDraw.Draw(picture, "RGBA")
    spots = rng.uniform((0.1, 0.1), (0.9, 0.75), (int(rng.integers(5, 13)), 2)) * size
    for x, y in spots:
        foot = (width * 0.5 + 0.3 * (x - width * 0.5), height)
        draw.line([(x, y), foot], _rgba(palette[3] * 0.7), int(width * 0.012) + 1)
    for x, y in spots:
        radius, petals = rng.uniform(0.06, 0.13) * width, int(rng.integers(6, 13))
        colour = palette[rng.integers(2, 4)] + rng.normal(0, 15, 3)
        for ring, turn in enumerate(np.linspace(0, 4 * np.pi, 2 * petals, endpoint=False)):
            reach = radius * (0.62 if ring < petals else 0.36)
            centre = (x + reach * np.cos(turn), y + reach * np.sin(turn))
            draw.circle(centre, radius * 0.34, _rgba(colour * rng.uniform(0.75, 1.3), 235))
        draw.circle((x, y), radius * 0.28, _rgba(palette[rng.choice((0, 4))]))
    return picture


SCENES = (_abstract, _landscape, _still_life, _flowers)


def _stroke(
    canvas: Image.Image,
    colours: Pixels,
    angles: Pixels,
    rng: Rng,
    count: int,
    length: float,
    width: int,
    *,
    alpha: int = 255,
    jitter: float = 10,
    keep: Pixels | None = None,
) -> None:
    """Draw `count` strokes that follow `angles` (H, W; radians) in the `colours` beneath them.

    `keep` (H, W) is the probability that a stroke beginning there is drawn.
    """
    size = np.array(canvas.size)
    x, y = (rng.random((2, count)) * size[:, None]).astype(int)
    ink = colours[y, x] + rng.normal(0, jitter, (count, 1)) + rng.normal(0, jitter / 2, (count, 3))
    turn = angles[y, x]
    point = np.stack([x, y], 1) - length / 2 * np.stack([np.cos(turn), np.sin(turn)], 1)
    path = [point]
    for _ in range(3):
        column, row = np.clip(point, 0, size - 1).astype(int).T
        turn = angles[row, column]
        point = point + length / 3 * np.stack([np.cos(turn), np.sin(turn)], 1)
        path.append(point)
    widths = np.maximum(1, rng.normal(width, width / 4, count)).astype(int).tolist()
    chosen = np.ones(count, bool) if keep is None else rng.random(count) < keep[y, x]
    draw = ImageDraw.Draw(canvas, "RGBA")
    lines = np.concatenate(path, 1).tolist()
    for i in np.flatnonzero(chosen):
        draw.line(lines[i], _rgba(ink[i], alpha), widths[i])


def _flow(rng: Rng, size: Size) -> Pixels:
    """Stroke directions in radians, (H, W)."""
    return rng.uniform(0, np.pi) + 0.9 * _noise(rng, size, 3) + 0.15 * _noise(rng, size, 20)


def _oil(scene: Image.Image, rng: Rng) -> Image.Image:
    colours, angles = np.asarray(scene, np.float32), _flow(rng, scene.size)
    canvas = scene.filter(ImageFilter.GaussianBlur(6))
    for count, length, width in ((700, 46, 14), (1800, 28, 7), (2200, 16, 3)):
        _stroke(canvas, colours, angles, rng, count, length, width, jitter=11)
    relief = canvas.convert("L").filter(ImageFilter.EMBOSS).filter(ImageFilter.GaussianBlur(0.8))
    light = (np.asarray(relief, np.float32) - 128) * rng.uniform(0.15, 0.35)
    shaded = np.asarray(canvas, np.float32) + light[..., None]
    return Image.fromarray(np.clip(shaded, 0, 255).astype(np.uint8))


def _watercolour(scene: Image.Image, rng: Rng) -> Image.Image:
    soft = scene.filter(ImageFilter.GaussianBlur(5))
    colours = np.asarray(soft, np.float32) * 0.75 + 60
    canvas = Image.blend(soft, Image.new("RGB", scene.size, (250, 246, 236)), 0.8)
    angles = _flow(rng, scene.size)
    for count, length, width in ((500, 60, 26), (900, 40, 14), (700, 24, 6)):
        _stroke(canvas, colours, angles, rng, count, length, width, alpha=70, jitter=8)
    return canvas.filter(ImageFilter.GaussianBlur(1.5)).filter(ImageFilter.UnsharpMask(7, 90, 0))


def _hatching(scene: Image.Image, rng: Rng) -> Image.Image:
    tint = Image.new("RGB", scene.size, (240, 230, 210))
    canvas = Image.blend(tint, scene.filter(ImageFilter.GaussianBlur(3)), rng.uniform(0.15, 0.5))
    darkness = 1.1 - np.asarray(scene.convert("L"), np.float32) / 255
    ink = np.broadcast_to(rng.uniform(20, 70, 3).astype(np.float32), (*darkness.shape, 3))
    wobble = 0.12 * _noise(rng, scene.size, 8)
    for turn, threshold in ((0.8, 0.1), (2.3, 0.35), (0.1, 0.55), (1.5, 0.7)):
        keep = np.clip((darkness - threshold) * 2.5, 0, 1, dtype=np.float32)
        _stroke(
            canvas, ink, turn + wobble, rng, count=2000, length=30, width=2, alpha=150, keep=keep
        )
    return canvas


def _dots(scene: Image.Image, rng: Rng) -> Image.Image:
    colours, angles = np.asarray(scene, np.float32), _flow(rng, scene.size)
    canvas = Image.blend(scene, Image.new("RGB", scene.size, (238, 230, 214)), 0.5)
    for count, width in ((2600, 9), (4200, 6)):
        _stroke(canvas, colours, angles, rng, count, width, width, jitter=24)
    return canvas


def _pastel(scene: Image.Image, rng: Rng) -> Image.Image:
    colours, angles = np.asarray(scene, np.float32), _flow(rng, scene.size)
    canvas = Image.blend(scene, Image.new("RGB", scene.size, (225, 216, 200)), 0.6)
    for count, length, width in ((1500, 40, 8), (3800, 30, 3)):
        _stroke(canvas, colours, angles, rng, count, length, width, alpha=130)
    tooth = np.clip(0.22 * _noise(rng, scene.size, scene.width / 2.5), 0, 0.45)[..., None]
    chalk = np.asarray(canvas, np.float32) * (1 - tooth) + 232 * tooth
    return Image.fromarray(chalk.astype(np.uint8))


STYLES: dict[str, Callable[[Image.Image, Rng], Image.Image]] = {
    "oil": _oil,
    "watercolour": _watercolour,
    "hatching": _hatching,
    "dots": _dots,
    "pastel": _pastel,
}


def paint(rng: Rng, style: str) -> Pixels:
    """Paint one picture on its paper or canvas, (H, W, 3), 0-255."""
    width, height = rng.integers(SIDES[0], SIDES[1] + 1, 2).tolist()
    large = round(width * OVERSAMPLING), round(height * OVERSAMPLING)
    scene = SCENES[rng.integers(len(SCENES))](rng, large, _palette(rng))
    painted = STYLES[style](scene, rng).resize((width, height), Image.Resampling.LANCZOS)
    fibres = _noise(rng, (width, height), width / 3) + _noise(rng, (width, height), width / 1.5)
    grain = rng.normal(0, rng.uniform(1.5, 3.5), (height, width, 3))
    paper = rng.uniform(1, 3.5) * fibres[..., None]
    return np.clip(np.asarray(painted, np.float32) + paper + grain, 0, 255).astype(np.float32)
