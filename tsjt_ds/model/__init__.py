"""The composite transformer: nested capacities as one flat list of pipeline layers."""
