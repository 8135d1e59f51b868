"""What a dataset says before anybody trains on it: findings and forecasts."""
