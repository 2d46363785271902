"""`python -m densem`: the command line, by the interpreter that is asked for."""

from densem.cli import main

if __name__ == "__main__":
    main()
