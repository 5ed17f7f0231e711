"""What is recorded: the session folder, its events, and the one fold from events to state."""
