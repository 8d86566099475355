"""Models in service: which one a request means, having it warm, forecasting in batches, changing who serves."""
