"""One small pure function a norm, a file a category. Importing this package fills the registry."""

from norms.detectors import operations, reporting, reproducibility, stability, validity
from norms.finding import REGISTRY, Detector

__all__ = ["DETECTORS", "operations", "reporting", "reproducibility", "stability", "validity"]

DETECTORS: tuple[Detector, ...] = tuple(REGISTRY)
"""Every detector of NORA's own norms."""
