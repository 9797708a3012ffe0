"""Sources: where monthly extracts come from (simulator, landing files, adapters of foreign formats)."""
