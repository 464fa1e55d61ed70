"""Make the sample pictures of this folder again: python model_card/make_samples.py."""

import tempfile
from pathlib import Path

from PIL import Image

from hf_ela.data.synthetic.dataset import write_samples
from hf_ela.ela.picture import ela_picture

HERE = Path(__file__).parent / "samples"

with tempfile.TemporaryDirectory() as folder:
    made = write_samples(Path(folder) / "set", per_class=1, test_per_class=29) / "test"
    for label in ("real", "fake"):
        dots = (made / label / "dots-0028.jpg").read_bytes()
        (HERE / f"dots-{label}.jpg").write_bytes(dots)
        with Image.open(made / label / "watercolour-0016.jpg") as picture:
            picture.crop((32, 0, 288, 256)).save(HERE / f"watercolour-{label}.png", optimize=True)
panels = ela_picture(HERE / "dots-real.jpg", [75, 90], gain=12.0)
panels.quantize(256).save(HERE / "ela.png", optimize=True)
