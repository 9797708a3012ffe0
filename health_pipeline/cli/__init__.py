"""Command line: the same definitions and the same Dagster instance as the UI."""

from health_pipeline.environment import prepare_environment

prepare_environment()


def main() -> None:
    """Entry point of ``health-pipeline``."""
    from health_pipeline.cli.app import run_app

    run_app()


__all__ = ["main"]
