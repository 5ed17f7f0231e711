"""The parts of a screen: they draw a SessionState and post messages, and know no file, log or launcher."""
