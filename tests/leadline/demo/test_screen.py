"""The demo's screen fits the smallest usual terminal, shows the course of a signal, and its end tells what was missed."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import pytest
from rich.console import Console

from leadline.alert import Alert
from leadline.demo.failures import NullSpike
from leadline.demo.play import State
from leadline.demo.scenario import Act, Outcome
from leadline.demo.screen import LEVELS, SHOWN, Screen, ending

EXAMPLE = Path(__file__).parents[3] / "examples" / "slack-alert.json"
LENGTH_S = 84.0


def alert(title: str, life: str = "open") -> Alert:
    told = json.loads(EXAMPLE.read_text(encoding="utf-8"))["alert"]
    return Alert.model_validate(told | {"title": title, "life": life})


def signal(value: float, verdict: str = "ok") -> dict[str, dict[str, object]]:
    row = {"value": value, "reference": 0.0, "noise_floor": 0.1, "verdict": verdict, "n": 300}
    return dict.fromkeys(SHOWN.values(), row)


def shown(screen: Screen, state: State, width: int, height: int) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, height=height).print(screen(state))
    return out.getvalue().splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 30), (200, 60)])
@pytest.mark.parametrize("alerts", [0, 3, 50])
def test_the_screen_fits_and_the_last_alert_is_on_it(width: int, height: int, alerts: int) -> None:
    screen = Screen(Console(width=width, height=height, file=io.StringIO()))
    state = State(
        stage="running", began=time.time() - 70, length_s=LENGTH_S, published=24_000, labels=23_000, joined=22_000
    )
    state.signals = signal(0.0123456)
    state.alerts = [alert(f"readmission: {number}: {'a long name ' * 12}(all traffic)") for number in range(alerts)]
    lines = shown(screen, state, width, height)
    assert len(lines) <= height - 1  # and the prompt
    assert max(map(len, lines)) <= width
    assert any(f"readmission: {alerts - 1}:" in line for line in lines) == bool(alerts)
    assert any("24,000 predictions" in line for line in lines)


def test_a_jump_stands_out_of_the_course_and_noise_does_not() -> None:
    screen = Screen(Console(width=80, height=24, file=io.StringIO()))
    state = State(stage="running", began=time.time(), length_s=LENGTH_S)
    for second in range(0, 60, 2):
        state.began = time.time() - second
        state.signals = signal(0.9, "critical") if 30 <= second < 40 else signal(0.05)
        lines = shown(screen, state, 80, 24)
    course = next(line for line in lines if line.startswith("PSI of age")).split()[-1]
    high = [at for at, sign in enumerate(course) if sign == LEVELS[-1]]
    assert high == list(range(high[0], high[-1] + 1))
    assert 2 <= len(high) <= 4
    assert set(course) - {LEVELS[-1]} <= set(LEVELS[:2])


def test_the_end_tells_what_was_not_reported_and_what_came_too_early() -> None:
    out = io.StringIO()
    console = Console(file=out, width=80)
    state = State(began=1000.0)
    failure = NullSpike(start=1012.0, stop=1021.0)
    told = Outcome(Act(failure, frozenset()), alert("creatinine: more nulls").model_copy(update={"raised_at": 1013.5}))
    assert ending(console, state, [told], [])
    assert "1.5 s" in out.getvalue()
    assert not ending(console, state, [told, Outcome(told.act, None)], [])
    assert "1 of 2 failures were not reported" in out.getvalue()
    assert not ending(console, state, [told], [alert("too early")])
    assert "1 alert(s) before the first failure: too early" in out.getvalue()
    assert max(map(len, out.getvalue().splitlines())) <= 80
