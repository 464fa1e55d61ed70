"""How much CO2 a training caused, measure_emissions by codecarbon where a country is named."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hf_ela.errors import RunError

__all__ = ["measure_emissions", "tracker_for"]


def tracker_for(country: str | None) -> Any:
    """Return a tracker of codecarbon, or None without a country.

    Args:
        country: Three-letter ISO code of where the machine stands, for its mix of electricity.

    Raises:
        RunError: codecarbon is not installed, or does not know the country.
    """
    if country is None:
        return None
    try:
        from codecarbon import OfflineEmissionsTracker
        from codecarbon.input import DataSource
    except ModuleNotFoundError as error:
        raise RunError(
            "Measuring emissions needs the extra `co2`. "
            f'Received: no module {error.name}. Install it: pip install "hf-ela[co2]"'
        ) from error
    known = DataSource().get_global_energy_mix_data()
    if country not in known:
        raise RunError(
            "A country is named by its three-letter ISO code, as in FRA. "
            f"Received: {country!r}, which codecarbon does not know."
        )
    logging.getLogger("codecarbon").propagate = False
    return OfflineEmissionsTracker(
        country_iso_code=country, save_to_file=False, log_level="critical", allow_multiple_runs=True
    )


@contextmanager
def measure_emissions(tracker: Any) -> Iterator[dict[str, Any]]:
    """Measure what happens inside; the dictionary that it gives is filled at the end.

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
