"""What a conversation is: rooms, the plain dialect, safe text."""
