"""Where the runs of a sweep are started: one class per kind, a file of `conf/launch/` each."""
