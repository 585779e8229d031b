"""Files of other programs: read here, and not by what travels with a checkpoint."""
