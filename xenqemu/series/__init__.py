"""Stage 2: the xen-dm patch series, chosen by the version of the tree and applied as commits."""
