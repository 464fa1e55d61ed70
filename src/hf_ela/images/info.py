"""The facts of an image file."""

from dataclasses import dataclass

from hf_ela.images.claims import Claim


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """Facts of the source, before its conversion to RGB.

    Attributes:
        name: The path as given, or a stand-in such as ``<bytes>``.
        format: ``JPEG``, ``PNG``, ``WEBP`` ...; None for an array or an image made in memory.
        mode: Pillow's name of the pixel layout before conversion, such as ``RGB`` or ``CMYK``.
        width: Pixels per row, as stored before orientation (TIFF: after).
        height: Rows, as stored before orientation (TIFF: after).
        size_bytes: Length of the encoded file; None for an array or a PIL image.
        exif: Whether the file carries an EXIF block, readable or not.
        icc: Whether the file carries a colour profile.
        alpha: Whether transparency was composited on mid-grey.
        jpeg_quality: The quality of `hf_ela.images.jpeg.estimate_quality`, from 1 to 100; None
            unless the source is a JPEG.
        jpeg_quality_exact: Whether the quantisation tables are exactly those of that quality; False
            for encoders with their own tables, such as Photoshop; None unless a JPEG.
        subsampling: Chroma subsampling ``4:4:4``, ``4:2:2``, ``4:2:0`` or ``other``; None unless
            the source is a JPEG of three components.
        jpeg_tables: Whose quantisation tables they are, ``libjpeg``, ``mozjpeg`` or ``other``; None
            unless a JPEG.
        claims: What the file says of how it was made; nothing for an array or a PIL image.
        smooth: Whether the picture shows nothing: one colour, a gradient or a blur. This and what
            follows is None before `hf_ela.images.traces.traced` has looked for it.
        monochrome: Whether it has shades of one colour, such as grey.
        two_tones: Whether it has hardly more than two tones, as a page of text.
        noise: Whether its finest detail is as strong as that of noise.
        scaled_up: Whether the finest detail is missing, as after scaling up.
        earlier_quality: Estimated quality of a JPEG that the picture was before this file; None
            also where there is no trace of one.
    """

    name: str
    format: str | None
    mode: str
    width: int
    height: int
    size_bytes: int | None
    exif: bool
    icc: bool
    alpha: bool
    jpeg_quality: int | None
    jpeg_quality_exact: bool | None
    subsampling: str | None
    jpeg_tables: str | None = None
    claims: tuple[Claim, ...] = ()
    smooth: bool | None = None
    monochrome: bool | None = None
    two_tones: bool | None = None
    noise: bool | None = None
    scaled_up: bool | None = None
    earlier_quality: int | None = None

    @property
    def words(self) -> str:
        """The facts as a list in words: ``JPEG, RGB, 640 x 480 pixels, ...``."""
        facts = [self.format or "pixels", self.mode, f"{self.width:,} x {self.height:,} pixels"]
        if self.size_bytes is not None:
            facts.append(f"{self.size_bytes:,} bytes")
        if self.jpeg_quality is not None:
            about = "" if self.jpeg_quality_exact else "about "
            facts.append(f"JPEG quality {about}{self.jpeg_quality}")
        if self.jpeg_tables == "mozjpeg":
            facts.append("tables of mozjpeg")
        if self.subsampling:
            facts.append(f"chroma subsampling {self.subsampling}")
        if self.earlier_quality is not None:
            facts.append(f"traces of an earlier JPEG of quality about {self.earlier_quality}")
        others = {
            "EXIF": self.exif,
            "colour profile": self.icc,
            "transparency": self.alpha,
            "nothing to see": self.smooth,
            "shades of one colour": self.monochrome,
            "hardly more than two tones": self.two_tones,
            "noise": self.noise,
            "scaled up": self.scaled_up,
        }
        return ", ".join([*facts, *(name for name, found in others.items() if found)])
