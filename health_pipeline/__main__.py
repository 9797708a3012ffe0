"""``python -m health_pipeline`` is the command line."""

from health_pipeline.cli import main

main()
