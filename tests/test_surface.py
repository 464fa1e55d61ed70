"""The public surface, and that importing it costs next to nothing."""

import json
from importlib import import_module

import pytest

SURFACE = {
    "hf_ela": ["ElaClassifier", "__version__", "error_level", "load_image"],
    "hf_ela.recipes": ["Recipe", "load_recipe"],
    "hf_ela.data": ["DataOptions", "prepare"],
    "hf_ela.training": ["reproduce", "train"],
    "hf_ela.evaluation": ["audit", "evaluate"],
    "hf_ela.hub": ["PushOptions", "release"],
}
IN_MODULES = {
    "hf_ela.ela.layers": ["ErrorLevel", "PillowResize"],
    "hf_ela.ela.tensor_jpeg": ["round_trip"],
    "hf_ela.errors": ["HfElaError", "ImageError", "ModelError"],
}
LIGHT = {"hf_ela", "hf_ela._lazy", "hf_ela._version", "hf_ela.errors", *SURFACE}

IMPORT = """
import importlib, json, sys
before = {*sys.modules}
for names in sys.argv[1:]:
    for name in json.loads(names):
        importlib.import_module(name)
    print(json.dumps(sorted({*sys.modules} - before)))
"""


@pytest.mark.parametrize("package", SURFACE)
def test_every_package_says_what_is_public(package) -> None:
    module = import_module(package)
    assert sorted(module.__all__) == SURFACE[package]
    for name in SURFACE[package]:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        _ = module.nothing


@pytest.mark.parametrize("module", IN_MODULES)
def test_public_names_of_modules_are_there(module) -> None:
    assert all(callable(getattr(import_module(module), name)) for name in IN_MODULES[module])


def test_importing_the_surface_imports_nothing_else(python) -> None:
    done = python(["-c", IMPORT, json.dumps([*SURFACE]), json.dumps(["hf_ela.images.loading"])])
    assert done.returncode == 0, done.stderr
    surface, images = map(json.loads, done.stdout.splitlines())
    assert {name for name in surface if name.startswith("hf_ela")} == LIGHT
    heavy = {
        "pydantic",
        "keras",
        "tensorflow",
        "jax",
        "torch",
        "datasets",
        "huggingface_hub",
        "rich",
    }
    assert not {"numpy", "PIL", *heavy} & {*surface}
    assert not heavy & {*images}
