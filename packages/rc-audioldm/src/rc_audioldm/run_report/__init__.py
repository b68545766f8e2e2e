"""The report of a generation run, from its folder alone: plots, and one offline page."""
