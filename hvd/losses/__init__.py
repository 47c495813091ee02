"""One loss a file, citation on top."""
