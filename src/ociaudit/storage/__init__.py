"""Storage: what a run keeps on disk, from the first page it receives to the manifest beside its output."""
