"""An archive: the audit history of a tenancy on disk, kept current by `oci-audit sync`."""
