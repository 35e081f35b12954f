"""What an automation is, and how a definition of one is read and refused."""
