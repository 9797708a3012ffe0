"""Cohort and outcome: which discharges count, and who came back."""
