"""From a build to a package: a tarball, or one for Debian's package manager, the same bytes for the same build."""

from xenqemu.package.built import find_build, read_build
from xenqemu.package.debian import package_deb
from xenqemu.package.model import Build, Packaged, PackageRequest
from xenqemu.package.tarball import package_tar

__all__ = ["Build", "PackageRequest", "Packaged", "find_build", "package_deb", "package_tar", "read_build"]
