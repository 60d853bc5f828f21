"""The search for a DeepSpeed file: by prediction, then by short real runs."""
