"""The target: the device profiles, the files that they become in a QEMU tree, and the flags for configure."""
