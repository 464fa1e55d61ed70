"""The life of a release, from a dataset of the Hub to its reproduction by somebody else."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import REPOSITORY, TINY, files_of, picture, write_folder

DATASET = "somebody/art"
MODEL = "tester/detector"
PREDICT = """
import json, sys
from hf_ela import ElaClassifier

classifier = ElaClassifier.from_pretrained(sys.argv[1], revision=sys.argv[2] or None)
scores = list(classifier.scores(sys.argv[3:]))
print(json.dumps({"revision": classifier.revision, "scores": scores}))
"""


@pytest.mark.second_lane
def test_a_release_is_trained_pushed_loaded_and_reproduced(hub, tmp_path) -> None:
    hub.add_dataset(DATASET, files_of(write_folder(tmp_path / "art")))

    def command(*words: object, home: str, token: str = "") -> str:
        """Run a command as a user with a home of their own; return what it printed."""
        environment = hub.environment(tmp_path / home) | {"KERAS_BACKEND": "jax"}
        scripts = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            [str(word) for word in words],
            cwd=REPOSITORY,
            env=environment | {"HF_TOKEN": token, "PATH": scripts, "PYTHONWARNINGS": "ignore"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    # A maintainer trains from the Hub, looks at the plan, and releases.
    run = tmp_path / "run"
    settings = ["--recipe", "scratch", *(w for override in TINY for w in ("--set", override))]
    command("hf-ela", "train", "--data", DATASET, "--out", run, *settings, home="maintainer")
    push = ("hf-ela", "push", run, MODEL, "--tag", "v1.0.0")
    plan = command(*push, "--dry-run", home="maintainer")
    assert "nothing was sent" in plan
    assert ("models", MODEL) not in hub.repositories
    pushed = command(*push, home="maintainer", token=hub.token)
    assert "Tagged v1.0.0" in pushed
    released = hub.repositories["models", MODEL].find("v1.0.0")
    record = json.loads((run / "run.json").read_text())
    assert record["data"]["revision"] == hub.repositories["datasets", DATASET].find("main").sha

    # Somebody else, on another machine as it were, gets the same scores: by Python, ...
    images = [tmp_path / "a.png", tmp_path / "b.jpg"]
    for seed, path in enumerate(images):
        picture(seed, fake=bool(seed), side=100).save(path)
    mine = json.loads(command("python", "-c", PREDICT, run, "", *images, home="maintainer"))
    theirs = command("python", "-c", PREDICT, MODEL, "v1.0.0", *images, home="stranger")
    assert json.loads(theirs) == {"revision": released.sha, "scores": mine["scores"]}
    # ... on the command line, ...
    lines = command(
        *("hf-ela", "predict", "--json", "--model", f"{MODEL}@v1.0.0", *images), home="stranger"
    )
    shown = [json.loads(line)["probability"] for line in lines.splitlines()]
    assert shown == mine["scores"]

    # ... with Keras alone, ...
    alone = "import sys, keras, huggingface_hub as hub; "
    alone += "model = keras.saving.load_model(hub.snapshot_download(sys.argv[1])); "
    alone += "pixels = keras.ops.zeros((1, *model.input_shape[1:]), 'uint8'); "
    alone += "print('hf_ela' in sys.modules, float(keras.ops.sum(model(pixels))))"
    ours, total = command("python", "-c", alone, MODEL, home="stranger").split()
    assert (ours, float(total)) == ("False", pytest.approx(1))
    # ... and, by the command in the card, the training itself.
    card = released.files["README.md"].decode()
    (reproduce,) = re.findall(r"^hf-ela reproduce .*$", card, re.MULTILINE)
    assert reproduce == f"hf-ela reproduce {MODEL}@v1.0.0"
    again = tmp_path / "again"
    printed = command(*reproduce.split(), "--out", again, home="stranger")
    assert "REPRODUCED" in printed
    assert "OUTSIDE" not in printed
    found = json.loads((again / "run.json").read_text())
    assert found["evaluation"] == record["evaluation"]  # the same machine: to the bit
