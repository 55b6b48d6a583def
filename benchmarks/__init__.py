"""xenqemu against the manual build of upstream QEMU, measured on one machine in one run."""
