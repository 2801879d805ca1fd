"""Start the MONAI Label server with this app: ``python scripts/serve.py STUDIES [--port 8000] [--conf NAME VALUE]``.

The same as `monai-sam serve`; ``--help`` lists the options.
"""

from __future__ import annotations

from monailabel_app.serve import main

if __name__ == "__main__":
    main()
