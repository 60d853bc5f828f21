"""Decoding and scoring of finished capacities."""
