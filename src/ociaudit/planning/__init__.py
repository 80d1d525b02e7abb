"""What to fetch: time ranges, scope, windows, shards and the plan made of them. Pure: no I/O and no clock."""
