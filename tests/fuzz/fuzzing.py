"""Runs the fuzz."""

from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.check import Input, Tally, check, inputs


def fuzz(count: int, seed_number: int, directory: Path, tally: Tally) -> None:
    """Check ``count`` inputs; a failure is raised with the smallest input that shows it."""

    @seed(seed_number)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs())
    def run(value: Input) -> None:
        check(value, directory, tally)

    run()
