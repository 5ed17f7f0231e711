"""Functions and methods of libraries that are wrapped while a probe is installed, and put back afterwards."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]


class Patches:
    """Attributes that are replaced until ``restore``.

    A wrapper that somebody else has wrapped again stays where it is, or theirs would be lost: it must pass calls
    through once ``active`` is False.
    """

    def __init__(self) -> None:
        self.active = False
        self._replaced: list[tuple[Any, str, Any, Any, bool]] = []

    def replace(self, owner: Any, name: str, wrap: Wrap) -> None:
        """Put ``wrap(original)`` in the place of an attribute of a module, class or object."""
        original = getattr(owner, name)
        replacement = wrap(original)
        self._replaced.append((owner, name, original, replacement, name in vars(owner)))
        setattr(owner, name, replacement)
        self.active = True

    def restore(self) -> None:
        """Put everything back as it was."""
        self.active = False
        for owner, name, original, replacement, own in reversed(self._replaced):
            if vars(owner).get(name) is not replacement:
                continue
            if own:
                setattr(owner, name, original)
            else:
                delattr(owner, name)
        self._replaced.clear()


class Hook:
    """A hook on a module that copies of the module, and files that it is saved to, do without."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def __deepcopy__(self, memo: object) -> Callable[..., None]:
        return nullcontext().__exit__

    def __reduce__(self) -> tuple[Any, ...]:
        """Save something of the standard library that takes anything and does nothing: it needs nothing of ours."""
        return getattr, (nullcontext(), "__exit__")
