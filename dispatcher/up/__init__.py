"""`hookline up`: the whole service as one supervised process tree, with a Valkey of its own."""
