"""What the command line can do: one module a verb, with `add_arguments(parser)` and `run(arguments) -> int`."""
