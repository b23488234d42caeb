"""The commands of `mistral-edu`, one file each.

A command is a module with HELP (one line), `add_arguments(parser)` and `run(options) -> status`.
What takes long to import is imported inside `run`, so that `mistral-edu --help` answers at once.
"""
