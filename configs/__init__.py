"""What was asked for: the typed run configuration, its YAML groups and the errors that people see."""
