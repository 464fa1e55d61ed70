"""Any pixel layout with a defined range to 8-bit RGB.

- Alpha, premultiplied alpha and transparent colours are composited on mid-grey (``MID_GREY``):
  black or white would draw an edge around every cut-out, and thereby a bright rim in its ELA.
- 16-bit grey is divided by 257 and rounded, since 65,535 / 257 = 255. 32-bit integers from 0 to
  65,535 are treated as 16-bit values. Pillow reduces 16-bit colour to the upper byte.
- CMYK is converted without a colour profile; Pillow reads the inverted values that Adobe stores in
  a JPEG. Profiles of RGB images are not applied either: ELA works on stored values.
- Floating point, and every other mode outside of ``RGB_MODES``, has no defined conversion.
"""

import numpy as np
from PIL import Image

from hf_ela.errors import UnsupportedModeError

MID_GREY = 128

_DEEP_GREY = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N"})
RGB_MODES = _DEEP_GREY | {
    *("1", "L", "LA"),
    *("P", "PA"),
    *("RGB", "RGBX", "RGBA", "RGBa"),
    *("CMYK", "YCbCr", "LAB", "HSV"),
}
"""Pillow's modes that ``to_rgb`` converts."""


def to_rgb(image: Image.Image, name: str) -> tuple[Image.Image, bool]:
    """Convert a loaded image of a mode in ``RGB_MODES``.

    Args:
        image: The image; it does not change.
        name: Name of the image in an error.

    Returns:
        RGB pixels without metadata, and whether transparency was composited.

    Raises:
        UnsupportedModeError: Integer pixels outside 0..65535.
    """
    if image.mode in _DEEP_GREY:
        image = _to_eight_bits(image, name)
    if alpha := image.has_transparency_data:
        layer = image.convert("RGBA")
        rgb = Image.new("RGB", image.size, (MID_GREY, MID_GREY, MID_GREY))
        rgb.paste(layer, mask=layer)
    else:
        rgb = image.convert("RGB")
        rgb.info.clear()  # the next reader would apply a remaining orientation again
    return rgb, alpha


def _to_eight_bits(image: Image.Image, name: str) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise UnsupportedModeError(
            name,
            "integer pixels must lie in 0..65535. "
            f"Received: {values.min()}..{values.max()}; scale the image to 8 bits first",
        )
    grey = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    transparent = image.info.get("transparency")
    if transparent is not None:
        grey.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return grey
