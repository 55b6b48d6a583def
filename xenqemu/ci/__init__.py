"""Pipelines that build and boot device models, for CI systems."""

from xenqemu.ci.pipeline import CiRequest, System, load_systems, render, write_pipeline

__all__ = ["CiRequest", "System", "load_systems", "render", "write_pipeline"]
