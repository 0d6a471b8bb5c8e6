"""Every load that a run puts on each target; table.py lists them."""
