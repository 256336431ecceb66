"""goose's behaviour, bit for bit: from a file's text to its statements, variables, warnings; Go's quoting, folding and durations."""
