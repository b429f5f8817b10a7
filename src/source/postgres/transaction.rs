//! Messages become deliveries: indexes, ordinals, the open transaction.
