"""Typed, validated configuration: the recipe (what is trained) and the DeepSpeed JSON (how)."""
