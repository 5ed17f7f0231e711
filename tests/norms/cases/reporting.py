"""Cases of the reporting norms."""

from norms.signals import MetricCheck, RunEnd
from tests.norms.cases.building import (
    KEPT,
    NAN,
    Case,
    candidate,
    claims,
    evaluation,
    everywhere,
    not_exploratory,
    strict_only,
)

REPORTING = [
    Case(
        "metric-aggregation",
        "value",
        "mean of batch means",
        [evaluation(metrics=(MetricCheck(name="accuracy", reported=0.93, recomputed=0.91),))],
        everywhere("major"),
    ),
    Case(
        "metric-aggregation",
        "value",
        "half a point off",
        [evaluation(metrics=(MetricCheck(name="accuracy", reported=0.915, recomputed=0.91),))],
        not_exploratory("major"),
    ),
    Case(
        "metric-aggregation",
        "value",
        "rounding",
        [evaluation(metrics=(MetricCheck(name="loss", reported=2.3000002, recomputed=2.3),))],
        KEPT,
        "healthy",
    ),
    Case(
        "metric-aggregation",
        "value",
        "NaN on one side",
        [evaluation(metrics=(MetricCheck(name="auc", reported=NAN, recomputed=0.9),))],
        everywhere("major"),
        "nan",
    ),
    Case(
        "metric-aggregation",
        "value",
        "NaN on both sides",
        [evaluation(metrics=(MetricCheck(name="auc", reported=NAN, recomputed=NAN),))],
        KEPT,
        "nan",
    ),
    Case(
        "metric-aggregation",
        "count",
        "the last batch is dropped",
        [evaluation(samples=960, split_size=1000)],
        everywhere("major"),
    ),
    Case(
        "metric-aggregation",
        "count",
        "one sample is missing",
        [evaluation(samples=999, split_size=1000)],
        strict_only("major"),
    ),
    Case("metric-aggregation", "count", "all counted", [evaluation(samples=1000, split_size=1000)], KEPT, "healthy"),
    Case("single-run", "", "one seed", claims(1, False), everywhere("major", "info")),
    Case("single-run", "", "three seeds without interval", claims(3, False), strict_only("major")),
    Case("single-run", "", "five seeds with an interval", claims(5, True), KEPT, "healthy"),
    Case("single-run", "", "no claim", [RunEnd(step=9, claims=())], KEPT, "healthy"),
    Case("promotion-gate", "calibration", "too sure of itself", candidate(0.95, 0.12), everywhere("major", "info")),
    Case("promotion-gate", "calibration", "calibrated", candidate(0.95, 0.02), KEPT, "healthy"),
    Case(
        "promotion-gate", "calibration", "NaN does not pass", candidate(0.95, NAN), everywhere("major", "info"), "nan"
    ),
    Case("promotion-gate", "accuracy", "too low", candidate(0.8, 0.02), everywhere("major", "info")),
    Case("promotion-gate", "accuracy", "high enough", candidate(0.85, 0.02), KEPT, "healthy"),
    Case("promotion-gate", "accuracy", "NaN does not pass", candidate(NAN, 0.02), everywhere("major", "info"), "nan"),
]
