"""The time that screens show; one place, so that a test can stop it."""

from datetime import UTC, datetime


def now() -> datetime:
    return datetime.now(UTC)
