"""An alert as a Slack message: Block Kit within its limits, every text escaped, nothing parsed out of other people's
names.

Limits (Slack, Block Kit reference): 50 blocks a message, 3000 characters a text, 2000 a field, 10 fields a section.
"""

from __future__ import annotations

from typing import Any

from leadline.alert import Alert
from sinks.words import Telling, tell

TEXT_LIMIT = 3000
FIELD_LIMIT = 2000
FIELDS_LIMIT = 10
BLOCKS_LIMIT = 50
FALLBACK_LIMIT = 3000
ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
MARK = {"info": ":information_source:", "warn": ":warning:", "critical": ":rotating_light:"}
RESOLVED_MARK = ":white_check_mark:"

Block = dict[str, Any]


def escape(text: str, limit: int) -> str:
    """`text` with &, < and > as entities, at most `limit` characters after that; no entity is cut in half."""
    whole = "".join(ENTITIES.get(sign, sign) for sign in text)
    if len(whole) <= limit:
        return whole
    kept: list[str] = []
    room = limit - 1
    for sign in text:
        piece = ENTITIES.get(sign, sign)
        if len(piece) > room:
            break
        kept.append(piece)
        room -= len(piece)
    return "".join(kept) + "…"


def _text(text: str) -> Block:
    # verbatim: Slack would otherwise turn "@here" or "#channel" in a category's name into a mention.
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def _section(title: str, body: str) -> Block:
    head = f"*{title}*\n" if title else ""
    return {"type": "section", "text": _text(head + escape(body, TEXT_LIMIT - len(head)))}


def message(alert: Alert) -> dict[str, Any]:
    """The JSON body: blocks, and `text` for notifications and screen readers."""
    telling = tell(alert)
    mark = RESOLVED_MARK if alert.life == "resolved" else MARK[alert.severity]
    return {
        "text": escape(telling.headline, FALLBACK_LIMIT),
        "blocks": _blocks(telling, mark)[:BLOCKS_LIMIT],
        "unfurl_links": False,
        "unfurl_media": False,
    }


def _blocks(telling: Telling, mark: str) -> list[Block]:
    head = f"{mark} *"
    headline = head + escape(telling.headline, TEXT_LIMIT - len(head) - 1) + "*"
    blocks: list[Block] = [{"type": "section", "text": _text(headline)}]
    if telling.summary:
        blocks.append(_section("", telling.summary))
    fields = []
    for name, value in telling.facts[:FIELDS_LIMIT]:
        head = f"*{name}*\n"
        fields.append(_text(head + escape(value or "none", FIELD_LIMIT - len(head))))
    blocks.append({"type": "section", "fields": fields})
    lists = (("Changed before", telling.changes), ("To do", telling.advice), ("Evidence", telling.evidence))
    for title, lines in lists:
        if lines:
            blocks.append(_section(title, "\n".join(f"• {line}" for line in lines)))
    blocks.append({"type": "context", "elements": [_text(escape(telling.footer, TEXT_LIMIT))]})
    return blocks
