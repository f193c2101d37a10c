"""Sample input: two contests, and two public data sets that PyPI's vega_datasets ships."""
