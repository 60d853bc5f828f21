"""Capacities as standalone models of other libraries."""
