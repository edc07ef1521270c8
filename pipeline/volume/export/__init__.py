"""Results leave as files that other programs open, one format a file, in memory that does not grow with the image."""
