"""Norms of users: one YAML entry and one function each, found through an entry point or a path in the configuration.

A file is a list of entries as in norms/catalog.yaml, each with ``detector: "module:function"``. The module is a file
beside the YAML file, or one that can be imported. The function takes (signal, limits, windows) and answers as
norms/finding.py says. What is broken is left out and reported; the run goes on.
"""

import importlib
import importlib.util
import sys
from collections.abc import Collection, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple, cast, get_args

from msgspec import Struct

from configs.errors import ConfigError
from norms.finding import Detect, Detector, moment_of
from norms.norm import Norm, catalogue, entries_of, parse_norm
from norms.signals import AnySignal

ENTRY_POINTS = "nora.norms"
"""Each loads to the path of a YAML file: ``my_package:NORMS``."""

_SIGNALS: dict[str, type[AnySignal]] = {moment_of(kind): kind for kind in get_args(AnySignal)}


class UserNorm(Struct, frozen=True):
    norm: Norm
    detectors: tuple[Detector, ...]
    """One for each moment in which the norm is judged."""


class UserNorms(NamedTuple):
    norms: tuple[UserNorm, ...]
    problems: tuple[str, ...]
    """What was left out, and why: a sentence each."""


def load_user_norms(path: Path | None = None, *, installed: bool = True) -> UserNorms:
    """Return the norms of installed packages and of a file, and what is wrong with those that are left out.

    The modules named in the files are imported, so a path must come from the user and never from a session.

    Args:
        path: A YAML file that the configuration names.
        installed: Whether to look for entry points of the group ``nora.norms``.
    """
    norms: dict[str, UserNorm] = {}
    problems: list[str] = []
    files, wrong = _files(path, installed=installed)
    problems += wrong
    for file in files:
        for found in _read(file, {*catalogue(), *norms}):
            if isinstance(found, str):
                problems.append(found)
            else:
                norms[found.norm.id] = found
    return UserNorms(tuple(norms.values()), tuple(problems))


def _files(path: Path | None, *, installed: bool) -> tuple[list[Path], list[str]]:
    files, problems = [], []
    for point in metadata.entry_points(group=ENTRY_POINTS) if installed else ():
        try:
            files.append(Path(point.load()))
        except Exception as error:
            problems.append(f"norms of package {point.name} are left out: {point.value} cannot be loaded ({error})")
    return [*files, *([path] if path is not None else [])], problems


def _read(file: Path, taken: Collection[str]) -> Iterator[UserNorm | str]:
    """Yield each norm in a file, or what is wrong with it."""
    try:
        entries = entries_of(file.read_bytes(), str(file))
    except OSError as error:
        yield f"norms of {file} are left out: it cannot be read ({error.strerror})"
        return
    except ConfigError as error:
        yield f"norms of {file} are left out: {error}"
        return
    seen = set(taken)
    for position, entry in enumerate(entries, 1):
        try:
            found = _user_norm(entry, file, position)
        except ConfigError as error:
            yield f"a norm is left out: {error}"
            continue
        if found.norm.id in seen:
            yield f"a norm is left out: {file}, norm {found.norm.id!r}: that id is taken; give it its own"
            continue
        seen.add(found.norm.id)
        yield found


def _user_norm(entry: Any, file: Path, position: int) -> UserNorm:
    """Return one entry with its function.

    Raises:
        ConfigError: The entry is no norm, or its function cannot be had.
    """
    norm = parse_norm(entry, str(file), position)
    if not norm.detector:
        raise ConfigError(f'{file}, norm {norm.id!r}: it has no `detector`; give "module:function"')
    try:
        detect = _function(norm.detector, file.parent)
    except Exception as error:
        raise ConfigError(f"{file}, norm {norm.id!r}: {norm.detector} cannot be loaded ({error})") from error
    detectors = tuple(Detector(norm.id, _SIGNALS[moment], detect, "", "") for moment in norm.judged)
    return UserNorm(norm, detectors)


def _function(name: str, folder: Path) -> Detect:
    module_name, _, function = name.partition(":")
    beside = folder / f"{module_name.replace('.', '/')}.py"
    if beside.is_file():
        spec = importlib.util.spec_from_file_location(f"nora_user_norms.{module_name}", beside)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    else:
        module = importlib.import_module(module_name)
    found = getattr(module, function)
    if not callable(found):
        raise TypeError(f"{function} is no function")
    return cast(Detect, found)
