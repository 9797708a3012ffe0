"""Models: candidates, their bundles, metrics and scores."""
