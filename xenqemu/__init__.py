"""xenqemu: an upstream QEMU goes in, a Xen device model comes out."""

__version__ = "0.1.0"
