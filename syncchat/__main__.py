"""``python -m syncchat server|client``."""

import sys

from .cli import main

sys.exit(main())
