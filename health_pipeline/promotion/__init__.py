"""Promotion: evidence in, decision out."""
