"""What a device model takes and costs, beside others, measured on one machine in one run."""
