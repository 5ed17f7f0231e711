"""The errors that people see: one sentence (what, where, what to do) and the exit code that belongs to it."""

from typing import ClassVar


class NoraError(ValueError):
    """Something a person can put right; its text is shown as it stands, without a traceback."""

    exit_code: ClassVar[int] = 1


class ConfigError(NoraError):
    """A configuration or usage error."""

    exit_code = 2


class DataError(NoraError):
    """Data that is missing, corrupt or of the wrong shape."""

    exit_code = 3


class StorageError(NoraError):
    """A folder or file that cannot be written: permissions, quota, no space."""

    exit_code = 4


class TrackingError(NoraError):
    """A tracking service that cannot be reached."""

    exit_code = 5
