"""Networks: teachers, students, depth, splat, heads."""
