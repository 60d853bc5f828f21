"""The subcommands of ``tsjt``, one module each."""
