"""Work beside the work: first start, retention, re-encryption, copies, orphaned deliveries."""
