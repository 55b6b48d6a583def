"""Linux stub domains: a kernel and an initial file system in which libxl runs an HVM guest's device model."""
