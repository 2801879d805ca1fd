"""Print every family: size, cost, prompts, weights, licence; and run one box on one real slice with each.

``python scripts/families.py`` runs all, ``python scripts/families.py medsam default`` some. The same as
`monai-sam families`.
"""

from __future__ import annotations

import sys

from bundle.commands.main import main

if __name__ == "__main__":
    main(["families", *sys.argv[1:]])
