"""pydantic's faults in the words of a configuration: what is wrong with a key, and what would be right. Never what was written there."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from typing import TYPE_CHECKING

from leadline.durations import short_duration

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

WANTED = {
    "missing": "is missing",
    "int_parsing": "a whole number is wanted",
    "int_type": "a whole number is wanted",
    "int_from_float": "a whole number is wanted",
    "float_parsing": "a number is wanted",
    "float_type": "a number is wanted",
    "bool_parsing": "true or false is wanted",
    "bool_type": "true or false is wanted",
    "string_type": "a text is wanted; put it between quotation marks",
    "path_type": "a path is wanted",
    "tuple_type": "a list is wanted",
    "list_type": "a list is wanted",
    "dict_type": "a mapping is wanted",
    "model_type": "a mapping is wanted",
    "model_attributes_type": "a mapping is wanted",
}
LIMITS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}


def words(
    item: ErrorDetails, siblings: Collection[str] = (), within: Collection[str] = (), *, timed: bool = False
) -> str:
    """`siblings`: keys that stand beside this one; `within`: keys that its mapping may hold; `timed`: its value is a duration."""
    kind, context = item["type"], item.get("ctx", {})
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(str(item["loc"][-1]), siblings, n=1)
        return (
            f"no such key; did you mean `{near[0]}`?"
            if near
            else f"no such key; known here: {', '.join(sorted(siblings))}"
        )
    if kind in LIMITS:
        word, name = LIMITS[kind]
        limit = float(context[name])
        return f"{word} {short_duration(limit) if timed and limit else f'{limit:g}'}"
    if kind == "literal_error":
        return f"one of {context['expected']}"
    if kind == "union_tag_invalid":
        return f"no such {str(context['discriminator']).strip(chr(39))}; there are {context['expected_tags']}"
    if kind == "union_tag_not_found":
        return f"{str(context['discriminator']).strip(chr(39))} is missing"
    if kind in WANTED:
        return WANTED[kind] + (f", with {', '.join(within)}" if within and "mapping" in WANTED[kind] else "")
    return str(item["msg"]).removeprefix("Value error, ")
