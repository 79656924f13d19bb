"""The chat on the server: rooms, sessions, events, dialects, nicks and sanitizing."""
