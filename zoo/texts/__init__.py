"""What is read: data sets by name, files by path, tokens."""
