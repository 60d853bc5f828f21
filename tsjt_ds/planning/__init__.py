"""What a run will do and cost, known before it starts; no torch is imported."""
