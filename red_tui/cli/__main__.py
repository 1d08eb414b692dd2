"""`python -m red_tui.cli`: the same as `red-console`."""

from red_tui.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
