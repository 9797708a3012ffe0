"""The built-in hospital: a deterministic simulator of monthly extracts."""

from health_pipeline.sources.simulator.simulate import SimulationReport, simulate

__all__ = ["SimulationReport", "simulate"]
