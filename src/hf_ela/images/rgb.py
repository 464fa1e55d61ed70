"""Every pixel layout that has a defined range -> RGB of 8 bits.

- Alpha, premultiplied alpha and transparent colours are composited on mid-grey (``MID_GREY``):
  black or white would draw an edge around every cut-out and thereby a bright rim in its ELA.
- 16-bit grey is divided by 257 and rounded, since 65,535 / 257 = 255. 32-bit integers are taken
  for 16-bit ones if all are from 0 to 65,535. Colour of 16 bits reaches us from Pillow, which has
  kept the upper byte.
- CMYK is converted without a colour profile; Pillow reads it from a JPEG as stored inverted, the
  way Adobe writes it. Profiles of RGB images are not applied either: ELA looks at stored values.
- Floating point, and every other mode that is not in ``RGB_MODES``, has no defined way.
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
"""The modes of Pillow that ``to_rgb`` takes."""


def to_rgb(image: Image.Image, name: str) -> tuple[Image.Image, bool]:
    """Convert a loaded image of a mode in ``RGB_MODES``.

    Args:
        image: The image; left as it is.
        name: What to call it in an error.

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
        rgb.info.clear()  # an orientation left behind would be applied again by the next reader
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
