"""Facts about data: random transforms in a pipeline, samples in two splits, columns that know the outcome.

Free of torch and pandas: what is looked at is asked for its attributes, and only by who has such objects in hand.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from norms.signals import Feature, Overlap

if TYPE_CHECKING:
    import pandas as pd

EXAMPLES = 10
"""Samples named in an overlap."""
CONTINUOUS = 0.1
"""Distinct values per row from which a column tells rows apart, as an identifier or a continuous quantity does."""
FOLDS = 5
SMOOTHING = 20.0
"""Rows of the overall rate that every category is given besides its own."""

# --- random transforms ------------------------------------------------------------------------------------------------

_LIBRARY = "torchvision.transforms"
_ALWAYS_RANDOM = frozenset(
    {"AugMix", "AutoAugment", "ColorJitter", "CutMix", "ElasticTransform", "GaussianNoise", "MixUp"}
    | {"RandAugment", "ScaleJitter", "TrivialAugmentWide"}
)
"""Random classes of torchvision that are not named Random…, whatever their version of the library."""
_DRAWN_RANGES = {"GaussianBlur": "sigma", "JPEG": "quality"}
"""Those that draw one number from a range: random unless both of its ends are the same."""
_ONLY_CHANCE = frozenset(
    {"RandomAdjustSharpness", "RandomApply", "RandomAutocontrast", "RandomEqualize", "RandomGrayscale"}
    | {"RandomHorizontalFlip", "RandomInvert", "RandomPosterize", "RandomSolarize", "RandomVerticalFlip"}
)
"""Those whose one random choice is whether to apply: nothing is random about p=0 and p=1."""
_STEPS = ("transform", "transforms", "collate_fn")
"""Where pipelines, data sets and loaders keep what inputs go through. Transforms of the targets are none of these."""
_SOURCES = ("dataset", "datasets")
"""Where loaders and subsets keep what they draw from."""


def random_transforms(pipeline: object) -> tuple[str, ...]:
    """Return the names of the random transforms in a pipeline, each once, in the order in which they are met.

    Transforms of torchvision (both versions, and classes derived from them) are known by their classes; those of other
    libraries by a ``p`` between 0 and 1 or by a name that begins with Random. What is hidden in a plain function is not
    seen: two drawings of the same samples tell (``Evaluation.input_digest_again``).

    Args:
        pipeline: A transform, a composition or sequence of them, a data set, a subset of one, or a loader. Words in a
            ``transforms`` are taken as the names of random ones: so an object can say what it does inside.
    """
    return tuple(dict.fromkeys(_random_in(pipeline, set())))


def _random_in(item: Any, seen: set[int]) -> Iterator[str]:
    if item is None or id(item) in seen:
        return
    seen.add(id(item))
    if isinstance(item, str):
        yield item
    elif isinstance(item, list | tuple):
        for step in item:
            yield from _random_in(step, seen)
    else:
        if _is_random(item):
            yield type(item).__name__
        for inner in _inside(item):
            yield from _random_in(inner, seen)


def _inside(item: Any) -> Iterator[Any]:
    """Yield what an object hands its inputs to; samples that stand in a list are none of it, and may be millions."""
    held = vars(item) if hasattr(item, "__dict__") else {}
    yield from (held.get(name, _declared(item, name)) for name in _STEPS)
    yield from held.get("_modules", {}).values()  # nn.Sequential
    for name in _SOURCES:
        found = held.get(name, _declared(item, name))
        sources = found if name == "datasets" and isinstance(found, list | tuple) else [found]
        yield from (source for source in sources if not isinstance(source, str | list | tuple))


def _declared(item: Any, name: str) -> Any:
    """Return what a class defines (a property, a class variable) under a name, without asking ``__getattr__``."""
    return getattr(item, name, None) if hasattr(type(item), name) else None


def _is_random(item: Any) -> bool:
    kind = next((kind for kind in type(item).__mro__ if kind.__module__.startswith(_LIBRARY)), None)
    name = type(item).__name__ if kind is None else kind.__name__
    if kind is None or (name == "Transform" and kind is not type(item)):  # nothing but the base class is the library's
        return _looks_random(item)
    if name in _DRAWN_RANGES:
        low, high = getattr(item, _DRAWN_RANGES[name])
        return bool(low != high)
    if name in _ONLY_CHANCE:
        return 0 < float(item.p) < 1
    return name in _ALWAYS_RANDOM or name.startswith("Random")


def _looks_random(item: Any) -> bool:
    chance = getattr(item, "p", None)
    if isinstance(chance, float | int) and not isinstance(chance, bool) and chance != 1:
        return 0 < chance < 1
    return callable(item) and type(item).__name__.startswith("Random")


# --- splits -----------------------------------------------------------------------------------------------------------


def overlaps(splits: "Mapping[str, NDArray[Any] | pd.DataFrame]") -> tuple[Overlap, ...]:
    """Return which splits hold samples of an earlier one, by equal hash of the whole sample; none where none does.

    Args:
        splits: By name, in the order in which they must be kept from each other: train, val, test. Arrays
            [n, …] of one dtype, or tables of the same columns: whole source rows, target included, so that rows that
            are merely alike in some columns do not count.
    """
    hashes = {name: _hashes(rows) for name, rows in splits.items()}
    coarse = _coarse(max(splits.values(), key=len)) if splits else False
    found = []
    for first, second in combinations(splits, 2):
        places = np.flatnonzero(np.isin(hashes[second], hashes[first]))
        if len(places):
            found.append(
                Overlap(
                    first=first,
                    second=second,
                    count=len(places),
                    size=len(hashes[second]),
                    examples=tuple(places[:EXAMPLES].tolist()),
                    coarse=coarse,
                )
            )
    return tuple(found)


def _hashes(rows: "NDArray[Any] | pd.DataFrame") -> NDArray[np.uint64]:
    """Return a hash of each row [rows]; of 64 bits, so that 60,000 rows meet by chance once in ten billion times."""
    if not isinstance(rows, np.ndarray):
        from pandas.util import hash_pandas_object

        return np.asarray(hash_pandas_object(rows, index=False), np.uint64)
    if not rows.size:
        return np.empty(0, np.uint64)
    flat = np.ascontiguousarray(rows).reshape(len(rows), -1)
    content = flat.reshape(-1).view(np.uint8).data
    size = flat.itemsize * flat.shape[1]
    digests = (hashlib.blake2b(content[at : at + size], digest_size=8).digest() for at in range(0, len(content), size))
    return np.frombuffer(b"".join(digests), np.uint64)


def _coarse(rows: "NDArray[Any] | pd.DataFrame") -> bool:
    """Whether a table has neither an identifier nor a continuous column; arrays, such as images, are never coarse."""
    if isinstance(rows, np.ndarray):
        return False
    most = max((rows[name].nunique() for name in rows), default=0)
    return bool(most <= CONTINUOUS * len(rows))


# --- columns ----------------------------------------------------------------------------------------------------------


def features(frame: "pd.DataFrame", target: NDArray[Any], post_outcome: Collection[str] = ()) -> tuple[Feature, ...]:
    """Return what each column of a table says of the outcome by itself.

    Numbers and dates are ranked as they are; missing ones count as one value above all others, since that a value is
    missing may tell as much as the value. Words are ranked by the smoothed rate of the outcome among rows of the same
    word in the *other* folds: rates of the rows themselves would give a column of identifiers an AUC of 1.

    Args:
        frame: [rows, columns], the training rows.
        target: [rows], 0 or 1.
        post_outcome: Columns that the data's own description says are known only after the outcome.

    Returns:
        One for each column; its AUC is None where the target holds a single class.
    """
    positive = np.asarray(target) == 1
    judged = 0 < positive.sum() < len(positive)
    folds = np.random.default_rng(0).integers(FOLDS, size=len(frame))
    return tuple(
        Feature(
            name=str(name),
            auc=_column_auc(frame[name], positive, folds) if judged else None,
            post_outcome=name in post_outcome,
        )
        for name in frame
    )


def _column_auc(values: "pd.Series[Any]", positive: NDArray[np.bool_], folds: NDArray[np.int64]) -> float:
    if values.dtype.kind in "biufmM":
        codes, _ = values.factorize(sort=True, use_na_sentinel=False)
        auc = _auc(codes, positive)
        return max(auc, 1 - auc)
    codes, _ = values.factorize(use_na_sentinel=False)
    _, ranked = np.unique(_rates(codes, positive, folds), return_inverse=True)
    return max(_auc(ranked, positive), 0.5)  # below one half is noise: the direction comes from other rows


def _rates(codes: NDArray[np.int64], positive: NDArray[np.bool_], folds: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return for each row the smoothed share of positives among rows of its code in the other folds."""
    count = int(codes.max()) + 1
    cells = codes * FOLDS + folds
    rows = np.bincount(cells, minlength=count * FOLDS).reshape(count, FOLDS)
    hits = np.bincount(cells, positive, minlength=count * FOLDS).reshape(count, FOLDS)
    others, hits_of_others = rows.sum(1, keepdims=True) - rows, hits.sum(1, keepdims=True) - hits
    rates = (hits_of_others + SMOOTHING * positive.mean()) / (others + SMOOTHING)
    found: NDArray[np.float64] = rates.reshape(-1)[cells]
    return found


def _auc(codes: NDArray[np.int64], positive: NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve of values given by their ranks from 0; ties count half."""
    of_value = np.bincount(codes)
    hits = np.bincount(codes, positive, minlength=len(of_value))
    misses = of_value - hits
    below = np.cumsum(misses) - misses
    return float((hits * (below + misses / 2)).sum() / (hits.sum() * misses.sum()))
