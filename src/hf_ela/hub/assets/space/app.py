"""The demo page: an image in, what the model says about it and why out."""

import json
import os
import sys
from base64 import b64encode
from functools import partial
from html import escape
from io import BytesIO
from pathlib import Path

HERE = Path(__file__).absolute().parent
(package,) = HERE.glob("hf_ela-*.whl")
sys.path.insert(0, str(package))
os.environ.setdefault("KERAS_BACKEND", "jax")  # for a model that was released without ONNX

import gradio as gr
from PIL import Image

from hf_ela import ElaClassifier, load_image
from hf_ela.errors import ImageError
from hf_ela.models.explain import OVERLAY_SIDE, overlay

MAX_PIXELS = 40_000_000
MODEL = json.loads((HERE / "model.json").read_text("utf-8"))
SAMPLES = sorted((HERE / "samples").glob("*-*.*"))
classifier = ElaClassifier.from_pretrained(MODEL["repo"], revision=MODEL["revision"])
threshold = classifier.threshold

BAND = BAND_MEANING = ""
if classifier.uncertain:
    low, high = classifier.uncertain
    BAND = f'<i class="band" style="left: {low:.1%}; width: {high - low:.1%}"></i>'
    BAND_MEANING = (
        f" From {low:.3f} to {high:.3f} (hatched) its answer is uncertain: so near to the limit, "
        "it is wrong too often."
    )

INTRO = f"""
# Human-made or AI-generated?
A small network looks at the traces that making and compressing left in a picture, by Error Level
Analysis.
Model: [{MODEL["repo"]}](https://huggingface.co/{MODEL["repo"]})
"""
LIMITS = """
### What this is not
**It is no proof of who made a picture**: do not accuse anybody by it. The model sees a file's
history before it sees its maker, so a screenshot, a resize or a messenger's compression can turn
the answer around, and it is weak on generators and kinds of art that it was not trained on. Give it
the original file. Your file is deleted as soon as you have your answer.
"""
CSS = """
#samples img { width: 56px; height: 56px; object-fit: cover; border-radius: 4px }
#answer h2 { margin: 0 }
#answer .bar { position: relative; height: 14px; margin: 8px 0; border-radius: 7px;
  background: linear-gradient(90deg, #1d4ed8, #d4d4d8, #d62828) }
#answer .bar i { position: absolute; top: -5px; width: 4px; height: 24px; margin-left: -2px;
  background: var(--body-text-color) }
#answer .bar i.band { top: 0; height: 14px; margin-left: 0; min-width: 4px;
  background: repeating-linear-gradient(135deg, #fff 0 3px, #71717a 3px 6px) }
#answer .bar i.limit { width: 0; background: none; border-left: 2px dashed var(--body-text-color) }
#answer .pictures { display: grid; gap: 12px; margin-top: 12px;
  grid-template-columns: repeat(auto-fit, minmax(min(240px, 100%), 1fr)) }
#answer figure { margin: 0 } #answer img { width: 100%; height: auto; border-radius: 6px }
"""


def answer_upload(path: str | None) -> tuple[None, str]:
    """Judge an uploaded file, delete it, and make room for the next one."""
    if path is None:
        return None, ""
    try:
        return None, answer(Path(path))
    finally:
        Path(path).unlink(missing_ok=True)


def answer(path: Path) -> str:
    """Return what the page says about a file; nothing of it is kept."""
    try:
        # The bytes of the file as they came: a copy re-encoded by the page would answer otherwise.
        found = classifier.explain(load_image(path, max_pixels=MAX_PIXELS).pixels)
    except ImageError as error:
        return (
            f'<div role="alert"><h2>This file cannot be read as an image</h2>'
            f"<p>{escape(path.name)}: {escape(error.reason)}.</p></div>"
        )
    says = "AI-generated" if found.label == "fake" else "human-made"
    verdict = f"To the model this looks {says}"
    if found.uncertain:
        verdict = f"The model does not know; it leans to {says}"
    for_fake = sum(score >= threshold for score in found.scores)
    where = (
        "This model looks at the whole picture at once: the colour says nothing about places."
        if classifier.recipe.input.kind == "resize"
        else "Where the evidence sits: of the places it looked at, "
        f"{for_fake} of {len(found.scores)} say AI-generated."
    )
    ela = Image.fromarray(found.ela)
    pictures = [
        ("The picture", found.image),
        ("Its error levels, brightened: what JPEG compression changes in it", ela),
        (where, overlay(found)),
    ]
    return f"""<div role="status">
<h2>{verdict}</h2>
<div class="bar" role="img" aria-label="{found.score:.3f} on a scale from 0, human-made, to 1,
AI-generated">{BAND}<i class="limit" style="left: {threshold:.1%}"></i>
<i style="left: {found.score:.1%}"></i></div>
<p>Its estimate that the picture is AI-generated is <b id="score">{found.score:.3f}</b> (from 0 to
1). It calls a picture AI-generated from {threshold:.3f} on (dashed line), a limit that was chosen
with its training.{BAND_MEANING}</p>
<div class="pictures">{"".join(figure(*entry) for entry in pictures)}</div></div>"""


def figure(caption: str, picture: Image.Image) -> str:
    """Return a picture for the page, inside the text, so that no file of it lies anywhere."""
    picture = picture.copy()
    picture.thumbnail((OVERLAY_SIDE, OVERLAY_SIDE * 2))
    file = BytesIO()
    picture.save(file, "JPEG", quality=90)
    source = f"data:image/jpeg;base64,{b64encode(file.getvalue()).decode()}"
    return (
        f'<figure><img alt="{caption}" src="{source}"><figcaption>{caption}</figcaption></figure>'
    )


gr.set_static_paths([HERE / "samples"])  # or the buttons' icons go with the uploads

with gr.Blocks(title="Human-made or AI-generated?", delete_cache=(60, 60)) as page:
    gr.Markdown(INTRO)
    upload = gr.File(label="Your picture: the original file", file_types=["image"], height=150)
    gr.Markdown("Or try one of these. A program painted them; the model may be wrong about them.")
    with gr.Row(elem_id="samples"):
        samples = [
            gr.Button(path.stem.replace("-", ", "), icon=str(path), min_width=140)
            for path in SAMPLES
        ]
    shown = gr.HTML(elem_id="answer")
    gr.Markdown(LIMITS)
    upload.upload(answer_upload, upload, [upload, shown], scroll_to_output=True)
    for path, sample in zip(SAMPLES, samples, strict=True):
        sample.click(partial(answer, path), None, shown, scroll_to_output=True)

if __name__ == "__main__":
    theme = gr.themes.Default(font=["system-ui", "sans-serif"])  # nothing to fetch
    page.launch(
        theme=theme,
        css=CSS,
        max_file_size="20mb",
        footer_links=[],
        run_history=False,  # in the browser, of uploads that are deleted here
        ssr_mode=False,  # pages by another server, which this page gains nothing from
    )
