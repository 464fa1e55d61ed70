"""A training with ELA on the device, and what it reaches on the test images."""

import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

from hf_ela.recipes.loading import load_recipe


def trained(name: str, data: Path, quick: bool) -> dict[str, Any]:
    """Train a recipe on packed images; return its times and its accuracy and AUC as-is."""
    from sklearn.metrics import accuracy_score, roc_auc_score

    from hf_ela.data.loading import DataOptions
    from hf_ela.data.preparation import prepare
    from hf_ela.models.detector import image_logits, keras_probabilities
    from hf_ela.training.fit import fit

    # As-is: packed images are aligned already.
    overrides = ["training.ela=on_device", "input.training=as_is"]
    overrides += ["training.epochs=1", "training.batch_size=8"] if quick else []
    recipe = load_recipe(name, overrides)
    with tempfile.TemporaryDirectory() as folder:
        options = DataOptions(
            str(data), streaming=True, cache_dir=folder, limit=16 if quick else None
        )
        started = perf_counter()
        found = prepare(options, recipe)
        prepared = perf_counter() - started
        model, checkpoint = fit(recipe, found.train, found.validation, Path(folder) / "checkpoint")
        logits = image_logits(keras_probabilities(model), found.test.views("as_is"))
    return {
        "recipe": name,
        "preparation_seconds": prepared,
        "training_seconds": checkpoint.seconds,
        "test_accuracy": accuracy_score(found.test.labels, logits >= 0),
        "test_auc": roc_auc_score(found.test.labels, logits),
        "test_images": len(found.test),
    }
