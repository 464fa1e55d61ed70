import csv
import io
import os
import shutil
import subprocess
import sys
from base64 import urlsafe_b64encode
from hashlib import sha256
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

from bad_files import picture
from conftest import REPOSITORY, TINY
from hf_ela import ElaClassifier, __version__
from hf_ela.backend import keras
from hf_ela.hub.locate import PACKAGED
from hf_ela.hub.samples import sample_pictures
from hf_ela.hub.wheel import requirements, wheel
from hf_ela.models.networks import build_model
from hf_ela.recipes.loading import load_recipe

NAME, BYTES = wheel()

WHEEL_AGAIN = "import sys, hf_ela.hub.wheel as p; sys.stdout.buffer.write(p.wheel()[1])"


def run_python(code: str, *arguments: object, path: Path) -> subprocess.CompletedProcess[bytes]:
    """Run code in a fresh process that finds hf_ela at `path`."""
    return subprocess.run(
        [sys.executable, "-P", "-c", code, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(path), "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def wheel_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wheel") / NAME
    path.write_bytes(BYTES)
    return path


@pytest.fixture
def installed(wheel_file: Path, tmp_path: Path) -> Path:
    """The wheel installed by pip, alone in a folder."""
    options = ["--quiet", "--no-index", "--no-deps", "--no-compile", "--target"]
    command = [sys.executable, "-m", "pip", "install", *options, tmp_path / "site", wheel_file]
    subprocess.run(command, check=True)
    return tmp_path / "site"


class TestWheel:
    def test_holds_the_package_and_nothing_else(self) -> None:
        assert f"hf_ela-{__version__}-py3-none-any.whl" == NAME
        names = ZipFile(io.BytesIO(BYTES)).namelist()
        source = REPOSITORY / "src" / "hf_ela"
        modules = {f"hf_ela/{path.relative_to(source)}" for path in source.rglob("*.py")}
        assert modules <= {*names}
        assert {
            "hf_ela/py.typed",
            "hf_ela/recipes/default.toml",
            "hf_ela/assets/handler.py",
            "hf_ela/assets/space/app.py",
            "hf_ela/assets/space/README.md",
            *(f"hf_ela/model_card/samples/{name}" for name in sample_pictures()),
        } <= {*names}
        assert len(names) == len({*names})
        assert not [name for name in names if "__pycache__" in name or "/." in name]

    def test_leaves_the_model_of_the_package_out(self, installed: Path) -> None:
        """A release has its own, beside the wheel."""
        model = installed / "hf_ela" / PACKAGED
        shutil.rmtree(model, ignore_errors=True)
        model.mkdir()
        (model / "README.md").write_text("a card")
        assert run_python(WHEEL_AGAIN, path=installed).stdout == BYTES

    def test_its_record_has_every_file_and_its_hash(self) -> None:
        archive = ZipFile(io.BytesIO(BYTES))
        record = f"hf_ela-{__version__}.dist-info/RECORD"
        rows = list(csv.reader(io.StringIO(archive.read(record).decode())))
        assert [name for name, _, _ in rows] == archive.namelist()
        for name, digest, size in rows[:-1]:
            content = archive.read(name)
            encoded = urlsafe_b64encode(sha256(content).digest()).decode().rstrip("=")
            assert (digest, size) == (f"sha256={encoded}", str(len(content)))

    def test_an_installation_of_it_makes_the_same_bytes(self, installed: Path) -> None:
        where = run_python("import hf_ela; print(hf_ela.__file__)", path=installed).stdout.decode()
        assert where.startswith(str(installed))
        assert (installed / "bin" / "hf-ela").is_file()
        assert run_python(WHEEL_AGAIN, path=installed).stdout == BYTES

    def test_what_lies_beside_the_package_stays_behind(self, installed: Path) -> None:
        package = installed / "hf_ela"
        (package / ".env").write_text("HF_TOKEN=secret")
        (package / "cli.py~").write_text("backup")
        (package / "model_card" / ".hidden.md").write_text("mine")
        (package / "__pycache__").mkdir(exist_ok=True)
        (package / "__pycache__" / "cli.cpython-311.pyc").write_bytes(b"old")
        assert run_python(WHEEL_AGAIN, path=installed).stdout == BYTES

    def test_code_of_another_version_than_the_installation_is_refused(
        self, installed: Path
    ) -> None:
        module = installed / "hf_ela" / "__init__.py"
        module.write_text(module.read_text().replace(__version__, "99.0"))
        done = run_python(WHEEL_AGAIN, path=installed)
        assert done.returncode == 1
        assert b"ReleaseError: hf-ela must be installed as it is: the code is of" in done.stderr
        assert b"Received: an installation of 0" in done.stderr

    def test_it_predicts_without_being_installed(self, wheel_file: Path, tmp_path: Path) -> None:
        keras.utils.set_random_seed(0)
        recipe = load_recipe("default", TINY)
        classifier = ElaClassifier(build_model(recipe), recipe, temperature=0.01)
        classifier.save_pretrained(tmp_path / "model", onnx=False)
        picture().save(tmp_path / "image.png")
        code = """
import sys, hf_ela
from hf_ela.recipes.loading import built_in_recipes
assert ".whl" in hf_ela.__file__, hf_ela.__file__
assert built_in_recipes() == ["default", "reference"]
print(hf_ela.ElaClassifier.from_pretrained(sys.argv[1]).predict(sys.argv[2])[0]["score"])
"""
        done = run_python(code, tmp_path / "model", tmp_path / "image.png", path=wheel_file)
        assert done.returncode == 0, done.stderr.decode()
        expected = classifier.predict(tmp_path / "image.png")[0]["score"]
        assert float(done.stdout) == pytest.approx(expected, abs=1e-4)


@pytest.mark.second_lane
def test_a_built_wheel_has_the_model_and_predicts_with_it(tmp_path: Path) -> None:
    """By the real build, of a checkout with a model in it."""
    source, wheels, site = (tmp_path / name for name in ("source", "wheels", "site"))
    for name in ("src", "model_card"):
        shutil.copytree(REPOSITORY / name, source / name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    recipe = load_recipe("default", TINY)
    model = source / "src" / "hf_ela" / PACKAGED
    shutil.rmtree(model, ignore_errors=True)
    ElaClassifier(build_model(recipe), recipe).save_pretrained(model)
    (model / "README.md").write_text("a card")
    pip = [sys.executable, "-m", "pip"]
    words = [*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", wheels, source]
    built = subprocess.run(words, capture_output=True, text=True, check=False)
    if "No matching distribution" in built.stderr:
        pytest.skip("what builds the package (hatchling) cannot be installed here")
    assert built.returncode == 0, built.stderr
    (file,) = wheels.iterdir()
    found = {name.rpartition("/")[2] for name in ZipFile(file).namelist() if PACKAGED in name}
    assert found == {path.name for path in model.iterdir()}
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--target", site, file], check=True)
    picture().save(tmp_path / "image.png")
    code = "import sys, hf_ela; print(hf_ela.ElaClassifier.from_pretrained().predict(sys.argv[1]))"
    done = run_python(code, tmp_path / "image.png", path=site)
    expected = ElaClassifier.from_pretrained(model).predict(tmp_path / "image.png")
    assert done.stdout.decode() == f"{expected}\n", done.stderr.decode()


class TestRequirements:
    def test_are_those_of_others(self) -> None:
        names = [Requirement(line).name for line in requirements("jax").splitlines()]
        assert {"keras", "numpy", "pillow", "jax"} <= {*names}
        assert not {"hf-ela", "tensorflow", "pytest", "gradio"} & {*names}
        assert ";" not in requirements("jax")

    def test_extras_are_added_to_the_core(self) -> None:
        core = requirements().splitlines()
        assert not [line for line in core if line.startswith(("keras", "onnx>", "h5py"))]
        assert [line for line in core if line.startswith("onnxruntime")]
        assert requirements("torch").splitlines() == [*core, "keras>=3.13.2", "torch>=2.6"]
        assert {*core} < {*requirements("train").splitlines()}
