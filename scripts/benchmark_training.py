"""Measures how much faster a decoder trains from stored embeddings than with the frozen encoder run at every step.

    python scripts/benchmark_training.py --family medsam_v0 --image-size 256 --steps 5

Both runs train the mask decoder on the same generated slices with the same prompts; weights are random.
"""

from __future__ import annotations

import argparse
import tempfile

from bundle.errors import explain_errors
from bundle.training.benchmark import Benchmark, measure


def main() -> None:
    """Print images per second of both, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", default="tiny_vit")
    parser.add_argument("--image-size", type=int, help="another input size than the family's (ViT only)")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    benchmark = Benchmark(**vars(options))
    with tempfile.TemporaryDirectory() as folder:
        running, stored = measure(benchmark, folder)
    print(f"encoder at every step: {running:8.2f} images/s")
    print(f"stored embeddings:     {stored:8.2f} images/s")
    print(f"ratio:                 {stored / running:8.1f}")


if __name__ == "__main__":
    explain_errors()
    main()
