"""Serving: the prediction API."""
