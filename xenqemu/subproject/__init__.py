"""A folder that Xen's own tools/Makefile takes for a QEMU source: it configures, builds and installs qemu-system-xen.

Xen's build runs `configure`, `make all` and `make install` of whatever QEMU_UPSTREAM_LOC names. The folder that this
package writes has just these, and what they were asked is handed to the stages of the build.
"""
