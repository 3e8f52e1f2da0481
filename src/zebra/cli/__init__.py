"""The command line: words in, a workflow called, words and an exit code out."""
