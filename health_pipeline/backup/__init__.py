"""One archive of a home, and a home from an archive: tables, models, registry, history and the records of the UI.

Belongs here: what is copied how, so that all of it fits together, and the way back. Does not belong here: servers
(PostgreSQL, S3, an MLflow server), which have tools of their own; the manifest names what was left out.
"""

from health_pipeline.backup.create import create_backup
from health_pipeline.backup.manifest import Manifest, Member
from health_pipeline.backup.restore import Restored, restore_backup, verify_backup

__all__ = ["Manifest", "Member", "Restored", "create_backup", "restore_backup", "verify_backup"]
