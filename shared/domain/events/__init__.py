"""What an event is, how it is decoded and checked, and which partition it belongs to."""
