"""Train a detector and write a run folder.

    python train.py                                   # the Hub dataset, the recipe `transfer`
    python train.py --data my/folder --out runs/mine  # train/{fake,real}, test/{fake,real}
    python train.py --from pretrained --data my/folder  # fine-tune the packaged model
    python train.py --recipe reference --set training.epochs=3 --limit 200
    python train.py --out runs/mine --resume          # continue after an interruption

The run folder then holds run.json, README.md (the model card), weights/, predictions.parquet and
plots/. This is `hf-ela train`: ``python train.py --help`` lists its options.
"""

import sys

from hf_ela.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
