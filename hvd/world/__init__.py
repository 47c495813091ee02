"""The built-in world: procedural streets in the data sets' own formats."""
