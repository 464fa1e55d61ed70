"""Small networks that nothing trains, for several test files."""

from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from bad_files import picture
from conftest import TINY
from hf_ela import ElaClassifier
from hf_ela.models.networks import add_bias, build_model
from hf_ela.recipes.loading import load_recipe
from hf_ela.recipes.schema import Recipe

CROPS = load_recipe(
    "scratch", [*TINY, "input.grid=2", "ela.qualities=[75, 95]", "ela.gain=2.5", "ela.signed=false"]
)
"""Four crops; the gain is a table, which no other exported model has."""
RESIZED = load_recipe("reference", ["input.before=40", "input.size=24", "ela.with_pixels=true"])


def network_of(recipe: Recipe, seed: int = 0) -> Any:
    """Random kernels, large enough for probabilities that differ from image to image."""
    network = build_model(recipe)
    rng = np.random.default_rng(seed)
    for weight in network.weights:
        if weight.name == "kernel":
            weight.assign(rng.normal(0, 2 * np.prod(weight.shape[:-1]) ** -0.5, weight.shape))
    return network


def classifier_of(recipe: Recipe, **settings: Any) -> ElaClassifier:
    return ElaClassifier(
        network_of(recipe), recipe, **{"temperature": 1.7, "threshold": 0.4} | settings
    )


@cache
def crops_classifier() -> ElaClassifier:
    """What the fixture `saved_crops` holds, with scores on both sides. Not to be changed."""
    classifier = classifier_of(CROPS)
    add_bias(classifier.model, -11.6)
    return classifier


@cache
def resized_classifier() -> ElaClassifier:
    """What the fixture `saved_resized` holds, with scores on both sides. Not to be changed."""
    classifier = classifier_of(RESIZED)
    add_bias(classifier.model, 5.5)
    return classifier


def images(number: int) -> list[Image.Image]:
    sizes = [(61, 47), (200, 100), (20, 90), (64, 64)]
    return [picture(*sizes[i % 4], seed=i) for i in range(number)]
