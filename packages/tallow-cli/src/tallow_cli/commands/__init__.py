"""One module a command, imported when that command is asked for."""

__all__: list[str] = []
