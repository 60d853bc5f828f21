"""A table of trainings that differ in a few keys each: what it says, and how it is run."""
