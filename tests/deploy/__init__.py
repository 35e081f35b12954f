"""deploy/: what it says holds against the code, and against the tools that will read it where they can be had."""
