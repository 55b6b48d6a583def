"""Stage 4: where the headers and libraries of the Xen that was asked for are."""
