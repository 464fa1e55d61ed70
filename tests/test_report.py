"""`hf-ela predict --out`: answers in a file, whole, and taken up after an interruption."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL.PngImagePlugin import PngInfo
from pyarrow import parquet

from bad_files import encode, picture


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two pictures, one of which says how it was made, one without anything to see, and a text."""
    place = tmp_path / "art"
    place.mkdir()
    info = PngInfo()
    info.add_text("Software", "NovelAI <b>")
    (place / "a.png").write_bytes(encode(picture(90, 70), "PNG", pnginfo=info))
    (place / "b <i>.jpg").write_bytes(encode(picture(80, 70, seed=1), "JPEG"))
    (place / "blank.png").write_bytes(encode(picture(80, 70).point(lambda _: 0), "PNG"))
    (place / "text.png").write_text("no picture")
    return place


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_every_ending_holds_the_same_answers(folder, saved_crops, tmp_path, command) -> None:
    def written(name: str) -> Path:
        out = command(
            f"predict --model {saved_crops} --out {tmp_path}/{name}", folder, status=1
        ).out
        assert out.startswith("4 pictures: ")
        assert "1 uncertain, 1 refused." in out
        assert not list(tmp_path.glob("*.part"))
        return tmp_path / name

    lines = rows_of(written("r.jsonl"))
    printed = command(f"predict --json --model {saved_crops}", folder, status=1).out
    assert lines == [json.loads(line) for line in printed.splitlines()]
    with written("r.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["file"] for row in table] == [line["file"] for line in lines]
    assert [row["answer"] for row in table][2:] == ["uncertain", "refused"]
    assert [row["leans"] for row in table] == [line.get("label", "") for line in lines]
    assert float(table[0]["fake"]) == lines[0]["probability"]
    assert table[0]["note"] == "the file says: AI-generated, by NovelAI"
    assert table[2]["note"].startswith("nothing to see")
    assert table[3]["error"] == lines[3]["error"]["message"]
    columns = parquet.read_table(written("r.parquet")).to_pylist()
    assert [{k: "" if v is None else str(v) for k, v in row.items()} for row in columns] == table
    page = written("r.html").read_text("utf-8")
    assert page.count("<img ") == page.count("data:image/jpeg;base64,") == 3
    assert "b &lt;i&gt;.jpg" in page
    assert f"uncertain ({table[2]['leans']}?)" in page
    assert "<i>" not in page
    assert "http" not in page.replace("http-equiv", "")


def test_what_is_scored_is_not_scored_again(
    folder, saved_crops, saved_resized, tmp_path, command
) -> None:
    """A kill leaves some answers, and the last one half written."""
    typed = f"predict {folder} --out {tmp_path}/r.jsonl"
    whole, part = tmp_path / "r.jsonl", tmp_path / "r.jsonl.part"

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hf_ela.cli.report.Report.write", interrupt)
        command(f"{typed} --model {saved_crops}", status=130)
    begun = part.read_text("utf-8").splitlines(keepends=True)
    assert len(begun) == 5
    kept = begun[1].replace('"fake"', '"FAKE"')  # as no model writes it
    part.write_text("".join([begun[0], kept, begun[2][:40]]), "utf-8")
    assert (
        "another model or with other options"
        in command(f"{typed} --model {saved_resized}", status=2).err
    )
    # The same calibration is not the same model.
    other = shutil.copytree(saved_crops, tmp_path / "other")
    settings = json.loads((other / "hf_ela.json").read_text("utf-8"))
    settings["data"] = {"id": "others"}
    (other / "hf_ela.json").write_text(json.dumps(settings), "utf-8")
    assert "another model" in command(f"{typed} --model {other}", status=2).err
    command(f"{typed} --model {saved_crops}", status=1)
    assert whole.read_text("utf-8").splitlines(keepends=True) == [kept, *begun[2:]]
    assert not part.exists()


def test_what_cannot_be_written_is_said_before_anything_is_scored(
    folder, saved_crops, tmp_path, command
) -> None:
    (tmp_path / "there.csv").write_text("mine")
    for name, message in (
        ("r.xlsx", "--out must end in one of .csv, .jsonl, .parquet, .html. Received: "),
        ("there.csv", "exists. Choose another name, or delete it."),
    ):
        typed = f"predict --model {saved_crops} --out {tmp_path}/{name}"
        assert message in command(typed, folder, status=2).err
    assert (tmp_path / "there.csv").read_text() == "mine"


@pytest.mark.second_lane
def test_the_page_sorts_and_filters(folder, saved_crops, tmp_path, command, browser) -> None:
    command(f"predict --model {saved_crops} --out {tmp_path}/r.html", folder, status=1)
    for width in (1280, 390):
        page = browser.new_page(viewport={"width": width, "height": 800})
        said: list[str] = []
        page.on("console", lambda message, said=said: said.append(message.text))
        page.goto((tmp_path / "r.html").as_uri())
        scores = page.locator("tbody td:nth-child(4)")
        page.get_by_role("button", name="P(fake)").click()
        up = scores.all_inner_texts()
        assert up == sorted(up)
        page.get_by_role("button", name="P(fake)").click()
        assert scores.all_inner_texts() == up[::-1]
        for name in ("fake", "real", "uncertain"):
            page.get_by_label(name, exact=True).uncheck()
        shown = page.locator("tbody tr:visible").all_inner_texts()
        assert len(shown) == 1
        assert "text.png" in shown[0]
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("img").first.evaluate("image => image.naturalWidth") > 0
        assert said == []
        page.close()
