"""Provenance of a run: versions, codec, hardware, git commit, emissions."""

import logging
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hf_ela._threads import cores
from hf_ela.backend import has_gpu
from hf_ela.ela.views import pixel_versions
from hf_ela.errors import RunError, needs_extra

_PACKAGES = (
    "hf-ela",
    "keras",
    "tensorflow",
    "tensorflow-cpu",
    "jax",
    "torch",
    "datasets",
    "huggingface_hub",
    "pillow",
    "numpy",
    "scikit-learn",
    "evaluate",
)


def environment() -> dict[str, Any]:
    """Return the `environment` section of ``run.json``."""
    from hf_ela.backend import keras  # only here: a backend takes seconds to start

    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": cores(),
        "backend": keras.backend.backend(),
        "gpu": has_gpu(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
        "pixels": pixel_versions(),
        "git_commit": _git_commit(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _git_commit() -> str | None:
    """Return the commit of the checkout that this package runs from, marked if files differ."""
    here = Path(__file__).resolve().parents[3]
    if not (here / ".git").exists():
        return None
    command = ["git", "-C", str(here), "describe", "--always", "--abbrev=40", "--exclude=*"]
    command.append("--dirty=+changes")
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603  (no input from outside)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def tracker_for(country: str | None) -> Any:
    """Return a tracker of codecarbon, or None without a country.

    Args:
        country: Three-letter ISO code of the machine's location, for its electricity mix.

    Raises:
        RunError: codecarbon is not installed, or does not know the country.
    """
    if country is None:
        return None
    with needs_extra("co2", "Measuring emissions"):
        from codecarbon import OfflineEmissionsTracker
        from codecarbon.input import DataSource
    known = DataSource().get_global_energy_mix_data()
    if country not in known:
        raise RunError(
            "The country must be a three-letter ISO code that codecarbon knows, such as FRA. "
            f"Received: {country!r}."
        )
    logging.getLogger("codecarbon").propagate = False
    return OfflineEmissionsTracker(
        country_iso_code=country, save_to_file=False, log_level="critical", allow_multiple_runs=True
    )


@contextmanager
def measure_emissions(tracker: Any) -> Iterator[dict[str, Any]]:
    """Measure the emissions of a block; the dictionary that it gives is filled at the end.

    Yields:
        The fields of ``co2_eq_emissions`` in a model card, `emissions` in grams; empty where
        `tracker` is None.
    """
    found: dict[str, Any] = {}
    if tracker is None:
        yield found
        return
    tracker.start()
    try:
        yield found
    finally:
        tracker.stop()
    data = tracker.final_emissions_data
    found.update(
        emissions=data.emissions * 1000,  # codecarbon gives kilograms
        source=f"codecarbon {data.codecarbon_version}",
        training_type="pre-training",
        geographical_location=data.country_name,
        hardware_used=data.gpu_model or data.cpu_model,
    )
