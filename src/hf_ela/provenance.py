"""Where and with what a run was made: versions, codec, hardware, git commit."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hf_ela.backend import has_gpu, keras
from hf_ela.views import pixel_versions

_PACKAGES = (
    "hf-ela",
    "keras",
    "tensorflow",
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
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
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
    """Commit of the checkout that this package runs from, and whether files differ from it."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None
    command = ["git", "-C", str(here), "describe", "--always", "--abbrev=40", "--exclude=*"]
    command.append("--dirty=+changes")
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603  (no word of it comes from outside)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
