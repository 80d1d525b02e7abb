"""Looking: what an export tells."""
