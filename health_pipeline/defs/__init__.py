"""Dagster definitions: names, partitions, resources bound to the rooms of the domain."""
