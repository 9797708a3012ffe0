"""The errors a user can meet: each says what happened, where, and what to do about it."""

from __future__ import annotations


class PipelineError(Exception):
    """Base of all errors that a user can mend.

    Args:
        what: one sentence without any value of a patient.
        where: file, table, month or setting concerned.
        remedy: what the user can do.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str | None = None, remedy: str | None = None) -> None:
        self.what, self.where, self.remedy = what, where, remedy
        super().__init__(self.__str__())

    def __str__(self) -> str:
        parts = [self.what]
        if self.where:
            parts.append(f"where: {self.where}")
        if self.remedy:
            parts.append(f"remedy: {self.remedy}")
        return " | ".join(parts)


class FileError(PipelineError):
    """The system refuses a file or folder."""

    exit_code = 3

    @classmethod
    def of(cls, error: OSError) -> FileError:
        """What the system says, with the path."""
        return cls(
            (error.strerror or type(error).__name__).lower(),
            where=str(error.filename),
            remedy="check that it is there, its owner and permissions, and the free space",
        )


class SettingsError(PipelineError):
    """A setting has a value that cannot be used."""

    exit_code = 2


class SourceError(PipelineError):
    """A foreign extract cannot be turned into the landing contract."""

    exit_code = 3


class LandingError(PipelineError):
    """A landed file is missing, unreadable, or does not have the columns of its contract."""

    exit_code = 3


class WarehouseError(PipelineError):
    """The warehouse refused a read or a write; what was stored before is untouched."""

    exit_code = 4


class SliceError(WarehouseError):
    """Rows offered for a slice break its declaration (outside the months, duplicate key, wrong schema)."""


class LockTimeoutError(WarehouseError):
    """Another process held the warehouse for longer than the bounded wait."""


class ModelError(PipelineError):
    """A model cannot be trained, loaded or applied."""

    exit_code = 5


class DeploymentError(PipelineError):
    """A release could not be shipped; the former release keeps serving."""

    exit_code = 6


class BackupError(PipelineError):
    """An archive cannot be written or restored; the home is as it was."""

    exit_code = 7
