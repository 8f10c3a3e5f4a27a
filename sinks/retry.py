"""When to try again: exponential backoff with full jitter (Brooker 2015, "Exponential Backoff And Jitter"), never
sooner than asked.

Pure: time and chance are arguments.
"""

from __future__ import annotations

from collections.abc import Callable

from pydantic import BaseModel, ConfigDict, Field

Uniform = Callable[[float, float], float]


class RetryPolicy(BaseModel):
    """Seconds between attempts, and how long an alert may wait for a sink that fails."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_s: float = Field(default=1.0, gt=0, description="upper end of the first wait")
    cap_s: float = Field(default=60.0, gt=0, description="upper end of any wait that the other side did not ask for")
    longest_after_s: float = Field(default=900.0, gt=0, description="a longer Retry-After is cut to this")
    give_up_after_s: float = Field(
        default=3600.0, gt=0, description="age at which an alert is given up, while its sink fails"
    )

    def wait_s(self, failures: int, after_s: float | None, uniform: Uniform) -> float:
        """Seconds to wait after the `failures`-th failure in a row (from 1). `after_s` is what the other side asked
        for.

        What was asked for is a floor; the jitter comes on top, so that many senders do not return in the same instant.
        """
        exponent = min(failures - 1, 62)  # beyond, the cap holds anyway and the power would only grow
        jitter = uniform(0.0, min(self.cap_s, self.base_s * 2.0**exponent))
        return min(after_s, self.longest_after_s) + jitter if after_s is not None else jitter
