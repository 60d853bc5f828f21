"""What every rank imports."""

import os

os.environ["DS_ACCELERATOR"] = "cpu"
os.environ["OMP_NUM_THREADS"] = "1"

import tsjt_ds.engine.engine  # noqa: F401
