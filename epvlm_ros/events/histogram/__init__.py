"""Events counted into time bins on the cells of the image."""
