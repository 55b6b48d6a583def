"""Stage 1: the QEMU that the user named, as a pristine tree of known version and content."""
