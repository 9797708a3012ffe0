"""Declaration of the monitoring tables: one row is one monitored number with its sampling error and its limit."""

from __future__ import annotations

from health_pipeline.warehouse.tables import Column, Table

STATUSES = ("ok", "warning", "alarm", "no_data")

DRIFT = Table(
    schema="monitoring",
    name="drift",
    description="Features, scores, predictions and volume of a month against the champion's training window and "
    "the same season of the year before.",
    key=("subject_kind", "subject", "metric", "reference"),
    columns=(
        Column("month", "DATE", "month of the discharges", nullable=False),
        Column("model_id", "VARCHAR", "champion in force in the month"),
        Column(
            "subject_kind",
            "VARCHAR",
            "feature, score, prediction, volume, live, live_input, or summary (the month as a whole)",
            False,
        ),
        Column("subject", "VARCHAR", "name of the feature, or what is counted", False),
        Column("metric", "VARCHAR", "psi, ks, chi_squared, null_rate_change, unseen_share, ...", False),
        Column("value", "DOUBLE", "the monitored number; NULL when it cannot be computed"),
        Column("n", "BIGINT", "rows of the month behind the number", False, "rows"),
        Column(
            "threshold", "DOUBLE", "limit beyond which the status is no longer ok (for changes: of the absolute value)"
        ),
        Column("status", "VARCHAR", "ok, warning, alarm or no_data (never ok without data)", False),
        Column(
            "reference",
            "VARCHAR",
            "training_window, same_season, validation_and_holdout, earlier_scores, previous_year, batch or none",
            False,
        ),
        Column("alarm_threshold", "DOUBLE", "limit beyond which the status is alarm; NULL: the row never alarms alone"),
        Column("chance_level", "DOUBLE", "what sampling error alone exceeds in one stable month of a hundred"),
        Column("reference_value", "DOUBLE", "the same number in the reference, where it has one"),
        Column("reference_n", "BIGINT", "rows of the reference", False, "rows"),
        Column("p_value", "DOUBLE", "of the distribution test"),
        Column("p_adjusted", "DOUBLE", "after Benjamini-Hochberg over the features of the month"),
    ),
)

PERFORMANCE = Table(
    schema="monitoring",
    name="performance",
    description="How well models predict: estimated at once, realised when the labels have matured, and reconciled.",
    key=("model_role", "kind", "window_months", "segment", "metric"),
    columns=(
        Column("month", "DATE", "last month of the window", nullable=False),
        Column("model_id", "VARCHAR", "model of that role in the last month"),
        Column(
            "model_role", "VARCHAR", "model_1, model_2, model_3, champion, or deployed (what production served)", False
        ),
        Column("kind", "VARCHAR", "estimated, realised, reconciliation (estimated minus realised), or concept", False),
        Column("window_months", "INTEGER", "months pooled, ending with the row's month", False, "months"),
        Column("segment", "VARCHAR", "all, or <characteristic>=<value>", False),
        Column("metric", "VARCHAR", "roc_auc, brier, ...", False),
        Column("value", "DOUBLE", "the monitored number; NULL when it cannot be computed or is suppressed"),
        Column("ci_low", "DOUBLE", "lower end of the 95 % interval"),
        Column("ci_high", "DOUBLE", "upper end of the 95 % interval"),
        Column("n", "BIGINT", "rows behind the number; NULL when suppressed", True, "rows"),
        Column("threshold", "DOUBLE", "limit beyond which the status is no longer ok"),
        Column("status", "VARCHAR", "ok, warning, alarm or no_data (never ok without data)", False),
    ),
)
