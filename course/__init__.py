"""What runs, tests, publishes and grades the notebooks; no notebook imports it."""
