"""Ticks: the ends of panes at which blocks close, in order of time, with what the rules find in the spans that end there.

What rules find in a span depends on its counts and its baseline alone, so the spans of many ticks are judged together, before the
first of these ticks is handled: a log that is read again, or a worker that was away, has thousands of them. Where a tick changes what
a later one looks at (a resolved incident bars spans from reaching back over its end, a baseline was learned) that one is judged again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from streams.judge.incidents import Where
from streams.judge.model_cells import ModelCells
from streams.judge.spans import Block, Look, stack
from streams.judge.variation import Variation
from streams.rules.baseline import Baseline
from streams.rules.evaluate import Evaluator
from streams.rules.finding import Finding

TOGETHER = 48  # looks that are judged together: more leave the processor's cache
AHEAD = 2_000  # blocks that are closed at most before the first of their ticks is handled


class Tick(NamedTuple):
    """`closing` are (level, block, cell) of every block that closed at pane `end`; `told` is what the rules found, cell by cell."""

    end: int
    alpha: float
    closing: list[tuple[int, int, Where]]
    told: list[tuple[Where, Look, list[Finding]]]


class _Span(NamedTuple):
    where: Where
    look: Look
    blocks: list[Block]
    base: Baseline
    not_before: int
    varies: bool
    """Whether the cell varies by itself: then a longer span may tell what a shorter one is not sure of."""


class _Waiting(NamedTuple):
    end: int
    alpha: float
    closing: list[tuple[int, int, Where]]
    spans: list[_Span]


class Ticks:
    """Closes blocks of one model's cells and has their spans judged."""

    def __init__(self, cells: ModelCells, variation: Variation) -> None:
        self.cells, self.variation = cells, variation

    def until(
        self, pane: int, evaluator: Evaluator, alpha: Callable[[int], float], begin: Callable[[int], None]
    ) -> Iterator[Tick]:
        """Every tick that ends at `pane` or before. `alpha` is that of each end; `begin` is called with each end before it is handled, and
        may change what its spans reach back to."""
        first_end = self.cells.first_end
        while (end := first_end()) is not None and end <= pane:
            waiting: list[_Waiting] = []
            looks = closed = 0
            while (end := first_end()) is not None and end <= pane and looks < TOGETHER and closed < AHEAD:
                if waiting and self.cells.news(end - 1):
                    break
                closing = self._close(end, pane)
                waiting.append(_Waiting(end, alpha(end), closing, self._spans(closing, evaluator)))
                looks, closed = looks + len(waiting[-1].spans), closed + len(closing)
            found = self._judge(waiting, evaluator)
            for one, told in zip(waiting, found, strict=True):
                spans = one.spans
                for level, block, where in one.closing:
                    self.cells.spans[where].drop_old(level, block)
                begin(one.end)
                if any(self._is_stale(span, evaluator) for span in spans):
                    spans = self._spans(one.closing, evaluator)
                    (told,) = self._judge([one._replace(spans=spans)], evaluator)
                heard = [(*span[:2], findings) for span, findings in zip(spans, told, strict=True)]
                yield Tick(one.end, one.alpha, one.closing, heard)

    def _close(self, end: int, until: int) -> list[tuple[int, int, Where]]:
        """Closes all blocks that end there, and announces those that hold them. Panes before `until` may be added up meanwhile."""
        closing: list[tuple[int, int, Where]] = []
        cells, closings = self.cells, self.cells.closings
        if end - 1 in cells.open:
            cells.close_panes(until)
        for level, where in closings.take():
            block = (end >> level) - 1
            if level == 0 or cells.spans[where].close(level, block):
                closing.append((level, block, where))
                if level + 1 < cells.levels:
                    closings.announce(((block >> 1) + 1) << (level + 1), level + 1, where)
        return closing

    def _spans(self, closing: list[tuple[int, int, Where]], evaluator: Evaluator) -> list[_Span]:
        """The spans to look at when these blocks have closed; of each cell the shortest first."""
        found: list[_Span] = []
        least = evaluator.rules.minimum_rows
        for level, block, where in closing:
            spans = self.cells.spans[where]
            for count, blocks in spans.looks(level, block, least):
                base = evaluator.baseline(where.segment)
                if base is not None:
                    varies = self.variation.varies(where)
                    found.append(_Span(where, (level, count, block), blocks, base, spans.not_before, varies))
        return found

    def _is_stale(self, span: _Span, evaluator: Evaluator) -> bool:
        """Whether the span, or what it is compared with, is another since it was judged."""
        return (
            self.cells.spans[span.where].not_before != span.not_before
            or evaluator.baseline(span.where.segment) is not span.base
            or self.variation.varies(span.where) != span.varies
        )

    def _judge(self, ticks: Sequence[_Waiting], evaluator: Evaluator) -> list[list[list[Finding]]]:
        """What the rules find in each span of each tick. Of one cell the shortest span that shows a signal counts, and it comes first."""
        told: list[list[list[Finding]]] = [[] for _ in ticks]
        numbers: dict[tuple[int, Where, Look | None], int] = {}
        every = [(at, span) for at, tick in enumerate(ticks) for span in tick.spans]
        for alpha, alike in groupby(every, key=lambda one: ticks[one[0]].alpha):
            flat = list(alike)
            for begin in range(0, len(flat), TOGETHER):
                part = flat[begin : begin + TOGETHER]
                vectors = stack([span.blocks for _, span in part], self.cells.layout.size)
                cells = [
                    numbers.setdefault((at, span.where, span.look if span.varies else None), len(numbers))
                    for at, span in part
                ]
                findings = evaluator.findings_of(vectors, [span.base for _, span in part], alpha, cells)
                for (at, _), of_span in zip(part, findings, strict=True):
                    told[at].append(of_span)
        return told
