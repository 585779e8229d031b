"""`lslm data build`: motion files and tables of texts to a data set of parquet shards."""
