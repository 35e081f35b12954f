"""What operators' commands and remote control do, apart from how they are typed and printed."""
