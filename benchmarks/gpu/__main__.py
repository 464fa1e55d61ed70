"""Measure ELA and training on a GPU by JAX or torch: speed, exactness and test accuracy.

    python benchmarks/gpu pack --data FOLDER --out packed        # where the images are
    KERAS_BACKEND=jax python benchmarks/gpu run --data packed    # where the GPU is
    python benchmarks/gpu run --data packed --quick              # check that it runs

`pack` writes small copies of an imagefolder: every image gets a longest side drawn from 256 to 384
pixels and a JPEG quality drawn from 75 to 95, as in the protocol `aligned`. Packing thus loses
nothing; compare accuracies with aligned ones.

`run` measures ELA of 256 x 256 pixels that are on the device, against Pillow to the last bit, and
trains `reference` and `default` with ELA (and for `default` the augmentation) inside the compiled
step. It needs Keras on JAX or torch, datasets and scikit-learn, and no TensorFlow; torch without a
GPU needs a C++ compiler. Without a GPU it measures the CPU and says so. Writes
benchmarks/gpu/gpu.json.
"""

import argparse
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

from common import save  # noqa: E402  (it lies in the folder above)
from pack import pack  # noqa: E402  (as above)
from rates import BATCHES, device, ela_rates  # noqa: E402  (as above)
from training import trained  # noqa: E402  (as above)

RECIPES = ("reference", "default")
PUBLISHED = "7-10 minutes on an RTX 3080"


def run(args: argparse.Namespace) -> None:
    """Measure, print tables, write JSON."""
    name, gpu = device()
    print(f"{name}: {'GPU' if gpu else 'NO GPU: these are figures of the CPU'}")
    rates = []
    print(f"\n{'batch':>6}{'ELA images/s':>16}{'differing pixels':>18}{'compilation':>14}")
    for row in ela_rates([2] if args.quick else BATCHES, args.repeat):
        rates.append(row)
        print(
            f"{row['batch']:6}{row['images_per_second']:16,.0f}{row['differing_pixels']:18}"
            f"{row['compile_seconds']:12.1f} s",
            flush=True,
        )
    trainings = [trained(recipe, args.data, args.quick) for recipe in args.recipes]
    print(f"\n{'':12}{'preparation':>14}{'training':>12}{'accuracy':>10}{'AUC':>8}")
    for row in trainings:
        print(
            f"{row['recipe']:12}{row['preparation_seconds']:12.1f} s{row['training_seconds']:10.1f}"
            f" s{row['test_accuracy']:10.3f}{row['test_auc']:8.3f}"
        )
    print(f"published for `reference`: {PUBLISHED}")
    report = {"device": name, "quick": args.quick, "ela": rates, "training": trainings}
    save(args.out, report, one_backend=True)
    if any(row["differing_pixels"] for row in rates):
        sys.exit("ELA on this device differs from Pillow's.")


def main() -> None:
    """Pack or run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    packing = commands.add_parser("pack", help="write small copies of the images")
    packing.add_argument("--data", type=Path, required=True, help="imagefolder with train and test")
    packing.add_argument("--out", type=Path, required=True, help="new folder")
    packing.add_argument("--scale", type=float, default=1.0, help="of all sides, to save space")
    packing.set_defaults(work=lambda args: pack(args.data, args.out, args.scale))
    running = commands.add_parser("run", help="measure on this machine")
    running.add_argument("--data", type=Path, required=True, help="folder written by `pack`")
    running.add_argument("--recipes", nargs="+", default=RECIPES, choices=RECIPES)
    running.add_argument("--quick", action="store_true", help="few images, one epoch")
    running.add_argument("--repeat", type=int, default=5)
    running.add_argument("--out", type=Path, default=HERE / "gpu.json")
    running.set_defaults(work=run)
    args = parser.parse_args()
    args.work(args)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Keras imports TensorFlow where it is
    main()
