"""The command line: `flags` declares the commands, `main` runs one, and the other modules carry them out."""
