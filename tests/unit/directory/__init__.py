"""Tests of gateway.directory without any socket."""
