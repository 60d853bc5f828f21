"""Runs the fuzz."""

from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.check import Input, Tally, check, inputs


def fuzz(count: int, seed_number: int, directory: Path, tally: Tally) -> None:
    """Check about ``count`` inputs, four of each text.

    A failure is raised, with the smallest input that shows it.
    """

    @seed(seed_number)
    @settings(
        max_examples=-(-count // 4),
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs())
    def run(values: list[Input]) -> None:
        for value in values:
            check(value, directory, tally)

    run()
