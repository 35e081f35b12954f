"""The pages, one module for each family, and the templates beside them."""
