"""Tests with real QEMUs and real Xens."""
