"""Fuzzing of the readers and cleaners: ``python -m tests.fuzz --inputs 100000 --seed 1``."""
