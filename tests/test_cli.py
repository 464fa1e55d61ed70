import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import termios
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from PIL import Image, ImageChops
from PIL.PngImagePlugin import PngInfo

import hf_ela
from bad_files import encode, picture, write_bad_files
from conftest import COMMAND, REPOSITORY, ctrl_c_is_heard, python_path
from hf_ela import ElaClassifier, error_level
from hf_ela._terminal import native_messages_held_back
from hf_ela._text import SYNTHETIC_NOTICE
from hf_ela.cli import main
from hf_ela.ela.error_level import brightened
from hf_ela.errors import install_command
from hf_ela.hub.locate import PACKAGED, packaged_model
from hf_ela.models.explain import BLUE, RED, tinted
from hf_ela.models.networks import build_model
from hf_ela.recipes.loading import load_recipe
from networks import crops_classifier

# Keras reads a TensorFlow variable by an interface that NumPy 2 calls old.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

HEAVY = ["keras", "tensorflow", "jax", "torch", "datasets", "numpy", "PIL", "pydantic"]


def run(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command as a person would, in a process of its own."""
    return subprocess.run(
        [*COMMAND, *map(os.fspath, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        **options,
    )


def lines_of(out: str) -> list[Any]:
    return [json.loads(line) for line in out.splitlines()]


@pytest.fixture(scope="module")
def classifier() -> ElaClassifier:
    overrides = ("input.size=32", "network.widths=[4, 8]", "network.blocks=1")
    recipe = load_recipe("scratch", overrides)
    return ElaClassifier(build_model(recipe), recipe, threshold=0.3)


@pytest.fixture(scope="module")
def model(classifier, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("saved") / "model"
    classifier.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Three images and a text, two levels deep, in the working directory."""
    monkeypatch.chdir(tmp_path)
    deep = tmp_path / "art" / "deep"
    deep.mkdir(parents=True)
    for seed, path in enumerate(("art/b.PNG", "art/a.jpg", "art/deep/c.webp")):
        image_format = {".PNG": "PNG", ".jpg": "JPEG", ".webp": "WEBP"}[Path(path).suffix]
        (tmp_path / path).write_bytes(encode(picture(seed=seed), image_format))
    (deep / "notes.txt").write_text("no image")
    return tmp_path


class TestPredict:
    def test_json_has_a_line_per_file(self, model, classifier, folder, command) -> None:
        out, err = command(f"predict art --model {model} --json --batch-size 2")
        found = lines_of(out)
        assert [one["file"] for one in found] == [
            str(Path(name)) for name in ("art/a.jpg", "art/b.PNG", "art/deep/c.webp")
        ]
        assert err == ""
        for one in found:
            first, second = classifier.predict(one["file"])
            assert set(one) == (
                {"file", "label", "score", "scores", "probability", "uncertain", "claims", "facts"}
            )
            assert (
                one["facts"]["format"]
                == {"a": "JPEG", "b": "PNG", "c": "WEBP"}[Path(one["file"]).stem]
            )
            assert one["uncertain"] is False  # the model has no band
            assert one["label"] == first["label"]
            assert one["score"] == pytest.approx(first["score"], abs=1e-6)
            assert one["scores"][second["label"]] == pytest.approx(second["score"], abs=1e-6)
            assert sum(one["scores"].values()) == pytest.approx(1)

    def test_table_is_for_people(self, model, folder, command) -> None:
        (folder / "[red]odd\x1b[31m\n.png").write_text("no image")
        names = ["[red]odd\x1b[31m\n.png", "art"]
        out, err = command("predict", *names, "--model", model, status=1)
        assert err == ""
        assert "\x1b" not in out
        one_line = out.replace("\n", " ")
        texts = ["[red]odd\\x1b[31m\\n.png", "a.jpg", "P(fake)", "must be an image: one of"]
        texts.append("Images with 0.300 or more are called fake")
        assert [text for text in texts if text not in one_line] == []
        assert out.count("fake") + out.count("real") >= 3

    def test_a_model_of_synthetic_pictures_says_so(self, classifier, folder, command) -> None:
        for synthetic in (True, False):
            data = {"synthetic": synthetic}
            trained = ElaClassifier(classifier.model, classifier.recipe, data=data)
            trained.save_pretrained("model", onnx=False)
            assert (SYNTHETIC_NOTICE in command("predict art/a.jpg --model model").out) is synthetic
            found = json.loads(command("predict art/a.jpg --model model --json").out)
            assert found.get("notice") == (SYNTHETIC_NOTICE if synthetic else None)

    def test_says_where_the_model_does_not_know(self, classifier, folder, command) -> None:
        scores = sorted(classifier.scores(["art/a.jpg", "art/b.PNG", "art/deep/c.webp"]))
        rounding = 1e-6  # of Keras, whose sums depend on the batch
        band = (scores[0] - rounding, scores[1] + rounding)
        threshold = scores[1] - rounding
        unsure = ElaClassifier(classifier.model, classifier.recipe, 1.0, threshold, band)
        unsure.save_pretrained("model", onnx=False)
        for more in ([], ["--explain", "why"]):
            found = lines_of(command("predict art --model model --json", *more).out)
            by_score = sorted(found, key=lambda one: one["probability"])
            assert [one["uncertain"] for one in by_score] == [True, True, False]
            assert [one["label"] for one in by_score] == ["real", "fake", "fake"]
        out = " ".join(command("predict art --model model").out.split())
        assert out.count("uncertain (fake?)") == out.count("uncertain (real?)") == 1
        assert f"Between {band[0]:.3f} and {band[1]:.3f} the answer is uncertain" in out
        assert out.endswith("Model: model")

    def test_without_a_name_the_model_in_the_package_answers(self, model, folder) -> None:
        package = Path(hf_ela.__file__).parent
        without = shutil.ignore_patterns(PACKAGED, "__pycache__")
        shutil.copytree(package, folder / "site" / "hf_ela", ignore=without)
        environment = os.environ | {"PYTHONPATH": python_path(folder / "site")}
        done = run("predict", "art", env=environment)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("hf-ela: This hf-ela was built without a model")
        shutil.copytree(model, folder / "site" / "hf_ela" / PACKAGED)
        table = run("predict", "art", env=environment).stdout
        assert table.endswith("Model: the model packaged with hf-ela, a research baseline\n")
        lines = run("predict", "art", "--json", env=environment).stdout
        assert lines == run("predict", "art", "--model", model, "--json").stdout
        code = "import hf_ela; print(hf_ela.ElaClassifier.from_pretrained().threshold)"
        words = [sys.executable, "-c", code]
        assert subprocess.check_output(words, env=environment, text=True) == "0.3\n"

    def test_explain_saves_a_sheet_of_each_image(self, model, folder, command) -> None:
        (folder / "other").mkdir()
        (folder / "other" / "a.jpg").write_bytes(encode(picture(seed=9), "JPEG"))
        (folder / "art" / "bad.png").write_text("no image")
        words = f"predict art other --model {model} --explain why --json"
        found = lines_of(command(words, status=1).out)
        loaded = ElaClassifier.from_pretrained(model)
        names = set()
        for one in found:
            if one["file"].endswith("bad.png"):
                assert one["error"]["type"] == "NotAnImageError"
                continue
            why = loaded.explain(one["file"])
            assert one["probability"] == why.score
            boxes = [tuple(view[key] for key in why.boxes[0]._fields) for view in one["views"]]
            assert boxes == [tuple(box) for box in why.boxes]
            assert [view["score"] for view in one["views"]] == why.scores
            with Image.open(one["sheet"]) as sheet:
                assert sheet.width == 1600
                lines = [line.tobytes() for line in np.asarray(sheet)]
            shown = (488, round(488 * 47 / 61))
            for part in (why.image, tinted(why, shown), Image.fromarray(why.ela)):
                part = np.asarray(part.resize(shown, Image.Resampling.LANCZOS))
                assert any(part[200].tobytes() in line for line in lines)
            names.add(one["sheet"])
        assert len(names) == 4  # two images are called a.jpg
        assert sorted(names) == sorted(str(path) for path in Path("why").iterdir())

    def test_a_sheet_shows_the_score_between_threshold_and_band(self, folder, command) -> None:
        crops = crops_classifier()
        band = (0.2, 0.7)
        ElaClassifier(crops.model, crops.recipe, 1.7, 0.4, band).save_pretrained("m", onnx=False)
        (one,) = lines_of(command("predict art/a.jpg --model m --explain why --json").out)
        sheet = np.asarray(Image.open(one["sheet"])).astype(int)
        bar = next(line for line in sheet if tuple(line[40]) == BLUE and tuple(line[-41]) == RED)
        black = np.flatnonzero((bar < 40).all(axis=1))
        assert black.mean() == pytest.approx(40 + 1520 * one["probability"], abs=2)
        hatched = np.flatnonzero((bar[40:-40] == 255).all(axis=1)) / 1520
        assert band[0] <= hatched.min() < band[0] + 0.02
        assert band[1] - 0.02 < hatched.max() <= band[1]

    def test_a_sheet_has_what_the_file_claims(self, saved_crops, folder, command) -> None:
        for key in ("workless", "workflow"):  # files of one size: only the second is a mark
            text = PngInfo()
            text.add_text(key, '{"nodes": []}')
            (folder / key).mkdir()
            picture(300, 200).save(folder / key / "a.png", pnginfo=text)
        words = f"predict workless workflow --model {saved_crops} --explain why --json"
        plain, marked = lines_of(command(words).out)
        assert (plain["claims"], plain["facts"]) == ([], marked["facts"])
        difference = ImageChops.difference(*(Image.open(one["sheet"]) for one in (plain, marked)))
        assert difference.getbbox()[1] > 700  # below the pictures

    def test_explain_keeps_earlier_sheets_and_lies_where_none_is_scored(
        self, model, folder, command
    ) -> None:
        words = f"--model {model} --explain why"
        found = [lines_of(command(f"predict art {words} --json").out) for _ in range(2)]
        assert [one["file"] for one in found[0]] == [one["file"] for one in found[1]]
        names = [one["sheet"] for run in found for one in run]
        assert len(set(names)) == 6
        assert sorted(names) == sorted(str(path) for path in Path("why").iterdir())
        for within in ("art", "art/why", "./art/../art/deep/why"):
            error = command(f"predict art --model {model} --explain {within}", status=2).err
            assert "must not lie in a folder that is searched" in error

    def test_explain_takes_the_longest_and_oddest_names_and_the_thinnest_images(
        self, model, folder, command
    ) -> None:
        long = "é" * 120
        (folder / "long").mkdir()
        for number in range(2):  # alike as far as names go
            (folder / "long" / f"{long}{number}.png").write_bytes(encode(picture(), "PNG"))
        (folder / "odd").mkdir()
        for name in ("漢.png", "ж.png"):
            (folder / "odd" / name).write_bytes(encode(picture(), "PNG"))
        picture(5000, 1).save(folder / "thin.png")
        words = f"predict long odd thin.png art --model {model} --explain why --json"
        found = lines_of(command(words).out)
        assert len(found) == len(list(Path("why").iterdir())) == 8
        assert Path(found[1]["sheet"]).name == f"{'é' * 100}-2.sheet.png"
        sheets = [Image.open(one["sheet"]) for one in found[:4]]
        # No box in place of a letter, and the end of a long name, which tells files apart.
        for first, second in (sheets[:2], sheets[2:]):
            left, top, right, bottom = ImageChops.difference(first, second).getbbox()
            assert 40 <= left < right <= 1560
            assert 40 <= top < bottom < 90

    def test_explain_says_where_the_pictures_are(self, model, folder, command) -> None:
        assert "Sheets: why" in command(f"predict art/a.jpg --model {model} --explain why").out
        assert (
            "art/a.jpg"
            in command(f"predict art/a.jpg --model {model} --explain art/a.jpg", status=2).err
        )

    def test_the_runtimes_agree(self, model, folder, command) -> None:
        words = f"predict art --model {model} --json --runtime"
        found = [lines_of(command(words, runtime).out) for runtime in ("onnx", "keras")]
        fake = [[one["probability"] for one in lines] for lines in found]
        assert fake[0] == pytest.approx(fake[1], abs=1e-4)

    def test_a_bad_file_stops_nothing(self, model, folder, command) -> None:
        (folder / "art" / "aa.png").write_text("no image")
        shutil.copytree(Path(model), folder / "art" / "run")
        shutil.copy("art/b.PNG", "art/run/plot.png")  # a plot of a model is no picture to score
        out, _ = command(f"predict missing.jpg art --model {model} --json", status=1)
        missing, first, bad, *others = lines_of(out)
        assert missing["error"]["type"] == "ImageNotReadableError"
        assert bad["error"]["type"] == "NotAnImageError"
        assert bad["error"]["message"].startswith("must be an image: one of")
        assert [len(one) for one in (missing, bad)] == [2, 2]
        assert ["score" in one for one in (first, *others)] == [True, True, True]

    def test_what_a_computer_hides_is_left_out_and_what_is_not_read_is_named(
        self, saved_crops, folder, command
    ) -> None:
        junk = ("._a.jpg", "__MACOSX/a.jpg", "__MACOSX/art/._a.jpg", ".ipynb_checkpoints/a.png")
        for name in (*junk, ".hidden/a.jpg", "Thumbs.db", "desktop.ini", ".DS_Store"):
            (folder / "art" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy("art/a.jpg", folder / "art" / name)
        (folder / "art/b.JXL").write_bytes(b"\xff\x0a")
        (folder / "art/c.mpo").write_bytes(encode(picture(), "JPEG"))
        shutil.copy("art/a.jpg", "._named.jpg")
        words = f"predict art ._named.jpg --model {saved_crops} --json"
        found = lines_of(command(words, status=1).out)
        read = ["art/b.PNG", "art/c.mpo", "art/deep/c.webp", "._named.jpg"]
        expected = ["art/a.jpg", "art/b.JXL", *read]
        assert [one["file"] for one in found] == expected
        assert [one["file"] for one in found if "error" in one] == ["art/b.JXL"]
        assert found[1]["error"]["message"].endswith("Received: JPEG XL. Save it as PNG or JPEG")
        (folder / "art/deep/zz.doc").write_text("no picture")
        out = command(f"predict art --model {saved_crops}", status=1).out
        assert "without the suffix of a picture, art/" in out.replace("\n", " ")
        (folder / "art/deep/zz.doc").unlink()

    @pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
    def test_links_to_folders_are_followed_once(self, saved_crops, folder, command) -> None:
        (folder / "far").mkdir()
        shutil.copy("art/a.jpg", "far/f.jpg")
        for link, to in {"a": "far", "b": "far", "loop": "art", "a-copy": "art/deep"}.items():
            (folder / "art" / link).symlink_to(folder / to, target_is_directory=True)
        (folder / "far" / "back").symlink_to(folder / "far", target_is_directory=True)
        out = command(f"predict art --model {saved_crops} --json").out
        names = [one["file"] for one in lines_of(out)]
        assert names == ["art/a.jpg", "art/a/f.jpg", "art/b.PNG", "art/deep/c.webp"]

    @pytest.mark.parametrize("explain", [[], ["--explain", "why"]])
    def test_standard_input_is_one_picture(
        self, saved_crops, folder, command, monkeypatch, explain
    ) -> None:
        words = f"predict - art/a.jpg --model {saved_crops} --json"
        with Path("art/a.jpg").open("rb") as stream:
            monkeypatch.setattr("sys.stdin", io.TextIOWrapper(stream))
            piped, named = lines_of(command(words, *explain).out)
        assert (piped["file"], piped["scores"]) == ("-", named["scores"])
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
        empty = lines_of(command(f"predict - --model {saved_crops} --json", status=1).out)
        assert empty[0]["error"]["message"] == "is empty (0 bytes)"

    def test_nothing_to_see_is_uncertain_with_its_reason(
        self, saved_crops, folder, command
    ) -> None:
        ramp = np.broadcast_to(np.arange(200, dtype=np.uint8)[:, np.newaxis], (200, 300))
        odd = {"blank": Image.new("RGB", (300, 200), "white"), "ramp": Image.fromarray(ramp)}
        odd |= {"one": Image.new("RGB", (1, 1)), "strip": picture(500, 4), "tiny": picture(9, 9)}
        for name, image in odd.items():
            image.save(f"{name}.png")
            image.convert("RGB").save(f"{name}.jpg", quality=80)
        names = [f"{name}.{suffix}" for name in odd for suffix in ("png", "jpg")]
        found = lines_of(command("predict art/a.jpg", *names, "--model", saved_crops, "--json").out)
        assert [one["uncertain"] for one in found] == [False] + [True] * len(names)
        small, blank = "too small: a side of fewer than 16 pixels", "nothing to see"
        reasons = [blank] * 4 + [small] * 6
        for one, why in zip(found[1:], reasons, strict=True):
            assert one["reason"].startswith(why)
        assert "reason" not in found[0]
        table = command(f"predict blank.png --model {saved_crops} --explain why").out
        assert "uncertain (" in table
        assert "nothing to see" in table
        classifier = ElaClassifier.from_pretrained(saved_crops)
        answers = classifier.predict(["blank.png", "art/a.jpg"], abstain=True)
        assert [answer[0]["label"] == "uncertain" for answer in answers] == [True, False]
        assert classifier.explain("tiny.png").uncertain

    def test_a_folder_without_images_is_refused(self, model, folder, command) -> None:
        (folder / "empty").mkdir()
        refused, *others = lines_of(
            command(f"predict empty art --model {model} --json", status=1).out
        )
        assert refused["file"] == "empty"
        assert refused["error"]["message"] == "is a folder without images"
        assert len(others) == 3
        assert (
            "P(fake) is the model's" in command(f"predict empty art --model {model}", status=1).out
        )
        assert (
            "P(fake) is the model's" not in command(f"predict empty --model {model}", status=1).out
        )  # of no score

    @pytest.mark.parametrize(
        ("path", "message"),
        [
            ("https://example.org/a.jpg", "Save the picture as a file first"),
            ("MODEL", "Pass it as the model: hf-ela predict PICTURE --model"),
        ],
    )
    def test_what_holds_no_pictures_is_refused_at_once(
        self, model, folder, path, message, command
    ) -> None:
        out, err = command("predict art", model if path == "MODEL" else path, status=2)
        assert (out, err.count("\n")) == ("", 1)
        assert message in err

    def test_every_bad_file_gives_a_score_or_its_refusal(self, model, tmp_path) -> None:
        bad_files = write_bad_files(tmp_path)
        done = run("predict", *(path for path, _ in bad_files), "--model", model, "--json")
        assert done.stderr == ""
        assert done.returncode == 1
        found = lines_of(done.stdout)
        # A folder is searched, so the message of an empty one is the command's own.
        wrong = [
            (one, expected)
            for one, (path, expected) in zip(found, bad_files, strict=True)
            if one["file"] != str(path)
            or (one["error"]["type"] if "error" in one else "ok")
            != (expected if isinstance(expected, str) else expected.__name__)
        ]
        assert wrong == []

    @pytest.mark.parametrize("form", ["--json", "table"])
    @pytest.mark.parametrize(
        ("way", "status"), [("close", 141), ("interrupt", 130)], ids=["closed pipe", "Ctrl-C"]
    )
    def test_ends_quietly(self, model, folder, form, way, status) -> None:
        # So many that it is still busy when it is stopped after the first image.
        many = ["art/a.jpg"] * 50_000
        options = ["--json"] * (form == "--json")
        process = subprocess.Popen(
            [*COMMAND, "predict", "--model", model, "--batch-size", "1", *many, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=ctrl_c_is_heard,
        )
        assert any(b"art/a.jpg" in process.stdout.readline() for _ in range(4))
        if way == "interrupt":
            process.send_signal(signal.SIGINT)
            process.stdout.read()
        else:
            process.stdout.close()
        errors = process.stderr.read()
        assert (process.wait(60), errors) == (status, b"")
        process.stdout.close()
        process.stderr.close()

    @pytest.mark.skipif(os.name == "nt", reason="this system has no terminals to open")
    def test_a_bar_on_the_terminal_takes_no_line_of_the_output(self, model, folder) -> None:
        terminal, end = os.openpty()
        termios.tcsetwinsize(end, (24, 80))  # a bar needs a line of its own
        shown: list[bytes] = []

        def read() -> None:
            with contextlib.suppress(OSError):  # at the end
                while text := os.read(terminal, 4096):
                    shown.append(text)

        reader = threading.Thread(target=read)
        reader.start()
        for options in (["--json"], []):
            words = [*COMMAND, "predict", "art", "--model", model, *options]
            done = subprocess.run(
                words, stdout=subprocess.PIPE, stderr=end, timeout=120, check=True
            )
            assert done.stdout.count(b"art/") + done.stdout.count(b"art\\") == 3 + (not options)
        os.close(end)
        reader.join()
        os.close(terminal)
        assert b"Predicting" in b"".join(shown)

    def test_no_model_is_one_line(self, folder, command) -> None:
        out, err = command("predict art --model nowhere", status=2)
        assert out == ""
        assert err.startswith("hf-ela: A model must be a saved model")
        assert err.count("\n") == 1


class TestExport:
    def test_onnx(self, model, folder, command) -> None:
        out = command(f"export {model} art.onnx").out
        size = Path("art.onnx").stat().st_size
        assert f"art.onnx: ONNX, opset 18, {size:,} bytes" in out
        assert "N x 32 x 32 x 3" in out
        saved = Path(model, "model.onnx").read_bytes()
        session = onnxruntime.InferenceSession("art.onnx", providers=["CPUExecutionProvider"])
        pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
        expected = onnxruntime.InferenceSession(saved).run(None, {"pixels": pixels})[0]
        assert session.run(None, {"pixels": pixels})[0] == pytest.approx(expected, abs=1e-6)

    @pytest.mark.second_lane
    def test_litert_in_a_process_that_says_nothing_else(self, model, folder) -> None:
        done = run("export", model, "art.tflite")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("art.tflite: LiteRT")
        assert done.stdout.count("\n") == 4
        assert Path("art.tflite").read_bytes()[4:8] == b"TFL3"

    def test_what_cannot_be_exported(self, model, folder, command) -> None:
        Path("art.onnx").mkdir()
        assert (
            "Received: art.onnx, which is a folder."
            in command(f"export {model} art.onnx", status=2).err
        )
        Path("art.onnx").rmdir()
        command("export nowhere art.onnx", status=2)
        assert not Path("art.onnx").exists()


class TestEla:
    def test_draws_one_large_panel(self, folder, command) -> None:
        picture(1500, 700).save("large.png")
        command("ela large.png")
        shown = Image.open("large.ela.png")
        assert shown.size == (1280 + 8, 597 + 28 + 4)
        levels = Image.fromarray(brightened(error_level("large.png", 90)))
        levels.thumbnail((1280, 1280), Image.Resampling.LANCZOS)
        assert shown.crop((4, 28, 1284, 625)).tobytes() == levels.tobytes()
        command("ela large.png --quality 60")
        other = Image.open("large.ela.png")
        # Other levels, and another quality and gain in the caption.
        assert ImageChops.difference(shown, other).getbbox()[1] < 28
        assert ImageChops.difference(shown, other).getbbox()[3] > 600

    def test_one_bright_pixel_does_not_darken_the_others(self, folder, command) -> None:
        image = Image.new("RGB", (160, 160), (128, 128, 128))
        image.paste(picture(80, 80).point(lambda level: level // 8 + 100), (40, 40))
        image.putpixel((8, 8), (255, 0, 0))
        image.save("spot.png")
        robust, most = (
            np.asarray(Image.open(command(f"ela spot.png {gain}").out.strip())).mean()
            for gain in ("", "--gain max")
        )
        assert robust > 1.2 * most

    def test_draws_the_levels_side_by_side(self, folder, command) -> None:
        command("ela art/b.PNG --sheet")
        usual = np.asarray(Image.open("b.ela-sheet.png")).shape[1]
        assert command("ela art/b.PNG --sheet 75 95 --gain 20") == (
            "b.ela-sheet.png\n",
            "",
        )
        row = np.asarray(Image.open("b.ela-sheet.png"))
        # Every panel is in the row, pixel for pixel, under its caption.
        panels = [np.asarray(Image.open("art/b.PNG"))]
        panels += [error_level("art/b.PNG", quality, gain=20) for quality in (75, 95)]
        width = row.shape[1] // 3
        assert usual == pytest.approx(5 * width, rel=0.1)
        for number, panel in enumerate(panels):
            part = row[:, number * width : (number + 1) * width]
            height, left = part.shape[0] - 4 - panel.shape[0], 4
            shown = part[height:-4, left : left + panel.shape[1]]
            assert np.array_equal(shown, panel)
            assert (part[:height].min(axis=2) < 100).any()

    def test_shows_nothing_changed_as_grey_when_signed(self, folder, command) -> None:
        Image.new("RGB", (80, 60), (128, 128, 128)).save("flat.png")
        for color in ("RGB", "YCbCr"):
            command(f"ela flat.png --quality 90 --signed --color {color}")
            row = Image.open("flat.ela.png")
            assert row.getpixel((40, row.height - 10)) == (128, 128, 128)

    def test_shows_signed_ycbcr_as_an_image_in_ycbcr(self, folder, command) -> None:
        command("ela art/b.PNG --signed --color YCbCr --gain 4 --sheet 60")
        levels = error_level("art/b.PNG", 60, signed=True, color="YCbCr", gain=4)
        expected = np.asarray(Image.frombytes("YCbCr", (61, 47), levels.tobytes()).convert("RGB"))
        row = np.asarray(Image.open("b.ela-sheet.png"))
        left = row.shape[1] // 2 + 4
        assert np.array_equal(row[-4 - 47 : -4, left : left + 61], expected)

    def test_scales_large_images_after_the_levels(self, folder, command) -> None:
        picture(1500, 700).save("large.png")
        command("ela large.png -o out.png --sheet 90 --gain 9")
        row = Image.open("out.png")
        assert row.size == (2 * (512 + 8), 239 + 28 + 4)
        levels = Image.fromarray(error_level("large.png", 90, gain=9))
        levels.thumbnail((512, 512), Image.Resampling.LANCZOS)
        assert row.crop((524, 28, 1036, 267)).tobytes() == levels.tobytes()

    def test_replaces_a_picture_but_never_the_image(self, folder, command) -> None:
        shutil.copy("art/b.PNG", "b.png")
        before = Path("b.png").read_bytes()
        error = command("ela b.png -o ./b.png", status=2).err
        assert "must not be the image itself" in error
        assert Path("b.png").read_bytes() == before
        command("ela b.png")
        command("ela b.png --gain 5")
        assert sorted(path.name for path in folder.iterdir()) == ["art", "b.ela.png", "b.png"]

    def test_refusals_are_one_line(self, folder, command) -> None:
        refusal = "hf-ela: art/deep/notes.txt: must be an image: one of"
        assert command("ela art/deep/notes.txt", status=1).err.startswith(refusal)


class TestSamples:
    def test_writes_the_set(self, folder, command) -> None:
        out = command("samples made --per-class 1 --test-per-class 1 --seed 3").out
        assert out == "made\n"
        assert len(list(Path("made").rglob("*.jpg"))) == 4
        assert command("samples art", status=2).err.startswith("hf-ela: ")


class TestStreams:
    """Standard streams that are closed or full, and no folder for temporary files."""

    def test_closed_streams_are_not_in_the_way(self, pictures) -> None:
        words = [*COMMAND, "predict", pictures[-1], "--runtime", "onnx"]
        done = subprocess.run(["bash", "-c", '"$@" >&- 2>&- <&-', "bash", *words], check=False)
        assert done.returncode == 0

    def test_a_program_without_them_can_predict(self, pictures, monkeypatch, tmp_path) -> None:
        expected = ElaClassifier.from_pretrained().predict(pictures[-1])
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
        for name in ("stdout", "stderr"):
            monkeypatch.setattr(sys, name, None)
        with native_messages_held_back():
            classifier = ElaClassifier.from_pretrained()
        assert classifier.predict(pictures[-1:], progress=True) == [expected]

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device here is always full")
    def test_a_full_disk_behind_them_is_one_line(self, pictures, monkeypatch, capsys) -> None:
        for name in ("stdout", "stderr"):
            monkeypatch.setattr(sys, name, Path("/dev/full").open("w"))  # noqa: SIM115
            assert main(["predict", str(pictures[-1])]) == (2 if name == "stdout" else 0)
            getattr(sys, name).close()  # nothing is left in it
            monkeypatch.undo()
        assert capsys.readouterr().err == "hf-ela: [Errno 28] No space left on device\n"


class TestStart:
    def test_help_and_version_are_light(self, python) -> None:
        code = (
            "import sys; from hf_ela.cli import main\n"
            "try: main(sys.argv[1:])\n"
            f"finally: print(sorted(set({HEAVY}) & set(sys.modules)))"
        )
        for words, text in (
            ("--help", "predict"),
            ("predict --help", "--batch-size"),
            ("train --help", "--recipe"),
            ("push --help", "--dry-run"),
            ("--version", f"hf-ela {hf_ela.__version__}"),
        ):
            done = python(["-c", code, *words.split()])
            assert done.returncode == 0
            assert text in done.stdout
            assert done.stdout.endswith("[]\n")

    def test_a_card_is_made_without_what_training_takes(self, tmp_path, python) -> None:
        shutil.copytree(packaged_model(), tmp_path / "run")
        (tmp_path / "run/README.md").unlink()
        absent = ["datasets", "evaluate", "keras", "matplotlib", "pandas", "scipy", "sklearn"]
        code = (
            f"import sys; sys.modules |= dict.fromkeys({absent})\n"  # as if not installed
            "from hf_ela.cli import main; sys.exit(main(sys.argv[1:]))"
        )
        done = python(["-c", code, "card", tmp_path / "run"])
        assert (done.returncode, done.stderr) == (0, "")
        assert (tmp_path / "run/README.md").is_file()

    def test_what_ray_is_needed_for_names_its_extra(self, tmp_path, pictures, python) -> None:
        code = (
            "import sys; sys.modules['ray'] = None\n"  # as if not installed
            "from hf_ela.cli import main; sys.exit(main(sys.argv[1:]))"
        )
        done = python(["-c", code, "score", pictures[0].parent, "--out", tmp_path / "out"])
        assert done.returncode == 2
        assert "requires the `scale` extra" in done.stderr
        assert done.stderr.count("\n") == 1
        assert not (tmp_path / "out").exists()

    def test_a_command_is_needed(self, command) -> None:
        shown = command("", status=2).err
        assert command("help").out == shown
        assert command("help predict").out != shown

    def test_an_unknown_option_shows_the_usage_of_its_command(self, command) -> None:
        error = command("predict a.jpg --modle x", status=2).err
        assert error.startswith("usage: hf-ela predict ")
        assert "unrecognized arguments: --modle" in error

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ("predct x.jpg", "Choose predict"),
            ("predict --model MODEL", "FILE_OR_FOLDER"),
            ("predict art --batch-size 0", "--batch-size must be at least 1"),
            ("predict art --threads 0", "--threads must be at least 1. Received: 0."),
            *(
                (f"predict art --shard={shard}", f"I from 1 to N, such as 2/4. Received: {shard}.")
                for shard in ("5/4", "0/4", "a/b", "1", "1/", "-1/4", "1/4/2")
            ),
            ("export MODEL art.pb", "OUT must end with .onnx or .tflite"),
            ("ela art/b.PNG --quality 0", "--quality must be an integer from 1 to 100"),
            ("ela art/b.PNG --sheet 80 0", "--sheet must be an integer from 1 to 100"),
            ("ela art/b.PNG --sheet 80 b.png", "name it before the option."),
            ("ela art/b.PNG --sheet --quality 80", "not allowed with argument --sheet"),
            ("ela art/b.PNG --gain bright", "must be max or a number above 0. Received: bright"),
            ("ela art/b.PNG --gain nan", "must be max or a number above 0. Received: nan"),
            ("ela art/b.PNG --gain 0", "must be max or a number above 0. Received: 0"),
            ("ela art/b.PNG --gain max --signed", "scales absolute differences only"),
            ("ela art/b.PNG -o out.jpg", "must be a .png file"),
            ("ela art/b.PNG -o nowhere/out.png", "must lie in an existing folder"),
        ],
    )
    def test_wrong_usage(self, folder, words, message, command) -> None:
        assert message in command(words, status=2).err
        assert [path.name for path in folder.iterdir()] == ["art"]

    def test_options_are_named_as_flags(self, tmp_path, command) -> None:
        """The library names its arguments, and the command prints the options they come from."""
        for words in ("audit", "evaluate", "train --data"):
            err = command(words, tmp_path, "--max-rejected", 3, status=2).err
            rule = "--max-rejected must be a share from 0 to 1. Received: 3.0"
            assert err.startswith(f"hf-ela: {rule}")

    @pytest.mark.parametrize("name", ["train", "evaluate", "audit", "reproduce"])
    def test_commands_share_the_data_options(self, name, command) -> None:
        shown = command(f"{name} --help").out
        shared = ["--groups", "--limit", "--no-streaming", "--num-proc", "--cache-dir", "--token"]
        if name != "reproduce":  # the record settles the others
            shared += ["--revision", "--label-map", "--max-rejected"]
        assert [option for option in shared if option not in shown] == []

    @pytest.mark.parametrize(
        ("script", "words", "answer"),
        [
            ("train.py", ["--limit", "1"], "--limit must be at least 2"),
            ("push_to_hub.py", ["nowhere", "user/repo", "--dry-run"], "Received: nowhere"),
        ],
    )
    def test_the_scripts_are_doors_to_the_commands(self, script, words, answer, python) -> None:
        done = python([REPOSITORY / script, *words])
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("hf-ela: ")
        assert answer in done.stderr

    def test_without_a_backend_onnx_predicts_and_keras_says_so_in_one_line(
        self, model, folder, tmp_path
    ) -> None:
        # All that is installed, less the backends: links, in place of the packages' own folder.
        packages = tmp_path / "packages"
        packages.mkdir()
        for installed in {place for place in sys.path if place.endswith("site-packages")}:
            for entry in Path(installed).iterdir():
                backend = entry.name.startswith(("tensorflow", "jax", "torch"))
                if not backend and not (packages / entry.name).exists():
                    (packages / entry.name).symlink_to(entry)
        source = Path(hf_ela.__file__).parents[1]
        environment = {**os.environ, "PYTHONPATH": python_path(source, packages)}
        environment.pop("KERAS_BACKEND", None)
        program = [sys.executable, "-S", *COMMAND[1:], "predict", "art", "--model", model]
        done = subprocess.run(program, capture_output=True, text=True, env=environment)
        assert (done.returncode, done.stderr) == (0, "")
        program += ["--runtime", "keras"]
        done = subprocess.run(program, capture_output=True, text=True, env=environment)
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr == (
            "hf-ela: Keras requires one of its backends: tensorflow, jax or torch. None is "
            f"installed. Install one, for example: {install_command('jax')}\n"
        )
