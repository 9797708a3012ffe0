"""Contracts: what a landed table must look like, declared once."""
