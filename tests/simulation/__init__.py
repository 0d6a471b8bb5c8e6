"""The pool's own decisions on a virtual clock, with scores."""
