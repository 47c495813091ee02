"""Pure functions on arrays: rigid transforms, cameras, grids, boxes."""
