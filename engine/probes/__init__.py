"""Live objects turned into signals: models and loaders of torch, data, the system, CatBoost."""
