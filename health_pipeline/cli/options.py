"""Options and set-up that commands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from health_pipeline.clock import system_clock
from health_pipeline.errors import SettingsError
from health_pipeline.months import MonthRange, parse_month
from health_pipeline.settings import Settings, load_settings

FromOption = Annotated[str | None, typer.Option("--from", help="first month, YYYY-MM [default: START_MONTH]")]
ToOption = Annotated[str | None, typer.Option("--to", help="last month, YYYY-MM [default: END_MONTH]")]


def quiet_settings() -> Settings:
    """Settings of a command that shows progress or a report; its log goes to the home only."""
    return logged_settings(quiet=True)


def logged_settings(*, quiet: bool = False) -> Settings:
    """Read the settings and set up the log."""
    from health_pipeline.logs import configure_logging

    settings = load_settings()
    stream = Path(os.devnull).open("w") if quiet else None  # noqa: SIM115  # lives as long as the process
    configure_logging(settings, json=settings.log_format == "json", level=settings.log_level, stream=stream)
    return settings


def asked_months(
    settings: Settings, first: str | None, last: str | None, *, stored: bool = False, where: str = "--from/--to"
) -> MonthRange:
    """Months named on the command line, else those of the settings.

    Args:
        settings: for what is not named.
        first: YYYY-MM.
        last: YYYY-MM.
        stored: only what is stored is asked for: open months end with the one that runs now.
        where: options that the texts come from.

    Raises:
        SettingsError: a text is not a month, or the last month is open.
    """
    try:
        start = parse_month(first) if first else settings.start_month
        end = parse_month(last) if last else settings.end_month
        if end is None and stored:
            end = max(start, system_clock().date().replace(day=1))
        if end is None:
            raise SettingsError("END_MONTH is open", where="--to", remedy="name the last month: --to YYYY-MM")
        return MonthRange(start, end)
    except ValueError as error:
        remedy = "write months as YYYY-MM; START_MONTH and END_MONTH stand for what is not named"
        raise SettingsError(str(error), where=where, remedy=remedy) from None
