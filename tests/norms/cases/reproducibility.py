"""Cases of the reproducibility norms."""

from norms.signals import Determinism, Provenance, Replay
from tests.norms.cases.building import (
    KEPT,
    NAN,
    Case,
    epochs,
    everywhere,
    generators,
    not_exploratory,
    preflight,
    strict_only,
)

REPRODUCIBILITY = [
    Case("seeding", "", "numpy is not seeded", preflight(generators=generators("numpy")), everywhere("major")),
    Case(
        "seeding",
        "",
        "not all seeded, seed on record",
        preflight(generators=generators("numpy"), seed=42),
        not_exploratory("major"),
    ),
    Case("seeding", "", "all seeded", preflight(generators=generators(), seed=42), KEPT, "healthy"),
    Case(
        "determinism",
        "promise",
        "nothing promises it",
        preflight(determinism=Determinism(promised=False, missing=("a",))),
        not_exploratory("info"),
    ),
    Case("determinism", "promise", "a CPU", preflight(determinism=Determinism(promised=True)), KEPT, "healthy"),
    Case(
        "determinism",
        "replay",
        "steps that differ",
        [Replay(step=5, steps=3, difference=0.01)],
        not_exploratory("major"),
    ),
    Case("determinism", "replay", "rounding", [Replay(step=5, steps=3, difference=1e-8)], strict_only("major")),
    Case("determinism", "replay", "bit-equal", [Replay(step=5, steps=3, difference=0.0)], KEPT, "healthy"),
    Case(
        "determinism",
        "replay",
        "one run came to NaN",
        [Replay(step=5, steps=3, difference=NAN)],
        not_exploratory("major"),
        "nan",
    ),
    Case(
        "worker-rng", "", "four workers, one state", epochs({"worker_draws": ("a", "a", "a", "a")}), everywhere("major")
    ),
    Case(
        "worker-rng",
        "",
        "two of eight alike",
        epochs({"worker_draws": ("a", "a", "b", "c", "d", "e", "f", "g")}),
        not_exploratory("major"),
    ),
    Case(
        "worker-rng",
        "",
        "two of 24 alike",
        epochs({"worker_draws": ("a", *map(str, range(22)), "a")}),
        strict_only("major"),
    ),
    Case(
        "worker-rng",
        "",
        "every epoch the same",
        epochs({"worker_draws": ("a",)}, {"worker_draws": ("a",)}),
        everywhere("major"),
    ),
    Case(
        "worker-rng",
        "",
        "all different",
        epochs({"worker_draws": ("a", "b")}, {"worker_draws": ("c", "d")}),
        KEPT,
        "healthy",
    ),
    Case("reshuffle", "", "three epochs in one order", epochs(*[{"order_digest": "a"}] * 3), everywhere("major")),
    Case(
        "reshuffle",
        "",
        "two epochs in one order",
        epochs({"order_digest": "a"}, {"order_digest": "a"}),
        not_exploratory("major"),
    ),
    Case("reshuffle", "", "shuffled", epochs(*({"order_digest": name} for name in "abcab")), KEPT, "healthy"),
    Case("provenance", "", "nothing is known", preflight(provenance=Provenance()), everywhere("minor")),
    Case(
        "provenance",
        "",
        "no digest of the data",
        preflight(provenance=Provenance(code="c0ffee", patch="", packages=9, config="d")),
        strict_only("minor"),
    ),
    Case(
        "provenance",
        "",
        "all known",
        preflight(provenance=Provenance(code="c0ffee", patch="", packages=9, data="d", config="d")),
        KEPT,
        "healthy",
    ),
]
