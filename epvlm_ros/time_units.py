"""Units of time; all times are whole nanoseconds unless a name says otherwise."""

SECOND = 1_000_000_000  # in ns
