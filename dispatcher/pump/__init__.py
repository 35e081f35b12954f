"""The dispatcher's loop: it sees news and due work, wakes the drains, and removes what has expired."""
