"""The lab: real guests under a real hypervisor, in an emulated host."""
