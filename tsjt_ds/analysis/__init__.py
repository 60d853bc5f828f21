"""Runs side by side: their scores, their dev losses, and what they cost."""
