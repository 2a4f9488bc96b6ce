"""Modules once more, with the slow twins of what is compiled under them."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any
from unittest.mock import patch


def on_twin(module: ModuleType, twins: Mapping[str, ModuleType]) -> Any:
    """``module`` once more, with ``twins`` in place of the modules they are named by."""
    spec = importlib.util.find_spec(module.__name__)
    assert spec is not None
    assert spec.loader is not None
    other = importlib.util.module_from_spec(spec)
    with patch.dict(sys.modules, twins):
        spec.loader.exec_module(other)
    return other
