"""What judges: the norm catalogue, its detectors, the judge and the agent."""
