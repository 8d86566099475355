"""How processes tell what they do: structured log lines with request and job ids."""
