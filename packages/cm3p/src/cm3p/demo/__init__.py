"""``cm3p demo``: one page that shows windows of maps, what they resemble, and what the model reads out of them."""

from cm3p.demo.page import write_demo

__all__ = ["write_demo"]
