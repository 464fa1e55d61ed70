"""The model card: golden, merged with what a person wrote, escaped, and checked.

Make the golden card again after a change that is meant, and read the difference:
    python tests/test_card.py && git diff tests/golden
"""

import copy
import json
import re
import shlex
import string
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from scipy.stats import binomtest

from conftest import linked_copy
from hf_ela import __version__
from hf_ela._text import SYNTHETIC_NOTICE
from hf_ela.errors import CardError
from hf_ela.hub.card import CAPTIONS, make_card
from hf_ela.hub.card_metadata import BEGIN, END, body_of
from hf_ela.hub.datasets import DEFAULT_DATASET
from hf_ela.hub.locate import packaged_model
from hf_ela.hub.package import WHEEL
from hf_ela.recipes.loading import load_recipe
from hub_server import cards
from jobs import resolved

GOLDEN = Path(__file__).parent / "golden"
RUN = json.loads((GOLDEN / "run.json").read_text("utf-8"))
PACKAGED_RUN = json.loads((packaged_model() / "run.json").read_text("utf-8"))
MINIMAL = {
    "schema": 1,
    "recipe": {"name": "reference"},
    "data": {"id": "my-folder"},
    "calibration": {"threshold": 0.5},
    "evaluation": {"test": {"as_is": {"accuracy": {"value": 0.5, "low": 0, "high": 1, "n": 2}}}},
}
RELEASE = {"repo_id": "user/repo", "revision": "v1.0.0"}


def golden_card() -> str:
    # A new version of the package is no other card.
    return make_card(RUN, **RELEASE).replace(f"hf_ela-{__version__}-py3", "hf_ela-0.1.0-py3")


def metadata(card: str) -> dict:
    return yaml.safe_load(card.removeprefix("\ufeff").partition("---")[2].partition("\n---")[0])


def html(card: str) -> str:
    return MarkdownIt("commonmark", {"html": True}).enable("table").render(body_of(card))


def changed(**sections) -> dict:
    """The golden run with other values in some sections; None removes a key."""
    run = copy.deepcopy(RUN)
    for name, values in sections.items():
        run[name] = {**run[name], **values} if isinstance(run.get(name), dict) else values
    return run


# --------------------------------------------------------------------------------- its contents


def test_a_card_begins_with_how_right_the_model_is() -> None:
    first, limits = paragraphs(make_card(PACKAGED_RUN))[1:3]
    test, unseen = PACKAGED_RUN["evaluation"]["test"], PACKAGED_RUN["left_out"]["metrics"]
    for cell in (test["aligned"]["accuracy"], unseen["aligned"]["accuracy"]):
        value, low, high = (f"{100 * cell[key]:.0f}" for key in ("value", "low", "high"))
        assert f"**{value} of 100 ({low} to {high})**" in first
    assert "sources that it had never seen" in first
    assert "proves nothing" in limits
    first = paragraphs(make_card(RUN))[1]  # nothing was left out of it
    assert "**76 of 100 (71 to 81)** pictures of the kinds that it was trained on" in first
    assert "never seen" not in first
    assert "was not measured" in first
    left = paragraphs(make_card(changed(data={"left_out": {"images": 3, "rule": "source=a"}})))[1]
    assert "test pictures" in left
    assert "was trained on" not in left


def test_a_card_speaks_of_no_other_model() -> None:
    rows = [{"detector": "features-aligned", "tested": "as_is", "against": {}}]
    for run in (RUN, PACKAGED_RUN, changed(detectors={"seeds": 1, "rows": rows})):
        card = body_of(make_card(run))
        named = re.findall("CNN_And_ELA|ResNet|features-aligned|Other detect|other models", card)
        assert not named


def test_sources_with_few_images_are_one_row() -> None:
    rows = PACKAGED_RUN["sources"]["aligned"]
    few = [row for row in rows if row["n"] < 13]
    n, right = (sum(row["n"] for row in few), sum(right_answers(row) for row in few))
    lines = make_card(PACKAGED_RUN).partition("### By source")[2].partition("###")[0].splitlines()
    table = [line for line in lines if line.startswith(("| `", f"| {len(few)} "))]
    assert len(table) == len(rows) - len(few) + 1
    assert table[-1].startswith(f"| {len(few)} sources with fewer than 13 images | {n} | ")
    found = binomtest(right, n).proportion_ci(method="wilson")
    assert table[-1].endswith(f"| {right / n:.3f} ({found.low:.3f}–{found.high:.3f}) |")


def right_answers(row: dict) -> int:
    return round(row["accuracy"]["value"] * row["n"])


def paragraphs(card: str) -> list[str]:
    """The title, and what comes after it, each on one line."""
    text = re.sub("<!--.*?-->", "", body_of(card)).strip()
    return [" ".join(part.split()) for part in text.split("\n\n") if part.strip()]


def test_golden_card() -> None:
    assert golden_card().encode() == (GOLDEN / "README.md").read_bytes()
    assert cards.check(golden_card()) == ([], [])


def test_a_card_is_a_function_of_its_run() -> None:
    before = copy.deepcopy(RUN)
    assert make_card(RUN, **RELEASE) == make_card(RUN, **RELEASE)
    assert before == RUN


def test_a_card_says_of_how_many_groups_its_figures_are() -> None:
    plain = make_card(RUN)  # of a run before there were groups
    assert "intervals that treat images as independent" in plain
    assert "(groups)" not in plain
    run = copy.deepcopy(RUN)
    for cells in run["evaluation"]["test"].values():
        for metric in cells.keys() - {"confusion"}:
            cells[metric]["groups"] = 1234
    for rows in run["sources"].values():
        for row in rows:
            row["groups"] = 7
    card = make_card(run)
    assert "resample whole groups of related images, 1,234 of them" in card
    assert "| Name | n (groups) | fake | real |" in card
    row = RUN["sources"]["as_is"][0]
    assert f"`{row['source']}` | {row['n']} (7) | {row['fake']} |" in card


def test_a_card_says_what_ece_is_by_chance() -> None:
    run = copy.deepcopy(RUN)
    run["evaluation"].pop("chance_ece", None)
    assert "perfectly calibrated" not in make_card(run)  # of a run before it was measured
    run["evaluation"]["chance_ece"] = {
        "as_is": {"value": 0.05, "low": 0.03, "high": 0.07, "n": 279},
        "aligned": {"value": 0.055, "low": 0.035, "high": 0.075, "n": 279},
    }
    found = " ".join(make_card(run).split())
    assert "in 95 % of draws: 0.050 (0.030–0.070) as-is, 0.055 (0.035–0.075) aligned." in found


def test_metadata_say_what_was_measured() -> None:
    found = metadata(make_card(RUN, **RELEASE))
    assert found["datasets"] == [DEFAULT_DATASET]
    assert found["co2_eq_emissions"]["emissions"] == 12.345
    [index] = found["model-index"]
    [result] = index["results"]
    assert result["dataset"]["revision"] == RUN["data"]["revision"]
    named = {metric["name"]: metric["value"] for metric in result["metrics"]}
    test = RUN["evaluation"]["test"]
    assert len(named) == 20
    assert named["Recall (as-is)"] == test["as_is"]["recall"]["value"]
    assert named["Expected calibration error (aligned)"] == test["aligned"]["ece"]["value"]
    second = found["widget"][1]  # the threshold of .47 is moved to one half
    assert second["output"] == [{"label": "fake", "score": 0.51}, {"label": "real", "score": 0.49}]
    titles = [example["example_title"] for example in found["widget"]]
    uncertain = "AI-generated; answer: uncertain, leaning to AI-generated"
    assert f"A dark fantasy, by Stable Diffusion: {uncertain}" in titles
    assert "Great Piece of Turf, by Albrecht Dürer: human-made; answer: human-made" in titles


def test_an_undefined_metric_is_left_out() -> None:
    run = copy.deepcopy(RUN)
    run["evaluation"]["test"]["as_is"]["roc_auc"] = {"value": None, "low": None, "high": None}
    card = make_card(run)
    names = [metric["name"] for metric in metadata(card)["model-index"][0]["results"][0]["metrics"]]
    assert "ROC AUC (as-is)" not in names
    assert "ROC AUC (aligned)" in names
    assert "| ROC AUC | undefined | 0.8" in card


def test_a_local_folder_is_not_called_a_dataset_of_the_hub() -> None:
    card = make_card(changed(data={"id": "my-folder", "revision": None}), **RELEASE)
    found = metadata(card)
    assert "datasets" not in found
    assert "revision" not in found["model-index"][0]["results"][0]["dataset"]
    assert "hf-ela reproduce user/repo@v1.0.0 --data FOLDER --groups CSV\n" in card
    assert "Label trap" not in card


@pytest.mark.parametrize(
    ("names", "texts"),
    [
        (
            {},
            [
                'ElaClassifier.from_pretrained(".")',
                "hf-ela reproduce . --groups CSV\n",
                'pip install ".[jax]"',
            ],
        ),
        (
            {"repo_id": "user/repo"},  # without a tag the newest release is meant
            [
                'from_pretrained("user/repo").predict',
                "hf-ela reproduce user/repo --groups CSV\n",
                "/resolve/main/hf_ela-",
            ],
        ),
        (
            {"repo_id": "user/repo", "revision": "next/try"},
            ["hf-ela reproduce user/repo@next/try --groups CSV\n"],
        ),
    ],
    ids=["from within the run folder", "without a tag", "of a branch"],
)
def test_what_it_shows_to_be_run_names_where_the_model_lies(names, texts) -> None:
    card = make_card(RUN, **names)
    assert [text for text in texts if text not in card] == []


def test_the_command_that_reproduces_asks_for_the_groups() -> None:
    assert "If you do not have it, omit `--groups`" in make_card(RUN)
    card = make_card(changed(data={"groups": None}))
    assert "hf-ela reproduce .\n" in card
    assert "--groups" not in card


def test_it_names_the_command_that_reproduces_on_a_rented_gpu() -> None:
    """The `hf` command line itself resolves it; nothing is sent."""

    def rented(card: str) -> list[str]:
        return [line for line in card.splitlines() if line.startswith("hf jobs")]

    [line] = rented(make_card(RUN, **RELEASE))
    rows = resolved(shlex.split(line))
    assert rows["script"] == "hf-ela"
    assert rows["args"] == "reproduce user/repo@v1.0.0 --groups CSV"
    wheel = f"https://huggingface.co/user/repo/resolve/v1.0.0/{WHEEL}"
    assert rows["with"] == f"hf-ela[train,gpu] @ {wheel}"
    assert rows["flavor"].startswith("t4")

    local = changed(data={"id": "my-folder", "revision": None})
    initial = {"id": "my-model", "revision": None, "sha256": "ab" * 32}
    for card in (make_card(RUN), make_card(local, **RELEASE)):
        assert not rented(card)
    assert not rented(make_card({**RUN, "initial": initial}, **RELEASE))


@pytest.mark.parametrize(
    ("data", "text"),
    [({"limit": 200}, "at most 200 images"), ({"synthetic": True}, SYNTHETIC_NOTICE)],
)
def test_a_quick_trial_and_a_demonstration_say_so_first(data, text) -> None:
    body = body_of(make_card(changed(data=data)))
    assert body.index(text) < body.index("## Use")
    assert text not in make_card(RUN)
    assert "quick trial" not in make_card(RUN)


@pytest.mark.parametrize(
    ("override", "seen"),
    [
        ("ela.with_pixels=true", "ELA and RGB: pixels and error levels"),
        ("ela.with_pixels=false", "ELA: error levels (ELA)"),
        ("ela=none", "RGB: pixels alone"),
    ],
)
def test_says_what_the_network_sees(override, seen) -> None:
    card = make_card(changed(recipe=load_recipe("scratch", [override]).model_dump()))
    short, _, long = seen.partition(": ")
    assert f"estimates from {long} whether" in card
    assert f" ({short}), **" in card


def test_what_a_recipe_did_not_do_is_not_claimed() -> None:
    assert "chosen on the validation split" in make_card(RUN)
    assert "and is released" in make_card(RUN)
    run = copy.deepcopy(RUN)
    run["recipe"]["calibration"] = {"temperature": False, "threshold": 0.5}
    run["recipe"]["training"]["early_stopping"]["restore_best"] = False
    card = make_card(run)
    results = card.partition("## Results")[2]
    assert "validation split" not in results.partition("| Test images, as-is")[0]
    assert "not calibrated" in card
    assert "fixed by the recipe" in card
    assert "and is released" not in card


def test_the_truth_of_a_sample_stands_beside_its_answer() -> None:
    run = changed(calibration={"threshold": 0.47, "uncertain": [0.1, 0.2]})
    rows = [line for line in make_card(run).splitlines() if line.startswith("| Great Piece")]
    assert rows == [
        "| Great Piece of Turf, by Albrecht Dürer | human-made | uncertain, leaning to human-made: "
        "**right** | 0.120 |"
    ]
    run["samples"][2]["score"] = 0.9
    assert "Dürer | human-made | AI-generated: **wrong** | 0.900 |" in make_card(run)


def test_sections_without_data_do_not_appear() -> None:
    card = make_card(MINIMAL)
    assert cards.check(card) == ([], [])
    headings = re.findall(r"^##+ (.*)", card, re.MULTILINE)
    assert headings == [
        "Use", "Results", "Data", "Training", "Reproduce",
        "What error levels are", "Intended use", "Out of scope", "Limits",
    ]  # fmt: skip
    assert not re.search(r"None|Undefined|plots/", card)
    assert set(metadata(card)) == {
        "license", "language", "tags", "library_name", "pipeline_tag", "metrics", "model-index",
    }  # fmt: skip


def test_a_run_without_what_a_card_needs() -> None:
    for key in ("recipe", "data", "evaluation", "calibration"):
        with pytest.raises(CardError, match="Copy the run again"):
            make_card({name: value for name, value in MINIMAL.items() if name != key})


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ({"repo_id": "no-user"}, "`repo_id` must be user/name. Received: 'no-user'"),
        ({"repo_id": 'a/b").x('}, "`repo_id` must be user/name. Received: "),
        ({"repo_id": "a/b", "revision": "`"}, "`revision` must be a tag or a branch"),
        ({"revision": "v1.0.0"}, "`revision` requires `repo_id`"),
    ],
)
def test_names_that_would_break_a_command(names, said) -> None:
    with pytest.raises(CardError, match=said):
        make_card(RUN, **names)


# ------------------------------------------------------------------------------------ its escaping

HOSTILE = [
    "a|b", "`", "``x``", "<script>alert(1)</script>", "two\nlines", "a\n---\nb", "# heading",
    "![x](y)", "*x*", "_x_", "[x](http://x.y)", "&lt;", "\\", "\\|", "|\\", "-->", "<!-- ", END,
    BEGIN, "{{ 7*7 }}", "{% x %}", " x ", "\t", "\x1b[31m", "\r", "\x85", "\u2028", "a\u2029b",
    "$x$", "~~x~~", "é 画", "\udcff", "https://x.y",
]  # fmt: skip


@pytest.mark.parametrize("texts", [HOSTILE[:16], HOSTILE[16:]])
def test_values_of_a_run_are_shown_and_change_nothing_else(texts) -> None:
    plain = html(make_card(_with(*(f"plain{i}" for i in range(len(texts))))))
    card = make_card(_with(*texts))
    assert cards.check(card) == ([], [])
    shown = html(card)
    for tag in ("table>", "tr>", "td>", "th>", "h2>", "a ", "em>", "strong>", "img ", "p>"):
        assert shown.count(f"<{tag}") == plain.count(f"<{tag}"), tag
    assert "<script" not in shown
    assert body_of(card).count("<!--") == 2
    assert make_card(_with(*texts), previous=card) == card


@settings(max_examples=20)
@given(st.text())
@example("\x85")  # a line end for YAML
def test_any_name_of_a_file_takes_one_row(text) -> None:
    assume(text not in CAPTIONS)  # the name of a plot, which is shown then
    shown = html(make_card(_with(text)))
    assert shown.count("<tr>") == html(make_card(_with("plain"))).count("<tr>")
    visible = text.strip() if text.isprintable() else ""
    if visible and visible.isalnum():
        assert visible in shown


def _with(*texts: str) -> dict:
    run = copy.deepcopy(MINIMAL)
    both = "".join(texts)
    run["data"] |= {
        "id": both,
        "fingerprint": both,
        "classes": {**dict.fromkeys(texts, "fake"), "real": "real"},
        "rejected": [{"file": text, "split": text, "reason": text} for text in texts],
    }
    run["recipe"] = {"name": both, "training": {"optimizer": both, both: 1}}
    row = RUN["sources"]["as_is"][0]
    run["sources"] = {"as_is": [{**row, "source": text} for text in texts]}
    packages = dict.fromkeys(texts, both)
    run["environment"] = {"processor": both, "cores": 2, "packages": packages, "backend": both}
    run["training"] = {"epochs": 1}
    run["plots"] = [*texts, "roc.png"]
    return run


def test_refused_images_are_listed_up_to_a_limit() -> None:
    rejected = [{"file": f"{i}.png", "split": "train", "reason": f"r{i % 15}"} for i in range(70)]
    card = make_card(changed(data={"rejected": rejected}))
    assert "| `19.png` |" in card
    assert "| `20.png` |" not in card
    assert "And 50 more" in card
    assert "r9 (5)." in card


# ---------------------------------------------------------------------- what a person wrote stays


def test_a_second_card_renews_its_part_and_keeps_the_rest() -> None:
    first = make_card(RUN, **RELEASE)
    edited = first.replace(
        "# Human-made", "# My own title\n\n{{ 7*7 }} <!-- mine -->\n\n# Human-made"
    )
    edited = edited.replace("license: apache-2.0", "# why\nlicense:   'mit'\nthumbnail: a.png")
    edited = edited.replace("- art\n", "- art\n- mine\n").rstrip("\n")
    run = changed(calibration={"threshold": 0.123})
    later = make_card(run, previous=edited, repo_id="u/new")
    assert "P(fake) = 0.123" in later
    assert "P(fake) = 0.470" not in later
    assert "{{ 7*7 }} <!-- mine -->" in later
    assert later.startswith("---\nlicense: mit\nthumbnail: a.png\nlanguage:")
    assert metadata(later)["tags"][-1] == "mine"
    assert metadata(later)["model-index"][0]["name"] == "new"
    assert outside(later) == outside(edited)
    assert make_card(run, previous=later, repo_id="u/new") == later


def test_generated_keys_go_with_what_they_said() -> None:
    first = make_card(RUN, **RELEASE)
    run = {key: value for key, value in RUN.items() if key not in ("co2_eq_emissions", "samples")}
    later = metadata(make_card(run, previous=first))
    assert "co2_eq_emissions" not in later
    assert "widget" not in later


def test_a_card_without_markers_keeps_all_its_text() -> None:
    card = make_card(RUN, previous="# Mine\n\nAll of it.")
    assert body_of(card).startswith("\n# Mine\n\nAll of it.\n\n" + BEGIN)
    assert metadata(card)["license"] == "apache-2.0"
    assert make_card(RUN, previous=card) == card


def test_a_repository_made_on_the_website_gets_the_whole_card() -> None:
    card = make_card(RUN, previous="---\nlicense: cc-by-4.0\n---\n")
    assert metadata(card)["license"] == "cc-by-4.0"
    assert "## Limits" in card
    assert cards.check(card) == ([], [])


@pytest.mark.parametrize("previous", ["", "\n", "\ufeff", "---\n\n---\n"])
def test_nothing_before(previous) -> None:
    card = make_card(RUN, previous=previous)
    assert metadata(card) == metadata(make_card(RUN))
    assert outside(card).strip() == outside(make_card(RUN)).strip()


def test_line_ends_and_byte_order_mark_of_a_card_from_windows() -> None:
    first = make_card(RUN).replace("# Human-made", "# Mine\n\n# Human-made").replace("\n", "\r\n")
    card = make_card(changed(calibration={"threshold": 0.2}), previous="\ufeff" + first)
    assert "\n" not in card.replace("\r\n", "")
    assert outside(card) == outside(first)
    assert "P(fake) = 0.200" in card
    assert cards.check(card) == ([], [])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (END, ""),
        (BEGIN, ""),
        (END, END + "\n\n" + END),
        (BEGIN, BEGIN + "\n\n" + BEGIN),
        (BEGIN, BEGIN + "\n" + END + "\n" + BEGIN),
        (END, "text " + END),
        (END, END + " text"),
        (END, END + "\n\ntext " + END),
        (BEGIN, "<!-- hf-ela: something else -->"),
    ],
)
def test_damaged_markers_are_refused(old, new) -> None:
    with pytest.raises(CardError, match="two marker lines"):
        make_card(RUN, previous=make_card(RUN).replace(old, new))


def test_swapped_markers_are_refused() -> None:
    card = make_card(RUN).replace(BEGIN, "x").replace(END, BEGIN).replace("\nx\n", f"\n{END}\n")
    with pytest.raises(CardError, match="Received: end, begin"):
        make_card(RUN, previous=card)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("license: [mit", "expected"),
        ("- a\n- b", "should be a dict"),
        ("1: x", "must be strings"),
        ("released: 2026-02-30", "day is out of range"),
        ("to_yaml: 1", "not callable"),
        ("x: &a [*a]", "alias"),
        ("a: &a [1, 1]\n" + "".join(f"b{i}: [*a, *a, *a]\n" for i in range(6)), "alias"),
        ("x: " + "[" * 1200 + "]" * 1200, "recursion"),
        ("x: " + "y" * 2**17, "characters"),
        ('x: !!timestamp "2001"', "NoneType"),
        ("tags: [1]", "`tags` of a card"),
        ("language: no", "`language` of a card"),  # Norwegian to the Hub, False to this YAML
    ],
)
def test_metadata_that_the_hub_would_misread_are_refused(text, reason) -> None:
    with pytest.raises(CardError, match=reason):
        make_card(RUN, previous=f"---\n{text}\n---\n\n# Mine\n")


def test_results_of_an_earlier_card_may_be_damaged() -> None:
    damaged = make_card(RUN).replace("  - task:\n", "  - job:\n")
    assert make_card(RUN, previous=damaged) == make_card(RUN)


FIRST = make_card(MINIMAL)
LATER = {**MINIMAL, "calibration": {"threshold": 0.2}}
HUMAN = st.text(st.characters(codec="utf-8")).filter(lambda text: "hf-ela:" not in text)
KEYS = st.text(string.ascii_lowercase + "_-", min_size=1, max_size=9).filter(
    lambda key: key[0].isalpha() and isinstance(yaml.safe_load(key), str)
)
NO_MARKER = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"])).filter(
    lambda text: "hf-ela:" not in text
)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | NO_MARKER
VALUES = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3)
)
FUZZ = settings(max_examples=20, suppress_health_check=list(HealthCheck))


@FUZZ
@given(HUMAN, HUMAN, st.dictionaries(KEYS, VALUES, max_size=5), st.booleans())
def test_whatever_a_person_writes_survives_a_second_card(above, below, values, one_line) -> None:
    known = {*metadata(make_card(RUN)), "model_name", "eval_results", "base_model", "license_name"}
    values = {key: value for key, value in values.items() if key not in known}
    if one_line:
        mine = "".join(f"{key}: {json.dumps(value)}\n" for key, value in values.items())
    else:
        mine = yaml.safe_dump(values, sort_keys=False) if values else ""
    assume("*id" not in mine and yaml.safe_load(mine or "{}") == values)
    previous = FIRST.replace("---\n", f"---\n# mine\n{mine}", 1)
    previous = previous.replace(BEGIN, f"{above}\n{BEGIN}").replace(END, f"{END}\n{below}")
    card = make_card(LATER, previous=previous)
    assert outside(card) == outside(previous)
    kept = {key: value for key, value in values.items() if value is not None}
    assert list(metadata(card).items())[: len(kept)] == list(kept.items())
    assert "P(fake) = 0.200" in card
    assert make_card(LATER, previous=card) == card


@FUZZ
@given(st.text(), HUMAN)
@example("a: |+\n  x\n", "y")
@example("NULL", "")
@example("---", "---")
@example("", "\r")
def test_any_front_matter_is_merged_or_refused(front, below) -> None:
    assume("hf-ela:" not in front)
    previous = f"---\n{front}\n---\n# Mine\n{below}"
    try:
        card = make_card(LATER, previous=previous)
    except CardError:
        return
    assert below in card
    assert make_card(LATER, previous=card) == card


def outside(card: str) -> str:
    """What is not between the markers, without the metadata."""
    body = body_of(card)
    above, _, rest = body.partition(BEGIN)
    return above + rest.partition(END)[2]


# ----------------------------------------------------------------------------------- the command


def test_the_command_writes_the_card_of_a_real_run(tiny_run, tmp_path, command) -> None:
    run = linked_copy(tiny_run, tmp_path / "run")
    card = run / "README.md"
    before = card.read_bytes()
    card.unlink()
    assert command(f"card {run}").out.strip() == str(card)
    first = card.read_bytes().decode()
    assert first.encode() == before  # of the training
    pictures = re.findall(r"!\[[^]]*\]\(([^)]*)\)", first)
    assert "samples/ela.png" in pictures
    assert "plots/roc.png" in pictures
    assert all((run / name).is_file() for name in pictures)
    assert all((run / entry["src"]).is_file() for entry in metadata(first)["widget"])

    card.write_bytes(first.replace("# Human-made", "# Mine\r\n\r\n# Human-made").encode())
    command(f"card {run} --repo user/repo --tag v2.0.0")
    assert b"# Mine\r\n\r\n# Human-made" in card.read_bytes()
    assert b"user/repo@v2.0.0 --data FOLDER" in card.read_bytes()

    edited = card.read_bytes().replace(END.encode(), b"")
    card.write_bytes(edited)
    assert "two marker lines" in command(f"card {run}", status=2).err
    assert card.read_bytes() == edited

    card.write_bytes(b"\xff")
    assert "not UTF-8" in command(f"card {run}", status=2).err
    command(f"card {run} --replace-card")
    assert card.read_bytes().decode() == first


def test_the_command_refuses_the_tags_that_push_refuses(tiny_run, tmp_path, command) -> None:
    run = linked_copy(tiny_run, tmp_path / "run")
    before = (run / "README.md").read_bytes()
    assert (
        "--tag must be vX.Y.Z, such as v1.0.0. Received: '1.0'"
        in command(f"card {run} --repo user/repo --tag 1.0", status=2).err
    )
    assert "--tag requires --repo" in command(f"card {run} --tag v1.0.0", status=2).err
    assert (run / "README.md").read_bytes() == before


def test_the_command_needs_a_run(tmp_path, command) -> None:
    assert "run.json" in command(f"card {tmp_path}", status=2).err
    assert not (tmp_path / "README.md").exists()


if __name__ == "__main__":
    (GOLDEN / "README.md").write_bytes(golden_card().encode())
