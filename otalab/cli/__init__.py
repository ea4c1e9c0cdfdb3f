"""The command line: `main` has the commands, and each that is more than a call has a file."""
