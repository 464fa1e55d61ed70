import csv
import io
import os
import subprocess
import sys
from base64 import urlsafe_b64encode
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

from conftest import REPOSITORY, python_path
from hf_ela import ElaClassifier, __version__
from hf_ela.hub.locate import PACKAGED, packaged_model
from hf_ela.hub.package import requirements, sample_files, wheel
from widget_page import WIDGET

NAME, BYTES = wheel()

WHEEL_AGAIN = "import sys, hf_ela.hub.package as p; sys.stdout.buffer.write(p.wheel()[1])"


def run_python(code: str, *arguments: object, path: Path) -> subprocess.CompletedProcess[bytes]:
    """Run code in a fresh process that finds hf_ela at `path`."""
    return subprocess.run(
        [sys.executable, "-P", "-c", code, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": python_path(path), "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def wheel_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("wheel") / NAME
    path.write_bytes(BYTES)
    return path


@pytest.fixture
def installed(wheel_file, tmp_path) -> Path:
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
            "hf_ela/recipes/scratch.toml",
            "hf_ela/hub/assets/handler.py",
            "hf_ela/hub/assets/space/app.py",
            *(f"hf_ela/hub/assets/widget/{path.name}" for path in WIDGET.iterdir()),
            *(f"hf_ela/model_card/samples/{name}" for name in sample_files()),
        } <= {*names}
        assert len(names) == len({*names})
        assert not [name for name in names if "__pycache__" in name or "/." in name]

    def test_its_record_has_every_file_and_its_hash(self) -> None:
        archive = ZipFile(io.BytesIO(BYTES))
        record = f"hf_ela-{__version__}.dist-info/RECORD"
        rows = list(csv.reader(io.StringIO(archive.read(record).decode())))
        assert [name for name, _, _ in rows] == archive.namelist()
        for name, digest, size in rows[:-1]:
            content = archive.read(name)
            encoded = urlsafe_b64encode(sha256(content).digest()).decode().rstrip("=")
            assert (digest, size) == (f"sha256={encoded}", str(len(content)))

    def test_an_installation_of_it_makes_the_same_bytes_and_predicts(
        self, wheel_file, installed, tiny_run, pictures
    ) -> None:
        again = run_python(WHEEL_AGAIN, path=installed)
        assert again.stdout == BYTES, again.stderr.decode()
        assert (installed / "bin" / "hf-ela").is_file()

        # A model of the package stays out, since a release has its own; so do stray files.
        package = installed / "hf_ela"
        stray = [f"{PACKAGED}/README.md", ".env", "cli.py~", "model_card/.hidden.md"]
        for name in (*stray, "__pycache__/cli.cpython-311.pyc"):
            (package / name).parent.mkdir(exist_ok=True)
            (package / name).write_text("HF_TOKEN=secret")
        assert run_python(WHEEL_AGAIN, path=installed).stdout == BYTES

        module = package / "_version.py"
        module.write_text(module.read_text().replace(__version__, "99.0"))
        done = run_python(WHEEL_AGAIN, path=installed)
        assert done.returncode == 1
        assert b"ReleaseError: The installed hf-ela has version 0" in done.stderr

        # Without being installed, from the file itself.
        code = """
import sys, hf_ela
from hf_ela.recipes.loading import built_in_recipes
assert ".whl" in hf_ela.__file__, hf_ela.__file__
assert built_in_recipes() == ["ela", "reference", "scratch", "transfer"]
print(hf_ela.ElaClassifier.from_pretrained(sys.argv[1]).predict(sys.argv[2])[0]["score"])
"""
        done = run_python(code, tiny_run, pictures[0], path=wheel_file)
        assert done.returncode == 0, done.stderr.decode()
        expected = ElaClassifier.from_pretrained(tiny_run).predict(pictures[0])[0]["score"]
        assert float(done.stdout) == pytest.approx(expected, abs=1e-4)


@pytest.mark.second_lane
def test_a_built_wheel_has_the_model_and_predicts_with_it(tmp_path, pictures) -> None:
    """By the real build, with all that a release needs."""
    wheels, site = tmp_path / "wheels", tmp_path / "site"
    pip = [sys.executable, "-m", "pip"]
    words = [*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", wheels, REPOSITORY]
    built = subprocess.run(words, capture_output=True, text=True, check=False)
    if "No matching distribution" in built.stderr:
        pytest.skip("what builds the package (hatchling) cannot be installed here")
    assert built.returncode == 0, built.stderr
    (file,) = wheels.iterdir()
    names = {*ZipFile(file).namelist()}
    model = packaged_model()
    assert {f"hf_ela/{PACKAGED}/{path.name}" for path in model.iterdir() if path.is_file()} <= names
    assert {*ZipFile(io.BytesIO(BYTES)).namelist()} - names == set()
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--target", site, file], check=True)
    code = "import sys, hf_ela; print(hf_ela.ElaClassifier.from_pretrained().predict(sys.argv[1]))"
    done = run_python(code, pictures[0], path=site)
    expected = ElaClassifier.from_pretrained().predict(pictures[0])
    assert done.stdout.decode() == f"{expected}\n", done.stderr.decode()
    code = "from hf_ela.hub.package import *; print(*sample_files().values(), sep='\\n')"
    found = run_python(code, path=site).stdout.decode().splitlines()
    assert all(Path(name).is_relative_to(site) and Path(name).is_file() for name in found)
    assert len(found) == len(sample_files())


class TestRequirements:
    def test_are_those_of_others(self) -> None:
        names = [Requirement(line).name for line in requirements("keras").splitlines()]
        assert {"keras", "numpy", "pillow", "jax"} <= {*names}
        assert not {"hf-ela", "tensorflow", "pytest", "gradio"} & {*names}
        assert ";" not in requirements("keras")

    def test_pinned_are_the_versions_that_are_here(self) -> None:
        lines = requirements("keras", pinned=True).splitlines()
        assert f"pillow=={version('pillow')}" in lines
        assert f"onnxruntime=={version('onnxruntime')}" in lines
        assert [Requirement(line).name for line in lines] == [
            Requirement(line).name for line in requirements("keras").splitlines()
        ]

    def test_extras_are_added_to_the_core(self) -> None:
        core = requirements().splitlines()
        assert not [line for line in core if line.startswith(("keras", "onnx>", "h5py"))]
        assert [line for line in core if line.startswith("onnxruntime")]
        assert requirements("keras").splitlines() == [*core, "jax>=0.5", "keras>=3.13.2"]
        assert {*core} < {*requirements("train").splitlines()}


def test_hf_finds_it_as_an_extension(tmp_path) -> None:
    """`hf extensions install` takes a package whose script has the name of its repository."""
    extensions = pytest.importorskip("huggingface_hub.cli.extensions")
    assert not (REPOSITORY / "hf-ela").exists()  # it would be taken for the whole extension
    script = Path(sys.executable).with_name("hf-ela")
    names = {"owner": "OWNER", "repo": "hf-ela", "repo_id": "OWNER/hf-ela", "short_name": "ela"}
    installed = extensions.ExtensionManifest(
        **names, executable_path=str(script), type="python", installed_at=datetime.now(UTC)
    )
    installed.save(tmp_path / ".local/share/hf/extensions/hf-ela")
    done = subprocess.run(
        [sys.executable, "-m", "huggingface_hub.cli.hf", "ela", "--version"],
        env=os.environ | {"HOME": str(tmp_path), "HF_HUB_DISABLE_UPDATE_CHECK": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"hf-ela {__version__}\n"
