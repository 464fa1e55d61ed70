"""Hand-made statistics of error levels: any image gives them, and they say what they are named."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from exact_cases import picture
from hf_ela.ela.error_level import error_level
from hf_ela.ela.statistics import QUALITIES, SQUARE, STATISTICS, error_level_statistics
from hf_ela.errors import NotAnImageError


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(picture("noise", height, width, seed))


def named(image: Image.Image) -> dict[str, float]:
    return dict(zip(STATISTICS, error_level_statistics(image).tolist(), strict=True))


@settings(max_examples=15)
@given(width=st.integers(1, 300), height=st.integers(1, 300))
def test_any_size_gives_finite_numbers(width, height) -> None:
    found = error_level_statistics(noise(width, height))
    assert found.dtype == np.float32
    assert found.shape == (len(STATISTICS),) == (len(set(STATISTICS)),)
    assert np.isfinite(found).all()


def test_a_flat_image_is_finite_and_silent() -> None:
    found = named(Image.new("RGB", (90, 90), (128, 128, 128)))
    assert np.isfinite(list(found.values())).all()
    assert found["85_Y_mean_abs"] == 0
    assert found["85_Cr_zeros"] == 1


def test_moments_are_those_of_the_residual() -> None:
    """The whole square of an image that is just large enough: no choice of a middle is left."""
    image = noise(SQUARE + 4, SQUARE + 4, seed=3)
    found = named(image)
    square = image.crop((4, 4, SQUARE + 4, SQUARE + 4))
    levels = error_level(square, QUALITIES, signed=True, color="YCbCr").astype(np.float64)
    cb = levels[..., 4]  # quality 85
    assert found["85_Cb_mean"] == pytest.approx(cb.mean(), abs=1e-4)
    assert found["85_Cb_mean_abs"] == pytest.approx(np.abs(cb).mean(), rel=1e-5)
    assert found["85_Cb_std"] == pytest.approx(cb.std(), rel=1e-5)
    assert found["85_Cb_zeros"] == pytest.approx((cb == 0).mean(), abs=1e-6)
    assert found["85_Cb_quantile_0.95"] == np.quantile(cb, 0.95, method="inverted_cdf")
    kurtosis = ((cb - cb.mean()) ** 4).mean() / cb.var() ** 2
    assert found["85_Cb_kurtosis"] == pytest.approx(kurtosis, rel=1e-4)
    correlation = np.corrcoef(cb[:, :-1].ravel(), cb[:, 1:].ravel())[0, 1]
    assert found["85_Cb_lag_0_1"] == pytest.approx(correlation, abs=5e-3)
    expected = np.corrcoef(levels[..., 0].ravel(), levels[..., 3].ravel())[0, 1]
    assert found["85_Y_75_Y_correlation"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("quality", QUALITIES)
def test_the_grid_tells_the_quality_an_image_was_saved_with(quality) -> None:
    file = io.BytesIO()
    picture = noise(152, 152).resize((304, 304), Image.Resampling.BICUBIC)
    picture.save(file, "JPEG", quality=quality)
    zeros = {q: named(Image.open(file))[f"{q}_Y_on_grid_zeros"] for q in QUALITIES}
    assert max(zeros, key=lambda q: zeros[q]) == quality
    before = named(picture)[f"{quality}_Y_on_grid_mean_abs"]
    assert named(Image.open(file))[f"{quality}_Y_on_grid_mean_abs"] < before / 2


def test_the_grid_tells_nothing_of_the_size() -> None:
    """Not which half of a chroma block, of 16 pixels, the middle of an image begins at."""
    file = io.BytesIO()
    noise(32, 32).resize((384, 384), Image.Resampling.BICUBIC).save(file, "JPEG", quality=95)
    found = []
    for width in range(256, 385, 8):
        image = Image.open(file).crop((0, 0, width, 384))
        found.append(named(image)["95_Cb_on_grid_ratio"])
    assert max(found) < -0.1
    assert np.ptp(found) < 0.1


def test_only_the_middle_of_a_large_image_counts() -> None:
    pixels = np.asarray(noise(600, 500)).copy()
    before = error_level_statistics(pixels)
    pixels[:100] = pixels[-100:] = 0
    assert np.array_equal(error_level_statistics(pixels), before)
    pixels[240:260] = 0
    assert not np.array_equal(error_level_statistics(pixels), before)


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(NotAnImageError):
        error_level_statistics(b"no image")
