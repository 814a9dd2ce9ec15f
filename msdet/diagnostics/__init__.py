"""Whether an array is plugged in as its description says (`check.check_array`)."""
