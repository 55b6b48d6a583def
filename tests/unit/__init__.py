"""Tests that take seconds and need no network."""
