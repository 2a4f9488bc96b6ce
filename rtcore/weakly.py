"""How the parts of a call refer back to it: without keeping it alive.

A call and its parts, or a reply and what makes it, that held each other both ways would be freed
by the garbage collector alone, which stops every call of the process while it looks. So only the
whole holds its parts, and what is over is freed in that moment (:mod:`rtcore.heap`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar
from weakref import WeakMethod

__all__ = ["weakly"]

P = ParamSpec("P")
T = TypeVar("T")


def weakly(method: Callable[P, T]) -> Callable[P, T]:
    """``method``, which is bound, for a part of the object it is bound to.

    Called once that object is gone it raises ReferenceError: a part outlived its whole.
    """
    of_whole = WeakMethod(method)

    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        bound = of_whole()
        if bound is None:
            raise ReferenceError("what this is a part of is over")
        return bound(*args, **kwargs)

    return call
