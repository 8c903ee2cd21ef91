"""One module a table, figure or data set; each writes `results/NAME.json` and what is drawn from it."""
