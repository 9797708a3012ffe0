"""Monitoring: drift, performance, figures."""
