"""Write a model, or a checkpoint of your own, in a form that other programs open; the same as `monai-sam export`."""

from __future__ import annotations

import sys

from bundle.commands.main import main

if __name__ == "__main__":
    main(["export", *sys.argv[1:]])
