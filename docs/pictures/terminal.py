"""Pictures of the terminal for the README: the demo's screen from a real play, and an alert as the console sink prints it.

    python docs/pictures/terminal.py

Takes two minutes, because it plays the demo. Writes `demo.svg` and `alert.svg` beside itself.
"""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console, RenderableType

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from leadline.alert import Alert
from leadline.demo.play import State, play
from leadline.demo.screen import Screen
from sinks.console import render

HERE = Path(__file__).resolve().parent
SHOWN_AT_S = 80.0  # the last failure is there, and told
MONOSPACE = "Menlo, Consolas, DejaVu Sans Mono, monospace"


def save(name: str, title: str, what: RenderableType, width: int) -> None:
    console = Console(
        record=True, width=width, height=28, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print(what)
    # Without the font that rich would fetch from the net.
    form = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL).replace(
        "Fira Code, monospace", MONOSPACE
    )
    (HERE / name).write_text(
        console.export_svg(title=title, code_format=form, unique_id=name.partition(".")[0]), encoding="utf-8"
    )


def main() -> None:
    screen = Screen(Console(width=88, height=28, file=io.StringIO(), force_terminal=True))
    taken = False

    def show(state: State) -> None:
        nonlocal taken
        seen = screen(state)
        if not taken and state.elapsed_s >= SHOWN_AT_S:
            taken = True
            save("demo.svg", "leadline demo", seen, 88)

    play(show)
    alert = json.loads((HERE.parents[1] / "examples" / "slack-alert.json").read_text(encoding="utf-8"))["alert"]
    save("alert.svg", "leadline deliver", render(Alert.model_validate(alert)), 88)


if __name__ == "__main__":
    main()
