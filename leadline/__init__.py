"""Leadline tells within seconds, with evidence, that a machine-learning model in production has become wrong without an error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Publisher", "__version__"]

if TYPE_CHECKING:
    from leadline.publisher import Publisher


def __getattr__(name: str) -> Any:
    # Lazy: `import leadline` costs a service nothing until it publishes.
    if name == "Publisher":
        from leadline.publisher import Publisher

        return Publisher
    raise AttributeError(f"module 'leadline' has no attribute {name!r}")
