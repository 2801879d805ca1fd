"""Fetch the published weights of model families: ``python scripts/download.py medsam``, or ``--list`` them.

The same as `monai-sam download`.
"""

from __future__ import annotations

import sys

from bundle.commands.main import main

if __name__ == "__main__":
    main(["download", *sys.argv[1:]])
