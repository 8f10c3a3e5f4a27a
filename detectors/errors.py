"""What can go wrong in a detector: one small tree, each leaf with a bounded ``reason`` (a metric label)."""

from __future__ import annotations

from typing import ClassVar


class DetectorError(ValueError):
    """Base of all errors that detectors raise on purpose."""

    reason: ClassVar[str] = "detector"


class BadValues(DetectorError):
    """The input has the wrong type or shape, or holds NaN or infinity. The detector's state is unchanged."""

    reason: ClassVar[str] = "bad_values"


class BadParameter(DetectorError):
    """A configuration is outside its documented range."""

    reason: ClassVar[str] = "bad_parameter"


class UnequalConfigurations(DetectorError):
    """Two states that were counted under different configurations cannot be added or subtracted."""

    reason: ClassVar[str] = "unequal_configurations"


class CorruptState(DetectorError):
    """Bytes that are no snapshot, or a damaged one (length, CRC or contents do not agree)."""

    reason: ClassVar[str] = "corrupt_state"


class ForeignState(DetectorError):
    """A sound snapshot of something else: another kind, version, or other parameters."""

    reason: ClassVar[str] = "foreign_state"


class UnknownKind(DetectorError):
    """No detector is registered under this kind."""

    reason: ClassVar[str] = "unknown_kind"
