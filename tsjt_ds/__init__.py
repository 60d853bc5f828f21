"""Two-Stage Joint-Training: translation models of several capacities from one DeepSpeed run."""

__version__ = "0.1.0"
