"""`python -m tallow_cli`, the same as `tallow`."""

from tallow_cli.main import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
