"""The demo page: takes an image, shows what the model says about it and why."""

import json
import os
import sys
from base64 import b64encode
from functools import partial
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any

HERE = Path(__file__).absolute().parent
(package,) = HERE.glob("hf_ela-*.whl")
sys.path.insert(0, str(package))
os.environ.setdefault("KERAS_BACKEND", "jax")  # for a model that was released without ONNX
os.environ.setdefault("HF_ELA_MAX_PIXELS", "40000000")

import gradio as gr
from PIL import Image

from hf_ela import ElaClassifier
from hf_ela._text import LABEL_WORDS, synthetic_notice
from hf_ela._threads import within
from hf_ela.errors import ImageError
from hf_ela.models.explain import OVERLAY_SIDE, Evidence, overlay
from hf_ela.serving.requests import SECONDS, RequestError, Requests

WAITING = 64
"""Most visitors who wait for an answer."""
KEPT = 2 * SECONDS * WAITING
"""Seconds that an upload is kept: Gradio keeps one file of equal uploads, so that nobody may delete
it while another visitor waits for an answer about it."""
MODEL = json.loads((HERE / "model.json").read_text("utf-8"))
classifier = ElaClassifier.from_pretrained(MODEL["repo"], revision=MODEL["revision"])
requests = Requests(classifier)
threshold = classifier.threshold

BAND = BAND_MEANING = ""
if classifier.uncertain:
    low, high = classifier.uncertain
    BAND = f'<i class="band" style="left: {low:.1%}; width: {high - low:.1%}"></i>'
    BAND_MEANING = (
        f" From {low:.3f} to {high:.3f} (hatched) the model is uncertain: this close to the "
        "threshold it is wrong too often."
    )

notice = synthetic_notice(classifier.data)
INTRO = f"""
# Human-made or AI-generated?
A small network reads the traces that creation and compression leave in a picture, by Error Level
Analysis. {f"**{notice}**" if notice else ""}

Model: [{MODEL["repo"]}](https://huggingface.co/{MODEL["repo"]})
"""
LIMITS = """
### What this is not
**This is not proof of who made a picture**: do not accuse anyone because of it. The model sees the
history of a file before it sees its maker, so a screenshot, a resize or a messenger's compression
can flip the answer. It is weak on generators and kinds of art that are not in its training data.
Use the original file. Your file is deleted within the hour.
"""
NO_CLAIM = (
    " It makes no claim about how it was made. That proves nothing: a human picture needs no mark, "
    "and a generated one can have lost its own."
)
REPORT = f"https://huggingface.co/{MODEL['repo']}/discussions"
CSS = """
#samples img { width: 56px; height: 56px; object-fit: cover; border-radius: 4px }
#answer h2 { margin: 0 } #answer .truth { margin: 4px 0; font-weight: 600 }
#answer .bar { position: relative; height: 14px; margin: 8px 0; border-radius: 7px;
  background: linear-gradient(90deg, #1d4ed8, #d4d4d8, #d62828) }
#answer .bar i { position: absolute; top: -5px; width: 4px; height: 24px; margin-left: -2px;
  background: var(--body-text-color) }
#answer .bar i.band { top: 0; height: 14px; margin-left: 0; min-width: 4px;
  background: repeating-linear-gradient(135deg, #fff 0 3px, #71717a 3px 6px) }
#answer .bar i.threshold { width: 0; background: none;
  border-left: 2px dashed var(--body-text-color) }
#answer .pictures { display: grid; gap: 12px; margin-top: 12px;
  grid-template-columns: repeat(auto-fit, minmax(min(240px, 100%), 1fr)) }
#answer figure { margin: 0 } #answer img { width: 100%; height: auto; border-radius: 6px }
"""


def predict(image: str, max_false_alarms: float | None = None) -> list[dict[str, Any]]:
    """Estimate whether a picture is human-made or AI-generated art.

    Answers as an Inference Endpoint with this model does: labels with scores, the decision first;
    "uncertain" where the model abstains. The first entry also has the reason if the picture itself
    allows no certain answer, how often such a score was right, and what the file claims. An
    estimate is not proof: do not accuse anyone because of it.

    Args:
        image: The original file as base64 text, or a data: URI of it.
        max_false_alarms: Call a picture AI-generated only from the threshold at which at most this
            share of human-made pictures was: 0.05, 0.02 or 0.01.
    """
    try:
        return requests.answer(
            {"inputs": image, "parameters": {"abstain": True, "max_false_alarms": max_false_alarms}}
        )
    except (RequestError, RuntimeError) as error:
        raise gr.Error(str(error)) from error


def answer_upload(path: str | None) -> tuple[None, str]:
    """Score an uploaded file, and make room for the next one."""
    return None, "" if path is None else answer(Path(path))


def explained(path: Path) -> Evidence:
    """Return what the model says about the unchanged bytes of a file: a copy scores differently."""
    return classifier.explain(path)


def answer(path: Path, sample: dict[str, str] | None = None) -> str:
    """Return what the page says about a file, or a sample."""
    try:
        found = within(SECONDS, explained, path)
    except (ImageError, TimeoutError) as error:
        late = f"no answer within {SECONDS} seconds: it is too large, or the server busy"
        reason = error.reason if isinstance(error, ImageError) else late
        return (
            f'<div role="alert"><h2>This file cannot be read as an image</h2>'
            f"<p>{escape(path.name)}: {escape(reason)}.</p></div>"
        )
    says = LABEL_WORDS[found.label]
    verdict = f"The model says: {says}"
    if found.uncertain:
        verdict = f"The model is uncertain; it leans towards {says}"
        if found.score.doubt:
            verdict += f" ({escape(found.score.doubt)})"
    truth = ""
    if sample:
        right = "right" if found.label == sample["label"] else "wrong"
        outcome = f"leans the {right} way" if found.uncertain else f"is {right}"
        truth = (
            f'<p class="truth">Truth: {LABEL_WORDS[sample["label"]]} ({escape(sample["title"])}). '
            f"The model {outcome}.</p>"
        )
    info = found.score.info
    claims = "".join(
        f"<p>The file itself says: {escape(f'{claim.words} ({claim.what}; {claim.where})')}.</p>"
        for claim in (info.claims if info else ())
    )
    for_fake = sum(score >= threshold for score in found.scores)
    where = (
        f"Where the evidence is: {for_fake} of the {len(found.scores)} regions that the model sees "
        "look AI-generated."
    )
    if found.score.doubt:
        where = "This picture shows no evidence."
    elif classifier.recipe.input.kind == "resize":
        where = "This model sees the whole picture at once: the colour says nothing about regions."
    ela = Image.fromarray(found.ela)
    pictures = [
        ("The picture", found.image),
        ("Its error levels, brightened: what JPEG compression changes", ela),
        (where, overlay(found)),
    ]
    return f"""<div role="status">
<h2>{verdict}</h2>{truth}{claims}
<div class="bar" role="img" aria-label="{found.score:.3f} on a scale from 0, human-made, to 1,
AI-generated">{BAND}<i class="threshold" style="left: {threshold:.1%}"></i>
<i style="left: {found.score:.1%}"></i></div>
<p>P(fake), its estimate that the picture is AI-generated, is <b id="score">{found.score:.3f}</b>
(0 to 1). It calls a picture AI-generated from {threshold:.3f} (dashed line), a threshold chosen in
training.{BAND_MEANING} {classifier.frequency(found.score)}{f" {notice}" if notice else ""}</p>
<div class="pictures">{"".join(figure(*entry) for entry in pictures)}</div>
<p>The file: {escape(info.words) if info else ""}.{"" if claims else NO_CLAIM}</p>
<p><a href="{REPORT}" target="_blank" rel="noopener">Report a wrong answer</a></p></div>"""


def figure(caption: str, picture: Image.Image) -> str:
    """Return a picture inside the text of the page, so that no file of it remains."""
    picture = picture.copy()
    picture.thumbnail((OVERLAY_SIDE, OVERLAY_SIDE * 2))
    file = BytesIO()
    picture.save(file, "JPEG", quality=90)
    source = f"data:image/jpeg;base64,{b64encode(file.getvalue()).decode()}"
    return (
        f'<figure><img alt="{caption}" src="{source}"><figcaption>{caption}</figcaption></figure>'
    )


gr.set_static_paths([HERE / "samples"])  # or the buttons' icons go with the uploads

with gr.Blocks(
    title="Human-made or AI-generated?", delete_cache=(60, KEPT), analytics_enabled=False
) as page:
    gr.Markdown(INTRO)
    upload = gr.File(label="Your picture: the original file", file_types=["image"], height=150)
    gr.Markdown("Or try one of these. The truth is shown beside the answer, right or wrong.")
    with gr.Row(elem_id="samples"):
        buttons = [
            gr.Button(sample["title"], icon=str(HERE / "samples" / sample["file"]), min_width=140)
            for sample in MODEL["samples"]
        ]
    shown = gr.HTML(elem_id="answer")
    gr.Markdown(LIMITS)
    pages = "undocumented"  # what the page asks is no use to others
    upload.upload(
        answer_upload, upload, [upload, shown], scroll_to_output=True, api_visibility=pages
    )
    for sample, button in zip(MODEL["samples"], buttons, strict=True):
        show = partial(answer, HERE / "samples" / sample["file"], sample)
        button.click(show, None, shown, scroll_to_output=True, api_visibility=pages)
    gr.api(predict, api_name="predict")

if __name__ == "__main__":
    theme = gr.themes.Default(font=["system-ui", "sans-serif"])  # nothing to fetch
    page.queue(max_size=WAITING).launch(
        theme=theme,
        css=CSS,
        max_file_size="20mb",
        footer_links=[],
        run_history=False,  # in the browser, of uploads that are deleted here
        mcp_server=True,  # `predict` as a tool of assistants
        ssr_mode=False,  # a second server, from which this page gains nothing
    )
