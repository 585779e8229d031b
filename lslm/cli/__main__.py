"""`python -m lslm_cli`: for torchrun and `accelerate launch`, which start modules."""

import sys

from . import main

sys.exit(main())
