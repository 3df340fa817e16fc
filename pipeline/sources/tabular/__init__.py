"""Local data sets of Parquet and Arrow files, read in place."""
