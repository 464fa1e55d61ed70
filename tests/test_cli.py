import contextlib
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
from PIL import Image

import hf_ela
from bad_files import encode, picture, write_bad_files
from conftest import COMMAND, REPOSITORY
from hf_ela import ElaClassifier, error_level
from hf_ela._text import SYNTHETIC_NOTICE
from hf_ela.cli import main
from hf_ela.errors import install_command
from hf_ela.hub.locate import PACKAGED, packaged_model
from hf_ela.models.explain import overlay
from hf_ela.models.networks import build_model
from hf_ela.recipes.loading import load_recipe

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


def usage_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a command answers to wrong usage."""
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    return capsys.readouterr().err


@pytest.fixture(scope="module")
def classifier() -> ElaClassifier:
    overrides = ("input.size=32", "network.widths=[4, 8]", "network.blocks=1")
    recipe = load_recipe("default", overrides)
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
    def test_json_has_a_line_per_file(self, model, classifier, folder, capsys) -> None:
        assert main(["predict", "art", "--model", model, "--json", "--batch-size", "2"]) == 0
        out, err = capsys.readouterr()
        found = lines_of(out)
        assert [one["file"] for one in found] == [
            str(Path(name)) for name in ("art/a.jpg", "art/b.PNG", "art/deep/c.webp")
        ]
        assert err == ""
        for one in found:
            first, second = classifier.predict(one["file"])
            assert set(one) == {"file", "label", "score", "scores", "uncertain"}
            assert one["uncertain"] is False  # the model has no band
            assert one["label"] == first["label"]
            assert one["score"] == pytest.approx(first["score"], abs=1e-6)
            assert one["scores"][second["label"]] == pytest.approx(second["score"], abs=1e-6)
            assert sum(one["scores"].values()) == pytest.approx(1)

    def test_table_is_for_people(self, model, folder, capsys) -> None:
        (folder / "[red]odd\x1b[31m\n.png").write_text("no image")
        names = ["[red]odd\x1b[31m\n.png", "art"]
        assert main(["predict", *names, "--model", model]) == 1
        out, err = capsys.readouterr()
        assert err == ""
        assert "\x1b" not in out
        one_line = out.replace("\n", " ")
        texts = ["[red]odd\\x1b[31m\\n.png", "a.jpg", "P(fake)", "must be an image: one of"]
        texts.append("Images with 0.300 or more are called fake")
        assert [text for text in texts if text not in one_line] == []
        assert out.count("fake") + out.count("real") >= 3

    def test_a_model_of_synthetic_pictures_says_so(self, classifier, folder, capsys) -> None:
        for synthetic in (True, False):
            data = {"synthetic": synthetic}
            trained = ElaClassifier(classifier.model, classifier.recipe, data=data)
            trained.save_pretrained("model", onnx=False)
            assert main(["predict", "art/a.jpg", "--model", "model"]) == 0
            assert (SYNTHETIC_NOTICE in capsys.readouterr().out) is synthetic
            assert main(["predict", "art/a.jpg", "--model", "model", "--json"]) == 0
            found = json.loads(capsys.readouterr().out)
            assert found.get("notice") == (SYNTHETIC_NOTICE if synthetic else None)

    def test_says_where_the_model_does_not_know(self, classifier, folder, capsys) -> None:
        scores = sorted(classifier.scores(["art/a.jpg", "art/b.PNG", "art/deep/c.webp"]))
        band = (scores[0], scores[1])
        unsure = ElaClassifier(classifier.model, classifier.recipe, 1.0, scores[1], band)
        unsure.save_pretrained("model", onnx=False)
        for more in ([], ["--explain", "why"]):
            assert main(["predict", "art", "--model", "model", "--json", *more]) == 0
            found = lines_of(capsys.readouterr().out)
            by_score = sorted(found, key=lambda one: one["scores"]["fake"])
            assert [one["uncertain"] for one in by_score] == [True, True, False]
            assert [one["label"] for one in by_score] == ["real", "fake", "fake"]
        assert main(["predict", "art", "--model", "model"]) == 0
        out = " ".join(capsys.readouterr().out.split())
        assert out.count("uncertain (fake?)") == out.count("uncertain (real?)") == 1
        assert f"Between {band[0]:.3f} and {band[1]:.3f} the answer is uncertain" in out
        assert out.endswith("Model: model")

    def test_without_a_name_the_model_in_the_package_answers(self, model, folder) -> None:
        package = Path(hf_ela.__file__).parent
        without = shutil.ignore_patterns(PACKAGED, "__pycache__")
        shutil.copytree(package, folder / "site" / "hf_ela", ignore=without)
        environment = os.environ | {"PYTHONPATH": str(folder / "site")}
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

    def test_explain_saves_two_pictures_of_each_image(self, model, folder, capsys) -> None:
        (folder / "other").mkdir()
        (folder / "other" / "a.jpg").write_bytes(encode(picture(seed=9), "JPEG"))
        (folder / "art" / "bad.png").write_text("no image")
        command = ["predict", "art", "other", "--model", model, "--explain", "why", "--json"]
        assert main(command) == 1
        found = lines_of(capsys.readouterr().out)
        loaded = ElaClassifier.from_pretrained(model)
        names = set()
        for one in found:
            if one["file"].endswith("bad.png"):
                assert one["error"]["type"] == "NotAnImageError"
                continue
            why = loaded.explain(one["file"])
            assert one["scores"]["fake"] == why.score
            boxes = [tuple(view[key] for key in why.boxes[0]._fields) for view in one["views"]]
            assert boxes == [tuple(box) for box in why.boxes]
            assert [view["score"] for view in one["views"]] == why.scores
            with Image.open(one["ela"]) as ela, Image.open(one["evidence"]) as evidence:
                assert np.array_equal(np.asarray(ela), why.ela)
                assert np.array_equal(np.asarray(evidence), np.asarray(overlay(why)))
            names |= {one["ela"], one["evidence"]}
        assert len(names) == 8  # two images are called a.jpg
        assert sorted(names) == sorted(str(path) for path in Path("why").iterdir())

    def test_explain_keeps_earlier_pictures_and_does_not_score_them(
        self, model, folder, capsys
    ) -> None:
        command = ["predict", "art", "--model", model, "--explain", "art/why", "--json"]
        found = []
        for _ in range(2):
            assert main(command) == 0
            found.append(lines_of(capsys.readouterr().out))
        assert [one["file"] for one in found[0]] == [one["file"] for one in found[1]]
        names = [one[kind] for run in found for one in run for kind in ("evidence", "ela")]
        assert len(set(names)) == 12
        assert sorted(names) == sorted(str(path) for path in Path("art/why").iterdir())
        command = ["predict", "art", "art/why", "--model", model, "--explain", "art/why"]
        assert "must not name a folder that is searched" in usage_error(command, capsys)

    def test_explain_takes_the_longest_names_and_the_thinnest_images(
        self, model, folder, capsys
    ) -> None:
        long = "é" * 120
        (folder / "long").mkdir()
        for number in range(2):  # alike as far as names go
            (folder / "long" / f"{long}{number}.png").write_bytes(encode(picture(), "PNG"))
        picture(5000, 1).save(folder / "thin.png")
        command = ["predict", "long", "thin.png", "art", "--model", model, "--explain", "why"]
        assert main([*command, "--json"]) == 0
        found = lines_of(capsys.readouterr().out)
        assert len(found) == 6
        assert len(list(Path("why").iterdir())) == 12
        assert Path(found[1]["ela"]).name == f"{'é' * 100}-2.ela.png"

    def test_explain_says_where_the_pictures_are(self, model, folder, capsys) -> None:
        assert main(["predict", "art/a.jpg", "--model", model, "--explain", "why"]) == 0
        assert "Pictures: why" in capsys.readouterr().out
        assert main(["predict", "art/a.jpg", "--model", model, "--explain", "art/a.jpg"]) == 2
        assert "art/a.jpg" in capsys.readouterr().err

    def test_the_runtimes_agree(self, model, folder, capsys) -> None:
        fake = []
        for runtime in ("onnx", "keras"):
            assert main(["predict", "art", "--model", model, "--json", "--runtime", runtime]) == 0
            fake.append([one["scores"]["fake"] for one in lines_of(capsys.readouterr().out)])
        assert fake[0] == pytest.approx(fake[1], abs=1e-4)

    def test_a_bad_file_stops_nothing(self, model, folder, capsys) -> None:
        (folder / "art" / "aa.png").write_text("no image")
        assert main(["predict", "missing.jpg", "art", "--model", model, "--json"]) == 1
        out, _ = capsys.readouterr()
        missing, first, bad, *others = lines_of(out)
        assert missing["error"]["type"] == "ImageNotReadableError"
        assert bad["error"]["type"] == "NotAnImageError"
        assert bad["error"]["message"].startswith("must be an image: one of")
        assert [len(one) for one in (missing, bad)] == [2, 2]
        assert ["score" in one for one in (first, *others)] == [True, True, True]

    def test_a_folder_without_images_is_refused(self, model, folder, capsys) -> None:
        (folder / "empty").mkdir()
        assert main(["predict", "empty", "art", "--model", model, "--json"]) == 1
        refused, *others = lines_of(capsys.readouterr().out)
        assert refused["file"] == "empty"
        assert refused["error"]["message"] == "is a folder without images"
        assert len(others) == 3
        assert main(["predict", "empty", "art", "--model", model]) == 1
        assert "P(fake) is the model's" in capsys.readouterr().out
        assert main(["predict", "empty", "--model", model]) == 1
        assert "P(fake) is the model's" not in capsys.readouterr().out  # of no score

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
        )
        assert process.stdout is not None
        assert any(b"art/a.jpg" in process.stdout.readline() for _ in range(4))
        if way == "interrupt":
            process.send_signal(signal.SIGINT)
            process.stdout.read()
        else:
            process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait(60) == status
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
            command = [*COMMAND, "predict", "art", "--model", model, *options]
            done = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=end, timeout=120, check=True
            )
            assert done.stdout.count(b"art") == 3
        os.close(end)
        reader.join()
        os.close(terminal)
        assert b"Predicting" in b"".join(shown)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--model", "MODEL"], "FILE_OR_FOLDER"),
            (["art", "--model", "MODEL", "--batch-size", "0"], "--batch-size must be at least 1"),
        ],
    )
    def test_wrong_usage(self, folder, model, arguments, message, capsys) -> None:
        words = ["predict", *(model if one == "MODEL" else one for one in arguments)]
        assert message in usage_error(words, capsys)

    def test_no_model_is_one_line(self, folder, capsys) -> None:
        assert main(["predict", "art", "--model", "nowhere"]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("hf-ela: A model must be a saved model")
        assert err.count("\n") == 1


class TestExport:
    def test_onnx(self, model, folder, capsys) -> None:
        assert main(["export", model, "art.onnx"]) == 0
        out = capsys.readouterr().out
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

    def test_wrong_usage(self, model, folder, capsys) -> None:
        error = usage_error(["export", model, "art.pb"], capsys)
        assert "OUT must end with .onnx or .tflite" in error
        Path("art.onnx").mkdir()
        assert main(["export", model, "art.onnx"]) == 2
        assert "Received: art.onnx, which is a folder." in capsys.readouterr().err
        Path("art.onnx").rmdir()
        assert main(["export", "nowhere", "art.onnx"]) == 2
        assert not Path("art.onnx").exists()


class TestEla:
    def test_draws_the_levels_side_by_side(self, folder, capsys) -> None:
        assert main(["ela", "art/b.PNG", "--qualities", "75", "95", "--gain", "20"]) == 0
        assert capsys.readouterr() == ("b.ela.png\n", "")
        row = np.asarray(Image.open("b.ela.png"))
        # Every panel is in the row, pixel for pixel, under its caption.
        panels = [np.asarray(Image.open("art/b.PNG"))]
        panels += [error_level("art/b.PNG", quality, gain=20) for quality in (75, 95)]
        width = row.shape[1] // 3
        for number, panel in enumerate(panels):
            part = row[:, number * width : (number + 1) * width]
            height, left = part.shape[0] - 4 - panel.shape[0], 4
            shown = part[height:-4, left : left + panel.shape[1]]
            assert np.array_equal(shown, panel)
            assert (part[:height].min(axis=2) < 100).any()

    def test_shows_nothing_changed_as_grey_when_signed(self, folder) -> None:
        Image.new("RGB", (80, 60), (128, 128, 128)).save("flat.png")
        for color in ("RGB", "YCbCr"):
            assert main(["ela", "flat.png", "--qualities", "90", "--signed", "--color", color]) == 0
            row = Image.open("flat.ela.png")
            assert row.getpixel((row.width * 3 // 4, row.height - 10)) == (128, 128, 128)

    def test_shows_signed_ycbcr_as_an_image_in_ycbcr(self, folder) -> None:
        arguments = ["--signed", "--color", "YCbCr", "--gain", "4", "--qualities", "60"]
        assert main(["ela", "art/b.PNG", *arguments]) == 0
        levels = error_level("art/b.PNG", 60, signed=True, color="YCbCr", gain=4)
        expected = np.asarray(Image.frombytes("YCbCr", (61, 47), levels.tobytes()).convert("RGB"))
        row = np.asarray(Image.open("b.ela.png"))
        left = row.shape[1] // 2 + 4
        assert np.array_equal(row[-4 - 47 : -4, left : left + 61], expected)

    def test_scales_large_images_after_the_levels(self, folder) -> None:
        picture(1500, 700).save("large.png")
        assert main(["ela", "large.png", "-o", "out.png", "--qualities", "90", "--gain", "9"]) == 0
        row = Image.open("out.png")
        assert row.size == (2 * (512 + 8), 239 + 28 + 4)
        levels = Image.fromarray(error_level("large.png", 90, gain=9))
        levels.thumbnail((512, 512), Image.Resampling.LANCZOS)
        assert row.crop((524, 28, 1036, 267)).tobytes() == levels.tobytes()

    def test_replaces_a_picture_but_never_the_image(self, folder, capsys) -> None:
        shutil.copy("art/b.PNG", "b.png")
        before = Path("b.png").read_bytes()
        error = usage_error(["ela", "b.png", "-o", "./b.png"], capsys)
        assert "must not be the image itself" in error
        assert Path("b.png").read_bytes() == before
        assert main(["ela", "b.png"]) == main(["ela", "b.png", "--gain", "5"]) == 0
        assert sorted(path.name for path in folder.iterdir()) == ["art", "b.ela.png", "b.png"]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--qualities", "0"], "--qualities must be an integer from 1 to 100"),
            (["--gain", "bright"], "must be max or a number above 0. Received: bright"),
            (["--gain", "nan"], "must be max or a number above 0. Received: nan"),
            (["--gain", "0"], "must be max or a number above 0. Received: 0"),
            (["--gain", "max", "--signed"], "scales absolute differences only"),
            (["-o", "out.jpg"], "must be a .png file"),
            (["-o", "nowhere/out.png"], "must lie in an existing folder"),
        ],
    )
    def test_wrong_usage(self, folder, arguments, message, capsys) -> None:
        assert message in usage_error(["ela", "art/b.PNG", *arguments], capsys)
        assert [path.name for path in folder.iterdir()] == ["art"]

    def test_refusals_are_one_line(self, folder, capsys) -> None:
        assert main(["ela", "art/deep/notes.txt"]) == 1
        refusal = "hf-ela: art/deep/notes.txt: must be an image: one of"
        assert capsys.readouterr().err.startswith(refusal)


class TestSamples:
    def test_writes_the_set(self, folder, capsys) -> None:
        sizes = ["--per-class", "1", "--test-per-class", "1", "--seed", "3"]
        assert main(["samples", "made", *sizes]) == 0
        assert capsys.readouterr().out == "made\n"
        assert len(list(Path("made").rglob("*.jpg"))) == 4
        assert main(["samples", "art"]) == 2
        assert capsys.readouterr().err.startswith("hf-ela: ")


class TestStart:
    def test_help_and_version_are_light(self) -> None:
        code = (
            "import sys; from hf_ela.cli import main\n"
            "try: main(sys.argv[1:])\n"
            f"finally: print(sorted(set({HEAVY}) & set(sys.modules)))"
        )
        for arguments, text in (
            (["--help"], "predict"),
            (["predict", "--help"], "--batch-size"),
            (["train", "--help"], "--recipe"),
            (["push", "--help"], "--dry-run"),
            (["--version"], f"hf-ela {hf_ela.__version__}"),
        ):
            done = subprocess.run(
                [sys.executable, "-c", code, *arguments], capture_output=True, text=True
            )
            assert done.returncode == 0
            assert text in done.stdout
            assert done.stdout.endswith("[]\n")

    def test_a_card_is_made_without_what_training_takes(self, tmp_path) -> None:
        shutil.copytree(packaged_model(), tmp_path / "run")
        (tmp_path / "run/README.md").unlink()
        absent = ["datasets", "evaluate", "keras", "matplotlib", "pandas", "scipy", "sklearn"]
        code = (
            f"import sys; sys.modules |= dict.fromkeys({absent})\n"  # as if not installed
            "from hf_ela.cli import main; sys.exit(main(sys.argv[1:]))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, "card", tmp_path / "run"], capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert (tmp_path / "run/README.md").is_file()

    def test_a_command_is_needed(self, capsys) -> None:
        for words, message in (([], "COMMAND"), (["predct", "x.jpg"], "Choose predict")):
            assert message in usage_error(words, capsys)

    def test_options_are_named_as_flags(self, tmp_path, capsys) -> None:
        """The library names its arguments, and the command prints the options they come from."""
        for command in (["audit", tmp_path], ["evaluate", tmp_path], ["train", "--data", tmp_path]):
            assert main([*map(str, command), "--max-rejected", "3"]) == 2
            err = capsys.readouterr().err
            assert err.startswith(
                "hf-ela: --max-rejected must be a share from 0 to 1. Received: 3.0"
            )

    @pytest.mark.parametrize("command", ["train", "evaluate", "audit", "reproduce"])
    def test_commands_share_the_data_options(self, command, capsys) -> None:
        with pytest.raises(SystemExit):
            main([command, "--help"])
        shared = ["--groups", "--limit", "--no-streaming", "--num-proc", "--cache-dir", "--token"]
        if command != "reproduce":  # the record settles the others
            shared += ["--revision", "--label-map", "--max-rejected"]
        shown = capsys.readouterr().out
        assert [option for option in shared if option not in shown] == []

    @pytest.mark.parametrize(
        ("script", "words", "answer"),
        [
            ("train.py", ["--limit", "1"], "--limit must be at least 2"),
            ("push_to_hub.py", ["nowhere", "user/repo", "--dry-run"], "Received: nowhere"),
        ],
    )
    def test_the_scripts_are_doors_to_the_commands(self, script, words, answer) -> None:
        done = subprocess.run(
            [sys.executable, REPOSITORY / script, *words], capture_output=True, text=True
        )
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
        environment = {**os.environ, "PYTHONPATH": f"{source}{os.pathsep}{packages}"}
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
