"""What `hf-ela predict --explain` saves: one sheet for each picture, with everything about it."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from hf_ela._files import whole_file
from hf_ela._terminal import printable
from hf_ela._text import LABEL_WORDS, shortened
from hf_ela.models.explain import BLUE, RED, Evidence, draw_legend, legend, legend_width, tinted

WIDTH, MARGIN, GAP = 1600, 40, 24
INNER = WIDTH - 2 * MARGIN
TALLEST, WIDEST = 900, 2.4
"""Most pixels of a panel from top to bottom, and the ratio of the sides of a picture from which on
panels lie below each other."""
HIGHEST = 6000
"""Pixels of a page before what is empty is cut off."""
INK, PALE = (24, 24, 27), (113, 113, 122)
MIDDLE = (222, 222, 226)
"""Colour of the scale at the threshold."""
BAR = 30


class Scale(NamedTuple):
    """What stands on the scale beside the score."""

    threshold: float
    band: tuple[float, float] | None


def save_sheet(path: Path, *parts: Any) -> None:
    """Write `draw_sheet` of the other arguments as PNG."""
    with whole_file(path) as temporary:
        draw_sheet(*parts).save(temporary, "PNG")


def draw_sheet(
    found: Evidence, result: Mapping[str, Any], scale: Scale, words: Sequence[str]
) -> Image.Image:
    """Return one picture with what is known of another.

    Args:
        found: What the model sees in it.
        result: What `--json` prints about it.
        scale: The threshold and the uncertain band.
        words: Lines for the end: which model answered, and what its answers mean.
    """
    page = _Page()
    name = "standard input" if result["file"] == "-" else Path(result["file"]).name
    page.line(name, 30)
    label, says = result["label"], LABEL_WORDS[result["label"]]
    if result["uncertain"]:
        page.line(f"uncertain ({label}?)", 54)
        reason = result.get("reason", "the score lies where the model is wrong too often")
        page.text(f"The model leans towards {says}, but is uncertain ({reason}).", 24)
    else:
        page.line(label, 54, RED if label == "fake" else BLUE)
        page.text(f"The model says: {says}.", 24)
    if "frequency" in result:
        page.text(result["frequency"], 24)
    page.y += GAP
    page.scale(found.score, scale)
    page.y += GAP
    page.panels(found)
    if info := found.score.info:
        page.text(f"The file: {info.words}.", 22)
        for claim in info.claims:
            page.text(f"The file itself says: {claim.words} ({claim.what}; {claim.where}).", 22)
        if not info.claims:
            page.text("It makes no claim about how it was made. That proves nothing.", 22)
    page.y += GAP
    for line in words:
        page.text(line, 18, PALE)
    return page.image.crop((0, 0, WIDTH, min(page.y + MARGIN, HIGHEST)))


class _Page:
    """A page that is filled from top to bottom; `y` is where it goes on."""

    def __init__(self) -> None:
        self.image = Image.new("RGB", (WIDTH, HIGHEST), "white")
        self.draw = ImageDraw.Draw(self.image)
        self.y = MARGIN

    def line(self, text: str, size: int, color: tuple[int, int, int] = INK) -> None:
        """Write one line, without its middle if it is too long."""
        font = ImageFont.load_default(size)
        self.draw.text((MARGIN, self.y), _cut(_drawable(text), font, INNER), color, font)
        self.y += round(1.4 * size)

    def text(
        self,
        text: str,
        size: int,
        color: tuple[int, int, int] = INK,
        x: int = MARGIN,
        width: int = INNER,
    ) -> None:
        """Write a paragraph."""
        font, lines = ImageFont.load_default(size), [""]
        for word in _drawable(text).split(" "):
            if lines[-1] and font.getlength(f"{lines[-1]} {word}") > width:
                lines.append("")
            lines[-1] = f"{lines[-1]} {word}".strip()
        for line in lines:
            self.draw.text((x, self.y), _cut(line, font, width), color, font)
            self.y += round(1.4 * size)

    def scale(self, score: float, scale: Scale) -> None:
        """Draw where the score lies from human-made to AI-generated."""
        font = ImageFont.load_default(24)
        marked = f"P(fake) {score:.3f}"
        at = MARGIN + score * INNER
        length = font.getlength(marked)
        left = min(max(at - length / 2, MARGIN), WIDTH - MARGIN - length)
        self.draw.text((left, self.y), marked, INK, font)
        top = self.y + 44
        self.image.paste(_bar(scale), (MARGIN, top))
        dashed = MARGIN + scale.threshold * INNER
        for y in range(top - 6, top + BAR + 6, 7):
            self.draw.line((dashed, y, dashed, y + 3), INK, 3)
        self.draw.polygon([(at - 10, top - 14), (at + 10, top - 14), (at, top)], INK)
        self.draw.line((at, top, at, top + BAR), INK, 4)
        self.y = top + BAR + 12
        self.draw.text((MARGIN, self.y), "0: human-made", INK, font)
        right = "1: AI-generated"
        self.draw.text((WIDTH - MARGIN - font.getlength(right), self.y), right, INK, font)
        meaning = f"Called fake from {scale.threshold:.3f} (dashed line)"
        if scale.band:
            meaning += f"; uncertain from {scale.band[0]:.3f} to {scale.band[1]:.3f} (hatched)"
        self.y += 38
        self.text(meaning, 20, PALE)

    def panels(self, found: Evidence) -> None:
        """Draw picture, map and error levels: side by side, a wide picture below each other."""
        width, height = found.image.size
        stacked = width > WIDEST * height
        column = INNER if stacked else (INNER - 2 * GAP) // 3
        factor = min((column - 2) / width, TALLEST / height)
        size = max(1, round(width * factor)), max(1, round(height * factor))
        shown = [
            (f"The picture, {width:,} x {height:,} pixels", found.image),
            ("What the model makes of its parts", tinted(found, size)),
            (
                f"Error levels at JPEG quality {found.ela_quality}, brightened",
                Image.fromarray(found.ela),
            ),
        ]
        top, lowest = self.y, self.y
        for number, (caption, picture) in enumerate(shown):
            x = MARGIN if stacked else MARGIN + number * (column + GAP)
            self.y = lowest if stacked else top
            self.text(caption, 20, x=x, width=column)
            framed = ImageOps.expand(picture.resize(size, Image.Resampling.LANCZOS), 1, MIDDLE)
            self.image.paste(framed, (x, self.y + 4))
            self.y += framed.height + 12
            if number == 1:
                self._explain(found, x, column)
            lowest = max(lowest, self.y + GAP)
        self.y = lowest

    def _explain(self, found: Evidence, x: int, width: int) -> None:
        left = x
        for entry in legend(found):
            if left > x and left + legend_width([entry], 16) > x + width:
                left, self.y = x, self.y + 26
            draw_legend(self.draw, left, self.y + 2, [entry], 16)
            left += legend_width([entry], 16)
        self.y += 28
        self.text(_behind(found), 16, PALE, x, width)


def _behind(found: Evidence) -> str:
    """Return how many pixels stand behind the map."""
    if not found.slid:
        return "No map is drawn of a picture that is in doubt."
    _, _, width, height = found.slid[0]
    if len(found.slid) == 1:
        return f"One score, of {width:,} x {height:,} pixels: it says nothing about places."
    return (
        f"{len(found.slid)} overlapping crops of about {width:,} x {height:,} pixels, one score "
        "each, which counts most in the middle of its crop."
    )


def _bar(scale: Scale) -> Image.Image:
    across = np.linspace(0, 1, INNER)
    stops = [0, min(max(scale.threshold, 1e-6), 1 - 1e-6), 1]
    colors = [np.interp(across, stops, channel) for channel in zip(BLUE, MIDDLE, RED, strict=True)]
    bar = np.broadcast_to(np.stack(colors, axis=-1), (BAR, INNER, 3)).copy()
    if scale.band:
        low, high = scale.band
        y, x = np.mgrid[:BAR, :INNER]
        bar[((x + y) % 14 < 6) & (across >= low) & (across <= high)] = 255
    return Image.fromarray(np.rint(bar).astype(np.uint8))


def _cut(text: str, font: Any, width: float) -> str:
    """Return a text without its middle if it is wider than so many pixels."""
    length = len(text)
    while font.getlength(shown := shortened(text, length)) > width:
        length -= 1
    return shown


def _drawable(text: str) -> str:
    """Escape what the font has no letter for, or what is none."""
    return "".join(
        c if _has_glyph(c) else c.encode("unicode_escape").decode() for c in printable(text)
    )


@cache
def _has_glyph(character: str) -> bool:
    font = ImageFont.load_default(40)
    missing, drawn = (bytes(font.getmask(one)) for one in ("\U0010ffff", character))
    return drawn != missing
