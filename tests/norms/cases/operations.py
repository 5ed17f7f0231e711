"""Cases of the operations norms."""

from norms.signals import Resources
from tests.norms.cases.building import (
    KEPT,
    NAN,
    Case,
    cohorts,
    everywhere,
    looks,
    noisy,
    not_exploratory,
    steps,
    strict_only,
    timings,
)

CALM_SECONDS = steps(80, seconds=lambda i: noisy(i, 0.2))
OPERATIONS = [
    Case("sla", "", "a slow 95th percentile", timings(p95_ms=300.0), not_exploratory("minor")),
    Case("sla", "", "a slow mean", timings(mean_ms=130.0, count=3), not_exploratory("minor")),
    Case("sla", "", "within the limits", timings(), KEPT, "healthy"),
    Case("sla", "", "a slow percentile of three times", timings(p99_ms=900.0, count=3), KEPT, "healthy"),
    Case("sla", "", "NaN", timings(mean_ms=NAN, p95_ms=NAN, p99_ms=NAN), KEPT, "nan"),
    Case("drift", "", "ten points worse", cohorts(0.8), not_exploratory("minor")),
    Case("drift", "", "calibration", cohorts(0.9, ece=0.2), not_exploratory("minor")),
    Case("drift", "", "two points worse, of many rows", cohorts(0.88), strict_only("minor")),
    Case("drift", "", "the same", cohorts(0.901, recall=0.5, positives=500), KEPT, "healthy"),
    Case("drift", "", "worse, of a few rows", cohorts(0.8, rows=20), KEPT, "healthy"),
    Case("drift", "", "NaN", cohorts(NAN, ece=NAN), KEPT, "nan"),
    Case(
        "resources",
        "gap",
        "half an hour and more",
        [*CALM_SECONDS, *steps(1, 81, seconds=2000.0)],
        not_exploratory("minor"),
    ),
    Case(
        "resources",
        "gap",
        "no step for a minute",
        [*CALM_SECONDS, Resources(step=81, idle_seconds=60.0)],
        strict_only("minor"),
    ),
    Case(
        "resources", "gap", "every step takes a minute", steps(200, seconds=lambda i: noisy(i, 60.0)), KEPT, "healthy"
    ),
    Case("resources", "gap", "NaN", [*CALM_SECONDS, *steps(1, 81, seconds=NAN)], KEPT, "nan"),
    Case("resources", "memory", "a leak", looks(400, memory_bytes=lambda i: 10**9 + i * 10**6), strict_only("minor")),
    Case(
        "resources",
        "memory",
        "growth while it starts, then waves",
        looks(400, memory_bytes=lambda i: min(i, 50) * 2 * 10**7 + i % 7 * 10**7),
        KEPT,
        "healthy",
    ),
    Case(
        "resources",
        "disk",
        "no room for a checkpoint",
        looks(1, disk_free_bytes=5 * 10**8, checkpoint_bytes=10**9),
        everywhere("major"),
    ),
    Case(
        "resources",
        "disk",
        "room for one",
        looks(1, disk_free_bytes=11 * 10**8, checkpoint_bytes=10**9),
        not_exploratory("major"),
    ),
    Case(
        "resources", "disk", "room for many", looks(9, disk_free_bytes=10**11, checkpoint_bytes=10**9), KEPT, "healthy"
    ),
    Case("resources", "gpu", "idle", looks(12, gpu_busy=0.01), strict_only("minor")),
    Case("resources", "gpu", "busy", looks(20, gpu_busy=0.4), KEPT, "healthy"),
    Case("resources", "gpu", "idle while evaluating", looks(20, gpu_busy=0.0, training=False), KEPT, "healthy"),
    Case("resources", "gpu", "NaN", looks(20, gpu_busy=NAN), KEPT, "nan"),
]
