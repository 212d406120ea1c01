"""What is shown: to people (human), to programs (jsonlines)."""

__all__: list[str] = []
