"""`python -m ammon` is the command `ammon`."""

from ammon.cli.main import main

if __name__ == "__main__":
    main()
