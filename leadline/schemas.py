"""Writes `docs/schemas/`: the JSON Schema of everything that crosses Kafka. `python -m leadline.schemas [FOLDER]`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from leadline.alert import Alert, Undelivered
from leadline.events import json_schemas

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "schemas"


def all_schemas() -> dict[str, dict[str, object]]:
    """JSON Schema by contract name: the wire structs of `leadline.events`, the alert and its dead letter."""
    return {
        **json_schemas(),
        "alert": Alert.model_json_schema(),
        "undelivered": Undelivered.model_json_schema(),
    }


def render(schema: dict[str, object]) -> str:
    """The text of the file: sorted and indented, so that a change of the contract is a readable diff."""
    return json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def write(folder: Path = FOLDER) -> list[Path]:
    """Write every schema to `folder`; the paths written."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, schema in all_schemas().items():
        path = folder / f"{name}.json"
        path.write_text(render(schema), encoding="utf-8")
        written.append(path)
    return written


if __name__ == "__main__":
    for each in write(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER):
        print(each)
