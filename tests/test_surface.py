"""The public surface, and that importing it costs next to nothing."""

import json
import sys
from importlib import import_module

import pytest

from hf_ela import errors

SURFACE = {
    "hf_ela": ["ElaClassifier", "__version__", "error_level", "load_image"],
    "hf_ela.recipes": ["Recipe", "load_recipe"],
    "hf_ela.data": ["DataOptions", "prepare"],
    "hf_ela.training": ["Initial", "reproduce", "train"],
    "hf_ela.evaluation": ["audit", "evaluate"],
    "hf_ela.hub": ["PushOptions", "release"],
}
IN_MODULES = {
    "hf_ela.ela.layers": ["ErrorLevel", "PillowResize"],
    "hf_ela.ela.tensor_jpeg": ["round_trip"],
}
ERRORS = """
    HfElaError BackendError CardError DataError DatasetNotFoundError EmptyImageError ExportError
    HeadMovedError HubUnreachableError ImageError ImageNotReadableError ImageTooLargeError
    LabelError ModelError ModelNotFoundError NotAnImageError RecipeError ReleaseError RunError
    TooManyRejectedError TruncatedImageError UnsupportedModeError VerificationError
"""
NAMES = [(module, name) for module, names in (SURFACE | IN_MODULES).items() for name in names]

IMPORT = """
import importlib, json, sys
before = {*sys.modules}
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps(sorted({*sys.modules} - before)))
"""


@pytest.mark.parametrize("package", SURFACE)
def test_every_package_says_what_is_public(package) -> None:
    module = import_module(package)
    assert sorted(module.__all__) == SURFACE[package]
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        _ = module.nothing


@pytest.mark.parametrize(("module", "name"), [one for one in NAMES if one[1] != "__version__"])
def test_a_public_name_is_the_class_or_function_of_that_name(module, name) -> None:
    found = getattr(import_module(module), name)
    assert found.__name__ == name  # that of a module would be whole: hf_ela.evaluation.audit
    assert callable(found)
    assert found.__module__.startswith("hf_ela.")
    assert found.__doc__


def test_the_errors_have_one_root() -> None:
    found = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type)}
    assert {name for name in found if name.endswith("Error")} == {*ERRORS.split()}
    assert all(issubclass(found[name], errors.HfElaError) for name in ERRORS.split())


@pytest.mark.parametrize(
    ("names", "packages"),
    [(["hf_ela"], set()), ([*SURFACE], set()), (["hf_ela.images.loading"], {"numpy", "PIL"})],
    ids=["hf_ela", "surface", "images"],
)
def test_importing_imports_nothing_heavy(python, names, packages) -> None:
    done = python(["-c", IMPORT, *names])
    assert done.returncode == 0, done.stderr
    modules = json.loads(done.stdout)
    of_others = {name.partition(".")[0] for name in modules} - sys.stdlib_module_names
    assert of_others == {"hf_ela", *packages}
    if not packages:
        light = {"hf_ela", "hf_ela._lazy", "hf_ela._version", "hf_ela.errors", *names}
        assert {name for name in modules if name.startswith("hf_ela")} == light
