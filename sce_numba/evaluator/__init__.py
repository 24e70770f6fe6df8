"""What evaluates arrays of any size, in memory or in files, in one pass."""
