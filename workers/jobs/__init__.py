"""What jobs are made of: their data, hindcasts, what is kept of them on the way, taking them back."""
