"""Train a recipe: run under ``deepspeed``, ``torchrun`` or ``srun``; see ``--help``."""

import sys

from tsjt_ds.engine.launch import main

if __name__ == "__main__":
    sys.exit(main())
