"""``omar-rq demo``: one page with players and plots that show what the embeddings of some recordings represent."""

from __future__ import annotations

from omar_rq.demo.page import write_demo

__all__ = ["write_demo"]
