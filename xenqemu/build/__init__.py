"""Stage 5: configure, compile, install; artifacts keyed by everything that went in."""

from xenqemu.build.cache import CachedArtifact, list_artifacts, prune
from xenqemu.build.compiler import identify_compiler
from xenqemu.build.cost import ProgramCost, measure_program
from xenqemu.build.deliver import hold, install_into_xen, install_to
from xenqemu.build.key import artifact_key
from xenqemu.build.manifest import MANIFEST, load_manifest, with_origin
from xenqemu.build.model import Artifact, BuildInput, BuildOptions, Compiler, Layout, PatchRecord
from xenqemu.build.stage import build, configure_command, find_artifact

__all__ = [
    "MANIFEST",
    "Artifact",
    "BuildInput",
    "BuildOptions",
    "CachedArtifact",
    "Compiler",
    "Layout",
    "PatchRecord",
    "ProgramCost",
    "artifact_key",
    "build",
    "configure_command",
    "find_artifact",
    "hold",
    "identify_compiler",
    "install_into_xen",
    "install_to",
    "list_artifacts",
    "load_manifest",
    "measure_program",
    "prune",
    "with_origin",
]
