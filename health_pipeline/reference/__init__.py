"""Pages of the documentation that are written from the code, so that they cannot grow old.

Belongs here: Markdown and what needs no orchestrator. The page of the graph is in ``defs/reference.py``, that of the
commands in ``cli/reference.py``.
"""

from health_pipeline.reference.markdown import GENERATED, cell, table
from health_pipeline.reference.settings_page import SettingRow, setting_rows, settings_page

__all__ = ["GENERATED", "SettingRow", "cell", "setting_rows", "settings_page", "table"]
